\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.2'" to load this file. \quit

-- 1.2: notes on orders. A nullable column without a default: no row is rewritten.

CREATE FUNCTION order_proc.layout_1_2_up() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_2_up$
VALUES
(1, 'change', 'ALTER TABLE order_store.orders ADD COLUMN notes text', 'AccessExclusiveLock', true, NULL::pg_catalog.int8)
$layout_1_2_up$;
COMMENT ON FUNCTION order_proc.layout_1_2_up() IS 'The step from layout 1.1 to 1.2: orders.notes.';

CREATE FUNCTION order_proc.layout_1_2_down() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_2_down$
VALUES
(1, 'change', 'ALTER TABLE order_store.orders DROP COLUMN notes', 'AccessExclusiveLock', true, NULL::pg_catalog.int8)
$layout_1_2_down$;
COMMENT ON FUNCTION order_proc.layout_1_2_down() IS 'The step from layout 1.2 back to 1.1: the notes are lost.';

SELECT order_proc.apply_migration('1.1'::pg_catalog.text, '1.2'::pg_catalog.text);
