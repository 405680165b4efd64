\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.8'" to load this file. \quit

SELECT order_proc.apply_migration('1.9'::pg_catalog.text, '1.8'::pg_catalog.text);
DROP FUNCTION order_proc.layout_1_9_up();
DROP FUNCTION order_proc.layout_1_9_down();
DROP FUNCTION order_proc.write_deciding_receipt(text, bigint, int);
