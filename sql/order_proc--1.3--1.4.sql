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

CREATE FUNCTION order_proc.layout_1_4_down() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_4_down$
VALUES
(1, 'prepare', 'ALTER TABLE order_store.customers ADD COLUMN IF NOT EXISTS name text', 'AccessExclusiveLock', true, NULL::pg_catalog.int8),
(2, 'prepare', 'CALL order_proc.backfill_customer_names()', 'RowExclusiveLock', true, order_proc.estimated_rows('order_store.customers')),
(3, 'change', $sql$
DO $column$
BEGIN
  -- ALTER TABLE would lock the table even when the plan has added the column.
  IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'order_store.customers'::regclass AND attname = 'name') THEN
    ALTER TABLE order_store.customers ADD COLUMN name text;
  END IF;
END
$column$$sql$, 'AccessExclusiveLock', true, NULL),
(4, 'change', $sql$
UPDATE order_store.customers SET name = order_proc.full_name(first_name, last_name)
WHERE name IS DISTINCT FROM order_proc.full_name(first_name, last_name)$sql$,
'RowExclusiveLock', false, order_proc.estimated_rows('order_store.customers')),
(5, 'change', $sql$
ALTER TABLE order_store.customers ADD CONSTRAINT customers_names_backfilled
  CHECK (name IS NULL OR first_name IS NOT NULL OR last_name IS NOT NULL)$sql$,
'AccessExclusiveLock', false, order_proc.estimated_rows('order_store.customers')),
(6, 'attach', $sql$
CREATE OR REPLACE TRIGGER sync_customer_name BEFORE INSERT OR UPDATE ON order_store.customers
FOR EACH ROW EXECUTE FUNCTION order_proc.sync_customer_name()$sql$,
'ShareRowExclusiveLock', true, NULL)
$layout_1_4_down$;
COMMENT ON FUNCTION order_proc.layout_1_4_down() IS 'The step from layout 1.4 back to 1.3: customers.name comes back, filled from the parts.';

SELECT order_proc.apply_migration('1.3'::pg_catalog.text, '1.4'::pg_catalog.text);
