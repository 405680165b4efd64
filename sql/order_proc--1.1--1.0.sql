\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.0'" to load this file. \quit

SELECT order_proc.apply_migration('1.1'::pg_catalog.text, '1.0'::pg_catalog.text);
DROP FUNCTION order_proc.layout_1_1_up();
DROP FUNCTION order_proc.layout_1_1_down();
