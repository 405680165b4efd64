\set ECHO none
-- Whose rights count: every function called by every kind of role, with the fast path and without; tables of the library's own
-- that nobody reads or forges; rights that are taken back; columns; row security.
\pset format unaligned
\pset tuples_only on
\set VERBOSITY terse
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_proc CASCADE;
DROP SCHEMA IF EXISTS order_store CASCADE;
CREATE EXTENSION IF NOT EXISTS pgtap;
DROP ROLE IF EXISTS regress_op_owner, regress_op_nobody, regress_op_read, regress_op_write, regress_op_admin, regress_op_columns, regress_op_member, regress_op_seller;
CREATE ROLE regress_op_owner;
CREATE ROLE regress_op_nobody;
CREATE ROLE regress_op_read;
CREATE ROLE regress_op_write;
CREATE ROLE regress_op_admin;
CREATE ROLE regress_op_columns;
CREATE ROLE regress_op_member;
CREATE ROLE regress_op_seller;
CREATE EXTENSION order_proc;
SELECT order_proc.create_store('regress_op_owner') \g /dev/null
CREATE SCHEMA privileges;
GRANT USAGE ON SCHEMA privileges TO PUBLIC;
GRANT CREATE ON SCHEMA privileges TO regress_op_write;
SET search_path = privileges, public;
SELECT no_plan();
SET ROLE regress_op_owner;
SELECT order_proc.grant_store('regress_op_read', 'read'), order_proc.grant_store('regress_op_write', 'write'), order_proc.grant_store('regress_op_seller', 'write') \g /dev/null
RESET ROLE;
SELECT order_proc.grant_store('regress_op_admin', 'admin') \g /dev/null
SELECT order_proc.create_customer('Ana', 'de la Cruz', 'ana@example.org', 1), order_proc.create_customer('Eva', 'Gil', NULL, 2) \g /dev/null
SELECT order_proc.create_order_with_items(1, 'pending', NULL, '{7,8}', '{1,2}', '{1.50,2.25}', 'note', 'key') AS o,
       order_proc.create_order_with_items(2, 'pending', NULL, '{9}', '{1}', '{4}') AS other \gset
SELECT order_proc.update_order_status(:o, 'paid') \g /dev/null

CREATE FUNCTION outcome(sql text, OUT state text, OUT message text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE sql;
  RAISE SQLSTATE 'UNDO0';
EXCEPTION
  WHEN SQLSTATE 'UNDO0' THEN state := 'ok';
  WHEN OTHERS THEN GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
END $$;
-- A statement as a role; back is the role of before.
CREATE FUNCTION as_role(who text, sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text;
BEGIN
  EXECUTE format('SET LOCAL ROLE %I', who);
  r := (privileges.outcome(sql)).state;
  RESET ROLE;
  RETURN r;
END $$;

-- The matrix: SQLSTATEs for nobody, read, write, admin, the owner, a superuser.
CREATE TABLE matrix (id int GENERATED ALWAYS AS IDENTITY, name text, call text, expected text);
INSERT INTO matrix (name, call, expected) VALUES
('fan_out_aggregate', 'SELECT * FROM order_proc.fan_out_aggregate(''SELECT count(*) FROM order_store.orders'') AS t (n bigint)', '42501 42501 42501 42501 42501 ok'),
('explain_fan_out_aggregate', 'SELECT order_proc.explain_fan_out_aggregate(''SELECT count(*) FROM order_store.orders'')', '42501 42501 42501 42501 42501 ok'),
('partial', 'SELECT order_proc.partial(''count()'') FROM order_store.orders', '42501 ok ok ok ok ok'),
('partial_result', 'SELECT order_proc.partial_result(''count()'', ''{}'', 1::bigint)', 'ok ok ok ok ok ok'),
('combine', 'SELECT order_proc.combine(''count()'', ''{}'', NULL, NULL::bigint)', '42501 42501 42501 42501 42501 ok'),
('create_store', 'SELECT order_proc.create_store()', '42501 42501 42501 42710 42501 42710'),
('migrate_store', 'SELECT order_proc.migrate_store()', '42501 42501 42501 42501 42501 ok'),
('apply_migration', 'SELECT order_proc.apply_migration(''1.0'', ''1.1'')', '42501 42501 42501 42501 42501 55000'),
('grant_store', 'SELECT order_proc.grant_store(''regress_op_nobody'', ''read'')', '42501 42501 42501 42501 ok ok'),
('grant_store', 'SELECT order_proc.grant_store(''regress_op_nobody'', ''admin'')', '42501 42501 42501 42501 ok ok'),
('schema_version', 'SELECT order_proc.schema_version()', 'ok ok ok ok ok ok'),
('require_version', 'SELECT order_proc.require_version(''1.0'')', 'ok ok ok ok ok ok'),
('migration_plan', 'SELECT * FROM order_proc.migration_plan(''1.0'')', '42501 ok ok ok ok ok'),
('applied_migrations', 'SELECT * FROM order_proc.applied_migrations()', 'ok ok ok ok ok ok'),
('applied_migrations', 'SELECT * FROM order_proc.migration_history', 'ok ok ok ok ok ok'),
('estimated_rows', 'SELECT order_proc.estimated_rows(''pg_class'')', 'ok ok ok ok ok ok'),
('require_backfilled_names', 'SELECT order_proc.require_backfilled_names()', 'ok ok ok ok ok ok'),
('backfill_customer_names', 'CALL order_proc.backfill_customer_names()', '42501 42501 42501 42501 ok ok'),
('new_order_id', 'SELECT order_proc.new_order_id(1)', '42501 42501 ok ok ok ok'),
('first_name', 'SELECT order_proc.first_name(''a b'')', 'ok ok ok ok ok ok'),
('last_name', 'SELECT order_proc.last_name(''a b'')', 'ok ok ok ok ok ok'),
('full_name', 'SELECT order_proc.full_name(''a'', ''b'')', 'ok ok ok ok ok ok'),
('create_customer', 'SELECT order_proc.create_customer(''a'', ''b'')', '42501 42501 ok ok ok ok'),
('create_customer', 'SELECT order_proc.create_customer(''a'', ''b'', NULL, 99)', '42501 42501 ok ok ok ok'),
('create_order_with_items', 'SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{7}'', ''{1}'', ''{1}'')', '42501 42501 ok ok ok ok'),
('create_order_with_items', 'SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{7}'', ''{1}'', ''{1}'', ''n'', ''another'')', '42501 42501 ok ok ok ok'),
-- a replay tells nothing to who may not make orders
('create_order_with_items', 'SELECT order_proc.create_order_with_items(1, ''pending'', NULL, ''{7,8}'', ''{1,2}'', ''{1.50,2.25}'', ''note'', ''key'')', '42501 42501 ok ok ok ok'),
('create_order_with_items', 'SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{1}'', ''{1}'', ''{1}'', ''note'', ''key'')', '42501 42501 OP302 OP302 OP302 OP302'),
('create_orders', 'SELECT order_proc.create_orders(''[{"customer_id": 1, "product_ids": [7], "quantities": [1], "prices": [1]}]'')', '42501 42501 ok ok ok ok'),
('create_orders', 'SELECT order_proc.create_orders(''[{"customer_id": 1, "product_ids": [7], "quantities": [1], "prices": [1], "idempotency_key": "key"}]'')', '42501 42501 OP302 OP302 OP302 OP302'),
('create_orders_of_shard', 'SELECT order_proc.create_orders_of_shard(''[{"customer_id": 1, "product_ids": [7], "quantities": [1], "prices": [1]}]'', ''{0}'')', '42501 42501 ok ok ok ok'),
('create_restore_point', 'SELECT order_proc.create_restore_point(''p'')', '42501 42501 42501 42501 42501 ok'),
('create_order_with_compensation', 'CALL order_proc.create_order_with_compensation(NULL, 1, NULL, NULL, ''{7}'', ''{1}'', ''{1}'', ''pg_catalog.int8up(bigint)'')', '2D000 2D000 2D000 2D000 2D000 2D000'),
('get_order', 'SELECT order_proc.get_order(5958)', '42501 ok ok ok ok ok'),
('get_order', 'SELECT order_proc.get_order(0)', '42501 ok ok ok ok ok'),
('get_order_with_items', 'SELECT order_proc.get_order_with_items(5958)', '42501 ok ok ok ok ok'),
('get_order_with_items', 'SELECT order_proc.get_order_with_items(0)', '42501 ok ok ok ok ok'),
('get_orders', 'SELECT order_proc.get_orders(''{5958}'')', '42501 ok ok ok ok ok'),
('list_orders', 'SELECT order_proc.list_orders()', '42501 ok ok ok ok ok'),
('list_orders_paginated', 'SELECT order_proc.list_orders_paginated()', '42501 ok ok ok ok ok'),
('list_orders_after', 'SELECT order_proc.list_orders_after()', '42501 ok ok ok ok ok'),
('order_counts', 'SELECT order_proc.order_counts()', '42501 ok ok ok ok ok'),
('refresh_order_totals', 'SELECT order_proc.refresh_order_totals(''{5958}'')', '42501 42501 ok ok ok ok'),
('update_order_status', 'SELECT order_proc.update_order_status(5958, ''processing'')', '42501 42501 ok ok ok ok'),
('delete_order', 'SELECT order_proc.delete_order(5958)', '42501 42501 ok ok ok ok'),
('purge_idempotency_keys', 'SELECT order_proc.purge_idempotency_keys(''0'')', '42501 42501 42501 ok ok ok'),
('explain_fast_path', 'SELECT * FROM order_proc.explain_fast_path()', 'ok ok ok ok ok ok'),
('record_status_change', 'SELECT order_proc.record_status_change()', '39P01 39P01 39P01 39P01 39P01 39P01'),
('statuses_changed', 'SELECT order_proc.statuses_changed()', '39P01 39P01 39P01 39P01 39P01 39P01'),
('sync_customer_name', 'SELECT order_proc.sync_customer_name()', '39P01 39P01 39P01 39P01 39P01 39P01'),
('batch_create_order_items', 'SELECT order_proc.batch_create_order_items(''{5958}'', ''{7}'', ''{1}'', ''{1}'')', '42501 42501 ok ok ok ok'),
('add_shard', 'SELECT order_proc.add_shard(''none'')', '42501 42501 42501 42501 42501 42704'),
('customer_ids_in_use', 'SELECT order_proc.customer_ids_in_use(1, 8)', '42501 42501 ok ok ok ok'),
('import_statuses', 'SELECT order_proc.import_statuses()', '42501 ok ok ok ok ok'),
('import_customers', 'SELECT order_proc.import_customers(''{1}'', false)', '42501 42501 ok ok ok ok'),
('import_customers', 'SELECT order_proc.import_customers(''{77}'', true)', '42501 42501 ok ok ok ok'),
('import_orders', 'SELECT * FROM order_proc.import_orders('''', ''{}'', ''abort'')', '42501 42501 ok ok ok ok'),
('join_cluster', 'SELECT order_proc.join_cluster(1, 1)', '55000 55000 55000 55000 55000 55000'),
('join_cluster', 'SELECT order_proc.join_cluster(1, 1, 1, 1)', '55000 55000 55000 55000 55000 55000'),
('register_coordinator', 'SELECT order_proc.register_coordinator(1, 1, 1, 1)', '42501 42501 42501 42501 ok ok'),
('write_receipt', 'SELECT order_proc.write_receipt(''x'', 1, NULL, NULL)', '22023 22023 22023 22023 22023 22023'),
('write_deciding_receipt', 'SELECT order_proc.write_deciding_receipt(''x'', 1)', '22023 22023 22023 22023 22023 22023'),
('adopt_cluster', 'SELECT order_proc.adopt_cluster()', '42501 42501 42501 42501 42501 55000'),
('outcome', 'SELECT order_proc.outcome(1, ''key'')', '42501 ok ok ok ok ok'),
('in_doubt_transactions', 'SELECT * FROM order_proc.in_doubt_transactions()', '42501 42501 42501 42501 ok ok'),
('in_doubt_transactions', 'SELECT * FROM order_proc.in_doubt', '42501 42501 42501 42501 ok ok'),
('set_membership', 'SELECT order_proc.set_membership(1, 0, decode(repeat(''ff'', 512), ''hex''))', '42501 42501 42501 42501 42501 ok'),
('shard_id', 'SELECT order_proc.shard_id()', 'ok ok ok ok ok ok'),
('slot_for_customer', 'SELECT order_proc.slot_for_customer(1)', 'ok ok ok ok ok ok'),
('slot_for_order', 'SELECT order_proc.slot_for_order(1)', 'ok ok ok ok ok ok'),
('shard_for_customer', 'SELECT order_proc.shard_for_customer(1)', 'ok ok ok ok ok ok'),
('shard_for_customer', 'SELECT order_proc.shard_for_customer(1, 4, ''jump'')', 'ok ok ok ok ok ok'),
('shard_for_order', 'SELECT order_proc.shard_for_order(1)', 'ok ok ok ok ok ok'),
('shard_states', 'SELECT * FROM order_proc.shard_states()', '42501 ok ok ok ok ok'),
('shard_states', 'SELECT * FROM order_proc.shard_status', '42501 ok ok ok ok ok'),
('fan_out', 'SELECT * FROM order_proc.fan_out(''SELECT 1'') AS t(x int)', '42501 42501 42501 42501 42501 ok'),
('fan_out_exec', 'SELECT * FROM order_proc.fan_out_exec(''SELECT 1'')', '42501 42501 42501 42501 42501 ok'),
('recover', 'SELECT * FROM order_proc.recover()', '42501 42501 42501 42501 42501 ok'),
('check_slot', 'SELECT order_proc.check_slot()', '39P01 39P01 39P01 39P01 39P01 39P01'),
('cluster_changed', 'SELECT order_proc.cluster_changed()', '39P01 39P01 39P01 39P01 39P01 39P01'),
('layout', 'SELECT order_proc.layout_1_0_up()', 'ok ok ok ok ok ok'),
-- tables of the library's own, by hand
('', 'SELECT * FROM order_store.store', '42501 42501 42501 ok ok ok'),
('', 'SELECT * FROM order_store.migrations', '42501 42501 42501 ok ok ok'),
('', 'SELECT * FROM order_store.order_status_history', '42501 42501 42501 ok ok ok'),
('', 'SELECT * FROM order_store.idempotency_keys', '42501 42501 42501 ok ok ok'),
('', 'SELECT * FROM order_store.sagas', '42501 42501 42501 42501 ok ok'),
('', 'INSERT INTO order_store.sagas (order_id, step, compensation, recorded_by) VALUES (5958, '''', '''', ''postgres'')', '42501 42501 42501 42501 ok ok'),
('', 'UPDATE order_store.store SET layout = layout', '42501 42501 42501 42501 ok ok'),
('', 'INSERT INTO order_store.migrations (version, direction, applied_by, duration) VALUES (''1.0'', ''up'', ''me'', ''0'')', '42501 42501 42501 42501 ok ok'),
('', 'DELETE FROM order_store.migrations', '42501 42501 42501 42501 ok ok'),
('', 'INSERT INTO order_store.order_status_history (order_id, from_status, to_status, changed_by) VALUES (5958, ''a'', ''b'', ''me'')', '42501 42501 42501 42501 ok ok'),
('', 'UPDATE order_store.order_status_history SET changed_by = ''me''', '42501 42501 42501 42501 ok ok'),
('', 'DELETE FROM order_store.order_status_history', '42501 42501 42501 42501 ok ok'),
('', 'TRUNCATE order_store.order_status_history', '42501 42501 42501 42501 ok ok'),
('', 'INSERT INTO order_store.idempotency_keys (customer_id, key, order_id, request_hash) VALUES (1, ''forged'', 5958, '''')', '42501 42501 42501 42501 ok ok'),
('', 'UPDATE order_store.idempotency_keys SET key = ''x''', '42501 42501 42501 42501 ok ok'),
('', 'DELETE FROM order_store.idempotency_keys', '42501 42501 42501 ok ok ok'),
('', 'SELECT nextval(''order_store.order_status_history_id_seq'')', '42501 42501 42501 42501 ok ok'),
('', 'SELECT setval(''order_store.orders_id_seq'', 1)', '42501 42501 42501 42501 ok ok'),
('', 'INSERT INTO order_store.order_statuses (status) VALUES (''new'')', '42501 42501 42501 ok ok ok'),
('', 'DELETE FROM order_store.status_transitions', '42501 42501 42501 ok ok ok'),
('', 'SELECT * FROM order_store.cluster', '42501 42501 42501 42501 ok ok'),
('', 'SELECT * FROM order_store.shards', '42501 42501 42501 42501 ok ok'),
('', 'SELECT * FROM order_store.slot_map', '42501 42501 42501 42501 ok ok'),
('', 'SELECT * FROM order_store.commit_log', '42501 42501 42501 42501 ok ok'),
('', 'INSERT INTO order_store.cluster (coordinator_id, owned_slots) VALUES (1, decode(repeat(''ff'', 512), ''hex''))', '42501 42501 42501 42501 ok ok'),
('', 'DELETE FROM order_store.commit_log', '42501 42501 42501 42501 ok ok'),
-- nothing of one's own beside it
('', 'CREATE TABLE order_store.mine ()', '42501 42501 42501 42501 ok ok'),
('', 'CREATE FUNCTION order_proc.mine() RETURNS int LANGUAGE sql AS ''SELECT 1''', '42501 42501 42501 42501 42501 ok'),
('', 'CREATE TRIGGER mine AFTER UPDATE ON order_store.orders FOR EACH ROW EXECUTE FUNCTION order_proc.record_status_change()', '42501 42501 42501 42501 ok ok'),
('', 'ALTER TABLE order_store.orders DISABLE TRIGGER record_status_change', '42501 42501 42501 42501 ok ok'),
('', 'SET session_replication_role = replica', '42501 42501 42501 42501 42501 ok'),
('', 'ALTER EXTENSION order_proc UPDATE TO ''1.3''', '42501 42501 42501 42501 42501 ok'),
('', 'DROP EXTENSION order_proc CASCADE', '42501 42501 42501 42501 42501 ok'),
('', 'DROP SCHEMA order_store CASCADE', '42501 42501 42501 42501 ok ok');
SELECT is((SELECT string_agg(p.proname, ', ') FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid JOIN pg_proc AS p ON p.oid = d.objid
           WHERE d.classid = 'pg_proc'::regclass AND d.deptype = 'e' AND e.extname = 'order_proc' AND 'internal'::regtype <> ALL (p.proargtypes) AND p.proname NOT IN (SELECT name FROM matrix) AND p.proname !~ '^layout_\d+_\d+_(up|down)$|import'),
          NULL, 'every function is in the matrix, but for the import');
CREATE TABLE answers (id int, path text, answers text);
SELECT format('SET order_proc.fast_path = %s', path),
       format('INSERT INTO answers SELECT %s, %L, string_agg(as_role(who, %L), '' '' ORDER BY n) FROM unnest(ARRAY[''regress_op_nobody'', ''regress_op_read'', ''regress_op_write'', ''regress_op_admin'', ''regress_op_owner'', session_user]) WITH ORDINALITY AS u (who, n)', id, path, call)
FROM matrix, unnest(ARRAY['on', 'off']) AS path ORDER BY path DESC, id \gexec
RESET order_proc.fast_path;
SELECT is((SELECT string_agg(format('%s with fast_path %s', answers, path), E'\n') FROM answers AS a WHERE a.id = m.id AND answers <> expected), NULL, format('%s: %s', call, expected)) FROM matrix AS m ORDER BY id;

-- What the catalog says.
CREATE VIEW members AS SELECT d.classid, d.objid FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass WHERE d.deptype = 'e' AND e.extname = 'order_proc';
SELECT is((SELECT string_agg(objid::regprocedure::text, ', ') FROM members JOIN pg_proc AS p ON p.oid = objid WHERE classid = 'pg_proc'::regclass AND prosecdef), NULL, 'no function is SECURITY DEFINER');
SELECT is((SELECT string_agg(objid::regprocedure::text, ', ') FROM members JOIN pg_proc AS p ON p.oid = objid WHERE classid = 'pg_proc'::regclass AND proconfig IS NOT NULL), NULL, 'no function sets anything');
SELECT is((SELECT extconfig FROM pg_extension WHERE extname = 'order_proc'), NULL, 'no table is dumped as the extension''s configuration');
SELECT is((SELECT string_agg(objid::regclass::text, ', ') FROM members JOIN pg_class AS c ON c.oid = objid WHERE classid = 'pg_class'::regclass AND relkind NOT IN ('v', 'c')), NULL, 'no table, index or sequence is a member');
SELECT is((SELECT string_agg(pg_describe_object(classid, objid, 0), ', ') FROM members
           WHERE COALESCE(obj_description(objid, classid::regclass::name), '') = '' AND NOT (classid = 'pg_type'::regclass AND (SELECT typrelid FROM pg_type WHERE oid = objid) IN (SELECT oid FROM pg_class WHERE relkind = 'v'))
             AND NOT (classid = 'pg_type'::regclass AND (SELECT typelem FROM pg_type WHERE oid = objid) <> 0) AND NOT (classid = 'pg_class'::regclass AND (SELECT relkind FROM pg_class WHERE oid = objid) = 'c')),
          NULL, 'every member has its comment');
SELECT is((SELECT string_agg(proname, ', ' ORDER BY proname) FROM members JOIN pg_proc AS p ON p.oid = objid WHERE classid = 'pg_proc'::regclass AND NOT has_function_privilege('regress_op_nobody', p.oid, 'EXECUTE')),
          'add_shard, adopt_cluster, apply_migration, combine, combine_final, combine_step, create_restore_point, create_store, explain_fan_out_aggregate, fan_out, fan_out_aggregate, fan_out_exec, migrate_store, recover, set_membership', 'administration is not for everybody');
SELECT is((SELECT string_agg(r, ', ') FROM unnest(ARRAY['regress_op_nobody', 'regress_op_write', 'regress_op_admin', 'regress_op_owner']) AS r WHERE has_schema_privilege(r, 'order_proc', 'CREATE')), NULL, 'nobody may CREATE beside the functions');
SELECT is((SELECT string_agg(grantee || ' ' || privilege_type || ' ' || table_name, ', ') FROM information_schema.role_table_grants WHERE table_schema = 'order_store' AND grantee = 'PUBLIC'
             AND NOT (SELECT relrowsecurity FROM pg_class WHERE relname = table_name AND relnamespace = 'order_store'::regnamespace)), NULL, 'nothing of the store is PUBLIC''s, unless row by row');
SELECT is((SELECT string_agg(DISTINCT relowner::regrole::text, ', ') FROM pg_class WHERE relnamespace = 'order_store'::regnamespace), 'regress_op_owner', 'all of it is the owner''s');

-- History tells who it was, and cannot be made to tell another story.
CREATE FUNCTION by_role(who text, sql text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('SET LOCAL ROLE %I', who); EXECUTE sql; RESET ROLE; END $$;
SELECT by_role('regress_op_write', 'SELECT order_proc.update_order_status(5958, ''processing'')'), by_role('regress_op_seller', 'UPDATE order_store.orders SET status = ''shipped'' WHERE id = 5958') \g /dev/null
SELECT results_eq('SELECT from_status, to_status, changed_by FROM order_store.order_status_history ORDER BY id', format($$VALUES ('pending', 'paid', %L), ('paid', 'processing', 'regress_op_write'), ('processing', 'shipped', 'regress_op_seller')$$, current_user), 'who changed the status');
CREATE TABLE mine (LIKE order_store.orders);
ALTER TABLE mine OWNER TO regress_op_write;
INSERT INTO mine SELECT * FROM order_store.orders;
SELECT is(as_role('regress_op_write', s), e, s) FROM (VALUES
  ('CREATE TRIGGER forge AFTER UPDATE ON privileges.mine FOR EACH ROW EXECUTE FUNCTION order_proc.record_status_change(); UPDATE privileges.mine SET status = ''forged''', '39P01'),
  ('CREATE TRIGGER forge BEFORE UPDATE ON privileges.mine FOR EACH ROW EXECUTE FUNCTION order_proc.record_status_change(); UPDATE privileges.mine SET status = ''forged''', '39P01'),
  ('CREATE TEMP TABLE orders (id bigint, status text); INSERT INTO orders VALUES (5958, ''a''); CREATE TRIGGER forge AFTER UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION order_proc.record_status_change(); UPDATE orders SET status = ''forged''', '39P01'),
  ('CREATE VIEW privileges.v AS SELECT 5958::bigint AS id, ''a''::text AS status; CREATE TRIGGER forge INSTEAD OF UPDATE ON privileges.v FOR EACH ROW EXECUTE FUNCTION order_proc.record_status_change(); UPDATE privileges.v SET status = ''forged''', '39P01'),
  ('CREATE TABLE privileges.child () INHERITS (order_store.orders)', '42501'),
  ('ALTER TABLE privileges.mine INHERIT order_store.orders', '42501'),
  ('CREATE TABLE privileges.partitioned (id bigint, status text) PARTITION BY LIST (id); ALTER TABLE privileges.partitioned ATTACH PARTITION order_store.orders DEFAULT', '42501'),
  ('UPDATE order_store.orders SET id = id + 4096 WHERE id = 5958', '23503'),
  ('SELECT set_config(''role'', ''regress_op_owner'', true); UPDATE order_store.orders SET status = ''paid'' WHERE id = 5958', 'ok')) AS t (s, e) WHERE s !~ 'set_config';
SELECT is((SELECT count(*) FROM order_store.order_status_history), 3::bigint, 'nothing came on top');
SELECT is((SELECT string_agg(changed_by, ', ') FROM order_store.order_status_history WHERE changed_by = 'regress_op_owner'), NULL, 'nobody is told to have been another');

-- Rights that are taken back are gone at once, on both paths, in the middle of a session that had them.
CREATE FUNCTION taken_back(what text, sql text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE path text;
BEGIN
  FOREACH path IN ARRAY ARRAY['on', 'off'] LOOP
    PERFORM set_config('order_proc.fast_path', path, true);
    RETURN NEXT is(as_role('regress_op_write', sql), 'ok', format('%s, fast_path %s: before', sql, path));
    EXECUTE 'REVOKE ' || what || ' FROM regress_op_write';
    RETURN NEXT is(as_role('regress_op_write', sql), '42501', format('%s, fast_path %s: REVOKE %s', sql, path, what));
    EXECUTE 'GRANT ' || replace(what, ' FROM ', ' TO ') || ' TO regress_op_write';
    RETURN NEXT is(as_role('regress_op_write', sql), 'ok', format('%s, fast_path %s: and given again', sql, path));
  END LOOP;
END $$;
SELECT t.* FROM (VALUES
  ('INSERT ON order_store.orders', 'SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{7}'', ''{1}'', ''{1}'')'),
  ('INSERT ON order_store.order_items', 'SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{7}'', ''{1}'', ''{1}'')'),
  ('USAGE ON SEQUENCE order_store.orders_id_seq', 'SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{7}'', ''{1}'', ''{1}'')'),
  ('USAGE ON SEQUENCE order_store.order_items_id_seq', 'SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{7}'', ''{1}'', ''{1}'')'),
  ('USAGE ON SCHEMA order_store', 'SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{7}'', ''{1}'', ''{1}'')'),
  ('SELECT ON order_store.orders', 'SELECT order_proc.get_order(5958)'),
  ('SELECT ON order_store.orders', 'SELECT order_proc.get_order_with_items(5958)'),
  ('SELECT ON order_store.order_items', 'SELECT order_proc.get_order_with_items(5958)'),
  ('SELECT ON order_store.order_items', 'SELECT order_proc.get_orders(''{5958}'')'),
  ('USAGE ON SCHEMA order_store', 'SELECT order_proc.get_order_with_items(5958)'),
  ('SELECT ON order_store.orders', 'SELECT order_proc.list_orders()'),
  ('SELECT ON order_store.orders', 'SELECT order_proc.order_counts()'),
  ('UPDATE ON order_store.orders', 'SELECT order_proc.update_order_status(5958, ''delivered'')'),
  ('UPDATE ON order_store.orders', 'SELECT order_proc.refresh_order_totals(''{5958}'')'),
  ('DELETE ON order_store.orders', 'SELECT order_proc.delete_order(5958)'),
  ('INSERT ON order_store.customers', 'SELECT order_proc.create_customer(''a'', ''b'')'),
  ('USAGE ON SEQUENCE order_store.customers_id_seq', 'SELECT order_proc.create_customer(''a'', ''b'')')) AS c (what, sql), LATERAL taken_back(what, sql) AS t;
-- By membership, too.
GRANT regress_op_write TO regress_op_member;
SELECT is(as_role('regress_op_member', 'SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{7}'', ''{1}'', ''{1}'')'), 'ok', 'a member has the rights');
REVOKE regress_op_write FROM regress_op_member;
SELECT is(as_role('regress_op_member', 'SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{7}'', ''{1}'', ''{1}'')'), '42501', 'and loses them');
GRANT regress_op_owner TO regress_op_member;
SELECT is(as_role('regress_op_member', 'SELECT order_proc.grant_store(''regress_op_nobody'', ''read'')'), 'ok', 'a member of the owner hands out rights');
REVOKE regress_op_owner FROM regress_op_member;

-- Columns.
GRANT USAGE ON SCHEMA order_store TO regress_op_columns;
GRANT SELECT (id, customer_id, status, total_amount, customer_name, customer_email, created_at, updated_at) ON order_store.orders TO regress_op_columns;
GRANT SELECT ON order_store.order_items TO regress_op_columns;
SELECT is(as_role('regress_op_columns', call), '42501', call || ' without the column notes') FROM (VALUES ('SELECT order_proc.get_order(5958)'), ('SELECT order_proc.get_order_with_items(5958)'), ('SELECT order_proc.list_orders()'), ('SELECT order_proc.get_orders(''{5958}'')')) AS c (call);
SELECT is(as_role('regress_op_columns', 'SELECT order_proc.order_counts()'), 'ok', 'statuses can be counted with the right to see them');
GRANT SELECT (notes) ON order_store.orders TO regress_op_columns;
SELECT is(as_role('regress_op_columns', call), 'ok', call || ' with all columns, one by one') FROM (VALUES ('SELECT order_proc.get_order(5958)'), ('SELECT order_proc.get_order_with_items(5958)'), ('SELECT order_proc.list_orders()'), ('SELECT order_proc.get_orders(''{5958}'')')) AS c (call);
-- Writing: a column that a line gives needs its own right, by direct access as through the executor.
GRANT INSERT (id, customer_id, status, total_amount, customer_name, customer_email, notes) ON order_store.orders TO regress_op_columns;
GRANT INSERT ON order_store.order_items TO regress_op_columns;
GRANT SELECT ON order_store.customers TO regress_op_columns;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA order_store TO regress_op_columns;
SELECT is(as_role('regress_op_columns', s || format('INSERT INTO order_proc.order_import VALUES (''c1'', ''1'', ''1'', ''1'', ''1'', %L, '''')', t)), e, format('%simport with created_at "%s" without INSERT on created_at', s, t))
FROM (VALUES ('', '', 'ok'), ('', '2020-01-01', '42501'), ('SET LOCAL order_proc.fast_path = off; ', '', 'ok'), ('SET LOCAL order_proc.fast_path = off; ', '2020-01-01', '42501')) AS c (s, t, e);
SELECT is(as_role('regress_op_columns', 'SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{7}'', ''{1}'', ''{1}'')'), 'ok', 'create_order_with_items writes no created_at');
GRANT INSERT (created_at) ON order_store.orders TO regress_op_columns;
SELECT is(as_role('regress_op_columns', 'INSERT INTO order_proc.order_import VALUES (''c1'', ''1'', ''1'', ''1'', ''1'', ''2020-01-01'', '''')'), 'ok', 'import with created_at and the right to it');
ALTER TABLE order_store.orders ADD COLUMN secret text DEFAULT 's';
SELECT is(as_role('regress_op_columns', 'SELECT order_proc.get_order_with_items(5958)'), 'ok', 'a column that is not ours takes no right');

-- Row security: the caller's.
SET ROLE regress_op_owner;
ALTER TABLE order_store.orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON order_store.orders TO regress_op_seller USING (customer_id = 1) WITH CHECK (customer_id = 1);
CREATE POLICY everything ON order_store.orders TO regress_op_write USING (true);
RESET ROLE;
CREATE FUNCTION answer(who text, sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text;
BEGIN
  EXECUTE format('SET LOCAL ROLE %I', who);
  BEGIN
    EXECUTE sql INTO r;
    RAISE SQLSTATE 'UNDO0';
  EXCEPTION
    WHEN SQLSTATE 'UNDO0' THEN NULL;
    WHEN OTHERS THEN r := SQLSTATE;
  END;
  RESET ROLE;
  RETURN r;
END $$;
SELECT format('SET order_proc.fast_path = %s', path), format($q$
SELECT is(answer(who, replace(sql, ':other', %L)), e, format('%%s: %%s with fast_path %s', who, sql)) FROM (VALUES
  ('regress_op_seller', 'SELECT count(*) FROM order_proc.list_orders()', '1'),
  ('regress_op_seller', 'SELECT count(*) FROM order_proc.list_orders_paginated()', '1'),
  ('regress_op_seller', 'SELECT count(*) FROM order_proc.list_orders_after()', '1'),
  ('regress_op_seller', 'SELECT string_agg(c::text, '','') FROM order_proc.order_counts() AS c', '(shipped,1)'),
  ('regress_op_seller', 'SELECT (order_proc.get_order(5958)).id', '5958'),
  ('regress_op_seller', 'SELECT (order_proc.get_order(:other)).id', NULL),
  ('regress_op_seller', 'SELECT (order_proc.get_order_with_items(:other)).id', NULL),
  ('regress_op_seller', 'SELECT count(*) FROM order_proc.get_orders(''{5958,:other}'')', '1'),
  ('regress_op_seller', 'SELECT order_proc.update_order_status(:other, ''paid'')', 'P0002'),
  ('regress_op_seller', 'SELECT order_proc.delete_order(:other)', 'false'),
  ('regress_op_seller', 'SELECT order_proc.refresh_order_totals(''{5958,:other}'')', '1'),
  ('regress_op_seller', 'SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{7}'', ''{1}'', ''{1}'') > 0', 'true'),
  ('regress_op_seller', 'SELECT order_proc.create_order_with_items(2, NULL, NULL, ''{7}'', ''{1}'', ''{1}'')', '42501'),
  ('regress_op_read', 'SELECT count(*) FROM order_proc.list_orders()', '0'),
  ('regress_op_read', 'SELECT (order_proc.get_order_with_items(5958)).id', NULL),
  ('regress_op_write', 'SELECT count(*) FROM order_proc.list_orders()', '2'),
  ('regress_op_write', 'SELECT order_proc.update_order_status(:other, ''paid'')', 'pending'),
  ('regress_op_owner', 'SELECT count(*) FROM order_proc.list_orders()', '2')) AS t (who, sql, e)$q$, :other, path) FROM unnest(ARRAY['on', 'off']) AS path \gexec
RESET order_proc.fast_path;
-- Internal tables under forced row security: the library does its work all the same.
SET ROLE regress_op_owner;
ALTER TABLE order_store.order_status_history ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE order_store.idempotency_keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE order_store.order_statuses ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE order_store.status_transitions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE order_store.store ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
RESET ROLE;
SELECT is(answer('regress_op_write', 'SELECT order_proc.update_order_status(5958, ''delivered'')'), 'shipped', 'a status moves under forced row security on the library''s tables');
SELECT is(answer('regress_op_write', 'SELECT order_proc.create_order_with_items(1, ''pending'', NULL, ''{7,8}'', ''{1,2}'', ''{1.50,2.25}'', ''note'', ''key'')'), '5958', 'a key is found');
SELECT is(answer('regress_op_write', 'SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{7}'', ''{1}'', ''{1}'', NULL, ''third'') > 0'), 'true', 'a key is written');
SELECT is(answer('regress_op_write', 'SELECT order_proc.schema_version() >= ''1.4'''), 'true', 'the layout is seen');

-- EXECUTE is the gate, too, where somebody closes it.
REVOKE EXECUTE ON FUNCTION order_proc.list_orders() FROM PUBLIC;
SELECT is(as_role('regress_op_write', 'SELECT order_proc.list_orders()'), '42501', 'EXECUTE that was revoked');
REVOKE USAGE ON SCHEMA order_proc FROM PUBLIC;
SELECT is(as_role('regress_op_write', 'SELECT order_proc.get_order(5958)'), '42501', 'USAGE that was revoked');
SELECT is(as_role('regress_op_write', 'UPDATE order_store.orders SET notes = ''x'''), 'ok', 'plain statements without USAGE on the code');
SELECT is(as_role('regress_op_write', 'UPDATE order_store.orders SET status = ''x'''), 'ok', 'those that fire its triggers, too');

SELECT * FROM finish();
DROP EXTENSION order_proc CASCADE;
DROP SCHEMA order_store CASCADE;
DROP SCHEMA privileges CASCADE;
DROP SCHEMA order_proc;
DROP OWNED BY regress_op_owner, regress_op_nobody, regress_op_read, regress_op_write, regress_op_admin, regress_op_columns, regress_op_member, regress_op_seller;
DROP ROLE regress_op_owner, regress_op_nobody, regress_op_read, regress_op_write, regress_op_admin, regress_op_columns, regress_op_member, regress_op_seller;
