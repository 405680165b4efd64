\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.1'" to load this file. \quit

-- 1.1: the indexes behind lists, pages and lookups by customer or status. Built CONCURRENTLY beforehand
-- (the rows of phase prepare), they cost the script nothing.

CREATE FUNCTION order_proc.layout_1_1_up() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_1_up$
WITH wanted (n, name, columns) AS (
  VALUES (1, 'orders_customer_id_created_at_id_idx', 'customer_id, created_at DESC, id DESC'),
         (2, 'orders_status_created_at_id_idx', 'status, created_at DESC, id DESC'),
         (3, 'orders_created_at_id_idx', 'created_at DESC, id DESC')
)
-- An interrupted CONCURRENTLY leaves an index that is never used but keeps its name.
SELECT 0, 'prepare', pg_catalog.format('DROP INDEX CONCURRENTLY order_store.%I', w.name),
       'ShareUpdateExclusiveLock', true, NULL::pg_catalog.int8
FROM wanted AS w
JOIN pg_catalog.pg_index AS x ON x.indexrelid OPERATOR(pg_catalog.=) pg_catalog.to_regclass('order_store.' OPERATOR(pg_catalog.||) w.name)
WHERE NOT x.indisvalid
UNION ALL
SELECT w.n, 'prepare',
       pg_catalog.format('CREATE INDEX CONCURRENTLY IF NOT EXISTS %I ON order_store.orders (%s)', w.name, w.columns),
       'ShareUpdateExclusiveLock', true, order_proc.estimated_rows('order_store.orders')
FROM wanted AS w
UNION ALL
VALUES
(4, 'change', $sql$
DO $check$
DECLARE
  other record;
BEGIN
  -- IF NOT EXISTS goes by the name alone.
  SELECT c.relname, c.relkind, x.indisvalid INTO other
  FROM (VALUES ('orders_customer_id_created_at_id_idx', 'customer_id, created_at DESC, id DESC'),
               ('orders_status_created_at_id_idx', 'status, created_at DESC, id DESC'),
               ('orders_created_at_id_idx', 'created_at DESC, id DESC')) AS w (name, columns)
  JOIN pg_class AS c ON c.oid = to_regclass('order_store.' || w.name)
  LEFT JOIN pg_index AS x ON x.indexrelid = c.oid
  WHERE x.indisvalid IS NOT TRUE
     OR regexp_replace(pg_get_indexdef(c.oid), ' WITH \([^)]*\)', '')
        <> format('CREATE INDEX %s ON order_store.orders USING btree (%s)', w.name, w.columns)
  ORDER BY x.indisvalid NULLS LAST
  LIMIT 1;
  IF other.indisvalid = false THEN
    RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('index "%s" is invalid', other.relname),
      DETAIL = 'An interrupted CREATE INDEX CONCURRENTLY left it behind.',
      HINT = format('DROP INDEX CONCURRENTLY order_store.%I;', other.relname);
  ELSIF other.indisvalid THEN
    RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('index "%s" is not the one that layout 1.1 has', other.relname),
      DETAIL = pg_get_indexdef(to_regclass('order_store.' || other.relname)),
      HINT = format('ALTER INDEX order_store.%I RENAME TO ...; then build the one that migration_plan(''1.1'') shows.', other.relname);
  ELSIF other.relkind IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = '42P07', MESSAGE = format('"%s" is not an index', other.relname),
      HINT = format('Rename order_store.%I: layout 1.1 has an index of this name.', other.relname);
  END IF;
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
(1, 'change', $sql$
DROP INDEX IF EXISTS order_store.orders_created_at_id_idx;
DROP INDEX IF EXISTS order_store.orders_status_created_at_id_idx;
DROP INDEX IF EXISTS order_store.orders_customer_id_created_at_id_idx$sql$,
'AccessExclusiveLock', false, NULL::pg_catalog.int8)
$layout_1_1_down$;
COMMENT ON FUNCTION order_proc.layout_1_1_down() IS 'The step from layout 1.1 back to 1.0.';

SELECT order_proc.apply_migration('1.0'::pg_catalog.text, '1.1'::pg_catalog.text);
