\set ECHO none
-- create_orders in one database: as single calls would, all or nothing, with the fast path and without. Hostile documents are in
-- hostile.sql, several shards in test/cluster/atomic.pl.
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_proc CASCADE;
DROP SCHEMA IF EXISTS order_store CASCADE;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION order_proc;
SELECT order_proc.create_store() \g /dev/null
CREATE SCHEMA create_orders;
SET search_path = create_orders, public;
SELECT no_plan();
SELECT order_proc.create_customer('First ' || i, 'Last', NULL, i) FROM generate_series(1, 9) AS i \g /dev/null

CREATE FUNCTION outcome(sql text, OUT state text, OUT message text, OUT detail text, OUT hint text, OUT context text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE sql;
  RAISE SQLSTATE 'UNDO0';
EXCEPTION
  WHEN SQLSTATE 'UNDO0' THEN state := 'ok';
  WHEN OTHERS THEN GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
END $$;
-- Orders as they are but for their ids.
CREATE FUNCTION contents(ids bigint[]) RETURNS SETOF text LANGUAGE sql AS $$
SELECT concat_ws('|', o.customer_id, o.status, o.total_amount, COALESCE(o.notes, '-'), o.customer_name, (SELECT string_agg(concat_ws('/', product_id, quantity, price), ' ' ORDER BY i.id) FROM order_store.order_items AS i WHERE i.order_id = o.id))
FROM unnest(ids) WITH ORDINALITY AS t (id, n) JOIN order_store.orders AS o USING (id) ORDER BY n $$;

-- 200 orders of a fixed seed, as a document and one by one.
SELECT setseed(0.8) \g /dev/null
CREATE TABLE wanted AS
SELECT i AS n, 1 + (random() * 8)::int AS customer_id, CASE (random() * 2)::int WHEN 0 THEN 'paid' WHEN 1 THEN 'pending' END AS status, CASE WHEN random() < 0.3 THEN round(random()::numeric * 100, 4) END AS total_amount,
  a.product_ids, a.quantities, a.prices, CASE WHEN random() < 0.3 THEN 'note ' || i END AS notes, CASE WHEN i % 7 = 0 THEN 'key ' || i / 14 END AS idempotency_key
FROM generate_series(1, 200) AS i, LATERAL (SELECT array_agg((random() * 1000)::bigint + g) AS product_ids, array_agg(1 + g + (random() * 9)::int) AS quantities, array_agg(round(g + random()::numeric * 100, 3)) AS prices FROM generate_series(0, i % 4) AS g) AS a;
-- The second use of a key repeats the first one's request.
UPDATE wanted AS w SET (customer_id, status, total_amount, product_ids, quantities, prices, notes) = (SELECT v.customer_id, v.status, v.total_amount, v.product_ids, v.quantities, v.prices, v.notes FROM wanted AS v WHERE v.n = w.n - 7)
WHERE n % 7 = 0 AND EXISTS (SELECT FROM wanted AS v WHERE v.n = w.n - 7 AND v.idempotency_key = w.idempotency_key);
SELECT jsonb_agg(to_jsonb(w) - 'n' ORDER BY n) AS document FROM wanted AS w \gset
SELECT format('SET order_proc.fast_path = %s', path), format($q$
BEGIN;
CREATE TABLE by_document AS SELECT order_proc.create_orders(%1$L) AS ids;
SELECT is(cardinality(ids), 200, 'ids in the order of the document, fast_path %2$s') FROM by_document;
CREATE TABLE contents_by_document AS SELECT row_number() OVER () AS n, c FROM by_document, contents(ids) AS c;
SELECT is((SELECT count(DISTINCT id) FROM by_document, unnest(ids) AS id), 200 - (SELECT count(idempotency_key) - count(DISTINCT idempotency_key) FROM wanted), 'a key makes one order');
SELECT is((SELECT order_proc.create_orders(%1$L)) = ids, false, 'another time without keys: others') FROM by_document;
SELECT is((SELECT count(*) FROM by_document, unnest(ids) WITH ORDINALITY AS a(id, n) JOIN (SELECT n, id FROM unnest(order_proc.create_orders(%1$L)) WITH ORDINALITY AS b(id, n)) AS b USING (id)), (SELECT count(*) FROM wanted AS a JOIN wanted AS b USING (idempotency_key)), 'with keys the same');
DELETE FROM order_store.orders;
CREATE TABLE one_by_one AS SELECT array_agg(order_proc.create_order_with_items(customer_id, status, total_amount, product_ids, quantities, prices, notes, idempotency_key) ORDER BY n) AS ids FROM wanted;
SELECT results_eq('SELECT c FROM contents_by_document ORDER BY n', 'SELECT c FROM one_by_one, contents(ids) AS c', 'the same orders as of single calls');
ROLLBACK;$q$, :'document', path)
FROM unnest(ARRAY['on', 'off']) AS path \gexec
RESET order_proc.fast_path;

SELECT is(order_proc.create_orders('[]'), '{}', 'no orders');
SELECT is((SELECT contents(order_proc.create_orders('[{"customer_id": 1.0, "product_ids": [9007199254740993], "quantities": [1e0], "prices": [0.285]}]'))), '1|pending|0.29|-|First 1 Last|9007199254740993/1/0.29', 'numbers are exact: nothing goes through a float');

-- All or nothing, and where it went wrong.
CREATE TABLE good AS SELECT '{"customer_id": 1, "product_ids": [7], "quantities": [1], "prices": [1]}'::jsonb AS o;
CREATE VIEW now_there AS SELECT (SELECT count(*) FROM order_store.orders) AS orders, (SELECT count(*) FROM order_store.order_items) AS items, (SELECT count(*) FROM order_store.idempotency_keys) AS keys;
CREATE TABLE before AS TABLE now_there;
SELECT is(concat_ws(' ', o.state, o.message, (SELECT x FROM regexp_split_to_table(o.context, E'\n') AS x WHERE x ~ 'orders\[' LIMIT 1)), e, bad)
FROM good, (VALUES
  ('{"product_ids": [1.5]}', '22023 orders[2].product_ids[0] is 1.5, which is no whole number'),
  ('{"prices": [1, null]}', '22004 orders[2].prices[1] must not be NULL'),
  ('{"prices": "1"}', '22023 orders[2].prices must be an array, not string'),
  ('{"price": 1}', '22023 orders[2] has an unknown field "price"')) AS t (bad, e),
  LATERAL outcome(format('SELECT order_proc.create_orders(%L)', jsonb_build_array(o, o || '{"idempotency_key": "k"}', o || bad::jsonb, o, '5'::jsonb))) AS o;
SELECT is(concat_ws(' ', o.state, o.message, (SELECT x FROM regexp_split_to_table(o.context, E'\n') AS x WHERE x ~ 'orders\[' LIMIT 1)), e, bad)
FROM good, (VALUES
  ('{"status": "nonsense"}', '22023 unknown status "nonsense" orders[2]'),
  ('{"quantities": [0]}', '23514 quantity must be positive: 0 orders[2]'),
  ('{"customer_id": 77}', '23503 insert or update on table "orders" violates foreign key constraint "orders_customer_id_fkey" orders[2]'),
  ('{"total_amount": 1e10}', '22003 total_amount is out of range for numeric(12,2): 10000000000 orders[2]'),
  ('{"product_ids": [1, 2]}', '22023 product_ids, quantities and prices must have the same length orders[2]')) AS t (bad, e),
  LATERAL outcome(format('SELECT order_proc.create_orders(%L)', jsonb_build_array(o, o || '{"idempotency_key": "k"}', o || bad::jsonb, o))) AS o;
SELECT results_eq('TABLE now_there', 'TABLE before', 'nothing of them is there');
SELECT is((outcome(format('SELECT order_proc.create_orders(%L)', jsonb_build_array(o, o || '{"x": 1}')))).hint, 'Fields of an order: customer_id, status, total_amount, product_ids, quantities, prices, notes, idempotency_key.', 'a HINT lists the fields') FROM good;
SELECT is((outcome(format('SELECT order_proc.create_orders(%L)', jsonb_build_array(o || '{"idempotency_key": "k"}', o || '{"idempotency_key": "k", "notes": "x"}')))).state, 'OP302', 'one key for two requests') FROM good;
BEGIN READ ONLY;
SELECT is((outcome(format('SELECT order_proc.create_orders(%L)', '[]'))).state, '25006', 'not in a read-only transaction');
ROLLBACK;

-- Triggers, row security and column rights of the user's hold for each order.
CREATE ROLE regress_op_orders;
SELECT order_proc.grant_store('regress_op_orders', 'write') \g /dev/null
GRANT USAGE ON SCHEMA create_orders TO regress_op_orders;
GRANT SELECT ON good TO regress_op_orders;
SELECT order_proc.create_orders(jsonb_build_array(o || '{"customer_id": 2, "idempotency_key": "hidden"}', o || '{"idempotency_key": "seen"}')) FROM good \g /dev/null
CREATE POLICY own ON order_store.orders USING (customer_id = 1);
ALTER TABLE order_store.orders ENABLE ROW LEVEL SECURITY;
SET ROLE regress_op_orders;
SELECT is((outcome(format('SELECT order_proc.create_orders(%L)', jsonb_build_array(o, o || '{"customer_id": 2}')))).state, '42501', 'row security refuses one') FROM good;
SELECT is((outcome(format('SELECT order_proc.create_orders(%L)', jsonb_build_array(o, o)))).state, 'ok', 'and lets others') FROM good;
SELECT is((outcome(format('SELECT order_proc.create_orders(%L)', jsonb_build_array(o || '{"customer_id": 2, "idempotency_key": "hidden"}' || more)))).state, '42501', 'no key tells of orders that row security hides') FROM good, (VALUES ('{}'::jsonb), ('{"notes": "another"}')) AS t (more);
SELECT is((outcome(format('SELECT order_proc.create_orders(%L)', jsonb_build_array(o || '{"idempotency_key": "seen"}')))).state, 'ok', 'of others it does') FROM good;
SELECT is((outcome(format('SELECT order_proc.create_orders(%L)', jsonb_build_array(o || '{"idempotency_key": "twice"}', o || '{"idempotency_key": "twice"}')))).state, 'ok', 'and of those of the statement itself') FROM good;
RESET ROLE;
ALTER TABLE order_store.orders DISABLE ROW LEVEL SECURITY;
DROP POLICY own ON order_store.orders;
DELETE FROM order_store.orders WHERE id IN (SELECT order_id FROM order_store.idempotency_keys WHERE key IN ('hidden', 'seen'));
DROP OWNED BY regress_op_orders;
DROP ROLE regress_op_orders;

-- 100,000 orders, and a cancel in the middle.
CREATE TABLE large AS SELECT jsonb_agg(o || jsonb_build_object('customer_id', 1 + i % 9)) AS document FROM good, generate_series(1, 100000) AS i;
SELECT is(cardinality(order_proc.create_orders(document)), 100000, '100,000 orders') FROM large;
SET statement_timeout = 100;
\set VERBOSITY sqlstate
SELECT order_proc.create_orders(document) FROM large;
\set VERBOSITY default
RESET statement_timeout;
SELECT is((SELECT orders FROM now_there), 100000 + (SELECT orders FROM before), 'a timeout leaves nothing');

SELECT * FROM finish();
