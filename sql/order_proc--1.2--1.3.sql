\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.3'" to load this file. \quit

-- 1.3 expands: customers.first_name and last_name beside name. A trigger keeps both forms in step, so old
-- and new applications work side by side while CALL order_proc.backfill_customer_names() fills in the rest.

CREATE FUNCTION order_proc.sync_customer_name() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'order_proc_sync_customer_name';
COMMENT ON FUNCTION order_proc.sync_customer_name() IS
'BEFORE INSERT OR UPDATE, each row, on order_store.customers at layout 1.3: keeps name and first_name, last_name in step; the parts win when both change.';

CREATE PROCEDURE order_proc.backfill_customer_names(batch_size int DEFAULT 1000, pause interval DEFAULT '0')
LANGUAGE c AS 'MODULE_PATHNAME', 'order_proc_backfill_customer_names';
COMMENT ON PROCEDURE order_proc.backfill_customer_names(int, interval) IS
'Fills in first_name and last_name of customers at layout 1.3, batch_size rows a transaction, sleeping pause in between; passing over rows that somebody holds until nothing else is left; tells how far it is in NOTICEs and in pg_stat_activity; can be interrupted and called again; ends by validating the CHECK that layout 1.4 asks for. At later layouts it fills in customers.name from the parts while that column is there again (the plan of the way down to 1.3 adds it), else it does nothing. Errors: 22004, 22023 batch_size not positive or pause negative, 55000 layout before 1.3, 42501, 55P03 a lock was not to be had within 200 ms, 2D000 inside a transaction block.';

CREATE FUNCTION order_proc.layout_1_3_up() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_3_up$
VALUES
(1, 'change', 'ALTER TABLE order_store.customers ADD COLUMN first_name text, ADD COLUMN last_name text',
 'AccessExclusiveLock', true, NULL::pg_catalog.int8),
(2, 'change', $sql$
ALTER TABLE order_store.customers ADD CONSTRAINT customers_names_backfilled
  CHECK (name IS NULL OR first_name IS NOT NULL OR last_name IS NOT NULL) NOT VALID$sql$,
'AccessExclusiveLock', true, NULL),
(3, 'change', $sql$
DO $validate$
BEGIN
  IF NOT EXISTS (SELECT FROM order_store.customers) THEN
    ALTER TABLE order_store.customers VALIDATE CONSTRAINT customers_names_backfilled;
  END IF;
END
$validate$$sql$, 'ShareUpdateExclusiveLock', true, NULL),
(4, 'attach', $sql$
CREATE OR REPLACE TRIGGER sync_customer_name BEFORE INSERT OR UPDATE ON order_store.customers
FOR EACH ROW EXECUTE FUNCTION order_proc.sync_customer_name()$sql$,
'ShareRowExclusiveLock', true, NULL)
$layout_1_3_up$;
COMMENT ON FUNCTION order_proc.layout_1_3_up() IS 'The step from layout 1.2 to 1.3: names in two parts beside the old form.';

CREATE FUNCTION order_proc.layout_1_3_down() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_3_down$
VALUES
(1, 'attach', 'DROP TRIGGER IF EXISTS sync_customer_name ON order_store.customers', 'AccessExclusiveLock', true, NULL::pg_catalog.int8),
(2, 'change', $sql$
ALTER TABLE order_store.customers
  DROP CONSTRAINT IF EXISTS customers_names_backfilled, DROP COLUMN first_name, DROP COLUMN last_name$sql$,
'AccessExclusiveLock', true, NULL)
$layout_1_3_down$;
COMMENT ON FUNCTION order_proc.layout_1_3_down() IS 'The step from layout 1.3 back to 1.2: name has been kept in step all along.';

SELECT order_proc.apply_migration('1.2'::pg_catalog.text, '1.3'::pg_catalog.text);
