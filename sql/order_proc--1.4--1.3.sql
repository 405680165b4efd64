\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.3'" to load this file. \quit

SELECT order_proc.apply_migration('1.4'::pg_catalog.text, '1.3'::pg_catalog.text);
DROP FUNCTION order_proc.layout_1_4_up();
DROP FUNCTION order_proc.layout_1_4_down();
DROP FUNCTION order_proc.require_backfilled_names();
