\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.4'" to load this file. \quit

SELECT order_proc.apply_migration('1.5'::pg_catalog.text, '1.4'::pg_catalog.text);
DROP FUNCTION order_proc.layout_1_5_up();
DROP FUNCTION order_proc.layout_1_5_down();
DROP FUNCTION order_proc.batch_create_order_items(bigint[], bigint[], int[], numeric[], int, text);
DROP TYPE order_proc.batch_result;
