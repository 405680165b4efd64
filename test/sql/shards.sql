\set ECHO none
-- Shards, as far as one database shows them: where customers belong, the same calls without shards, the fence of a shard that has
-- half of the slots. Several servers: test/cluster.
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_proc CASCADE;
DROP SCHEMA IF EXISTS order_store CASCADE;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION order_proc;
SELECT order_proc.create_store() \g /dev/null
CREATE SCHEMA shards;
SET search_path = shards, public;
SELECT no_plan();

CREATE FUNCTION outcome(sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE sql;
  RAISE SQLSTATE 'UNDO0';
EXCEPTION
  WHEN SQLSTATE 'UNDO0' THEN RETURN 'ok';
  WHEN OTHERS THEN RETURN SQLSTATE;
END $$;

-- Where a customer belongs. These values are frozen: another one would lose customers.
SELECT results_eq($$SELECT order_proc.slot_for_customer(id) FROM unnest('{0,1,2,3,4,100,-1,-2,4096,9223372036854775807,-9223372036854775808}'::bigint[]) WITH ORDINALITY AS t (id, n) ORDER BY n$$,
  ARRAY[175, 1862, 3318, 3991, 3883, 3541, 2378, 641, 2208, 4023, 1555], 'slots by hash');
SELECT is(order_proc.slot_for_customer(id), (hashint8extended(id, 0) & 4095)::int, format('slot of %s in plain SQL', id)) FROM unnest('{0,1,-1,77,9223372036854775807}'::bigint[]) AS id;
SELECT results_eq($$SELECT order_proc.slot_for_order(id) FROM unnest('{0,5958,4095,4096,-1,9223372036854775807,-9223372036854775808}'::bigint[]) WITH ORDINALITY AS t (id, n) ORDER BY n$$,
  ARRAY[0, 1862, 4095, 0, 4095, 4095, 0], 'slots of orders');
SELECT results_eq(format('SELECT order_proc.shard_for_customer(id, 7, %L) FROM unnest(''{0,1,2,3,4,100,-1,-2,4096,9223372036854775807,-9223372036854775808}''::bigint[]) WITH ORDINALITY AS t (id, n) ORDER BY n', method), shards, 'seven shards by ' || method)
FROM (VALUES ('hash', ARRAY[0, 0, 0, 1, 5, 6, 5, 4, 3, 5, 1]), ('modulo', ARRAY[0, 1, 2, 3, 4, 2, 6, 5, 1, 0, 6]), ('jump', ARRAY[5, 6, 4, 6, 6, 0, 0, 4, 5, 0, 2])) AS t (method, shards);
SELECT is(order_proc.shard_for_customer(5, 3), order_proc.shard_for_customer(5, 3, 'hash'), 'hash is the default');
SELECT is((SELECT count(*) FROM generate_series(-1000, 1000) AS id WHERE order_proc.shard_for_customer(id, 5, 'modulo') <> ((id % 5) + 5) % 5), 0::bigint, 'modulo is never negative');
SELECT is((SELECT count(*) FROM generate_series(-1000, 1000) AS id, unnest(ARRAY['hash', 'modulo', 'jump']) AS method WHERE order_proc.shard_for_customer(id, 1, method) <> 0), 0::bigint, 'one shard has everything');
SELECT is((SELECT count(*) FROM generate_series(1, 1000) AS id WHERE order_proc.shard_for_customer(id, 5) <> order_proc.slot_for_customer(id) % 5), 0::bigint, 'hash goes by the slot');

-- A million ids in sequence: shares within 5 %.
CREATE TABLE placed AS
SELECT id, order_proc.shard_for_customer(id, 8) AS by_hash, order_proc.shard_for_customer(id, 8, 'jump') AS jump_8, order_proc.shard_for_customer(id, 9, 'jump') AS jump_9
FROM generate_series(1, 1000000) AS id;
SELECT ok(min(n) > 0.95 * 125000 AND max(n) < 1.05 * 125000 AND count(*) = 8, 'hash spreads a million ids over 8 shards within 5 %') FROM (SELECT count(*) AS n FROM placed GROUP BY by_hash) AS s;
SELECT ok(min(n) > 0.95 * 125000 AND max(n) < 1.05 * 125000 AND count(*) = 8, 'jump, too') FROM (SELECT count(*) AS n FROM placed GROUP BY jump_8) AS s;
SELECT is((SELECT count(*) FROM placed WHERE jump_8 <> jump_9 AND jump_9 <> 8), 0::bigint, 'a ninth shard: by jump customers move to it alone');
SELECT ok((SELECT count(*) FROM placed WHERE jump_8 <> jump_9) BETWEEN 0.98 * 1000000 / 9 AND 1.02 * 1000000 / 9, 'a ninth of them');

-- Without shards everything is here.
SELECT order_proc.create_customer('Ana', 'de la Cruz', NULL, 1), order_proc.create_customer('Eva', 'Gil', NULL, 3), order_proc.create_order_with_items(1, NULL, NULL, '{7}', '{2}', '{1.50}') \g /dev/null
SELECT is(order_proc.shard_id(), NULL, 'no shard');
SELECT is(order_proc.shard_for_customer(id), 0, format('customer %s is here', id)) FROM unnest('{0,1,-1,9223372036854775807,-9223372036854775808}'::bigint[]) AS id;
SELECT is(order_proc.shard_for_order(5958), 0, 'so is the order');
SELECT is_empty('SELECT * FROM order_proc.shard_status', 'no shards to ask');
SELECT is_empty('SELECT * FROM order_proc.recover()', 'nothing to recover');
SELECT results_eq('SELECT * FROM order_proc.fan_out(''SELECT id, total_amount FROM order_store.orders'') AS t(id bigint, total numeric)', 'VALUES (5958::bigint, 3.00)', 'fan_out runs here');
SELECT results_eq('SELECT * FROM order_proc.fan_out(''SELECT $1::int + 1, $2, $3::bigint'', ARRAY[''4'', ''x;'''''', NULL]) AS t(a int, b text, c bigint)', 'VALUES (5, ''x;'''''', NULL::bigint)', 'with arguments');
SELECT results_eq('SELECT count(*), sum(i) FROM order_proc.fan_out(''SELECT i FROM pg_catalog.generate_series(1, 12345) AS i'') AS t(i int)', 'VALUES (12345::bigint, 76205685::bigint)', 'with many rows');
SELECT results_eq('SELECT * FROM order_proc.fan_out(''SHOW search_path'') AS t(path text)', 'VALUES (''pg_catalog, pg_temp'')', 'with a search_path of its own');
SELECT results_eq('SELECT * FROM order_proc.fan_out_exec(''UPDATE order_store.customers SET email = NULL'')', 'VALUES (0, ''UPDATE 2'')', 'fan_out_exec runs here');
SELECT results_eq('SELECT * FROM order_proc.fan_out_exec(''INSERT INTO order_store.customers (id) VALUES (98), (99)'')', 'VALUES (0, ''INSERT 0 2'')', 'tags are those of the server');
SELECT results_eq('SELECT * FROM order_proc.fan_out_exec(''CREATE TABLE shards.made (a int)'')', 'VALUES (0, ''CREATE TABLE'')', 'DDL, too');
SELECT is(outcome(format('SELECT * FROM order_proc.fan_out(%L) AS t(x int)', query)), e, 'fan_out: ' || query) FROM (VALUES
  ('SELECT 1', 'ok'), ('VALUES (1)', 'ok'), ('WITH w AS (SELECT 1) TABLE w', 'ok'), ('SELECT 1;', 'ok'),
  ('SELECT 1::bigint', '42804'), ('SELECT 1, 2', '42804'), ('SELECT', '42804'), ('SELECT ''1''', '42804'),
  ('DELETE FROM order_store.orders', '0A000'), ('UPDATE order_store.orders SET notes = NULL RETURNING 1', '0A000'), ('SET work_mem = 64', '0A000'), ('COPY order_store.orders TO STDOUT', '0A000'), ('BEGIN', '0A000'), ('COMMIT', '0A000'),
  ('LISTEN x', '0A000'), ('SELECT 1 AS x INTO shards.t', '0A000'), ('CREATE TABLE shards.t ()', '0A000'), ('EXPLAIN SELECT 1', '0A000'), ('CALL order_proc.backfill_customer_names()', '0A000'),
  ('SELECT 1; SELECT 2', '42601'), ('SELECT 1; DELETE FROM order_store.orders', '42601'), ('', '42601'), ('SELEC', '42601'), ('SELECT id FROM orders', '42P01'),
  -- what it calls writes
  ('WITH w AS (DELETE FROM order_store.orders RETURNING 1) SELECT 1 FROM w', '25006 0A000'),
  ('SELECT 1 WHERE order_proc.delete_order(5958)', '25006'), ('SELECT order_proc.create_customer(NULL, NULL)::int', '25006'), ('SELECT nextval(''order_store.orders_id_seq'')::int', '25006'),
  ('SELECT 1 / 0', '22012')) AS t (query, e) WHERE query !~ 'WITH w AS .DELETE';
SELECT isnt(outcome('SELECT * FROM order_proc.fan_out(''WITH w AS (DELETE FROM order_store.orders RETURNING 1) SELECT 1 FROM w'') AS t(x int)'), 'ok', 'a WITH that deletes is refused');
SELECT is((SELECT count(*) FROM order_store.orders), 1::bigint, 'nothing was written');
SELECT is(current_setting('transaction_read_only') || ' ' || current_setting('search_path'), 'off shards, public', 'settings are as before');
SELECT is(outcome(call), '22004', call) FROM (VALUES ('SELECT * FROM order_proc.fan_out(NULL) AS t(x int)'), ('SELECT * FROM order_proc.fan_out(''SELECT 1'', NULL, NULL) AS t(x int)'), ('SELECT * FROM order_proc.fan_out_exec(NULL)'),
  ('SELECT order_proc.add_shard(NULL)'), ('SELECT order_proc.slot_for_customer(NULL)'), ('SELECT order_proc.slot_for_order(NULL)'), ('SELECT order_proc.shard_for_customer(NULL)'), ('SELECT order_proc.shard_for_order(NULL)'),
  ('SELECT order_proc.shard_for_customer(1, NULL)'), ('SELECT order_proc.join_cluster(NULL, 0)'), ('SELECT order_proc.set_membership(NULL, 0, '''')'), ('SELECT order_proc.set_membership(1, 0, NULL)')) AS t (call);
SELECT is(outcome(format('SELECT * FROM order_proc.fan_out_exec(%L)', command)), e, 'fan_out_exec: ' || command) FROM (VALUES
  ('BEGIN', '0A000'), ('COMMIT', '0A000'), ('ROLLBACK', '0A000'), ('SAVEPOINT s', '0A000'), ('SET work_mem = 64', '0A000'), ('RESET ALL', '0A000'), ('LISTEN x', '0A000'), ('NOTIFY x', '0A000'), ('COPY order_store.orders TO STDOUT', '0A000'),
  ('SELECT 1; SELECT 2', '42601'), ('', '42601'), ('UPDAT x', '42601'), ('DELETE FROM order_store.nothing', '42P01'), ('DELETE FROM orders', '42P01'), ('SELECT 1', 'ok')) AS t (command, e);

-- What a database is told to be.
SELECT is(outcome(call), e, call) FROM (VALUES
  ('SELECT order_proc.set_membership(1, 0, '''')', '22023'), ('SELECT order_proc.set_membership(1, 0, decode(repeat(''ff'', 511), ''hex''))', '22023'),
  ('SELECT order_proc.set_membership(1, -1, decode(repeat(''ff'', 512), ''hex''))', '23514'), ('SELECT order_proc.set_membership(1, 0, decode(repeat(''ff'', 512), ''hex''))', 'ok'),
  ('SELECT order_proc.join_cluster(1, 0)', '55000')) AS t (call, e);
CREATE ROLE regress_op_shards;
SELECT order_proc.grant_store('regress_op_shards', 'write') \g /dev/null
GRANT EXECUTE ON FUNCTION order_proc.set_membership(bigint, int, bytea), order_proc.add_shard(name), order_proc.recover() TO regress_op_shards;
SET ROLE regress_op_shards;
SELECT throws_ok(call, '42501', NULL, call || ' for others than the owner') FROM (VALUES ('SELECT order_proc.set_membership(1, 0, decode(repeat(''ff'', 512), ''hex''))'), ('SELECT order_proc.add_shard(''x'')'), ('SELECT order_proc.recover()')) AS t (call) \g /dev/null
RESET ROLE;
DROP OWNED BY regress_op_shards;
DROP ROLE regress_op_shards;

-- A shard with the lower half of the slots: customer 1 (slot 1862) is here, customer 3 (slot 3991) is not.
SELECT is_empty('SELECT tgname FROM pg_trigger WHERE tgname = ''check_slot''', 'no fence outside of a cluster');
SELECT order_proc.create_order_with_items(3, NULL, NULL, '{7}', '{2}', '{1.50}') AS away \gset
SELECT order_proc.set_membership(42, 1, decode(repeat('ff', 256) || repeat('00', 256), 'hex')) \g /dev/null
SELECT is(order_proc.shard_id(), 1, 'shard 1');
SELECT is(order_proc.join_cluster(42, 1), pg_backend_pid(), 'a coordinator may join');
SELECT is(outcome(call), '55000', call) FROM (VALUES ('SELECT order_proc.join_cluster(42, 0)'), ('SELECT order_proc.join_cluster(43, 1)'), ('SELECT order_proc.set_membership(43, 1, decode(repeat(''ff'', 512), ''hex''))'), ('ALTER EXTENSION order_proc UPDATE TO ''1.6''')) AS t (call);
-- To join, or to ask all, needs the table of the cluster as it should be, and no other; what touches a table needs that one.
SELECT is(outcome(change || '; ' || call), e, change || ': ' || call)
FROM (VALUES ('ALTER TABLE order_store.orders DROP COLUMN customer_email', 'ok', 'OP002'), ('ALTER TABLE order_store.sagas RENAME TO renamed', 'ok', 'OP002'), ('DROP SEQUENCE order_store.sagas_id_seq CASCADE', 'ok', 'OP002'),
    ('DROP TRIGGER statuses_changed ON order_store.order_statuses', 'ok', 'OP002'), ('ALTER TABLE order_store.slot_map RENAME COLUMN slot TO renamed', 'ok', 'OP002'),
    ('ALTER TABLE order_store.cluster RENAME COLUMN owned_slots TO renamed', 'OP002', 'OP002'), ('ALTER TABLE order_store.cluster ALTER COLUMN shard_id TYPE bigint', 'OP002', 'OP002'),
    ('DROP TRIGGER cluster_changed ON order_store.cluster', 'OP002', 'OP002'), ('ALTER TABLE order_store.cluster RENAME TO renamed', 'OP002', 'OP002'),
    ('UPDATE order_store.store SET layout = ''1.7''', 'OP002', 'OP002'), ('DROP SCHEMA order_store CASCADE', 'OP001', 'OP001')) AS c (change, of_cluster, of_all),
  LATERAL (VALUES (1, 'SELECT order_proc.join_cluster(42, 1)', of_cluster), (2, 'SELECT * FROM order_proc.fan_out(''SELECT 1'') AS t(x int)', of_cluster), (3, 'SELECT order_proc.get_order(5958)', of_all)) AS t (n, call, e) ORDER BY change COLLATE "C", n;
SELECT is((SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = tgrelid WHERE tgname = 'check_slot' AND tgenabled = 'O'), 'customers order_items orders', 'the fence stands on three tables');
SELECT is(order_proc.shard_for_customer(1), 1, 'customer 1 is here');
SELECT is(order_proc.shard_for_order(5958), 1, 'and the order');
SELECT is(outcome(call), 'OP403', call) FROM (VALUES ('SELECT order_proc.shard_for_customer(3)'), (format('SELECT order_proc.shard_for_order(%s)', :away))) AS t (call);
SELECT format('SET order_proc.fast_path = %s', path), format($q$
SELECT is(outcome(replace(replace(sql, ':customer', customer), ':order', o)), e, format('%%s, customer %%s, fast_path %s', sql, customer))
FROM (VALUES ('1', '5958', 'ok'), ('3', '%s', 'OP402')) AS c (customer, o, e),
  (VALUES ('SELECT order_proc.create_order_with_items(:customer, NULL, NULL, ''{7}'', ''{1}'', ''{1}'')'),
   ('SELECT order_proc.create_order_with_items(:customer, NULL, NULL, ''{7}'', ''{1}'', ''{1}'', NULL, ''key'')'),
   ('SELECT order_proc.batch_create_order_items(''{:order}'', ''{7}'', ''{1}'', ''{1}'')'),
   ('SELECT order_proc.update_order_status(:order, ''paid'')'),
   ('SELECT order_proc.refresh_order_totals(''{:order}'')'),
   ('SELECT order_proc.delete_order(:order)'),
   ('UPDATE order_store.orders SET notes = ''x'' WHERE id = :order'),
   ('DELETE FROM order_store.orders WHERE id = :order'),
   ('INSERT INTO order_store.orders (id, customer_id, status, total_amount) VALUES (order_proc.new_order_id(:customer), :customer, ''pending'', 0)'),
   ('INSERT INTO order_store.order_items (order_id, product_id, quantity, price) VALUES (:order, 7, 1, 1)'),
   ('UPDATE order_store.order_items SET quantity = 9 WHERE order_id = :order'),
   ('UPDATE order_store.order_items SET order_id = order_id WHERE order_id = :order'),
   ('DELETE FROM order_store.order_items WHERE order_id = :order'),
   ('UPDATE order_store.customers SET email = ''x'' WHERE id = :customer')) AS s (sql)$q$, path, :away) FROM unnest(ARRAY['on', 'off']) AS path \gexec
RESET order_proc.fast_path;
SELECT is(outcome(sql), e, sql) FROM (VALUES
  ('SELECT order_proc.create_customer(''a'', ''b'', NULL, 2008)', 'ok'), ('SELECT order_proc.create_customer(''a'', ''b'', NULL, 4)', 'OP402'), ('INSERT INTO order_store.customers (id) VALUES (4)', 'OP402'),
  ('UPDATE order_store.customers SET id = 4 WHERE id = 1', 'OP402'), ('DELETE FROM order_store.customers WHERE id = 3', 'OP402')) AS t (sql, e);
-- Reading is not fenced, and the fence does not cost the direct path.
SELECT is((order_proc.get_order(5958)).id, 5958::bigint, 'reading');
SELECT is((SELECT string_agg(operation || ' ' || reason, ', ') FROM order_proc.explain_fast_path() WHERE path <> 'fast'), NULL, 'direct access goes on');
-- A trigger that is switched off does not switch off the functions' own look.
ALTER TABLE order_store.orders DISABLE TRIGGER check_slot;
SELECT isnt(outcome('SELECT order_proc.create_order_with_items(3, NULL, NULL, ''{7}'', ''{1}'', ''{1}'')'), 'ok', 'without the trigger on orders the items are still fenced');
ALTER TABLE order_store.orders ENABLE TRIGGER check_slot;
ALTER TABLE order_store.customers DISABLE TRIGGER check_slot;
SELECT is(outcome('SELECT order_proc.create_customer(''a'', ''b'', NULL, 4)'), 'OP402', 'without the trigger on customers create_customer looks by itself');
ALTER TABLE order_store.customers ENABLE TRIGGER check_slot;
-- A customer of another shard is not one that does not exist.
SELECT is(outcome(sql), e, sql) FROM (VALUES
  ('INSERT INTO order_proc.order_import VALUES (''i'', ''3'', ''7'', ''1'', ''1'')', 'OP402'), ('INSERT INTO order_proc.order_import_lines VALUES (''i,3,7,1,1,,'')', 'OP402'),
  ('INSERT INTO order_proc.order_import VALUES (''i'', ''1'', ''7'', ''1'', ''1'')', 'ok')) AS t (sql, e);
-- Slots come and go by the next statement.
SELECT order_proc.set_membership(42, 1, decode(repeat('00', 256) || repeat('ff', 256), 'hex')) \g /dev/null
SELECT is(outcome('SELECT order_proc.update_order_status(5958, ''paid'')'), 'OP402', 'the upper half: customer 1 is away');
SELECT is(outcome(format('SELECT order_proc.update_order_status(%s, ''paid'')', :away)), 'ok', 'and customer 3 is here');
DELETE FROM order_store.cluster;
SELECT is(outcome('SELECT order_proc.update_order_status(5958, ''paid'')'), 'ok', 'no cluster, no fence');
SELECT is(order_proc.shard_id(), NULL, 'no shard');

-- Down without a cluster, and up again.
ALTER EXTENSION order_proc UPDATE TO '1.6';
SELECT is(to_regclass('order_store.cluster'), NULL, 'down to 1.6: the tables of a cluster are gone');
ALTER EXTENSION order_proc UPDATE TO '1.7';
SELECT isnt(to_regclass('order_store.cluster'), NULL, 'up to 1.7: they are back');

SELECT * FROM finish();
DROP SCHEMA shards CASCADE;
DROP EXTENSION order_proc CASCADE;
DROP SCHEMA order_store CASCADE;
