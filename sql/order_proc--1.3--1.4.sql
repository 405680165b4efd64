\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.4'" to load this file. \quit

-- 1.4 contracts: customers.name goes. It refuses while a row is not backfilled.

CREATE FUNCTION order_proc.require_backfilled_names() RETURNS void
LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_require_backfilled_names';
COMMENT ON FUNCTION order_proc.require_backfilled_names() IS
'Raises 55000 while a customer at layout 1.3 has a name that is not in first_name and last_name. A validated CHECK customers_names_backfilled spares the look at every row.';

CREATE FUNCTION order_proc.layout_1_4_up() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_4_up$
VALUES
(1, 'prepare', 'CALL order_proc.backfill_customer_names()', 'ShareUpdateExclusiveLock', true, order_proc.estimated_rows('order_store.customers')),
(2, 'change', 'SELECT order_proc.require_backfilled_names()', 'AccessShareLock', true, NULL),
(3, 'attach', 'DROP TRIGGER IF EXISTS sync_customer_name ON order_store.customers', 'AccessExclusiveLock', true, NULL),
(4, 'change', $sql$
ALTER TABLE order_store.customers DROP CONSTRAINT IF EXISTS customers_names_backfilled, DROP COLUMN name$sql$,
'AccessExclusiveLock', true, NULL)
$layout_1_4_up$;
COMMENT ON FUNCTION order_proc.layout_1_4_up() IS 'The step from layout 1.3 to 1.4: customers.name goes.';

CREATE FUNCTION order_proc.names_are_coming_back() RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT EXISTS (
    SELECT FROM pg_catalog.pg_trigger AS t
    WHERE t.tgrelid OPERATOR(pg_catalog.=) pg_catalog.to_regclass('order_store.customers')
      AND t.tgfoid OPERATOR(pg_catalog.=) pg_catalog.to_regproc('order_proc.sync_customer_name')
      AND NOT t.tgisinternal)
$$;
COMMENT ON FUNCTION order_proc.names_are_coming_back() IS
'Whether the first statement of the plan from layout 1.4 back to 1.3 was run: customers.name is there, and the trigger that keeps it in step.';

CREATE FUNCTION order_proc.layout_1_4_down() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_4_down$
-- Column, CHECKs and trigger come in one transaction: from then on every write brings the name along.
SELECT 1, 'prepare', $sql$
SET LOCAL lock_timeout = '200ms';
ALTER TABLE order_store.customers ADD COLUMN name text,
  ADD CONSTRAINT customers_names_backfilled CHECK (name IS NULL OR first_name IS NOT NULL OR last_name IS NOT NULL) NOT VALID,
  ADD CONSTRAINT customers_names_joined CHECK (name IS NOT NULL OR (first_name IS NULL AND last_name IS NULL)) NOT VALID;
CREATE TRIGGER sync_customer_name BEFORE INSERT OR UPDATE ON order_store.customers
FOR EACH ROW EXECUTE FUNCTION order_proc.sync_customer_name()$sql$,
       'AccessExclusiveLock', true, NULL::pg_catalog.int8
WHERE NOT order_proc.names_are_coming_back()
UNION ALL
VALUES
(2, 'prepare', 'CALL order_proc.backfill_customer_names()', 'ShareUpdateExclusiveLock', true, order_proc.estimated_rows('order_store.customers')),
(3, 'change', $sql$
DO $name$
BEGIN
  IF order_proc.names_are_coming_back() THEN
    UPDATE order_store.customers SET name = order_proc.full_name(first_name, last_name)
    WHERE name IS DISTINCT FROM order_proc.full_name(first_name, last_name);
  ELSE
    -- Nobody gets in before the end of it: the plan was not run.
    ALTER TABLE order_store.customers ADD COLUMN name text;
    UPDATE order_store.customers SET name = order_proc.full_name(first_name, last_name)
    WHERE first_name IS NOT NULL OR last_name IS NOT NULL;
    SET CONSTRAINTS ALL IMMEDIATE;
    ALTER TABLE order_store.customers ADD CONSTRAINT customers_names_backfilled
      CHECK (name IS NULL OR first_name IS NOT NULL OR last_name IS NOT NULL);
  END IF;
END
$name$$sql$, CASE WHEN order_proc.names_are_coming_back() THEN 'RowExclusiveLock' ELSE 'AccessExclusiveLock' END,
 order_proc.names_are_coming_back(), order_proc.estimated_rows('order_store.customers')),
(4, 'change', $sql$
DO $checks$
BEGIN
  ALTER TABLE order_store.customers DROP CONSTRAINT IF EXISTS customers_names_joined;
  IF NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'order_store.customers'::regclass AND conname = 'customers_names_backfilled') THEN
    ALTER TABLE order_store.customers ADD CONSTRAINT customers_names_backfilled
      CHECK (name IS NULL OR first_name IS NOT NULL OR last_name IS NOT NULL) NOT VALID;
  END IF;
END
$checks$$sql$, 'AccessExclusiveLock', true, NULL),
(5, 'attach', $sql$
CREATE OR REPLACE TRIGGER sync_customer_name BEFORE INSERT OR UPDATE ON order_store.customers
FOR EACH ROW EXECUTE FUNCTION order_proc.sync_customer_name()$sql$,
'ShareRowExclusiveLock', true, NULL)
$layout_1_4_down$;
COMMENT ON FUNCTION order_proc.layout_1_4_down() IS 'The step from layout 1.4 back to 1.3: customers.name comes back, filled from the parts.';

SELECT order_proc.apply_migration('1.3'::pg_catalog.text, '1.4'::pg_catalog.text);
