\set ECHO none
-- Hostile input: every function of the extension with what nobody sane would pass, in places where nobody sane would call it.
-- Each call runs in a subtransaction that is rolled back, with the fast path and without. What a call may answer is written
-- beside it: 'ok' or SQLSTATEs. Never XX000, never a crash.
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_proc CASCADE;
DROP SCHEMA IF EXISTS order_store CASCADE;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION order_proc;
SELECT order_proc.create_store() \g /dev/null
CREATE SCHEMA hostile;
SET search_path = hostile, public;
-- Each call below is a statement of its own: one that turns for ever shows as 57014. A million items take the executor as
-- long as they take plain SQL with its foreign key: some 12 s, several times that under a sanitizer on a busy machine.
SET statement_timeout = '2min';
SELECT no_plan();

SELECT order_proc.create_customer('Ana', 'de la Cruz', 'ana@example.org', 1) \g /dev/null
-- The first order of customer 1 has id 1 << 12 | slot 1862.
SELECT order_proc.create_order_with_items(1, 'pending', NULL, '{7,8}', '{1,2}', '{1.50,2.25}', 'note', 'key') AS o \gset
SELECT is(:o, 5958, 'the order that the calls below are about');

-- What a statement answers; everything it did is undone.
CREATE FUNCTION outcome(sql text, before text DEFAULT NULL, OUT state text, OUT message text, OUT hint text)
LANGUAGE plpgsql AS $$
BEGIN
  IF before IS NOT NULL THEN EXECUTE before; END IF;
  EXECUTE sql;
  RAISE SQLSTATE 'UNDO0';
EXCEPTION
  WHEN SQLSTATE 'UNDO0' THEN state := 'ok';
  WHEN query_canceled THEN state := '57014';
  WHEN OTHERS THEN GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
END $$;

CREATE FUNCTION plan_of(sql text) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) ' || sql; END $$;

-- The functions of the extension, as the catalog has them.
-- Those that SQL cannot call, aggregates, and partial_result are in fan_out_aggregate.sql.
CREATE VIEW members AS
SELECT p.oid, p.proname::text AS name, p.prokind, p.proargtypes, p.pronargs, p.prorettype
FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid JOIN pg_proc AS p ON p.oid = d.objid
WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'order_proc'
  AND p.prokind <> 'a' AND 'internal'::regtype <> ALL (p.proargtypes) AND 'anyelement'::regtype <> ALL (p.proargtypes);

CREATE TABLE cases (id int GENERATED ALWAYS AS IDENTITY, name text NOT NULL, args text NOT NULL, expected text NOT NULL, before text);

\set no_store '$$DROP SCHEMA order_store CASCADE$$'
\set million '(SELECT array_agg(i) FROM generate_series(1, 1000000) AS i)'

INSERT INTO cases (name, args, expected, before) VALUES
('create_store', '', '42710', NULL),
('create_store', 'NULL, NULL', '22004', NULL),
('create_store', 'NULL, NULL', '22004', :no_store),
('create_store', 'NULL, $$$$', '22023', :no_store),
('create_store', 'NULL, $$HASH$$', '22023', :no_store),
('create_store', 'NULL, repeat($$x$$, 1000000)', '22023', :no_store),
('create_store', '4294967295::oid::regrole', '42704', :no_store),
('create_store', '0::oid::regrole', '42704', :no_store),
('create_store', '$$pg_read_all_data$$::regrole', 'ok', :no_store),
('create_store', 'NULL, $$modulo$$', 'ok', :no_store),
('create_store', '', 'ok', :no_store),
('create_store', '', '42710', 'DROP SCHEMA order_store CASCADE; CREATE SCHEMA order_store'),
('grant_store', 'NULL, NULL', '22004', NULL),
('grant_store', 'current_user::regrole, NULL', '22004', NULL),
('grant_store', 'NULL, $$read$$', '22004', NULL),
('grant_store', '4294967295::oid::regrole, $$read$$', '42704', NULL),
('grant_store', '0::oid::regrole, $$read$$', '42704', NULL),
('grant_store', 'current_user::regrole, $$$$', '22023', NULL),
('grant_store', 'current_user::regrole, $$Read$$', '22023', NULL),
('grant_store', 'current_user::regrole, repeat($$x$$, 1000000)', '22023', NULL),
('grant_store', 'current_user::regrole, $$admin$$', 'ok', NULL),
('grant_store', 'current_user::regrole, $$read$$', 'OP001', :no_store),
('schema_version', '', 'ok', NULL),
('schema_version', '', 'OP001', :no_store),
('migrate_store', '', 'ok', NULL),
('migrate_store', 'NULL', 'ok', NULL),
('migrate_store', '$$1.3$$', '22023', NULL),
('migrate_store', '$$1.99999999999999999999$$', '22023', NULL),
('migrate_store', '$$$$', '22023', NULL),
('migrate_store', 'repeat($$1$$, 1000000)', '22023', NULL),
('migrate_store', '', 'OP001', :no_store),
('migration_plan', 'NULL', '22004', NULL),
('migration_plan', '$$1.0$$', 'ok', NULL),
('migration_plan', '$$1.5.$$', '22023', NULL),
('migration_plan', '$$01.5$$', '22023', NULL),
('migration_plan', '$$../../etc/passwd$$', '22023', NULL),
('migration_plan', 'repeat($$1.$$, 500000)', '22023', NULL),
('migration_plan', '$$1.0$$', 'OP001', :no_store),
('apply_migration', 'NULL, $$1.5$$', '22004', NULL),
('apply_migration', '$$1.5$$, NULL', '22004', NULL),
('apply_migration', '$$1.0$$, $$1.2$$', '22023', NULL),
('apply_migration', '$$1.5$$, $$1.5$$', '22023', NULL),
('apply_migration', '$$1.3.$$, $$1.4$$', '22023', NULL),
('apply_migration', 'repeat($$x$$, 1000000), $$1.4$$', '22023', NULL),
('apply_migration', '$$1.0$$, $$1.1$$', '55000', NULL),
('apply_migration', '$$1.4$$, $$1.5$$', '55000', :no_store),
('applied_migrations', '', 'ok', NULL),
('applied_migrations', '', 'OP001', :no_store),
('estimated_rows', 'NULL', 'ok', NULL),
('estimated_rows', '$$no.such$$', 'ok', NULL),
('estimated_rows', 'repeat($$x$$, 1000000)', 'ok', NULL),
('estimated_rows', '$$$$', '42602', NULL),
('estimated_rows', '$$a.b.c.d$$', '42601', NULL),
('new_order_id', 'NULL', '22004', NULL),
('new_order_id', '0', 'ok', NULL),
('new_order_id', '-9223372036854775808', 'ok', NULL),
('new_order_id', '9223372036854775807', 'ok', NULL),
('new_order_id', '1', '2200H', 'ALTER SEQUENCE order_store.orders_id_seq RESTART 2251799813685247; SELECT nextval($$order_store.orders_id_seq$$)'),
('new_order_id', '1', 'OP001', :no_store),
('first_name', 'NULL', 'ok', NULL),
('first_name', '$$$$', 'ok', NULL),
('first_name', 'repeat($$ $$, 1000000)', 'ok', NULL),
('first_name', 'repeat($$ä$$, 1000000)', 'ok', NULL),
('last_name', 'NULL', 'ok', NULL),
('last_name', 'repeat($$ $$, 1000000)', 'ok', NULL),
('last_name', '$$x$$ || repeat($$ $$, 1000000)', 'ok', NULL),
('full_name', 'NULL, NULL', 'ok', NULL),
('full_name', 'repeat($$x$$, 1000000), repeat($$ $$, 1000000)', 'ok', NULL),
('order_counts', '', 'ok', NULL),
('order_counts', '', 'OP001', :no_store),
('explain_fast_path', '', 'ok', NULL),
('explain_fast_path', '', 'OP001', :no_store),
('list_orders', '', 'ok', NULL),
('list_orders', '', 'OP001', :no_store),
('require_backfilled_names', '', 'ok', NULL),
('require_backfilled_names', '', 'OP001', :no_store),
('record_status_change', '', '39P01', NULL),
('statuses_changed', '', '39P01', NULL),
('sync_customer_name', '', '39P01', NULL),
('begin_import', '', '39P01', NULL),
('import_line', '', '39P01', NULL),
('end_import', '', '39P01', NULL),
('last_import', '', 'ok', NULL),
('last_import', '', 'ok', :no_store),
('check_slot', '', '39P01', NULL),
('cluster_changed', '', '39P01', NULL),
('add_shard', 'NULL', '22004', NULL),
('add_shard', '$$$$', '42704', NULL),
('add_shard', '$$no such server$$', '42704', NULL),
('add_shard', 'repeat($$x$$, 1000000)::name', '42704', NULL),
('add_shard', '$$s$$', '42809', 'CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w'),
('add_shard', '$$s$$', 'OP001', :no_store),
('customer_ids_in_use', 'NULL, 1', '22004', NULL),
('customer_ids_in_use', '1, NULL', '22004', NULL),
('customer_ids_in_use', '1, 0', '22023', NULL),
('customer_ids_in_use', '1, 65537', '22023', NULL),
('customer_ids_in_use', '9223372036854775807, 65536', 'ok', NULL),
('customer_ids_in_use', '-9223372036854775808, 65536', 'ok', NULL),
('customer_ids_in_use', '1, 1', 'OP001', :no_store),
('import_statuses', '', 'ok', NULL),
('import_statuses', '', 'OP001', :no_store),
('import_customers', 'NULL, true', '22004', NULL),
('import_customers', '$${}$$, NULL', '22004', NULL),
('import_customers', '$${NULL}$$, true', '22004', NULL),
('import_customers', '$${{1,2},{3,4}}$$, true', '22023', NULL),
('import_customers', '$${9223372036854775807,1,1,-9223372036854775808}$$, true', 'ok', NULL),
('import_customers', '$${1,77}$$, false', 'ok', NULL),
('import_customers', '$${1}$$, false', 'OP001', :no_store),
('import_orders', 'NULL, $${}$$, $$abort$$', '22004', NULL),
('import_orders', '$$$$, NULL, $$abort$$', '22004', NULL),
('import_orders', '$$$$, $${}$$, NULL', '22004', NULL),
('import_orders', '$$$$, $${}$$, $$no$$', '22023', NULL),
('import_orders', '$$$$, $${NULL}$$, $$abort$$', '22P03', NULL),
('import_orders', '$$$$, $${}$$, $$abort$$', 'ok', NULL),
('import_orders', 'decode(repeat($$00$$, 14), $$hex$$), $${}$$, $$abort$$', '22P03', NULL),
('import_orders', 'decode(repeat($$00$$, 1000000), $$hex$$), $${}$$, $$abort$$', '22P03', NULL),
('import_orders', 'decode($$000100000000000000000000000100$$ || $$78$$, $$hex$$), $${}$$, $$abort$$', 'ok', NULL),
('import_orders', '$$$$, $${}$$, $$abort$$', 'OP001', :no_store),
('join_cluster', 'NULL, 0', '22004', NULL),
('join_cluster', '1, NULL', '22004', NULL),
('join_cluster', '0, 0', '55000', NULL),
('join_cluster', '-9223372036854775808, -2147483648', '55000', NULL),
('join_cluster', '9223372036854775807, 2147483647', '55000', NULL),
('join_cluster', '7, 3', 'ok', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('join_cluster', '7, 2', '55000', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('join_cluster', '1, 1', 'OP001', :no_store),
('join_cluster', '7, 3, NULL, 1', '22004', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('join_cluster', '7, 3, 1, NULL', '22004', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('join_cluster', '7, 3, 1, 1', 'ok', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('join_cluster', '7, 2, 1, 1', '55000', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('join_cluster', '7, 3, 1, 1', 'OP503', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))' || ', order_proc.register_coordinator(7, 3, 2, 1)'),
('join_cluster', '7, 3, 2, -1', 'OP503', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))' || ', order_proc.register_coordinator(7, 3, 2, 1)'),
('join_cluster', '1, 1, 1, 1', 'OP001', :no_store),
('register_coordinator', 'NULL, 0, 1, 1', '22004', NULL),
('register_coordinator', '1, NULL, 1, 1', '22004', NULL),
('register_coordinator', '1, 0, NULL, 1', '22004', NULL),
('register_coordinator', '1, 0, 1, NULL', '22004', NULL),
('register_coordinator', '1, 0, 1, 1', 'ok', NULL),
('register_coordinator', '7, 3, 1, 1', 'ok', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('register_coordinator', '7, 3, -2147483648, -9223372036854775808', 'ok', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('register_coordinator', '8, 3, 1, 1', '55000', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('register_coordinator', '8, 3, 1, 1, 6', '55000', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('register_coordinator', '8, 3, 1, 1, 7', 'ok', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('register_coordinator', '1, 1, 1, 1', 'OP001', :no_store),
('write_deciding_receipt', 'NULL, 1', '22004', NULL),
('write_deciding_receipt', '$$opc3_0000000000000007_00000001_0000000000000003_0000000000000001_00020003_0003$$, NULL', '22004', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('write_deciding_receipt', '$$opc3_0000000000000007_00000001_0000000000000003_0000000000000001_00020003_0003$$, 1', '22023', NULL),
('write_deciding_receipt', '$$opc3_0000000000000007_00000001_0000000000000003_0000000000000001_00020003_0003$$, 1', 'ok', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('write_deciding_receipt', '$$opc3_0000000000000007_00000001_0000000000000003_0000000000000001_00020004_0003$$, 1', '22023', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('write_deciding_receipt', '$$opc3_0000000000000007_00000001_0000000000000003_0000000000000001_00030004_0004$$, 1', '22023', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('write_deciding_receipt', '$$opc2_0000000000000007_00000001_0000000000000003_0000000000000001_0003$$, 1', '22023', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('write_deciding_receipt', 'repeat($$x$$, 1000000), 1', '22023', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('write_deciding_receipt', '$$opc3_0000000000000007_00000001_0000000000000003_0000000000000001_00020003_0003$$, 1', 'OP001', :no_store),
('write_receipt', 'NULL, 1, NULL, NULL', '22004', NULL),
('write_receipt', '$$opc2_0000000000000007_00000001_0000000000000003_0000000000000001_0003$$, NULL, NULL, NULL', '22004', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('write_receipt', '$$opc2_0000000000000007_00000001_0000000000000003_0000000000000001_0003$$, 1, NULL, NULL', '22023', NULL),
('write_receipt', '$$opc2_0000000000000007_00000001_0000000000000003_0000000000000001_0003$$, 1, NULL, NULL', 'ok', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('write_receipt', '$$opc2_0000000000000007_00000001_0000000000000003_0000000000000001_0003$$, 1, $$x$$, NULL', 'ok', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('write_receipt', '$$opc2_0000000000000007_00000001_0000000000000003_0000000000000001_0004$$, 1, NULL, NULL', '22023', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('write_receipt', '$$$$, 1, NULL, NULL', '22023', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('write_receipt', 'repeat($$x$$, 1000000), 1, NULL, NULL', '22023', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('write_receipt', '$$opc2_0000000000000007_00000001_0000000000000003_0000000000000001_0003$$, 1, NULL, NULL', 'OP001', :no_store),
('outcome', 'NULL, $$k$$', '22004', NULL),
('outcome', '1, NULL', '22004', NULL),
('outcome', '1, $$$$', 'ok', NULL),
('outcome', '-9223372036854775808, $$k$$', 'ok', NULL),
('outcome', '1, repeat($$x$$, 255)', 'ok', NULL),
('outcome', '1, repeat($$x$$, 256)', '22023', NULL),
('outcome', '1, $$k$$', 'OP001', :no_store),
('in_doubt_transactions', '', 'ok', NULL),
('in_doubt_transactions', '', 'OP001', :no_store),
('adopt_cluster', '', '55000', NULL),
('adopt_cluster', '', '55000', 'SELECT order_proc.set_membership(7, 3, decode(repeat($$ff$$, 512), $$hex$$))'),
('adopt_cluster', '', 'OP001', :no_store),
('set_membership', 'NULL, 0, decode(repeat($$ff$$, 512), $$hex$$)', '22004', NULL),
('set_membership', '1, 0, NULL', '22004', NULL),
('set_membership', '1, NULL, decode(repeat($$ff$$, 512), $$hex$$)', 'ok', NULL),
('set_membership', '1, 0, decode(repeat($$ff$$, 512), $$hex$$)', 'ok', NULL),
('set_membership', '1, 2147483647, decode(repeat($$00$$, 512), $$hex$$)', 'ok', NULL),
('set_membership', '1, -1, decode(repeat($$ff$$, 512), $$hex$$)', '23514', NULL),
('set_membership', '1, 0, $$$$', '22023', NULL),
('set_membership', '1, 0, decode(repeat($$ff$$, 511), $$hex$$)', '22023', NULL),
('set_membership', '1, 0, decode(repeat($$ff$$, 513), $$hex$$)', '22023', NULL),
('set_membership', '1, 0, decode(repeat($$ff$$, 1000000), $$hex$$)', '22023', NULL),
('set_membership', '-9223372036854775808, 0, decode(repeat($$ff$$, 512), $$hex$$)', 'ok', NULL),
('set_membership', '2, 0, decode(repeat($$ff$$, 512), $$hex$$)', '55000', 'SELECT order_proc.set_membership(1, 0, decode(repeat($$ff$$, 512), $$hex$$))'),
('set_membership', '1, 0, decode(repeat($$ff$$, 512), $$hex$$)', 'OP001', :no_store),
('shard_id', '', 'ok', NULL),
('shard_id', '', 'OP001', :no_store),
('slot_for_order', 'NULL', '22004', NULL),
('slot_for_order', '-9223372036854775808', 'ok', NULL),
('slot_for_order', '9223372036854775807', 'ok', NULL),
('shard_for_order', 'NULL', '22004', NULL),
('shard_for_order', '-1', 'ok', NULL),
('shard_for_order', '9223372036854775807', 'ok', NULL),
('shard_for_order', '1', 'OP403', 'SELECT order_proc.set_membership(1, 0, decode(repeat($$00$$, 512), $$hex$$))'),
('shard_for_order', '1', 'OP001', :no_store),
('slot_for_customer', 'NULL', '22004', NULL),
('slot_for_customer', '-9223372036854775808', 'ok', NULL),
('slot_for_customer', '9223372036854775807', 'ok', NULL),
('slot_for_customer', '1', 'OP001', :no_store),
('shard_for_customer', 'NULL', '22004', NULL),
('shard_for_customer', '-9223372036854775808', 'ok', NULL),
('shard_for_customer', '9223372036854775807', 'ok', NULL),
('shard_for_customer', '1', 'OP403', 'SELECT order_proc.set_membership(1, 0, decode(repeat($$00$$, 512), $$hex$$))'),
('shard_for_customer', '1', 'OP001', :no_store),
('shard_for_customer', 'NULL, 1', '22004', NULL),
('shard_for_customer', '1, NULL', '22004', NULL),
('shard_for_customer', '1, 1, NULL', '22004', NULL),
('shard_for_customer', '1, 0', '22023', NULL),
('shard_for_customer', '1, -2147483648', '22023', NULL),
('shard_for_customer', '1, -1, $$modulo$$', '22023', NULL),
('shard_for_customer', '1, 1, $$$$', '22023', NULL),
('shard_for_customer', '1, 1, $$Hash$$', '22023', NULL),
('shard_for_customer', '1, 1, repeat($$x$$, 1000000)', '22023', NULL),
('shard_for_customer', '-9223372036854775808, 2147483647, $$hash$$', 'ok', NULL),
('shard_for_customer', '-9223372036854775808, 2147483647, $$modulo$$', 'ok', NULL),
('shard_for_customer', '-9223372036854775808, 2147483647, $$jump$$', 'ok', NULL),
('shard_for_customer', '1, 1, $$jump$$', 'ok', :no_store),
('shard_states', '', 'ok', NULL),
('shard_states', '', 'OP001', :no_store),
('fan_out', 'NULL', '22004', NULL),
('fan_out', '$$SELECT 1$$, NULL, NULL', '22004', NULL),
('fan_out', '$$$$', '42601', NULL),
('fan_out', '$$;$$', '42601', NULL),
('fan_out', '$$SELECT 1; SELECT 2$$', '42601', NULL),
('fan_out', '$$SELEC 1$$', '42601', NULL),
('fan_out', '$$SELECT 1$$, NULL, $$$$', '22023', NULL),
('fan_out', '$$SELECT 1$$, NULL, repeat($$x$$, 1000000)', '22023', NULL),
('fan_out', '$$DELETE FROM order_store.orders$$', '0A000', NULL),
('fan_out', '$$SELECT 1 INTO t$$', '0A000', NULL),
('fan_out', '$$EXPLAIN ANALYZE DELETE FROM order_store.orders$$', '0A000', NULL),
('fan_out', 'repeat($$x$$, 1000000)', '42601', NULL),
-- the list of columns is missing
('fan_out', '$$SELECT 1$$', '42601 0A000', NULL),
('fan_out', '$$SELECT 1$$', 'OP001 42601 0A000', :no_store),
('fan_out_aggregate', 'NULL', '22004', NULL),
('fan_out_aggregate', '$$SELECT count(*) FROM order_store.orders$$', '0A000', NULL),
('explain_fan_out_aggregate', 'NULL', '22004', NULL),
('explain_fan_out_aggregate', '$$SELECT count(*) FROM order_store.orders$$', 'ok', NULL),
('explain_fan_out_aggregate', '$$$$', '42601', NULL),
('explain_fan_out_aggregate', 'repeat($$x$$, 1000000)', '42601', NULL),
('explain_fan_out_aggregate', 'repeat($$(SELECT count(*) FROM $$, 20000)', '42601 54001', NULL),
('explain_fan_out_aggregate', '$$SELECT count(*) FROM order_store.orders$$', 'OP001', :no_store),
('fan_out_exec', 'NULL', '22004', NULL),
('fan_out_exec', '$$$$', '42601', NULL),
('fan_out_exec', '$$;;$$', '42601', NULL),
('fan_out_exec', '$$SELECT 1; SELECT 2$$', '42601', NULL),
('fan_out_exec', '$$SELECT 1$$', 'ok', NULL),
('fan_out_exec', '$$UPDATE order_store.orders SET notes = NULL$$', 'ok', NULL),
('fan_out_exec', '$$DROP SCHEMA order_store CASCADE$$', 'ok 55006', NULL),
('fan_out_exec', '$$VACUUM$$', '25001', NULL),
('fan_out_exec', '$$SELECT * FROM order_proc.fan_out_exec($x$SELECT 1$x$)$$', 'ok', NULL),
('fan_out_exec', '$$SELECT 1 / 0$$', '22012', NULL),
('fan_out_exec', 'repeat($$x$$, 1000000)', '42601', NULL),
('fan_out_exec', '$$SELECT 1$$', 'OP001', :no_store),
('recover', '', 'ok', NULL),
('recover', '', 'OP001', :no_store),
('backfill_customer_names', '', 'ok', NULL),
('backfill_customer_names', 'NULL', '22004', NULL),
('backfill_customer_names', '0', '22023', NULL),
('backfill_customer_names', '-2147483648', '22023', NULL),
('backfill_customer_names', '1, NULL', '22004', NULL),
('backfill_customer_names', '1, $$-1 microsecond$$', '22023', NULL),
('backfill_customer_names', '2147483647, $$178000000 years$$', 'ok', NULL),
('backfill_customer_names', '', 'OP001', :no_store);

INSERT INTO cases (name, args, expected)
SELECT 'fan_out_exec', quote_literal(c), '0A000' FROM unnest(ARRAY['BEGIN', 'COMMIT', 'ROLLBACK', 'SAVEPOINT s', 'ROLLBACK TO s', 'RELEASE s', 'PREPARE TRANSACTION ''x''', 'COMMIT PREPARED ''x''', 'ROLLBACK PREPARED ''x''', 'SET work_mem = 64',
  'RESET ALL', 'SET SESSION AUTHORIZATION DEFAULT', 'SET ROLE NONE', 'SET TRANSACTION READ ONLY', 'SET CONSTRAINTS ALL DEFERRED', 'LISTEN x', 'UNLISTEN *', 'NOTIFY x', 'COPY order_store.orders TO STDOUT', 'COPY order_store.orders FROM STDIN', 'PREPARE p AS SELECT 1',
  'EXECUTE p', 'DEALLOCATE ALL', 'DISCARD ALL', 'DECLARE c CURSOR FOR SELECT 1', 'FETCH c', 'MOVE c', 'CLOSE ALL', 'LOAD ''x''', 'CALL order_proc.backfill_customer_names()']) AS c;
INSERT INTO cases (name, args, expected)
SELECT 'require_version', quote_nullable(v), e FROM (VALUES
  (NULL, '22004'), ('1.5', 'ok'), ('1.4', 'ok'), ('1.0', 'ok'), ('0.0', 'ok'), ('01.5', 'ok'), ('1.05', 'ok'), ('1.99', 'OP003'), ('1.100', 'OP003'), ('2.0', 'OP003'),
  ('1.2147483647', 'OP003'), ('2147483647.0', 'OP003'), ('2147483648.0', '22023'), ('1.99999999999999999999', '22023'),
  ('', '22023'), ('1', '22023'), ('1.', '22023'), ('.5', '22023'), ('.', '22023'), ('1.5.', '22023'), ('1.5.1', '22023'), (' 1.5', '22023'), ('1.5 ', '22023'),
  ('-1.5', '22023'), ('+1.5', '22023'), ('1.-5', '22023'), ('1.+5', '22023'), ('1,5', '22023'), ('1..5', '22023'), ('1.5beta', '22023'), ('0x1.5', '22023'),
  ('NaN', '22023'), (E'1.5\n', '22023'), ('１.５', '22023'), ('installed', '22023')) AS t (v, e);
INSERT INTO cases (name, args, expected) VALUES
('require_version', 'repeat($$1$$, 1000000) || $$.5$$', '22023'),
('require_version', '$$1.$$ || repeat($$0$$, 1000000)', 'ok'),
('require_version', '$$1.$$ || repeat($$9$$, 1000000)', '22023');

\set run_to_the_end '$$SELECT order_proc.create_customer(NULL, NULL, id => 9223372036854775807 - i) FROM generate_series(0, 2) AS i; ALTER SEQUENCE order_store.customers_id_seq RESTART 9223372036854775805$$'
\set run_in_the_way '$$SELECT order_proc.create_customer(NULL, NULL, id => i) FROM generate_series(5, 20) AS i; $$'
INSERT INTO cases (name, args, expected, before) VALUES
('create_customer', 'NULL, NULL', 'ok', NULL),
('create_customer', 'NULL, NULL, NULL, NULL', 'ok', NULL),
('create_customer', '$$$$, $$$$, $$$$', 'ok', NULL),
('create_customer', 'repeat($$x$$, 1000000), repeat($$y$$, 1000000), repeat($$z$$, 1000000)', 'ok', NULL),
('create_customer', '$$a$$, $$b$$, NULL, 1', '23505', NULL),
('create_customer', '$$a$$, $$b$$, NULL, 0', 'ok', NULL),
('create_customer', '$$a$$, $$b$$, NULL, -1', 'ok', NULL),
('create_customer', '$$a$$, $$b$$, NULL, -9223372036854775808', 'ok', NULL),
('create_customer', '$$a$$, $$b$$, NULL, 9223372036854775807', 'ok', NULL),
('create_customer', '$$a$$, $$b$$', 'ok', :run_in_the_way || 'ALTER SEQUENCE order_store.customers_id_seq RESTART 4; SELECT nextval($$order_store.customers_id_seq$$)'),
('create_customer', '$$a$$, $$b$$', 'ok', :run_in_the_way || 'ALTER SEQUENCE order_store.customers_id_seq INCREMENT BY 3 RESTART 6'),
('create_customer', '$$a$$, $$b$$', '2200H', 'ALTER SEQUENCE order_store.customers_id_seq RESTART 9223372036854775807; SELECT nextval($$order_store.customers_id_seq$$)'),
('create_customer', '$$a$$, $$b$$', '2200H', :run_to_the_end),
-- A sequence of the owner's making must not make a call turn for ever.
('create_customer', '$$a$$, $$b$$', 'ok 2200H', :run_in_the_way || 'ALTER SEQUENCE order_store.customers_id_seq INCREMENT BY -1 RESTART 10'),
('create_customer', '$$a$$, $$b$$', 'ok 2200H', :run_in_the_way || 'ALTER SEQUENCE order_store.customers_id_seq MINVALUE 5 MAXVALUE 20 START 5 CYCLE RESTART 10'),
('create_customer', '$$a$$, $$b$$', 'OP001', :no_store);

-- create_order_with_items: the arguments are customer, status, total, products, quantities, prices, notes, key.
INSERT INTO cases (name, args, expected)
SELECT 'create_order_with_items', format('%s, %s, %s, %s, %s, %s, %s, %s', c, s, t, p, q, r, n, k), e FROM (VALUES
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', 'NULL', 'ok'),
  ('1', '$$paid$$', '0', '$${7}$$', '$${1}$$', '$${0}$$', '$$$$', '$$$$', 'ok'),
  ('NULL', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', 'NULL', '22004'),
  ('1', 'NULL', 'NULL', 'NULL', '$${1}$$', '$${1}$$', 'NULL', 'NULL', '22004'),
  ('1', 'NULL', 'NULL', '$${7}$$', 'NULL', '$${1}$$', 'NULL', 'NULL', '22004'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', 'NULL', 'NULL', 'NULL', '22004'),
  ('1', 'NULL', 'NULL', '$${7,NULL}$$', '$${1,1}$$', '$${1,1}$$', 'NULL', 'NULL', '22004'),
  ('1', 'NULL', 'NULL', '$${7,8}$$', '$${NULL,1}$$', '$${1,1}$$', 'NULL', 'NULL', '22004'),
  ('1', 'NULL', 'NULL', '$${7,8}$$', '$${1,1}$$', '$${1,NULL}$$', 'NULL', 'NULL', '22004'),
  ('1', 'NULL', 'NULL', '$${NULL}$$', '$${NULL}$$', '$${NULL}$$', 'NULL', 'NULL', '22004'),
  ('0', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', 'NULL', '23503'),
  ('-9223372036854775808', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', 'NULL', '23503'),
  ('9223372036854775807', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', '$$k$$', '23503'),
  ('1', '$$$$', 'NULL', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', 'NULL', '22023'),
  ('1', '$$Pending$$', 'NULL', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', 'NULL', '22023'),
  ('1', '$$pending $$', 'NULL', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', 'NULL', '22023'),
  ('1', 'repeat($$ä$$, 500000)', 'NULL', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', 'NULL', '22023'),
  -- shapes
  ('1', 'NULL', 'NULL', '$${}$$', '$${}$$', '$${}$$', 'NULL', 'NULL', '22023'),
  ('1', 'NULL', '5', '$${}$$', '$${}$$', '$${}$$', 'NULL', '$$k$$', '22023'),
  ('1', 'NULL', 'NULL', '$${7,8}$$', '$${1}$$', '$${1}$$', 'NULL', 'NULL', '22023'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1,1}$$', '$${1}$$', 'NULL', 'NULL', '22023'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${}$$', 'NULL', 'NULL', '22023'),
  ('1', 'NULL', 'NULL', '$${}$$', '$${1}$$', '$${1}$$', 'NULL', 'NULL', '22023'),
  ('1', 'NULL', 'NULL', '$${{7}}$$', '$${1}$$', '$${1}$$', 'NULL', 'NULL', '22023'),
  ('1', 'NULL', 'NULL', '$${7,8}$$', '$${{1,1}}$$', '$${1,1}$$', 'NULL', 'NULL', '22023'),
  ('1', 'NULL', 'NULL', '$${7,8}$$', '$${1,1}$$', '$${{{1,1}}}$$', 'NULL', 'NULL', '22023'),
  ('1', 'NULL', 'NULL', '$${{7,8},{9,10}}$$', '$${{1,1},{1,1}}$$', '$${{1,1},{1,1}}$$', 'NULL', 'NULL', '22023'),
  ('1', 'NULL', 'NULL', '$$[5:6]={7,8}$$', '$$[-2:-1]={1,1}$$', '$$[2147483645:2147483646]={1,1}$$', 'NULL', 'NULL', 'ok'),
  ('1', 'NULL', 'NULL', '$$[5:6]={7,8}$$', '$$[-2:-1]={1,1}$$', '$$[0:1]={1,1}$$', 'NULL', 'NULL', 'ok'),
  -- numbers
  ('1', 'NULL', 'NULL', '$${-9223372036854775808,9223372036854775807,0}$$', '$${1,1,1}$$', '$${1,1,1}$$', 'NULL', 'NULL', 'ok'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${0}$$', '$${1}$$', 'NULL', 'NULL', '23514'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${-1}$$', '$${1}$$', 'NULL', 'NULL', '23514'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${-2147483648}$$', '$${1}$$', 'NULL', 'NULL', '23514'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${2147483647}$$', '$${0.01}$$', 'NULL', 'NULL', 'ok'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${2147483647}$$', '$${99999999.99}$$', 'NULL', 'NULL', '22003'),
  ('1', 'NULL', '0', '$${7}$$', '$${2147483647}$$', '$${99999999.99}$$', 'NULL', 'NULL', 'ok'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${-0.01}$$', 'NULL', 'NULL', '23514'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${-0.004}$$', 'NULL', 'NULL', 'ok'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${-0.005}$$', 'NULL', 'NULL', '23514'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${NaN}$$', 'NULL', 'NULL', '23514'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${Infinity}$$', 'NULL', 'NULL', '22003'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${-Infinity}$$', 'NULL', 'NULL', '23514'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${99999999.994}$$', 'NULL', 'NULL', 'ok'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${99999999.995}$$', 'NULL', 'NULL', '22003'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${100000000}$$', 'NULL', 'NULL', '22003'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', 'ARRAY[1e1000]', 'NULL', 'NULL', '22003'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', 'ARRAY[-1e1000]', 'NULL', 'NULL', '23514'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', 'ARRAY[repeat($$9$$, 131072)::numeric]', 'NULL', 'NULL', '22003'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', 'ARRAY[($$-$$ || repeat($$9$$, 131072))::numeric]', 'NULL', 'NULL', '23514'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', 'ARRAY[1e-16383]', 'NULL', 'NULL', 'ok'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', 'ARRAY[($$1.$$ || repeat($$9$$, 16383))::numeric]', 'NULL', 'NULL', 'ok'),
  ('1', 'NULL', 'NaN', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', 'NULL', '23514'),
  ('1', 'NULL', 'Infinity', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', '$$k$$', '22003'),
  ('1', 'NULL', '-Infinity', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', 'NULL', '23514'),
  ('1', 'NULL', '-0.01', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', 'NULL', '23514'),
  ('1', 'NULL', '1e1000', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', 'NULL', '22003'),
  ('1', 'NULL', '-1e1000', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', 'NULL', '23514'),
  ('1', 'NULL', '9999999999.994', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', '$$k$$', 'ok'),
  ('1', 'NULL', '9999999999.995', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', 'NULL', '22003'),
  ('1', 'NULL', '1e-16383', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', '$$k$$', 'ok'),
  -- texts
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${1}$$', 'repeat($$x$$, 1000000)', 'NULL', 'ok'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', 'repeat($$x$$, 255)', 'ok'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', 'repeat($$x$$, 256)', '22023'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', 'repeat($$ä$$, 128)', '22023'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', 'repeat($$x$$, 1000000)', '22023'),
  ('1', 'NULL', 'NULL', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', '$$key$$', 'OP302'),
  ('1', '$$pending$$', 'NULL', '$${7,8}$$', '$${1,2}$$', '$${1.5,2.250}$$', '$$note$$', '$$key$$', 'ok'),
  ('1', '$$pending$$', 'NULL', '$$[0:1]={7,8}$$', '$${1,2}$$', '$${1.5,2.2501}$$', '$$note$$', '$$key$$', 'ok')
) AS t (c, s, t, p, q, r, n, k, e);
UPDATE cases SET args = regexp_replace(args, ', (-?Infinity|NaN),', ', $$\1$$,') WHERE name = 'create_order_with_items';
INSERT INTO cases (name, args, expected, before) VALUES
('create_order_with_items', '1, NULL, NULL, $${7}$$, $${1}$$, $${1}$$', 'OP001', :no_store),
('create_order_with_items', '1, NULL, NULL, $${7}$$, $${1}$$, $${1}$$', '22023', 'DELETE FROM order_store.order_statuses'),
('create_order_with_items', '1, NULL, NULL, $${7}$$, $${1}$$, $${1}$$', '22023', 'UPDATE order_store.order_statuses SET is_initial = false'),
('create_order_with_items', '1, NULL, NULL, $${7}$$, $${1}$$, $${1}$$', '2200H', 'ALTER SEQUENCE order_store.orders_id_seq RESTART 2251799813685247; SELECT nextval($$order_store.orders_id_seq$$)'),
('create_order_with_items', '1, NULL, NULL, $${7}$$, $${1}$$, $${1}$$', '2200H', 'ALTER SEQUENCE order_store.order_items_id_seq RESTART 9223372036854775807; SELECT nextval($$order_store.order_items_id_seq$$)'),
('create_order_with_items', '1, NULL, NULL, $${7}$$, $${1}$$, $${1}$$', '23505', 'ALTER SEQUENCE order_store.orders_id_seq RESTART 1'),
('create_order_with_items', format('1, NULL, NULL, %1$s, array_fill(1, ARRAY[1000000]), array_fill(1.25, ARRAY[1000000])', :'million'), 'ok', NULL),
('create_order_with_items', format('1, NULL, NULL, %1$s, array_fill(1, ARRAY[1000000]), array_fill(99999.25, ARRAY[1000000])', :'million'), '22003', NULL),
('create_order_with_items', format('1, NULL, NULL, %1$s, array_fill(1, ARRAY[1000000]), array_fill(1.25, ARRAY[999999])', :'million'), '22023', NULL),
('create_order_with_items', format('1, NULL, NULL, %1$s, array_fill(1, ARRAY[1000000]), array_fill(1.25, ARRAY[999999]) || NULL::numeric', :'million'), '22004', NULL);

-- batch_create_order_items: the arguments are orders, products, quantities, prices, chunk_size, on_error. What is wrong with a row
-- fails the call, or is told in a result row.
INSERT INTO cases (name, args, expected)
SELECT 'batch_create_order_items', format('%s, %s, %s, %s, %s, %s', o, p, q, r, s, m), CASE WHEN mode = 'abort' OR e !~ '!$' THEN rtrim(e, '!') ELSE 'ok' END
FROM (VALUES ('abort'), ('skip_chunk'), ('skip_row')) AS modes (mode), LATERAL (VALUES
  -- e!: the fault of a row
  ('$${5958}$$', '$${7}$$', '$${1}$$', '$${1}$$', '100', 'ok'),
  ('NULL', '$${7}$$', '$${1}$$', '$${1}$$', '100', '22004'),
  ('$${5958}$$', 'NULL', '$${1}$$', '$${1}$$', '100', '22004'),
  ('$${5958}$$', '$${7}$$', 'NULL', '$${1}$$', '100', '22004'),
  ('$${5958}$$', '$${7}$$', '$${1}$$', 'NULL', '100', '22004'),
  ('$${5958}$$', '$${7}$$', '$${1}$$', '$${1}$$', 'NULL', '22004'),
  ('$${5958}$$', '$${7}$$', '$${1}$$', '$${1}$$', '0', '22023'),
  ('$${5958}$$', '$${7}$$', '$${1}$$', '$${1}$$', '-2147483648', '22023'),
  ('$${5958}$$', '$${7}$$', '$${1}$$', '$${1}$$', '2147483647', 'ok'),
  ('$${5958,5958,5958}$$', '$${7,8,9}$$', '$${1,1,1}$$', '$${1,1,1}$$', '1', 'ok'),
  -- shapes
  ('$${}$$', '$${}$$', '$${}$$', '$${}$$', '100', 'ok'),
  ('$${5958,5958}$$', '$${7}$$', '$${1}$$', '$${1}$$', '100', '22023'),
  ('$${5958}$$', '$${7,8}$$', '$${1}$$', '$${1}$$', '100', '22023'),
  ('$${5958}$$', '$${7}$$', '$${}$$', '$${1}$$', '100', '22023'),
  ('$${}$$', '$${}$$', '$${}$$', '$${1}$$', '100', '22023'),
  ('$${{5958}}$$', '$${7}$$', '$${1}$$', '$${1}$$', '100', '22023'),
  ('$${5958}$$', '$${{7}}$$', '$${1}$$', '$${1}$$', '100', '22023'),
  ('$${5958,5958}$$', '$${7,8}$$', '$${{{1,1}}}$$', '$${1,1}$$', '100', '22023'),
  ('$${{5958,5958},{1,2}}$$', '$${{7,8},{9,10}}$$', '$${{1,1},{1,1}}$$', '$${{1,1},{1,1}}$$', '100', '22023'),
  ('$$[5:6]={5958,5958}$$', '$$[-2:-1]={7,8}$$', '$$[2147483645:2147483646]={1,1}$$', '$$[0:1]={1,1}$$', '1', 'ok'),
  -- rows
  ('$${5958,NULL}$$', '$${7,8}$$', '$${1,1}$$', '$${1,1}$$', '100', '22004!'),
  ('$${5958,5958}$$', '$${7,NULL}$$', '$${1,1}$$', '$${1,1}$$', '1', '22004!'),
  ('$${5958,5958}$$', '$${7,8}$$', '$${NULL,1}$$', '$${1,1}$$', '100', '22004!'),
  ('$${5958,5958}$$', '$${7,8}$$', '$${1,1}$$', '$${1,NULL}$$', '1', '22004!'),
  ('$${NULL}$$', '$${NULL}$$', '$${NULL}$$', '$${NULL}$$', '100', '22004!'),
  ('array_fill(NULL::bigint, ARRAY[1000])', 'array_fill(NULL::bigint, ARRAY[1000])', 'array_fill(NULL::int, ARRAY[1000])', 'array_fill(NULL::numeric, ARRAY[1000])', '7', '22004!'),
  ('$${0}$$', '$${7}$$', '$${1}$$', '$${1}$$', '100', '23503!'),
  ('$${-9223372036854775808,9223372036854775807}$$', '$${7,8}$$', '$${1,1}$$', '$${1,1}$$', '100', '23503!'),
  ('$${5958,5958,5958}$$', '$${-9223372036854775808,9223372036854775807,0}$$', '$${1,1,1}$$', '$${1,1,1}$$', '100', 'ok'),
  ('$${5958}$$', '$${7}$$', '$${0}$$', '$${1}$$', '100', '23514!'),
  ('$${5958}$$', '$${7}$$', '$${-2147483648}$$', '$${1}$$', '100', '23514!'),
  ('$${5958}$$', '$${7}$$', '$${2147483647}$$', '$${99999999.99}$$', '100', 'ok'),
  ('$${5958}$$', '$${7}$$', '$${1}$$', '$${-0.004}$$', '100', 'ok'),
  ('$${5958}$$', '$${7}$$', '$${1}$$', '$${-0.005}$$', '100', '23514!'),
  ('$${5958}$$', '$${7}$$', '$${1}$$', '$${NaN}$$', '100', '23514!'),
  ('$${5958}$$', '$${7}$$', '$${1}$$', '$${Infinity}$$', '100', '22003!'),
  ('$${5958}$$', '$${7}$$', '$${1}$$', '$${-Infinity}$$', '100', '23514!'),
  ('$${5958}$$', '$${7}$$', '$${1}$$', '$${99999999.994}$$', '100', 'ok'),
  ('$${5958}$$', '$${7}$$', '$${1}$$', '$${99999999.995}$$', '100', '22003!'),
  ('$${5958}$$', '$${7}$$', '$${1}$$', 'ARRAY[1e1000]', '100', '22003!'),
  ('$${5958}$$', '$${7}$$', '$${1}$$', 'ARRAY[-1e1000]', '100', '23514!'),
  ('$${5958}$$', '$${7}$$', '$${1}$$', 'ARRAY[repeat($$9$$, 131072)::numeric]', '100', '22003!'),
  ('$${5958}$$', '$${7}$$', '$${1}$$', 'ARRAY[1e-16383]', '100', 'ok'),
  ('$${5958}$$', '$${7}$$', '$${1}$$', 'ARRAY[($$1.$$ || repeat($$9$$, 16383))::numeric]', '100', 'ok')
) AS t (o, p, q, r, s, e), quote_literal(mode) AS m;
INSERT INTO cases (name, args, expected, before) VALUES
('batch_create_order_items', '$${5958}$$, $${7}$$, $${1}$$, $${1}$$', 'ok', NULL),
('batch_create_order_items', '$${5958}$$, $${7}$$, $${1}$$, $${1}$$, 100, NULL', '22004', NULL),
('batch_create_order_items', '$${5958}$$, $${7}$$, $${1}$$, $${1}$$, 100, $$$$', '22023', NULL),
('batch_create_order_items', '$${5958}$$, $${7}$$, $${1}$$, $${1}$$, 100, $$ABORT$$', '22023', NULL),
('batch_create_order_items', '$${5958}$$, $${7}$$, $${1}$$, $${1}$$, 100, repeat($$x$$, 1000000)', '22023', NULL),
('batch_create_order_items', '$${5958}$$, $${7}$$, $${1}$$, $${1}$$', 'OP001', :no_store),
('batch_create_order_items', '$${}$$, $${}$$, $${}$$, $${}$$', 'OP001', :no_store),
('batch_create_order_items', '$${5958}$$, $${7}$$, $${1}$$, $${1}$$', '2200H', 'ALTER SEQUENCE order_store.order_items_id_seq RESTART 9223372036854775807; SELECT nextval($$order_store.order_items_id_seq$$)'),
('batch_create_order_items', '$${5958}$$, $${7}$$, $${1}$$, $${1}$$', '23505', 'ALTER SEQUENCE order_store.order_items_id_seq RESTART 1'),
('batch_create_order_items', '$${5958,5958,5958}$$, $${7,8,9}$$, $${1,1,1}$$, $${1,1,1}$$, 2, $$skip_row$$', 'ok', 'ALTER SEQUENCE order_store.order_items_id_seq RESTART 1'),
('batch_create_order_items', format('array_fill(38726::bigint, ARRAY[1000000]), %s, array_fill(1, ARRAY[1000000]), array_fill(1.25, ARRAY[1000000])', :'million'), 'ok', 'INSERT INTO order_store.orders (id, customer_id, status, total_amount) VALUES (38726, 1, $$pending$$, 0)'),
('batch_create_order_items', format('%s, array_fill(7::bigint, ARRAY[1000000]), array_fill(1, ARRAY[1000000]), array_fill(1.25, ARRAY[1000000])', :'million'), '23503', NULL),
('batch_create_order_items', format('%s, array_fill(7::bigint, ARRAY[1000000]), array_fill(1, ARRAY[1000000]), array_fill(1.25, ARRAY[1000000]), 5000, $$skip_row$$', :'million'), 'ok', NULL),
('batch_create_order_items', format('array_fill(38726::bigint, ARRAY[1000000]), %s, array_fill(1, ARRAY[1000000]), array_fill(1.25, ARRAY[999999])', :'million'), '22023', NULL);

-- One id, or many.
INSERT INTO cases (name, args, expected, before)
SELECT f, a, e, b FROM unnest(ARRAY['get_order', 'get_order_with_items', 'delete_order']) AS f, (VALUES
  ('NULL', '22004', NULL), ('0', 'ok', NULL), ('-1', 'ok', NULL), ('-9223372036854775808', 'ok', NULL), ('9223372036854775807', 'ok', NULL), ('5958', 'ok', NULL),
  ('5958', 'OP001', :no_store)) AS t (a, e, b)
UNION ALL
SELECT f, a, e, b FROM unnest(ARRAY['get_orders', 'refresh_order_totals']) AS f, (VALUES
  ('NULL', '22004', NULL), ('$${}$$', 'ok', NULL), ('$${NULL}$$', '22004', NULL), ('$${5958,NULL}$$', '22004', NULL), ('$${{5958,1}}$$', '22023', NULL),
  ('$${{{5958}}}$$', '22023', NULL), ('$$[5:6]={1,5958}$$', 'ok', NULL), ('$${5958,5958,-1}$$', 'ok', NULL),
  ('$${-9223372036854775808,9223372036854775807}$$', 'ok', NULL), (:'million', 'ok', NULL), ('array_fill(5958, ARRAY[10000])::bigint[]', 'ok', NULL),
  (':million || NULL::bigint', '22004', NULL), ('$${5958}$$', 'OP001', :no_store)) AS t (a, e, b);
UPDATE cases SET args = replace(args, ':million', :'million') WHERE args ~ '^:million';
INSERT INTO cases (name, args, expected, before) VALUES
('refresh_order_totals', '$${5958}$$', '22003', 'UPDATE order_store.order_items SET quantity = 2147483647, price = 99999999.99'),
('refresh_order_totals', '$${5958}$$', 'ok', 'DELETE FROM order_store.order_items'),
('update_order_status', 'NULL, $$paid$$', '22004', NULL),
('update_order_status', '5958, NULL', '22004', NULL),
('update_order_status', 'NULL, NULL, NULL', '22004', NULL),
('update_order_status', '0, $$paid$$', 'P0002', NULL),
('update_order_status', '-9223372036854775808, $$paid$$', 'P0002', NULL),
('update_order_status', '9223372036854775807, $$paid$$', 'P0002', NULL),
('update_order_status', '5958, $$$$', '22023', NULL),
('update_order_status', '5958, $$Paid$$', '22023', NULL),
('update_order_status', '5958, repeat($$x$$, 1000000)', '22023', NULL),
('update_order_status', '5958, $$paid$$, repeat($$x$$, 1000000)', 'OP202', NULL),
('update_order_status', '5958, $$paid$$, $$$$', 'OP202', NULL),
('update_order_status', '5958, $$paid$$, $$pending$$', 'ok', NULL),
('update_order_status', '5958, $$paid$$', 'ok', NULL),
('update_order_status', '5958, $$pending$$', 'OP201', NULL),
('update_order_status', '5958, $$returned$$', 'OP201', NULL),
('update_order_status', '5958, $$paid$$', 'OP201', 'UPDATE order_store.orders SET status = repeat($$x$$, 100000)'),
('update_order_status', '5958, $$paid$$', 'OP201', 'DELETE FROM order_store.status_transitions'),
('update_order_status', '5958, $$paid$$', 'OP001', :no_store),
('list_orders_paginated', '', 'ok', NULL),
('list_orders_paginated', 'NULL', '22004', NULL),
('list_orders_paginated', '1, NULL', '22004', NULL),
('list_orders_paginated', '-1', '22023', NULL),
('list_orders_paginated', '-2147483648, -2147483648', '22023', NULL),
('list_orders_paginated', '1, -1', '22023', NULL),
('list_orders_paginated', '0, 0', 'ok', NULL),
('list_orders_paginated', '2147483647, 2147483647', 'ok', NULL),
('list_orders_paginated', '', 'OP001', :no_store),
('list_orders_after', '', 'ok', NULL),
('list_orders_after', 'NULL', '22004', NULL),
('list_orders_after', '-1', '22023', NULL),
('list_orders_after', '0', 'ok', NULL),
('list_orders_after', '2147483647', 'ok', NULL),
('list_orders_after', '50, now()', '22004', NULL),
('list_orders_after', '50, NULL, 1', '22004', NULL),
('list_orders_after', '50, $$infinity$$, 1', 'ok', NULL),
('list_orders_after', '50, $$-infinity$$, 9223372036854775807', 'ok', NULL),
('list_orders_after', '50, $$infinity$$, -9223372036854775808, 1, $$pending$$', 'ok', NULL),
('list_orders_after', '50, $$4713-01-01 BC$$, 0, -1', 'ok', NULL),
('list_orders_after', '50, NULL, NULL, NULL, repeat($$x$$, 1000000)', 'ok', NULL),
('list_orders_after', '50, NULL, NULL, 9223372036854775807, $$no such$$', 'ok', NULL),
('list_orders_after', '', 'OP001', :no_store),
('purge_idempotency_keys', 'NULL', '22004', NULL),
('purge_idempotency_keys', '$$0$$', 'ok', NULL),
('purge_idempotency_keys', '$$-1 microsecond$$', '22023', NULL),
('purge_idempotency_keys', '$$1 month -31 days$$', '22023', NULL),
('purge_idempotency_keys', '$$1 month -29 days$$', 'ok', NULL),
('purge_idempotency_keys', '$$178000000 years$$', 'ok 22008', NULL),
('purge_idempotency_keys', '$$-178000000 years$$', '22023', NULL),
('purge_idempotency_keys', 'make_interval(days => 2147483647)', 'ok 22008', NULL),
('purge_idempotency_keys', '$$1 day$$', 'OP001', :no_store);

-- Documents.
INSERT INTO cases (name, args, expected)
SELECT 'create_orders', format('$$%s$$', document), e FROM (VALUES
  ('[]', 'ok'), ('{}', '22023'), ('null', '22023'), ('1', '22023'), ('"[]"', '22023'), ('[null]', '22004'), ('[1]', '22023'), ('[[]]', '22023'), ('[{}]', '22004'), ('[[[[[[[[]]]]]]]]', '22023'),
  ('[{"customer_id": 1, "product_ids": [7], "quantities": [1], "prices": [1]}]', 'ok'),
  ('[{"customer_id": 1, "product_ids": [7], "quantities": [1], "prices": [1], "status": null, "total_amount": null, "notes": null, "idempotency_key": null}]', 'ok'),
  ('[{"customer_id": 5, "customer_id": 1, "product_ids": [7], "quantities": [1], "prices": [1]}]', 'ok'),
  ('[{"customer_id": 1, "customer_id": 5, "product_ids": [7], "quantities": [1], "prices": [1]}]', '23503')) AS t (document, e)
UNION ALL
SELECT 'create_orders', format('jsonb_set($$[{"customer_id": 1, "product_ids": [7], "quantities": [1], "prices": [1]}]$$, $${0,%s}$$, %s)', field, value), e FROM (VALUES
  ('customer_id', '$$null$$', '22004'), ('customer_id', '$$"1"$$', '22023'), ('customer_id', '$$true$$', '22023'), ('customer_id', '$$[1]$$', '22023'), ('customer_id', '$${}$$', '22023'), ('customer_id', '$$1.0$$', 'ok'), ('customer_id', '$$1.00000000000000000001$$', '22023'),
  ('customer_id', '$$9223372036854775807$$', '23503'), ('customer_id', '$$9223372036854775808$$', '22003'), ('customer_id', '$$-9223372036854775809$$', '22003'), ('customer_id', '$$9223372036854775807.5$$', '22003'), ('customer_id', '$$1e131071$$', '22003'), ('customer_id', '$$-1e131071$$', '22003'), ('customer_id', '$$1e-16383$$', '22023'),
  ('status', '$$1$$', '22023'), ('status', '$$""$$', '22023'), ('status', 'to_jsonb(repeat($a$x$a$, 1000000))', '22023'), ('status', '$$"paid"$$', 'ok'),
  ('total_amount', '$$"1"$$', '22023'), ('total_amount', '$$-0.0$$', 'ok'), ('total_amount', '$$-0.001$$', 'ok'), ('total_amount', '$$-0.01$$', '23514'), ('total_amount', '$$9999999999.99$$', 'ok'), ('total_amount', '$$9999999999.995$$', '22003'), ('total_amount', '$$1e131071$$', '22003'), ('total_amount', '$$-1e131071$$', '23514'), ('total_amount', 'to_jsonb(repeat($a$9$a$, 131072)::numeric)', '22003'),
  ('product_ids', '$$[]$$', '22023'), ('product_ids', '$$null$$', '22004'), ('product_ids', '$$7$$', '22023'), ('product_ids', '$${"a": 7}$$', '22023'), ('product_ids', '$$[null]$$', '22004'), ('product_ids', '$$[[7]]$$', '22023'), ('product_ids', '$$["7"]$$', '22023'), ('product_ids', '$$[7, 8]$$', '22023'), ('product_ids', '(SELECT jsonb_agg(i) FROM generate_series(1, 1000000) AS i)', '22023'),
  ('quantities', '$$[0]$$', '23514'), ('quantities', '$$[-1]$$', '23514'), ('quantities', '$$[2147483648]$$', '22003'), ('quantities', '$$[1.5]$$', '22023'), ('quantities', '$$[null]$$', '22004'), ('quantities', '$$[{}]$$', '22023'), ('quantities', '$$"x"$$', '22023'),
  ('prices', '$$[-1]$$', '23514'), ('prices', '$$[99999999.995]$$', '22003'), ('prices', '$$[1e131071]$$', '22003'), ('prices', '$$["NaN"]$$', '22023'), ('prices', '$$[null]$$', '22004'), ('prices', '$$[[[1]]]$$', '22023'),
  ('notes', '$$5$$', '22023'), ('notes', '$$["x"]$$', '22023'), ('notes', 'to_jsonb(repeat($a$x$a$, 1000000))', 'ok'), ('notes', '(repeat($a$[$a$, 1000) || repeat($a$]$a$, 1000))::jsonb', '22023'),
  ('idempotency_key', '$$5$$', '22023'), ('idempotency_key', 'to_jsonb(repeat($a$x$a$, 256))', '22023'), ('idempotency_key', '$$"key"$$', 'OP302'), ('idempotency_key', '$$""$$', 'ok'),
  ('id', '$$1$$', '22023'), ('Customer_ID', '$$1$$', '22023'), ('items', '$$[]$$', '22023')) AS t (field, value, e);
INSERT INTO cases (name, args, expected, before) VALUES
('create_orders', 'NULL', '22004', NULL),
('create_orders', '$$[]$$', 'OP001', :no_store),
('create_orders', '(SELECT jsonb_agg(jsonb_build_object($$customer_id$$, 1, $$product_ids$$, $$[1]$$::jsonb, $$quantities$$, $$[1]$$::jsonb, $$prices$$, $$[1]$$::jsonb)) FROM generate_series(1, 10000))', 'ok', NULL),
('create_orders_of_shard', 'NULL, $${}$$', '22004', NULL),
('create_orders_of_shard', '$$[]$$, NULL', '22004', NULL),
('create_orders_of_shard', '$$[]$$, $${}$$', 'ok', NULL),
('create_orders_of_shard', '$$[]$$, $${1}$$', '22023', NULL),
('create_orders_of_shard', '$$[]$$, $${NULL}$$', '22004', NULL),
('create_orders_of_shard', '$$[5]$$, $${-9223372036854775808}$$', '22023', NULL),
('create_orders_of_shard', '$$x$$, $${}$$', '22P02', NULL),
('create_orders_of_shard', 'repeat($$[$$, 1000000), $${}$$', '54001', NULL),
('create_orders_of_shard', '$$[{"customer_id": 1, "product_ids": [7], "quantities": [1], "prices": [1]}]$$, $${9}$$', 'ok', NULL),
('create_restore_point', 'NULL', '22004', NULL),
('create_restore_point', '$$$$', '22023', NULL),
('create_restore_point', 'repeat($$x$$, 63)', 'ok', NULL),
('create_restore_point', 'repeat($$x$$, 64)', '22023', NULL),
('create_restore_point', 'repeat($$€$$, 1000000)', '22023', NULL),
('create_restore_point', '$$a$$ || chr(10)', '22023', NULL),
('create_restore_point', '$$a$$', 'OP001', :no_store),
('create_restore_point', '$$a$$', '55000', 'SELECT order_proc.set_membership(1, 0, decode(repeat($$ff$$, 512), $$hex$$))'),
-- Commits, which it cannot here; what else there is: test/cluster/sagas.pl.
('create_order_with_compensation', 'NULL, 1, NULL, NULL, $${7}$$, $${1}$$, $${1}$$, $$pg_catalog.int8up(bigint)$$', '2D000', NULL);

SELECT is((SELECT string_agg(oid::regprocedure::text, ', ' ORDER BY 1) FROM members
           WHERE name NOT IN (SELECT name FROM cases) AND name !~ '^layout_\d+_\d+_(up|down)$'), NULL, 'every function of the extension has cases');
SELECT is((SELECT string_agg(name, ', ') FROM cases WHERE name NOT IN (SELECT name FROM members)), NULL, 'every case has its function');
INSERT INTO cases (name, args, expected) SELECT name, '', 'ok' FROM members WHERE name ~ '^layout_\d+_\d+_(up|down)$';

CREATE FUNCTION statement_of(name text, args text) RETURNS text LANGUAGE sql AS $$
SELECT format('%s order_proc.%I(%s)', (SELECT CASE prokind WHEN 'p' THEN 'CALL' ELSE 'SELECT' END FROM members AS m WHERE m.name = $1 LIMIT 1), name, args) $$;
CREATE TABLE answers (id int, path text, state text, message text, hint text);
SELECT format('SET order_proc.fast_path = %s', path), format('INSERT INTO answers SELECT %s, %L, o.* FROM outcome(statement_of(%L, %L), %L) AS o', id, path, name, args, before)
FROM cases, unnest(ARRAY['on', 'off']) AS path ORDER BY id, path \gexec
RESET order_proc.fast_path;

-- One line for each function; what differs is told.
SELECT is(string_agg(format('%s(%s) with fast_path %s: %s, not %s%s', name, left(args, 200), path, state, expected, ': ' || message), E'\n' ORDER BY id, path)
            FILTER (WHERE state <> ALL (string_to_array(expected, ' '))),
          NULL, name || ': ' || count(*) / 2 || ' cases')
FROM answers JOIN cases USING (id) GROUP BY name ORDER BY name COLLATE "C";

-- Errors of the library's own: a lower case message without a full stop, and a hint.
SELECT is(string_agg(DISTINCT format('%s: %s (hint: %s)', state, left(message, 100), hint), E'\n'), NULL, 'messages and hints have the form of the house')
FROM answers WHERE (state ~ '^OP' OR state IN ('22004', '22023', '0A000', 'P0002', '55000', '42704'))
  AND (COALESCE(hint, '') = '' OR message ~ '\.$' OR message ~ '^[A-Z][a-z]' OR length(message) > 300 OR length(hint) > 2000);
SELECT results_eq('SELECT count(*), max(id) FROM order_store.orders', 'VALUES (1::bigint, 5958::bigint)', 'failed and undone calls leave nothing behind');

-- Each argument in turn takes every hostile value of its type, the others are sane. Only classes of SQLSTATE are told:
-- an internal error, a lack of resources and a hang are never right.
CREATE TABLE sane (name text, args text[]);
INSERT INTO sane VALUES
('fan_out_aggregate', ARRAY['''SELECT count(*) FROM order_store.orders''']),
('explain_fan_out_aggregate', ARRAY['''SELECT count(*) FROM order_store.orders''']),
('create_store', ARRAY['NULL', '''hash''']),
('grant_store', ARRAY['current_user::regrole', '''read''']),
('require_version', ARRAY['''1.4''']),
('migrate_store', ARRAY['''1.5''']),
('migration_plan', ARRAY['''1.4''']),
('apply_migration', ARRAY['''1.0''', '''1.1''']),
('estimated_rows', ARRAY['''order_store.orders''']),
('new_order_id', ARRAY['1']),
('create_customer', ARRAY['''a''', '''b''', 'NULL', 'NULL']),
('first_name', ARRAY['''a b''']),
('last_name', ARRAY['''a b''']),
('full_name', ARRAY['''a''', '''b''']),
('create_order_with_items', ARRAY['1', 'NULL', 'NULL', '''{7,8}''', '''{1,2}''', '''{1,2}''', 'NULL', 'NULL']),
('batch_create_order_items', ARRAY['''{5958,5958}''', '''{7,8}''', '''{1,2}''', '''{1,2}''', '100', '''skip_row''']),
('get_order', ARRAY['5958']),
('get_order_with_items', ARRAY['5958']),
('get_orders', ARRAY['''{5958}''']),
('refresh_order_totals', ARRAY['''{5958}''']),
('update_order_status', ARRAY['5958', '''paid''', 'NULL']),
('delete_order', ARRAY['5958']),
('list_orders_paginated', ARRAY['50', '0']),
('list_orders_after', ARRAY['50', '''now''', '5958', '1', '''pending''']),
('purge_idempotency_keys', ARRAY['''1 day''']),
('backfill_customer_names', ARRAY['1000', '''0''']),
('add_shard', ARRAY['''s''']),
('customer_ids_in_use', ARRAY['1', '100']),
('import_customers', ARRAY['''{1}''', 'true']),
('import_orders', ARRAY['''''', '''{pending}''', '''skip_row''']),
('join_cluster', ARRAY['1', '0']),
('join_cluster', ARRAY['1', '0', '1', '1']),
('register_coordinator', ARRAY['1', '0', '1', '1', 'NULL']),
('write_deciding_receipt', ARRAY['''opc3_0000000000000007_00000001_0000000000000003_0000000000000001_00020003_0003''', '1']),
('write_receipt', ARRAY['''opc2_0000000000000007_00000001_0000000000000003_0000000000000001_0003''', '1', 'NULL', 'NULL']),
('outcome', ARRAY['1', '''k''']),
('set_membership', ARRAY['1', '0', 'decode(repeat(''ff'', 512), ''hex'')']),
('slot_for_customer', ARRAY['1']),
('slot_for_order', ARRAY['5958']),
('shard_for_customer', ARRAY['1']),
('shard_for_customer', ARRAY['1', '4', '''jump''']),
('shard_for_order', ARRAY['5958']),
('fan_out', ARRAY['''SELECT 1''', '''{}''', '''error''']),
('fan_out_exec', ARRAY['''SELECT 1''']),
('create_orders', ARRAY['''[{"customer_id": 1, "product_ids": [7], "quantities": [1], "prices": [1]}]''']),
('create_orders_of_shard', ARRAY['''[{"customer_id": 1, "product_ids": [7], "quantities": [1], "prices": [1]}]''', '''{0}''']),
('create_restore_point', ARRAY['''a''']),
('create_order_with_compensation', ARRAY['NULL', '1', 'NULL', 'NULL', '''{7}''', '''{1}''', '''{1}''', '''pg_catalog.int8up(bigint)''']);
CREATE TABLE weird (type regtype, value text);
INSERT INTO weird SELECT t.type::regtype, v FROM (VALUES
  ('int', ARRAY['NULL', '0', '-1', '-2147483648', '2147483647']),
  ('bigint', ARRAY['NULL', '0', '-1', '-9223372036854775808', '9223372036854775807']),
  ('numeric', ARRAY['NULL', '''NaN''', '''Infinity''', '''-Infinity''', '1e1000', '-1e1000', '1e-16383', '-0.0', 'repeat(''9'', 131072)::numeric']),
  ('text', ARRAY['NULL', '''''', ''' ''', '''%s%n''', 'E''\u0001\uFFFD\U0010FFFF''', 'repeat(''x'', 1000000)', 'repeat(''€'', 333333)', '''"; DROP SCHEMA order_store CASCADE; --''']),
  ('bigint[]', ARRAY['NULL', '''{}''', '''{NULL}''', '''{{1,2},{3,4}}''', '''[5:6]={1,2}''', '''{0}''', '''{9223372036854775807,-9223372036854775808}''', 'array_fill(NULL::bigint, ARRAY[1000])']),
  ('int[]', ARRAY['NULL', '''{}''', '''{NULL}''', '''{{1,2},{3,4}}''', '''[5:6]={1,2}''', '''{0}''', '''{-1,2147483647}''', 'array_fill(1, ARRAY[2], ARRAY[2147483600])']),
  ('numeric[]', ARRAY['NULL', '''{}''', '''{NULL}''', '''{{1,2},{3,4}}''', '''[5:6]={1,2}''', '''{NaN,1}''', '''{Infinity,-Infinity}''', 'ARRAY[1e1000,1]', 'ARRAY[0.001,1e-16383]']),
  ('boolean', ARRAY['NULL', 'true', 'false']),
  ('interval', ARRAY['NULL', '''0''', '''-1 s''', '''178000000 years''', '''-178000000 years''', 'make_interval(days => 2147483647)', 'make_interval(secs => 1e12)']),
  ('timestamptz', ARRAY['NULL', '''infinity''', '''-infinity''', '''4714-11-24 00:00:00+00 BC''', '''294276-12-31 23:59:59.999999+00''']),
  ('bytea', ARRAY['NULL', '''''', '''\\x00''', 'decode(repeat(''00'', 512), ''hex'')', 'decode(repeat(''ff'', 1000000), ''hex'')']),
  ('name', ARRAY['NULL', '''''', '''no such server''', 'repeat(''x'', 1000)', '''"; DROP SCHEMA order_store CASCADE; --''']),
  ('text[]', ARRAY['NULL', '''{}''', '''{NULL}''', '''{{a,b},{c,d}}''', '''[5:6]={a,b}''', 'array_fill(NULL::text, ARRAY[1000])', 'array_fill(repeat(''x'', 1000), ARRAY[70000])']),
  ('jsonb', ARRAY['NULL', '''{}''', '''[]''', '''1''', '''null''', '''[null]''', '''[[[]]]''', '''[{"customer_id": 1e131071}]''', '(repeat(''['', 2000) || repeat('']'', 2000))::jsonb', '''["%s%n"]''']),
  ('regprocedure', ARRAY['NULL', '0::oid::regprocedure', '4294967295::oid::regprocedure', '''pg_catalog.now()''']),
  ('regrole', ARRAY['NULL', '0::oid::regrole', '4294967295::oid::regrole'])) AS t (type, list), unnest(list) AS v;
SELECT is((SELECT string_agg(oid::regprocedure::text, ', ') FROM members AS m WHERE pronargs > 0 AND NOT EXISTS (SELECT FROM sane AS s WHERE s.name = m.name AND cardinality(args) = pronargs)),
          NULL, 'every function with arguments has sane ones');
SELECT is((SELECT string_agg(DISTINCT t::regtype::text, ', ') FROM members, unnest(proargtypes) AS t WHERE t NOT IN (SELECT type FROM weird)), NULL, 'every type of argument has hostile values');
CREATE TABLE orderly (call text, path text, state text, message text, hint text);
SELECT format('SET order_proc.fast_path = %s', path), format('INSERT INTO orderly SELECT %1$L, %2$L, o.* FROM outcome(%1$L) AS o', statement_of(m.name, call), path)
FROM members AS m JOIN sane AS s ON s.name = m.name AND cardinality(args) = pronargs CROSS JOIN generate_subscripts(args, 1) AS i JOIN weird AS w ON w.type = m.proargtypes[i - 1],
  LATERAL (SELECT string_agg(COALESCE(a, 'NULL') || '::' || m.proargtypes[n - 1]::regtype, ', ' ORDER BY n) FROM unnest(args[:i - 1] || w.value || args[i + 1:]) WITH ORDINALITY AS u (a, n)) AS c (call),
  unnest(CASE WHEN m.name ~ 'order' THEN ARRAY['on', 'off'] ELSE ARRAY['on'] END) AS path
ORDER BY m.name, i, w.value, path \gexec
RESET order_proc.fast_path;
SELECT is((SELECT string_agg(format('%s with fast_path %s: %s %s', left(call, 200), path, state, message), E'\n') FROM orderly
           WHERE state !~ '^(ok|OP|2[0-8D]|0A|42|P0|55|54023)'), NULL, 'no hostile value in any argument gives more than an orderly error');
-- Places to call from.
CREATE TABLE probes (id int GENERATED ALWAYS AS IDENTITY, sql text, expected text, what text, before text);
INSERT INTO probes (sql, expected, what) VALUES
('SELECT * FROM order_proc.get_order(5958)', 'ok', 'a composite in FROM'),
('SELECT (order_proc.get_order_with_items(5958)).*', 'ok', 'a composite expanded'),
('SELECT * FROM order_proc.get_order(5958) AS (id bigint)', '42601', 'a composite with a column definition list'),
('SELECT * FROM order_proc.list_orders() AS (id bigint, x text)', '42601', 'a set with a column definition list'),
('SELECT order_proc.list_orders(), order_proc.order_counts()', 'ok', 'sets in the target list'),
('SELECT (order_proc.get_orders($${5958,5958}$$)).items', 'ok', 'a column of a set in the target list'),
('SELECT g FROM generate_series(1, 3) AS g, LATERAL order_proc.list_orders_paginated(g)', 'ok', 'LATERAL'),
('SELECT * FROM ROWS FROM (order_proc.list_orders(), order_proc.get_orders($${5958}$$), order_proc.order_counts()) WITH ORDINALITY', 'ok', 'ROWS FROM'),
('WITH RECURSIVE r AS (SELECT 0 AS n UNION ALL SELECT n + 1 FROM r, order_proc.list_orders() WHERE n < 3) SELECT * FROM r', 'ok', 'in a recursive query'),
('WITH c AS MATERIALIZED (SELECT * FROM order_proc.list_orders()) SELECT * FROM c AS a, c AS b', 'ok', 'in a CTE'),
('SELECT 1 WHERE order_proc.list_orders() IS NOT NULL', '0A000', 'a set in WHERE'),
('SELECT CASE WHEN true THEN order_proc.list_orders() END', '0A000', 'a set in CASE'),
('SELECT coalesce(order_proc.get_orders($${5958}$$))', '0A000', 'a set in COALESCE'),
('SELECT * FROM order_proc.batch_create_order_items($${5958}$$, $${7}$$, $${1}$$, $${1}$$) AS b, order_proc.batch_create_order_items($${5958}$$, $${7}$$, $${1}$$, $${1}$$, b.chunk, $$skip_row$$)', 'ok', 'a batch that a batch calls'),
('SELECT order_proc.batch_create_order_items($${5958,1}$$, $${7,7}$$, $${1,1}$$, $${1,1}$$, 1, $$skip_row$$) LIMIT 1', 'ok', 'a batch under LIMIT'),
('DO $b$ DECLARE c SCROLL CURSOR FOR SELECT * FROM order_proc.batch_create_order_items($${5958,1}$$, $${7,7}$$, $${1,1}$$, $${1,1}$$, 1, $$skip_chunk$$); BEGIN OPEN c; MOVE LAST FROM c; MOVE BACKWARD ALL FROM c; MOVE NEXT FROM c; CLOSE c; END $b$', 'ok', 'a batch under a scrolling cursor'),
('UPDATE order_store.orders SET notes = order_proc.order_counts()::text', '0A000', 'a set in UPDATE'),
('VALUES (order_proc.list_orders())', '0A000', 'a set in VALUES'),
('SELECT * FROM order_proc.list_orders() LIMIT 0', 'ok', 'LIMIT 0'),
('SELECT * FROM order_proc.list_orders() AS o WHERE o::text ~ $$.$$ ORDER BY o', 'ok', 'a row compared'),
('SELECT array_agg(o) FROM order_proc.list_orders() AS o', 'ok', 'a row aggregated'),
('CREATE TABLE hostile.kept AS SELECT o FROM order_proc.list_orders() AS o', 'ok', 'a row stored'),
('CREATE VIEW hostile.kept AS SELECT * FROM order_proc.list_orders(); SELECT * FROM hostile.kept', 'ok', 'through a view'),
('DO $b$ DECLARE r order_proc.order_with_items; BEGIN r := order_proc.get_order_with_items(5958); r := order_proc.get_order_with_items(-1); ASSERT r IS NULL; END $b$', 'ok', 'into a record of PL/pgSQL'),
('DO $b$ DECLARE c SCROLL CURSOR FOR SELECT * FROM order_proc.list_orders(); BEGIN OPEN c; MOVE LAST FROM c; MOVE BACKWARD ALL FROM c; MOVE NEXT FROM c; END $b$', 'ok', 'under a scrolling cursor'),
('CREATE INDEX ON order_store.customers (order_proc.full_name(first_name, last_name), order_proc.first_name(email))', 'ok', 'in an index'),
('CREATE FUNCTION hostile.f(bigint) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $f$ BEGIN RETURN (order_proc.get_order($1)).status; END $f$; CREATE TABLE hostile.t AS SELECT 5958::bigint AS id; CREATE INDEX ON hostile.t (hostile.f(id))', 'ok', 'reading orders in an index'),
('ALTER TABLE order_store.orders ADD CHECK (order_proc.schema_version() > $$1$$); SELECT order_proc.create_order_with_items(1, NULL, NULL, $${7}$$, $${1}$$, $${1}$$)', 'ok', 'in a CHECK of orders'),
('CREATE POLICY p ON order_store.orders USING ((order_proc.get_order(id)).id = id); SELECT order_proc.get_order(5958)', 'ok', 'in a policy that does not apply'),
('CREATE TABLE hostile.t (x bigint DEFAULT order_proc.new_order_id(1), y bigint GENERATED ALWAYS AS (length(order_proc.first_name($$a b$$))) STORED); INSERT INTO hostile.t DEFAULT VALUES', 'ok', 'in a default and a generated column'),
('CREATE AGGREGATE hostile.a(bigint) (sfunc = int8pl, stype = bigint, finalfunc = order_proc.new_order_id, initcond = 0); SELECT hostile.a(1)', 'ok', 'as an aggregate''s final function'),
('CREATE AGGREGATE hostile.a(bigint) (sfunc = int8pl, stype = bigint, finalfunc = order_proc.get_order_with_items, initcond = 5958); SELECT hostile.a(0)', 'ok', 'a composite as an aggregate''s result'),
('CREATE CAST (bigint AS order_proc.order_record) WITH FUNCTION order_proc.get_order(bigint); SELECT (5958::bigint::order_proc.order_record).status', 'ok', 'as a cast'),
('CREATE OPERATOR hostile.!! (rightarg = bigint, function = order_proc.get_order_with_items); SELECT (OPERATOR(hostile.!!) 5958::bigint).items', 'ok', 'as an operator'),
('CREATE TYPE hostile.c AS (order_id bigint); CREATE FUNCTION hostile.f() RETURNS SETOF record LANGUAGE sql AS $f$ SELECT * FROM order_proc.list_orders() $f$; SELECT * FROM hostile.f() AS (a bigint, b bigint, c text, d numeric(12,2), e text, f text, g text, h timestamptz, i timestamptz)', 'ok', 'inlined into a function of records');
-- From triggers on the tables it works on.
CREATE FUNCTION from_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE TG_ARGV[0] USING NEW;
  RETURN NEW;
END $$;
INSERT INTO probes (before, sql, expected, what)
SELECT format('CREATE TRIGGER t %s ON order_store.orders FOR EACH ROW EXECUTE FUNCTION hostile.from_trigger(%L)', at, body), call, e, at || ': ' || body
FROM (VALUES
  ('BEFORE INSERT', 'SELECT order_proc.get_order(($1).id)', 'ok'),
  ('AFTER INSERT', 'SELECT order_proc.get_order_with_items(($1).id)', 'ok'),
  ('AFTER INSERT', 'SELECT order_proc.list_orders()', 'ok'),
  ('AFTER INSERT', 'SELECT order_proc.update_order_status(($1).id, $$paid$$)', 'ok'),
  ('AFTER INSERT', 'SELECT order_proc.refresh_order_totals(ARRAY[($1).id])', 'ok'),
  -- the items find no order
  ('AFTER INSERT', 'SELECT order_proc.delete_order(($1).id)', '23503'),
  ('BEFORE INSERT', 'SELECT order_proc.create_customer(NULL, NULL)', 'ok'),
  ('AFTER INSERT', 'SELECT order_proc.create_order_with_items(1, NULL, NULL, $${7}$$, $${1}$$, $${1}$$) WHERE pg_trigger_depth() < 3', 'ok'),
  ('AFTER INSERT', 'SELECT order_proc.create_order_with_items(1, NULL, NULL, $${7}$$, $${1}$$, $${1}$$)', '54001'),
  ('AFTER INSERT', 'SELECT order_proc.migrate_store()', 'ok 55006'),
  ('AFTER INSERT', 'ALTER TABLE order_store.orders ADD COLUMN x int', '55006'),
  ('AFTER INSERT', 'ALTER TABLE order_store.order_items ADD COLUMN x int', 'ok OP002'),
  ('AFTER INSERT', 'ALTER TABLE order_store.order_items RENAME COLUMN product_id TO article', 'OP002 42703'),
  ('AFTER INSERT', 'DROP SCHEMA order_store CASCADE', '55006'),
  ('AFTER INSERT', 'SET search_path = pg_temp', 'ok'),
  ('AFTER INSERT', 'SET order_proc.fast_path = off', 'ok')) AS t (at, body, e),
  (VALUES ('SELECT order_proc.create_order_with_items(1, NULL, NULL, $${7}$$, $${1}$$, $${1}$$)')) AS c (call)
UNION ALL
SELECT format('CREATE TRIGGER t %s ON order_store.order_items FOR EACH ROW EXECUTE FUNCTION hostile.from_trigger(%L)', at, body), format('SELECT order_proc.batch_create_order_items($${5958,5958,5958}$$, $${7,8,9}$$, $${1,1,1}$$, $${1,1,1}$$, 2, %L)', mode), e, mode || ', ' || at || ': ' || body
FROM unnest(ARRAY['abort', 'skip_chunk', 'skip_row']) AS mode, LATERAL (VALUES
  ('AFTER INSERT', 'SELECT order_proc.get_order_with_items(($1).order_id)', 'ok'),
  ('BEFORE INSERT', 'SELECT order_proc.refresh_order_totals(ARRAY[($1).order_id])', 'ok'),
  -- the items find no order
  ('BEFORE INSERT', 'SELECT order_proc.delete_order(($1).order_id)', CASE mode WHEN 'abort' THEN '23503' ELSE 'ok' END),
  ('AFTER INSERT', 'SELECT order_proc.delete_order(($1).order_id)', 'ok 23503'),
  ('AFTER INSERT', 'SELECT order_proc.batch_create_order_items(ARRAY[($1).order_id], $${7}$$, $${1}$$, $${1}$$) WHERE pg_trigger_depth() < 3', 'ok'),
  ('AFTER INSERT', 'SELECT order_proc.batch_create_order_items(ARRAY[($1).order_id], $${7}$$, $${1}$$, $${1}$$)', CASE mode WHEN 'abort' THEN '54001' ELSE 'ok' END),
  ('AFTER INSERT', 'SELECT order_proc.batch_create_order_items(ARRAY[($1).order_id], $${7,8}$$, $${1}$$, $${1}$$)', CASE mode WHEN 'abort' THEN '22023' ELSE 'ok' END),
  ('AFTER INSERT', 'ALTER TABLE order_store.order_items ADD COLUMN x int', '55006'),
  ('BEFORE INSERT', 'ALTER TABLE order_store.orders DROP COLUMN IF EXISTS notes', 'ok OP002'),
  ('AFTER INSERT', 'DROP SCHEMA order_store CASCADE', '55006'),
  ('AFTER INSERT', 'SET search_path = pg_temp', 'ok'),
  ('AFTER INSERT', 'SET order_proc.fast_path = off', 'ok')) AS t (at, body, e)
UNION ALL
SELECT format('CREATE TRIGGER t %s ON order_store.orders FOR EACH ROW EXECUTE FUNCTION hostile.from_trigger(%L)', at, body), 'SELECT order_proc.update_order_status(5958, $$paid$$)', e, at || ': ' || body
FROM (VALUES
  ('BEFORE UPDATE', 'SELECT order_proc.update_order_status(($1).id, $$cancelled$$)', '27000 54001'),
  ('AFTER UPDATE', 'SELECT order_proc.get_order_with_items(($1).id)', 'ok'),
  ('AFTER UPDATE', 'SELECT order_proc.delete_order(($1).id)', 'ok'),
  ('AFTER UPDATE', 'DROP TABLE order_store.order_status_history', 'OP002 ok')) AS t (at, body, e);
-- Trigger functions in places they are not made for.
INSERT INTO probes (before, sql, expected, what)
SELECT 'CREATE TABLE hostile.t (id bigint, status text, name text, first_name text, last_name text, other int); INSERT INTO hostile.t VALUES (5958, $$a$$, $$b c$$); CREATE TRIGGER t ' ||
       format(at, f), 'UPDATE hostile.t SET status = $$b$$; DELETE FROM hostile.t; TRUNCATE hostile.t', e, format(at, f)
FROM (VALUES
  ('BEFORE UPDATE ON hostile.t FOR EACH ROW EXECUTE FUNCTION order_proc.%s()', 'record_status_change', '39P01'),
  ('AFTER UPDATE ON hostile.t FOR EACH STATEMENT EXECUTE FUNCTION order_proc.%s()', 'record_status_change', '39P01'),
  ('AFTER DELETE ON hostile.t FOR EACH ROW EXECUTE FUNCTION order_proc.%s()', 'record_status_change', '39P01'),
  ('AFTER TRUNCATE ON hostile.t EXECUTE FUNCTION order_proc.%s()', 'record_status_change', '39P01'),
  -- not the table whose history it writes
  ('AFTER UPDATE ON hostile.t FOR EACH ROW EXECUTE FUNCTION order_proc.%s()', 'record_status_change', '39P01'),
  ('AFTER UPDATE ON hostile.t FOR EACH ROW EXECUTE FUNCTION order_proc.%s()', 'sync_customer_name', '39P01'),
  ('BEFORE DELETE ON hostile.t FOR EACH ROW EXECUTE FUNCTION order_proc.%s()', 'sync_customer_name', '39P01'),
  ('BEFORE UPDATE ON hostile.t FOR EACH STATEMENT EXECUTE FUNCTION order_proc.%s()', 'sync_customer_name', '39P01'),
  ('BEFORE TRUNCATE ON hostile.t EXECUTE FUNCTION order_proc.%s()', 'sync_customer_name', '39P01'),
  ('BEFORE UPDATE ON hostile.t FOR EACH ROW EXECUTE FUNCTION order_proc.%s()', 'sync_customer_name', 'ok 39P01'),
  ('AFTER UPDATE OR DELETE OR TRUNCATE ON hostile.t FOR EACH STATEMENT EXECUTE FUNCTION order_proc.%s()', 'statuses_changed', 'ok 39P01'),
  ('AFTER UPDATE ON hostile.t FOR EACH ROW EXECUTE FUNCTION order_proc.%s()', 'check_slot', '39P01'),
  ('BEFORE UPDATE ON hostile.t FOR EACH STATEMENT EXECUTE FUNCTION order_proc.%s()', 'check_slot', '39P01'),
  ('BEFORE TRUNCATE ON hostile.t EXECUTE FUNCTION order_proc.%s()', 'check_slot', '39P01'),
  -- not a table of the store
  ('BEFORE UPDATE ON hostile.t FOR EACH ROW EXECUTE FUNCTION order_proc.%s()', 'check_slot', '39P01'),
  ('AFTER UPDATE OR DELETE OR TRUNCATE ON hostile.t FOR EACH STATEMENT EXECUTE FUNCTION order_proc.%s()', 'cluster_changed', 'ok 39P01'),
  ('AFTER UPDATE ON hostile.t FOR EACH ROW EXECUTE FUNCTION order_proc.%s()', 'cluster_changed', '39P01'),
  -- would swallow the row without a word
  ('BEFORE UPDATE ON hostile.t FOR EACH ROW EXECUTE FUNCTION order_proc.%s()', 'cluster_changed', '39P01'),
  ('BEFORE UPDATE ON hostile.t FOR EACH ROW EXECUTE FUNCTION order_proc.%s()', 'statuses_changed', '39P01')) AS t (at, f, e)
UNION ALL
SELECT 'CREATE TABLE hostile.t (x int); INSERT INTO hostile.t VALUES (1); CREATE TRIGGER t ' || at, 'UPDATE hostile.t SET x = 2', e, 'without the columns: ' || at
FROM (VALUES
  ('AFTER UPDATE ON hostile.t FOR EACH ROW EXECUTE FUNCTION order_proc.record_status_change()', '39P01 OP002'),
  ('BEFORE UPDATE ON hostile.t FOR EACH ROW EXECUTE FUNCTION order_proc.sync_customer_name()', '39P01 OP002')) AS t (at, e)
UNION ALL VALUES
  (NULL, 'CREATE VIEW hostile.v AS SELECT 1::bigint AS id, $$a$$::text AS status; CREATE TRIGGER t INSTEAD OF UPDATE ON hostile.v FOR EACH ROW EXECUTE FUNCTION order_proc.record_status_change(); UPDATE hostile.v SET status = $$b$$', '39P01', 'INSTEAD OF on a view'),
  (NULL, 'CREATE EVENT TRIGGER t ON ddl_command_end EXECUTE FUNCTION order_proc.statuses_changed()', '42P17', 'as an event trigger');
-- Deep recursion has to end in an error of its own soon.
SET max_stack_depth = '200kB';
CREATE TABLE told (id int, path text, state text, message text, hint text);
SELECT format('SET order_proc.fast_path = %s', path), format('INSERT INTO told SELECT %s, %L, o.* FROM outcome(%L, %L) AS o', id, path, sql, before)
FROM probes, unnest(ARRAY['on', 'off']) AS path ORDER BY id, path \gexec
RESET max_stack_depth;
RESET order_proc.fast_path;
SELECT is(string_agg(format('with fast_path %s: %s, not %s%s', path, state, expected, ': ' || message), E'\n')
            FILTER (WHERE state <> ALL (string_to_array(expected, ' '))), NULL, what)
FROM told JOIN probes USING (id) GROUP BY id, what ORDER BY id;

-- A read-only transaction, the stricter levels, the whole table of cases again: only the SQLSTATEs of those may come on top.
CREATE FUNCTION strays(more text) RETURNS text LANGUAGE sql AS $$
SELECT string_agg(format('%s(%s): %s, not %s%s', name, left(args, 100), state, expected, ': ' || message), E'\n' ORDER BY c.id)
FROM (SELECT *, row_number() OVER (PARTITION BY name, expected ORDER BY id) AS nth FROM hostile.cases WHERE before IS NULL AND args !~ '1000000') AS c,
  LATERAL hostile.outcome(hostile.statement_of(c.name, c.args)) AS o
WHERE nth <= 3 AND state <> ALL (string_to_array(expected || ' ' || more, ' ')) $$;
BEGIN TRANSACTION READ ONLY;
SELECT is(strays('25006'), NULL, 'in a read-only transaction');
SELECT is((o).state, e, what || ' in a read-only transaction') FROM (VALUES
  ('create_customer', '''a'', ''b''', '25006'), ('create_customer', '''a'', ''b'', NULL, 99', '25006'), ('new_order_id', '1', '25006'),
  ('create_order_with_items', '1, NULL, NULL, ''{7}'', ''{1}'', ''{1}''', '25006'), ('create_order_with_items', '1, NULL, NULL, ''{7}'', ''{1}'', ''{1}'', NULL, ''k''', '25006'),
  ('batch_create_order_items', '''{5958}'', ''{7}'', ''{1}'', ''{1}''', '25006'), ('batch_create_order_items', '''{5958}'', ''{7}'', ''{1}'', ''{1}'', 1, ''skip_row''', '25006'),
  ('update_order_status', '5958, ''paid''', '25006'), ('delete_order', '5958', '25006'), ('refresh_order_totals', '''{5958}''', '25006'),
  ('purge_idempotency_keys', '''0''', '25006'), ('grant_store', 'current_user::regrole, ''read''', '25006'), ('get_order', '5958', 'ok'),
  ('get_order_with_items', '5958', 'ok'), ('get_orders', '''{5958}''', 'ok'), ('list_orders', '', 'ok'), ('list_orders_paginated', '', 'ok'),
  ('list_orders_after', '', 'ok'), ('order_counts', '', 'ok'), ('schema_version', '', 'ok'), ('migration_plan', '''1.0''', 'ok'), ('explain_fast_path', '', 'ok')) AS t (what, args, e),
  LATERAL outcome(statement_of(what, args)) AS o;
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT is(strays('25001'), NULL, 'under REPEATABLE READ');
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT is(strays('25001'), NULL, 'under SERIALIZABLE');
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SELECT is(strays('25006 25001'), NULL, 'under SERIALIZABLE READ ONLY DEFERRABLE');
ROLLBACK;

-- Parallel plans. A worker begins from nothing; the leader, too, when DDL has come just before.
CREATE TABLE parallel_calls AS
SELECT name, format('SELECT count(x::text) FROM (SELECT order_proc.%I(%s) AS x %%s OFFSET 0) AS s', name, args) AS sql
FROM (VALUES ('get_order', '5958'), ('get_order_with_items', '5958'), ('get_orders', '''{5958}'''), ('list_orders', ''), ('list_orders_paginated', ''), ('list_orders_after', ''),
  ('order_counts', ''), ('last_import', ''), ('schema_version', ''), ('require_version', '''1.4'''), ('applied_migrations', ''), ('first_name', '''a b'''), ('last_name', '''a b'''), ('full_name', '''a'', ''b'''),
  ('shard_id', ''), ('slot_for_customer', '1'), ('slot_for_order', '5958'), ('shard_for_customer', '1'), ('shard_for_customer', '1, 3, ''jump'''), ('shard_for_order', '5958')) AS t (name, args);
SELECT is((SELECT string_agg(oid::regprocedure::text, ', ') FROM members JOIN pg_proc AS p USING (oid)
           WHERE p.proparallel <> 'u' AND p.prolang <> (SELECT oid FROM pg_language WHERE lanname = 'sql') AND name NOT IN (SELECT name FROM parallel_calls)),
          NULL, 'every function that may run in a parallel plan is called in one');
SET force_parallel_mode = on;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT matches((SELECT string_agg(x, '') FROM plan_of('SELECT order_proc.get_order(5958)') AS x), 'Gather', 'the plans are parallel ones');
SELECT is(string_agg(format('%s%s: %s', source, before, message), E'\n') FILTER (WHERE state <> 'ok'), NULL, name || ' in a parallel plan')
FROM parallel_calls, unnest(ARRAY['', 'FROM order_store.customers']) AS source,
  unnest(ARRAY[NULL, 'ALTER TABLE order_store.orders SET (fillfactor = 90)', 'ALTER TABLE order_store.store SET (fillfactor = 90)']) AS before,
  LATERAL outcome(format(sql, source), before) AS o
GROUP BY name ORDER BY name;
RESET force_parallel_mode;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;

-- Prepared statements: generic plans, DDL in between.
PREPARE make (bigint) AS SELECT order_proc.create_order_with_items($1, NULL, NULL, '{7}', '{1}', '{1}');
PREPARE look (bigint) AS SELECT (order_proc.get_order_with_items($1)).status;
PREPARE page (int) AS SELECT count(*) FROM order_proc.list_orders_paginated($1);
BEGIN;
SELECT is(string_agg((outcome('EXECUTE make(1); EXECUTE look(5958); EXECUTE page(5)')).state, ' '), 'ok ok ok ok ok ok ok ok', 'prepared statements, eight times') FROM generate_series(1, 8);
ALTER TABLE order_store.orders ADD COLUMN extra int DEFAULT 5;
SELECT is((outcome('EXECUTE make(1); EXECUTE look(5958); EXECUTE page(5)')).state, 'ok', 'prepared statements after ADD COLUMN');
ALTER TABLE order_store.orders RENAME COLUMN notes TO remarks;
SELECT is((outcome(s)).state, 'OP002', s || ' after a column of ours was renamed') FROM unnest(ARRAY['EXECUTE make(1)', 'EXECUTE look(5958)', 'EXECUTE page(5)']) AS s;
ALTER TABLE order_store.orders RENAME COLUMN remarks TO notes;
SELECT is((outcome('EXECUTE make(1); EXECUTE look(5958); EXECUTE page(5)')).state, 'ok', 'prepared statements after it came back');
SAVEPOINT s;
DROP SCHEMA order_store CASCADE;
SELECT is((outcome(s)).state, 'OP001', s || ' without a store') FROM unnest(ARRAY['EXECUTE make(1)', 'EXECUTE look(5958)', 'EXECUTE page(5)']) AS s;
SELECT order_proc.create_store(), order_proc.create_customer('a', 'b') \g /dev/null
SELECT is((outcome('EXECUTE make(1); EXECUTE look(5958); EXECUTE page(5)')).state, 'ok', 'prepared statements on a new store');
ROLLBACK TO s;
SELECT is((outcome('EXECUTE make(1); EXECUTE look(5958); EXECUTE page(5)')).state, 'ok', 'prepared statements on the old store, which came back');
ROLLBACK;
SELECT is((SELECT count(*) FROM order_proc.list_orders()), 1::bigint, 'one order in the end, as in the beginning');

SELECT * FROM finish();
DROP SCHEMA hostile CASCADE;
DROP EXTENSION order_proc CASCADE;
DROP SCHEMA order_store CASCADE;
