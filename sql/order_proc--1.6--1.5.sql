\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.5'" to load this file. \quit

SELECT order_proc.apply_migration('1.6'::pg_catalog.text, '1.5'::pg_catalog.text);
DROP FUNCTION order_proc.layout_1_6_up();
DROP FUNCTION order_proc.layout_1_6_down();
DROP VIEW order_proc.order_import;
DROP VIEW order_proc.order_import_lines;
DROP FUNCTION order_proc.last_import();
DROP FUNCTION order_proc.begin_import();
DROP FUNCTION order_proc.import_line();
DROP FUNCTION order_proc.end_import();
DROP TYPE order_proc.import_summary;
