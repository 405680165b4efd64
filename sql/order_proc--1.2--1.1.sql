\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.1'" to load this file. \quit

SELECT order_proc.apply_migration('1.2'::pg_catalog.text, '1.1'::pg_catalog.text);
DROP FUNCTION order_proc.layout_1_2_up();
DROP FUNCTION order_proc.layout_1_2_down();
