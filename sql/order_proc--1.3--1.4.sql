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
WITH expand (statement) AS (VALUES ($sql$
DO $expand$
BEGIN
  SET LOCAL lock_timeout = '200ms';
  IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'order_store.customers'::regclass AND attname = 'name') THEN
    ALTER TABLE order_store.customers ADD COLUMN name text;
    -- The trigger is there before any row is filled in: what is written meanwhile stays in step.
    CREATE TRIGGER sync_customer_name BEFORE INSERT OR UPDATE ON order_store.customers
    FOR EACH ROW EXECUTE FUNCTION order_proc.sync_customer_name();
    ALTER TABLE order_store.customers
      ADD CONSTRAINT customers_names_backfilled
        CHECK (name IS NULL OR first_name IS NOT NULL OR last_name IS NOT NULL) NOT VALID,
      ADD CONSTRAINT customers_names_joined
        CHECK (name IS NOT NULL OR (first_name IS NULL AND last_name IS NULL)) NOT VALID;
  ELSIF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'order_store.customers'::regclass
                      AND tgfoid = 'order_proc.sync_customer_name()'::regprocedure) THEN
    RAISE EXCEPTION USING ERRCODE = '42701', MESSAGE = 'column "name" of order_store.customers is not that of layout 1.3',
      DETAIL = 'No trigger keeps it in step with first_name and last_name.',
      HINT = 'ALTER TABLE order_store.customers RENAME COLUMN name TO own_name;';
  END IF;
END
$expand$$sql$))
SELECT 1, 'prepare', e.statement, 'AccessExclusiveLock', true, NULL::pg_catalog.int8 FROM expand AS e
UNION ALL
VALUES
(2, 'prepare', 'CALL order_proc.backfill_customer_names()', 'ShareUpdateExclusiveLock', true, order_proc.estimated_rows('order_store.customers'))
UNION ALL
SELECT 3, 'change', e.statement, 'AccessExclusiveLock', true, NULL::pg_catalog.int8 FROM expand AS e
UNION ALL
VALUES
(4, 'change', $sql$
DO $fill$
BEGIN
  UPDATE order_store.customers SET name = order_proc.full_name(first_name, last_name)
  WHERE name IS DISTINCT FROM order_proc.full_name(first_name, last_name);
  -- Validated by the backfill, else here.
  IF NOT EXISTS (SELECT FROM pg_constraint AS c
                 WHERE c.conrelid = 'order_store.customers'::regclass AND c.conname = 'customers_names_backfilled'
                   AND pg_get_constraintdef(c.oid) = 'CHECK (((name IS NULL) OR (first_name IS NOT NULL) OR (last_name IS NOT NULL)))') THEN
    SET CONSTRAINTS ALL IMMEDIATE;
    IF NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'order_store.customers'::regclass AND conname = 'customers_names_backfilled') THEN
      ALTER TABLE order_store.customers ADD CONSTRAINT customers_names_backfilled
        CHECK (name IS NULL OR first_name IS NOT NULL OR last_name IS NOT NULL) NOT VALID;
    END IF;
    ALTER TABLE order_store.customers VALIDATE CONSTRAINT customers_names_backfilled;
  END IF;
END
$fill$$sql$, 'ShareUpdateExclusiveLock', true, order_proc.estimated_rows('order_store.customers')),
(5, 'change', 'ALTER TABLE order_store.customers DROP CONSTRAINT IF EXISTS customers_names_joined', 'AccessExclusiveLock', true, NULL)
$layout_1_4_down$;
COMMENT ON FUNCTION order_proc.layout_1_4_down() IS 'The step from layout 1.4 back to 1.3: customers.name comes back, filled from the parts.';

SELECT order_proc.apply_migration('1.3'::pg_catalog.text, '1.4'::pg_catalog.text);
