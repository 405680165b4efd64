\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.6'" to load this file. \quit

SELECT order_proc.apply_migration('1.7'::pg_catalog.text, '1.6'::pg_catalog.text);
DROP FUNCTION order_proc.layout_1_7_up();
DROP FUNCTION order_proc.layout_1_7_down();
DROP FUNCTION order_proc.recover();
DROP FUNCTION order_proc.fan_out_exec(text);
DROP FUNCTION order_proc.fan_out(text, text[], text);
DROP VIEW order_proc.shard_status;
DROP FUNCTION order_proc.shard_states();
DROP FUNCTION order_proc.shard_for_order(bigint);
DROP FUNCTION order_proc.shard_for_customer(bigint, int, text);
DROP FUNCTION order_proc.shard_for_customer(bigint);
DROP FUNCTION order_proc.slot_for_order(bigint);
DROP FUNCTION order_proc.slot_for_customer(bigint);
DROP FUNCTION order_proc.shard_id();
DROP FUNCTION order_proc.set_membership(bigint, int, bytea);
DROP FUNCTION order_proc.join_cluster(bigint, int);
DROP FUNCTION order_proc.add_shard(name);
DROP FUNCTION order_proc.cluster_changed();
DROP FUNCTION order_proc.check_slot();
DROP TYPE order_proc.recovery_action;
DROP TYPE order_proc.shard_command;
DROP TYPE order_proc.shard_state;
