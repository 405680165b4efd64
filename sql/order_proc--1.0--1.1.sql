\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.1'" to load this file. \quit

-- 1.1: the indexes behind lists, pages and lookups by customer or status. Built CONCURRENTLY beforehand
-- (the rows of phase prepare), they cost the script nothing.

CREATE FUNCTION order_proc.layout_1_1_up() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_1_up$
-- An interrupted CONCURRENTLY leaves an index that is never used but keeps its name.
SELECT 0, 'prepare', pg_catalog.format('DROP INDEX CONCURRENTLY order_store.%I', c.relname),
       'ShareUpdateExclusiveLock', true, NULL::pg_catalog.int8
FROM pg_catalog.pg_index AS x
JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) x.indexrelid
WHERE NOT x.indisvalid
  AND x.indexrelid OPERATOR(pg_catalog.=) ANY (ARRAY[
    pg_catalog.to_regclass('order_store.orders_customer_id_created_at_id_idx'),
    pg_catalog.to_regclass('order_store.orders_status_created_at_id_idx'),
    pg_catalog.to_regclass('order_store.orders_created_at_id_idx')]::pg_catalog.oid[])
UNION ALL
VALUES
(1, 'prepare', 'CREATE INDEX CONCURRENTLY IF NOT EXISTS orders_customer_id_created_at_id_idx ON order_store.orders (customer_id, created_at DESC, id DESC)',
 'ShareUpdateExclusiveLock', true, order_proc.estimated_rows('order_store.orders')),
(2, 'prepare', 'CREATE INDEX CONCURRENTLY IF NOT EXISTS orders_status_created_at_id_idx ON order_store.orders (status, created_at DESC, id DESC)',
 'ShareUpdateExclusiveLock', true, order_proc.estimated_rows('order_store.orders')),
(3, 'prepare', 'CREATE INDEX CONCURRENTLY IF NOT EXISTS orders_created_at_id_idx ON order_store.orders (created_at DESC, id DESC)',
 'ShareUpdateExclusiveLock', true, order_proc.estimated_rows('order_store.orders')),
(4, 'change', $sql$
DO $check$
DECLARE
  wanted record;
  present record;
BEGIN
  FOR wanted IN SELECT * FROM (VALUES
    ('orders_customer_id_created_at_id_idx', '(customer_id, created_at DESC, id DESC)'),
    ('orders_status_created_at_id_idx', '(status, created_at DESC, id DESC)'),
    ('orders_created_at_id_idx', '(created_at DESC, id DESC)')) AS w (name, columns)
  LOOP
    SELECT x.indisvalid, pg_get_indexdef(x.indexrelid) AS definition INTO present
    FROM pg_class AS c LEFT JOIN pg_index AS x ON x.indexrelid = c.oid
    WHERE c.relnamespace = 'order_store'::regnamespace AND c.relname = wanted.name;
    IF NOT FOUND THEN CONTINUE; END IF;
    IF NOT present.indisvalid THEN
      RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('index "%s" is invalid', wanted.name),
        DETAIL = 'An interrupted CREATE INDEX CONCURRENTLY left it behind.',
        HINT = format('DROP INDEX CONCURRENTLY order_store.%I;', wanted.name);
    END IF;
    -- Storage is the owner's affair.
    IF regexp_replace(replace(present.definition, ' ON ONLY ', ' ON '), ' WITH \([^)]*\)', '') IS DISTINCT FROM
       format('CREATE INDEX %I ON order_store.orders USING btree %s', wanted.name, wanted.columns) THEN
      RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('"%s" is not the index of layout 1.1', wanted.name),
        DETAIL = format('It is: %s. Wanted: order_store.orders %s.', coalesce(present.definition, 'no index'), wanted.columns),
        HINT = format('ALTER INDEX order_store.%I RENAME TO %I;', wanted.name, left(wanted.name, 58) || '_own');
    END IF;
  END LOOP;
END
$check$$sql$, 'none', true, NULL),
(5, 'change', 'CREATE INDEX IF NOT EXISTS orders_customer_id_created_at_id_idx ON order_store.orders (customer_id, created_at DESC, id DESC)',
 'ShareLock', false, order_proc.estimated_rows('order_store.orders')),
(6, 'change', 'CREATE INDEX IF NOT EXISTS orders_status_created_at_id_idx ON order_store.orders (status, created_at DESC, id DESC)',
 'ShareLock', false, order_proc.estimated_rows('order_store.orders')),
(7, 'change', 'CREATE INDEX IF NOT EXISTS orders_created_at_id_idx ON order_store.orders (created_at DESC, id DESC)',
 'ShareLock', false, order_proc.estimated_rows('order_store.orders'))
$layout_1_1_up$;
COMMENT ON FUNCTION order_proc.layout_1_1_up() IS 'The step from layout 1.0 to 1.1: three indexes on orders.';

CREATE FUNCTION order_proc.layout_1_1_down() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_1_down$
VALUES
(1, 'prepare', 'DROP INDEX CONCURRENTLY IF EXISTS order_store.orders_created_at_id_idx', 'ShareUpdateExclusiveLock', true, NULL::pg_catalog.int8),
(2, 'prepare', 'DROP INDEX CONCURRENTLY IF EXISTS order_store.orders_status_created_at_id_idx', 'ShareUpdateExclusiveLock', true, NULL),
(3, 'prepare', 'DROP INDEX CONCURRENTLY IF EXISTS order_store.orders_customer_id_created_at_id_idx', 'ShareUpdateExclusiveLock', true, NULL),
(4, 'change', $sql$
DROP INDEX IF EXISTS order_store.orders_created_at_id_idx;
DROP INDEX IF EXISTS order_store.orders_status_created_at_id_idx;
DROP INDEX IF EXISTS order_store.orders_customer_id_created_at_id_idx$sql$,
'AccessExclusiveLock', true, NULL)
$layout_1_1_down$;
COMMENT ON FUNCTION order_proc.layout_1_1_down() IS 'The step from layout 1.1 back to 1.0.';

SELECT order_proc.apply_migration('1.0'::pg_catalog.text, '1.1'::pg_catalog.text);
