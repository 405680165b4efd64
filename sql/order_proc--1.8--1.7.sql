\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.7'" to load this file. \quit

SELECT order_proc.apply_migration('1.8'::pg_catalog.text, '1.7'::pg_catalog.text);
DROP FUNCTION order_proc.layout_1_8_up();
DROP FUNCTION order_proc.layout_1_8_down();

-- Sagas

-- Atomic orders, reads and restore points

-- Recovery

-- Imports over shards
