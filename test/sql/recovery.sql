\set ECHO none
-- Recovery as one database shows it: outcome, receipts and fences on a shard, the way down. What takes several servers is in
-- test/cluster/recovery.pl.
\pset format unaligned
\pset tuples_only on
\set VERBOSITY terse
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_proc CASCADE;
DROP SCHEMA IF EXISTS order_store CASCADE;
CREATE EXTENSION IF NOT EXISTS pgtap;
DROP ROLE IF EXISTS regress_op_owner, regress_op_app;
CREATE ROLE regress_op_owner;
CREATE ROLE regress_op_app;
CREATE EXTENSION order_proc;
SELECT order_proc.create_store('regress_op_owner', 'modulo') \g /dev/null
CREATE SCHEMA recovery;
GRANT USAGE ON SCHEMA recovery TO PUBLIC;
SET search_path = recovery, public;
SELECT no_plan();
CREATE FUNCTION state_of(sql text, OUT state text, OUT message text, OUT detail text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE sql;
  state := 'ok';
EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
END $$;

-- outcome
SET ROLE regress_op_owner;
SELECT order_proc.grant_store('regress_op_app', 'write') \g /dev/null
RESET ROLE;
SELECT order_proc.create_customer('A', 'B', id => 1), order_proc.create_customer('C', 'D', id => 2) \g /dev/null
SELECT order_proc.create_order_with_items(1, NULL, NULL, '{7}', '{1}', '{1}', idempotency_key => 'mine') AS mine,
       order_proc.create_order_with_items(2, NULL, NULL, '{7}', '{1}', '{1}', idempotency_key => 'others') AS others \gset
SELECT is(order_proc.outcome(1, 'mine'), :mine::bigint, 'outcome: the order of the key');
SELECT is(order_proc.outcome(2, 'mine'), NULL, 'keys are the customer''s');
SELECT is(order_proc.outcome(99, 'mine'), NULL, 'an unknown customer has none');
BEGIN;
SELECT order_proc.create_order_with_items(1, NULL, NULL, '{7}', '{1}', '{1}', idempotency_key => 'now') AS now \gset
SELECT is(order_proc.outcome(1, 'now'), :now::bigint, 'what the transaction itself has made');
ROLLBACK;
SELECT is(order_proc.outcome(1, 'now'), NULL, 'and not any more when it is rolled back');
BEGIN;
SELECT order_proc.create_order_with_items(1, NULL, NULL, '{7}', '{1}', '{1}', idempotency_key => 'prepared') AS prepared \gset
PREPARE TRANSACTION 'recovery';
SET lock_timeout = 100;
SELECT is((state_of('SELECT order_proc.outcome(1, ''prepared'')')).state, '55P03', 'what is prepared is waited for');
RESET lock_timeout;
COMMIT PREPARED 'recovery';
SELECT is(order_proc.outcome(1, 'prepared'), :prepared::bigint, 'and there when it is committed');
SELECT order_proc.delete_order(:prepared) \g /dev/null
SELECT is(order_proc.outcome(1, 'prepared'), NULL, 'a deleted order is none');
-- Row security and an old snapshot.
SET ROLE regress_op_owner;
ALTER TABLE order_store.orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY one ON order_store.orders USING (customer_id = 1) WITH CHECK (customer_id = 1);
RESET ROLE;
SET ROLE regress_op_app;
SELECT is(order_proc.outcome(1, 'mine'), :mine::bigint, 'row security: an order that the caller sees');
SELECT is(order_proc.outcome(2, 'others'), NULL, 'and one that he does not');
RESET ROLE;
SET ROLE regress_op_owner;
ALTER TABLE order_store.orders DISABLE ROW LEVEL SECURITY;
RESET ROLE;
SELECT results_eq('SELECT * FROM order_proc.in_doubt', 'SELECT NULL::text, 1, now(), now() - now(), NULL::text WHERE false', 'alone nothing is in doubt');

-- A shard: which server of its coordinator it follows.
SELECT order_proc.set_membership(7, 3, decode(repeat('ff', 512), 'hex')) \g /dev/null
SELECT is(order_proc.join_cluster(7, 3), pg_backend_pid(), 'a coordinator of version 1.7 joins');
SELECT is(order_proc.join_cluster(7, 3, 1, 100), NULL, 'a server that the shard does not know has to be registered');
SELECT order_proc.register_coordinator(7, 3, 1, 100) \g /dev/null
SELECT is(order_proc.join_cluster(7, 3, 1, 100), pg_backend_pid(), 'then it joins');
SELECT is((state_of('SELECT order_proc.join_cluster(7, 3, 1, 200)')).state, 'OP503', 'another one of the same timeline is a copy');
SELECT is((state_of('SELECT order_proc.register_coordinator(7, 3, 1, 200)')).state, 'OP503', 'and is not registered');
SELECT is(order_proc.join_cluster(7, 3, 2, 200), NULL, 'one that was promoted has to be registered');
SELECT is(order_proc.join_cluster(7, 3, 1, 100), pg_backend_pid(), 'and until then the one before goes on');

-- The fence: what a session that joined before may still do.
SET ROLE regress_op_app;
BEGIN;
INSERT INTO order_store.customers (id) VALUES (10);
PREPARE TRANSACTION 'opc2_recovery_1';
BEGIN;
INSERT INTO order_store.customers (id) VALUES (11);
PREPARE TRANSACTION 'opc2_recovery_2';
COMMIT PREPARED 'opc2_recovery_1';
RESET ROLE;
SELECT is((SELECT count(*) FROM order_store.customers WHERE id = 10), 1::bigint, 'COMMIT PREPARED of the server that the shard follows');
\setenv PGDATABASE :DBNAME
\! psql -XAtq -c "SELECT order_proc.register_coordinator(7, 3, 2, 200)" >/dev/null
SELECT is((state_of('SELECT order_proc.join_cluster(7, 3, 1, 100)')).state, 'OP503', 'another was promoted: the one before is refused');
SELECT matches((state_of('SELECT order_proc.join_cluster(7, 3, 1, 100)')).detail, 'timeline 2, not 1', 'and told why');
\set VERBOSITY sqlstate
COMMIT PREPARED 'opc2_recovery_2';
ROLLBACK PREPARED 'opc2_recovery_2';
BEGIN;
INSERT INTO order_store.customers (id) VALUES (12);
PREPARE TRANSACTION 'opc2_recovery_3';
ROLLBACK;
\set VERBOSITY terse
SELECT is((SELECT count(*) FROM pg_prepared_xacts WHERE gid = 'opc2_recovery_2'), 1::bigint, 'its COMMIT PREPARED is refused, and ROLLBACK PREPARED');
SELECT is((SELECT count(*) FROM pg_prepared_xacts WHERE gid = 'opc2_recovery_3'), 0::bigint, 'and its PREPARE');
\! psql -XAtq -c "ROLLBACK PREPARED 'opc2_recovery_2'"
SELECT is(order_proc.join_cluster(7, 3, 2, 200), pg_backend_pid(), 'the new one goes on');
-- Another coordinator takes over.
SELECT is((state_of('SELECT order_proc.register_coordinator(8, 3, 1, 300)')).state, '55000', 'a coordinator of another cluster');
SELECT is((state_of('SELECT order_proc.register_coordinator(8, 3, 1, 300, 6)')).state, '55000', 'that does not know whose shard it is');
SELECT order_proc.register_coordinator(8, 3, 1, 300, 7) \g /dev/null
SELECT is(order_proc.join_cluster(8, 3, 1, 300), pg_backend_pid(), 'one that adopts the cluster');
SELECT is((state_of('SELECT order_proc.join_cluster(7, 3, 2, 200)')).state, 'OP503', 'and the former is refused');
SELECT is((state_of('SELECT order_proc.join_cluster(7, 3)')).state, 'OP503', 'of whatever version');
SELECT order_proc.register_coordinator(9, 3, 1, 400, 7) \g /dev/null
SELECT is(order_proc.join_cluster(9, 3, 1, 400), pg_backend_pid(), 'adopted once more, since the first adoption did not reach all shards');

-- Receipts.
\set gid 'opc2_0000000000000009_00000001_0000000000000003_0000000000000001'
SET ROLE regress_op_app;
SELECT order_proc.write_receipt(:'gid' || '_0003', 42, NULL, NULL) \g /dev/null
SELECT is((state_of('TABLE order_store.receipts')).state, '42501', 'nobody else reads receipts');
SELECT is((state_of(format('INSERT INTO order_store.receipts VALUES (%L, 1)', 'x'))).state, '42501', 'or writes them by hand');
SELECT order_proc.write_receipt('opc2_0000000000000009_00000001_0000000000000003_0000000000000002_0003', 43, :'gid', 41) \g /dev/null
RESET ROLE;
SELECT results_eq('SELECT gid, receipt_key FROM order_store.receipts ORDER BY gid', format('VALUES (%L COLLATE "C", 42::bigint), (%L, 43)', :'gid', 'opc2_0000000000000009_00000001_0000000000000003_0000000000000002'), 'nobody removes one whose key he does not know');
SET ROLE regress_op_app;
SELECT order_proc.write_receipt('opc2_0000000000000009_00000001_0000000000000003_0000000000000003_0003', 44, :'gid' || '_0003', 42) \g /dev/null
RESET ROLE;
SELECT is((SELECT count(*) FROM order_store.receipts WHERE gid = :'gid'), 0::bigint, 'who knows it does');
SELECT is((state_of('SELECT order_proc.write_receipt(''opc2_0000000000000008_00000001_0000000000000003_0000000000000003_0003'', 1, NULL, NULL)')).state, '22023', 'a transaction of another coordinator');
SELECT is((state_of('SELECT order_proc.write_receipt(''opc2_0000000000000009_00000001_0000000000000003_0000000000000003_0004'', 1, NULL, NULL)')).state, '22023', 'or another shard');
-- A table that the owner has given away: what hangs on it runs with its new owner's rights, not with those of the store's.
CREATE TABLE recovery.fired (who name);
GRANT INSERT ON recovery.fired TO PUBLIC;
CREATE FUNCTION recovery.fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO recovery.fired VALUES (current_user); RETURN NEW; END $$;
ALTER TABLE order_store.receipts OWNER TO regress_op_app;
CREATE TRIGGER planted BEFORE INSERT ON order_store.receipts FOR EACH ROW EXECUTE FUNCTION recovery.fire();
SELECT order_proc.write_receipt('opc2_0000000000000009_00000001_0000000000000003_0000000000000004_0003', 45, NULL, NULL) \g /dev/null
SELECT results_eq('SELECT who FROM recovery.fired', 'VALUES (''regress_op_app''::name)', 'a trigger on receipts runs as their owner');
DROP TRIGGER planted ON order_store.receipts;
SELECT is((state_of('SELECT order_proc.adopt_cluster()')).message, 'order_store.receipts belongs to regress_op_app, the store to regress_op_owner', 'and a cluster is not adopted with tables of several owners');
ALTER TABLE order_store.receipts OWNER TO regress_op_owner;
-- Tables that are missing.
ALTER TABLE order_store.receipts RENAME TO elsewhere;
SELECT is((state_of('SELECT order_proc.shard_id()')).state, 'OP002', 'without receipts the store does not fit');
ALTER TABLE order_store.elsewhere RENAME TO receipts;
ALTER TABLE order_store.commit_log RENAME COLUMN damaged TO lost;
SELECT is((state_of('SELECT order_proc.shard_id()')).message, 'column "damaged" of order_store.commit_log is missing', 'nor without a column of the commit log');
ALTER TABLE order_store.commit_log RENAME COLUMN lost TO damaged;

-- A receipt of a transaction that the shards decide.
\set decided 'opc3_0000000000000009_00000001_0000000000000003_000000000000000'
SELECT is((state_of(format('SELECT order_proc.write_deciding_receipt(%L, 1)', :'decided' || '5_00020004_0003'))).state, '22023', 'other shards decide');
SET ROLE regress_op_app;
SELECT order_proc.write_deciding_receipt(:'decided' || '5_00020003_0003', 46) \g /dev/null
RESET ROLE;
SELECT is((SELECT concat_ws(' ', gid, receipt_key) FROM order_store.receipts WHERE starts_with(gid, :'decided')), :'decided' || '5_00020003 46', 'under the name that the shards share');
SELECT is((state_of(format('SELECT order_proc.write_deciding_receipt(%L, 47)', :'decided' || '5_00020003_0003'))).state, '23505', 'what is settled already stays so');

-- Down: not while something is in doubt.
DELETE FROM order_store.cluster;
BEGIN;
CREATE TABLE recovery.t ();
PREPARE TRANSACTION 'opc2_recovery_4';
SELECT is((state_of('ALTER EXTENSION order_proc UPDATE TO ''1.7''')).state, '55000', 'down to 1.7 is refused while something is prepared');
INSERT INTO order_store.commit_log (gid, shard_ids) VALUES ('opc3_x', '{0}');
SELECT is((state_of('ALTER EXTENSION order_proc UPDATE TO ''1.8''')).state, '55000', 'down to 1.8 while there is something that the shards decided');
DELETE FROM order_store.commit_log;
ROLLBACK PREPARED 'opc2_recovery_4';
INSERT INTO order_store.commit_log (gid, shard_ids) VALUES ('x', '{0}');
SELECT is((state_of('ALTER EXTENSION order_proc UPDATE TO ''1.7''')).state, '55000', 'and while there is a decision');
DELETE FROM order_store.commit_log;
ALTER EXTENSION order_proc UPDATE TO '1.7';
SELECT is(to_regclass('order_store.receipts'), NULL, 'down to 1.7: no receipts');
SELECT order_proc.set_membership(7, NULL, decode(repeat('00', 512), 'hex')) \g /dev/null
ALTER EXTENSION order_proc UPDATE;
SELECT is((SELECT concat_ws(' ', c.system_identifier = i.system_identifier, database_oid = d.oid, octet_length(secret)) FROM order_store.cluster AS c, pg_control_system() AS i, pg_database AS d WHERE datname = current_database()),
          't t 32', 'a coordinator that comes from 1.7 is bound to its database');

SELECT * FROM finish();
DROP SCHEMA recovery CASCADE;
DROP EXTENSION order_proc CASCADE;
DROP SCHEMA order_store CASCADE;
DROP ROLE regress_op_owner, regress_op_app;
