\set ECHO none
-- Logical decoding shows the same changes, in the same order, with order_proc.fast_path on and off.
-- Needs wal_level = logical; without it the second expected file says so.
\pset format unaligned
\pset tuples_only on
\pset pager off
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET synchronous_commit = on;
SELECT current_setting('wal_level') <> 'logical' AS no_decoding \gset
\if :no_decoding
\echo 'skipped: wal_level is not logical'
\quit
\endif
DROP SCHEMA IF EXISTS order_store CASCADE;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS order_proc;
CREATE SCHEMA decoding;
SELECT order_proc.create_store();
INSERT INTO order_store.customers (id, first_name, email) VALUES (1, 'Ana', 'ana@example.org'), (2, NULL, NULL);
ALTER TABLE order_store.orders ADD region text;

SELECT plan(7);
SELECT ok(slot_name = 'order_proc_decoding', 'a slot') FROM pg_create_logical_replication_slot('order_proc_decoding', 'test_decoding', true);
CREATE TABLE decoding.changes (path text, n bigserial, data text);

-- Transactions of either path, with the sequences set to the same numbers.
CREATE PROCEDURE decoding.work(path text) LANGUAGE plpgsql AS $$
DECLARE
  order_id bigint;
BEGIN
  PERFORM set_config('order_proc.fast_path', path, false), setval('order_store.orders_id_seq', 1), setval('order_store.order_items_id_seq', 1);
  PERFORM order_proc.create_order_with_items(1, 'pending', NULL, '{1,2}', '{1,2}', '{1.005,2}', 'first');
  COMMIT;
  PERFORM order_proc.create_order_with_items(1, 'pending', NULL, array_agg(i), array_agg(1), array_agg(i)) FROM generate_series(1, 1100) AS i;
  COMMIT;
  order_id := order_proc.create_order_with_items(2, 'paid', 5, '{3}', '{1}', '{1}', repeat('toasted ', 3000));
  BEGIN
    PERFORM order_proc.create_order_with_items(2, 'paid', 5, '{3}', '{1}', '{1}', 'undone');
    RAISE EXCEPTION SQLSTATE 'DE000';
  EXCEPTION WHEN SQLSTATE 'DE000' THEN
  END;
  PERFORM order_proc.create_order_with_items(2, 'paid', 5, '{4}', '{1}', '{1}'), order_proc.create_order_with_items(1, 'paid', 5, '{5}', '{1}', '{1}', 'note', 'key');
  COMMIT;
  PERFORM order_proc.create_order_with_items(2, 'paid', 5, '{3}', '{1}', '{1}', 'rolled back');
  ROLLBACK;
  DELETE FROM order_store.orders;
  COMMIT;
END
$$;
CREATE FUNCTION decoding.take(path text) RETURNS text LANGUAGE sql AS $$
  WITH taken AS (
    INSERT INTO decoding.changes (path, data)
    SELECT take.path, regexp_replace(data, '''\d{4}-\d\d-\d\d [^'']*''', 'a time', 'g')
    FROM pg_logical_slot_get_changes('order_proc_decoding', NULL, NULL, 'include-xids', '0', 'skip-empty-xacts', '1')
    WHERE data NOT LIKE 'table decoding.%' RETURNING 1)
  SELECT 'changes taken' FROM taken LIMIT 1
$$;

SELECT is(path, 'fast', 'the fast path is taken') FROM order_proc.explain_fast_path() WHERE operation = 'create_order_with_items';
CALL decoding.work('on');
SELECT is(decoding.take('on'), 'changes taken', 'changes with the fast path');
CALL decoding.work('off');
SELECT is(decoding.take('off'), 'changes taken', 'changes without it');
SELECT is((SELECT count(*) FROM decoding.changes WHERE path = 'on' AND data LIKE 'table order_store.order_items: INSERT:%'), 1105::bigint, 'all items are decoded');
SELECT is((SELECT count(*) FROM decoding.changes WHERE path = 'on' AND data LIKE 'table order_store.orders: INSERT:%'), 5::bigint, 'all orders are decoded, none that was undone');
SELECT results_eq(
  $$SELECT data FROM decoding.changes WHERE path = 'on' AND data NOT IN ('BEGIN', 'COMMIT') ORDER BY n$$,
  $$SELECT data FROM decoding.changes WHERE path = 'off' AND data NOT IN ('BEGIN', 'COMMIT') ORDER BY n$$, 'the same changes in the same order');
SELECT * FROM finish();

DROP SCHEMA order_store CASCADE;
DROP SCHEMA decoding CASCADE;
