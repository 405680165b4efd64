\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.2'" to load this file. \quit

SELECT order_proc.apply_migration('1.3'::pg_catalog.text, '1.2'::pg_catalog.text);
DROP FUNCTION order_proc.layout_1_3_up();
DROP FUNCTION order_proc.layout_1_3_down();
DROP PROCEDURE order_proc.backfill_customer_names(int, interval);
DROP FUNCTION order_proc.sync_customer_name();
