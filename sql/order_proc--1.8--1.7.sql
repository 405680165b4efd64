\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.7'" to load this file. \quit

SELECT order_proc.apply_migration('1.8'::pg_catalog.text, '1.7'::pg_catalog.text);
DROP FUNCTION order_proc.layout_1_8_up();
DROP FUNCTION order_proc.layout_1_8_down();

-- Sagas
DROP PROCEDURE order_proc.create_order_with_compensation(bigint, bigint, text, numeric, bigint[], int[], numeric[], regprocedure);

-- Atomic orders, reads and restore points
DROP FUNCTION order_proc.create_restore_point(text);
DROP TYPE order_proc.restore_point;
DROP FUNCTION order_proc.create_orders_of_shard(text, bigint[]);
DROP FUNCTION order_proc.create_orders(jsonb);

-- Recovery
DROP FUNCTION order_proc.write_receipt(text, bigint, text, bigint);
DROP FUNCTION order_proc.register_coordinator(bigint, int, int, bigint, bigint);
DROP FUNCTION order_proc.join_cluster(bigint, int, int, bigint);
DROP FUNCTION order_proc.adopt_cluster();
DROP VIEW order_proc.in_doubt;
DROP FUNCTION order_proc.in_doubt_transactions();
DROP TYPE order_proc.in_doubt_transaction;
DROP FUNCTION order_proc.outcome(bigint, text);

-- Imports over shards
DROP FUNCTION order_proc.import_orders(bytea, text[], text);
DROP FUNCTION order_proc.import_customers(bigint[], boolean);
DROP FUNCTION order_proc.import_statuses();
DROP FUNCTION order_proc.customer_ids_in_use(bigint, int);
DROP TYPE order_proc.import_outcome;
DROP TYPE order_proc.found_customers;
