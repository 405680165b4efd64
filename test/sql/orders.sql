\set ECHO none
-- The order functions, one by one, against what the reference says and against plain SQL.
\pset format unaligned
\pset tuples_only on
\pset pager off
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
DROP SCHEMA IF EXISTS order_store CASCADE;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS order_proc;
CREATE ROLE regress_orders_owner;
CREATE ROLE regress_orders_app;
SELECT order_proc.create_store('regress_orders_owner');
SELECT order_proc.grant_store('regress_orders_app', 'write');
CREATE SCHEMA t;
GRANT USAGE ON SCHEMA t TO PUBLIC;
INSERT INTO order_store.customers (id, first_name, last_name, email) VALUES (1, 'Ana', 'de la Cruz', 'ana@example.org'), (2, 'Bo', NULL, NULL), (3, NULL, NULL, NULL);
SELECT setval('order_store.customers_id_seq', 3);

-- SQLSTATE, message, detail, hint of what a statement raises.
CREATE FUNCTION t.error(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  state text; message text; detail text; hint text;
BEGIN
  EXECUTE statement;
  RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  RETURN concat_ws(' | ', state, message, NULLIF(detail, ''), NULLIF(hint, ''));
END
$$;
CREATE FUNCTION t.make(customer bigint, status text DEFAULT NULL, total numeric DEFAULT NULL, prices numeric[] DEFAULT '{1}', notes text DEFAULT NULL, key text DEFAULT NULL) RETURNS bigint LANGUAGE sql AS $$
  SELECT order_proc.create_order_with_items(customer, status, total, (SELECT array_agg(100 + i ORDER BY i) FROM generate_subscripts(prices, 1) AS i), (SELECT array_agg(i ORDER BY i) FROM generate_subscripts(prices, 1) AS i), prices, notes, key)
$$;
CREATE FUNCTION t.slot(customer bigint) RETURNS bigint LANGUAGE sql AS 'SELECT hashint8extended(customer, 0) & 4095';

SELECT plan(190);

--------------------------------------------------------------------------------------------- customers
SELECT is(order_proc.create_customer('Eve', 'Adams', 'eve@example.org'), 4::bigint, 'create_customer takes the next id');
SELECT results_eq('SELECT first_name, last_name, email FROM order_store.customers WHERE id = 4', $$VALUES ('Eve', 'Adams', 'eve@example.org')$$, 'create_customer stores its arguments');
SELECT is(order_proc.create_customer(NULL, NULL), 5::bigint, 'create_customer with nothing known');
SELECT is(order_proc.create_customer('X', 'Y', NULL, 7), 7::bigint, 'create_customer with an id');
SELECT is(order_proc.create_customer('A', 'B'), 6::bigint, 'automatic ids go on');
SELECT is(order_proc.create_customer('A', 'B'), 8::bigint, 'automatic ids skip those in use');
SELECT is(order_proc.create_customer('A', 'B', id => -5), -5::bigint, 'a negative id');
SELECT is(order_proc.create_customer('A', 'B', id => 9223372036854775807), 9223372036854775807, 'the largest id');
SELECT matches(t.error('SELECT order_proc.create_customer(''X'', ''Y'', NULL, 7)'), '^23505 ', 'an id in use');

--------------------------------------------------------------------------------------------- create and get
CREATE TABLE t.ids (name text PRIMARY KEY, id bigint);
INSERT INTO t.ids SELECT 'first', order_proc.create_order_with_items(1, 'pending', NULL, '{11,12}', '{2,3}', '{1.005,0.10}', 'ring twice');
SELECT row_eq('SELECT (order_proc.get_order(id)).* FROM t.ids WHERE name = ''first''',
  ROW(id, 1, 'pending', 2.32, 'ring twice', 'Ana de la Cruz', 'ana@example.org', o.created_at, o.updated_at)::order_proc.order_record, 'get_order')
FROM t.ids JOIN order_store.orders AS o USING (id) WHERE name = 'first';
SELECT is((order_proc.get_order_with_items(id)).items::text,
  (SELECT format('[{"id":%s,"product_id":11,"quantity":2,"price":1.01},{"id":%s,"product_id":12,"quantity":3,"price":0.10}]', min(i.id), max(i.id)) FROM order_store.order_items AS i WHERE order_id = t.ids.id),
  'items as JSON, prices rounded as the column does') FROM t.ids WHERE name = 'first';
SELECT is(to_jsonb(order_proc.get_order_with_items(id)) - 'items', to_jsonb(order_proc.get_order(id)), 'get_order_with_items has the order''s columns') FROM t.ids WHERE name = 'first';
SELECT is(id & 4095, t.slot(1), 'the id carries the slot of the customer') FROM t.ids WHERE name = 'first';
SELECT is(order_proc.get_order(-1), NULL, 'get_order of an unknown order');
SELECT is(order_proc.get_order_with_items(-1), NULL, 'get_order_with_items of an unknown order');
INSERT INTO order_store.orders (id, customer_id, status, total_amount) VALUES (order_proc.new_order_id(3), 3, 'anything', 7);
INSERT INTO t.ids SELECT 'bare', id FROM order_store.orders WHERE status = 'anything';
SELECT is((order_proc.get_order_with_items(id)).items::text, '[]', 'an order without items') FROM t.ids WHERE name = 'bare';
SELECT is((order_proc.get_order(t.make(2, 'paid', 12.345))).total_amount, NULL, 'an order of the same statement is not seen yet');
SELECT results_eq($$SELECT customer_name, customer_email, total_amount FROM order_store.orders WHERE customer_id = 2$$, $$VALUES ('Bo'::text, NULL::text, 12.35::numeric(12,2))$$, 'a name of one part; a given total is stored as is');
INSERT INTO t.ids SELECT 'nameless', t.make(3);
SELECT results_eq($$SELECT o.status, o.customer_name, o.customer_email, o.notes, o.total_amount FROM order_store.orders AS o JOIN t.ids USING (id) WHERE name = 'nameless'$$,
  $$VALUES ('pending'::text, NULL::text, NULL::text, NULL::text, 1.00::numeric(12,2))$$, 'status NULL is the initial one, total NULL the sum');
SELECT is((SELECT count(*) FROM order_store.order_status_history), 0::bigint, 'making orders writes no history');
UPDATE order_store.customers SET first_name = 'Anna', email = NULL WHERE id = 1;
SELECT is((order_proc.get_order(id)).customer_name, 'Ana de la Cruz', 'an order keeps the name it was made with') FROM t.ids WHERE name = 'first';

-- Totals
CREATE FUNCTION t.total(quantities int[], prices numeric[], total numeric DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  made bigint;
BEGIN
  made := order_proc.create_order_with_items(1, NULL, total, quantities::bigint[], quantities, prices);
  RETURN (SELECT o.total_amount || ' ' || (SELECT string_agg(i.price::text, ',' ORDER BY i.id) FROM order_store.order_items AS i WHERE i.order_id = o.id) FROM order_store.orders AS o WHERE o.id = made);
EXCEPTION WHEN OTHERS THEN
  RETURN SQLSTATE;
END
$$;
SELECT is(t.total('{1,1,1}', '{0.005,0.015,0.0049}'), '0.03 0.01,0.02,0.00', 'halves go away from zero');
SELECT is(t.total('{100}', '{0.125}'), '13.00 0.13', 'the total is of the stored price');
SELECT is(t.total('{1}', '{99999999.994}'), '99999999.99 99999999.99', 'the largest price');
SELECT is(t.total('{1}', '{99999999.995}'), '22003', 'a price that rounds beyond its type');
SELECT is(t.total('{100}', '{99999999.99}'), '9999999999.00 99999999.99', 'the largest total');
SELECT is(t.total('{101}', '{99999999.99}'), '22003', 'a total beyond its type');
SELECT is(t.total('{2147483647,2147483647}', '{99999999.99,99999999.99}'), '22003', 'a total far beyond its type');
SELECT is(t.total('{1}', '{-0.004}'), t.total('{1}', '{0}'), 'a price that rounds to zero is not negative');
SELECT is(t.total('{1}', '{-0.005}'), '23514', 'a price below zero');
SELECT is(t.total('{1}', '{0}', -0.004), '0.00 0.00', 'a total that rounds to zero');
SELECT is(t.total('{1}', '{0}', 9999999999.994), '9999999999.99 0.00', 'the largest total given');
SELECT is(t.total('{1}', '{0}', 9999999999.995), '22003', 'a given total beyond its type');
SELECT is(t.total('{1}', '{0}', 'NaN'), '23514', 'NaN as total');
SELECT is(t.total('{1}', '{0}', 'Infinity'), '22003', 'Infinity as total');
SELECT is(t.total('{1}', '{1e-1000}'), '0.00 0.00', 'a very small price');
SELECT is(t.total('{1}', ARRAY[1.10000000000000000000000000000000001]), '1.10 1.10', 'a price with many digits');
SELECT is(t.total('{1}', '{1e7}'), '10000000.00 10000000.00', 'a price without decimals');

--------------------------------------------------------------------------------------------- errors of create
SELECT is((SELECT count(*) FROM order_store.order_items WHERE order_id NOT IN (SELECT id FROM order_store.orders)), 0::bigint, 'no items without an order');
SELECT matches(t.error($$SELECT order_proc.create_order_with_items(999, NULL, 1, '{1}', '{1}', '{1}')$$), '^23503 .*orders_customer_id_fkey', 'unknown customer');
SELECT matches(t.error($$SELECT order_proc.create_order_with_items(1, 'PENDING', 1, '{1}', '{1}', '{1}')$$), '^22023 .*PENDING.*pending, cancelled, delivered, paid, processing, returned, shipped', 'unknown status: the HINT lists them');
SELECT matches(t.error($$SELECT order_proc.create_order_with_items(1, NULL, 1, '{1,2}', '{1}', '{1,2,3}')$$), '^22023 .*2, 1 and 3', 'lengths differ: the DETAIL gives them');
SELECT matches(t.error($$SELECT order_proc.create_order_with_items(1, NULL, 1, '{}', '{}', '{}')$$), '^22023 .*item', 'no items');
SELECT matches(t.error($$SELECT order_proc.create_order_with_items(1, NULL, 1, '{{1}}', '{1}', '{1}')$$), '^22023 ', 'two dimensions');
SELECT matches(t.error($$SELECT order_proc.create_order_with_items(1, NULL, 1, '{NULL}', '{1}', '{1}')$$), '^22004 .*product_ids', 'NULL element');
SELECT matches(t.error($$SELECT order_proc.create_order_with_items(NULL, NULL, 1, '{1}', '{1}', '{1}')$$), '^22004 .*customer_id', 'NULL argument');
SELECT matches(t.error($$SELECT order_proc.create_order_with_items(1, NULL, 1, '{1}', '{0}', '{1}')$$), '^23514 ', 'quantity 0');
SELECT is(order_proc.create_order_with_items(1, NULL, 1, '[5:6]={1,2}', '[-1:0]={1,2}', '{1,2}') & 4095, t.slot(1), 'odd lower bounds are fine');
SELECT throws_ok('SELECT order_proc.get_order(NULL)', '22004');
SELECT throws_ok('SELECT order_proc.get_order_with_items(NULL)', '22004');
SELECT throws_ok('SELECT order_proc.delete_order(NULL)', '22004');
SELECT throws_ok('SELECT order_proc.update_order_status(NULL, ''paid'')', '22004');
SELECT throws_ok('SELECT order_proc.update_order_status(1, NULL)', '22004');
SELECT throws_ok('SELECT order_proc.get_orders(NULL)', '22004');
SELECT throws_ok('SELECT order_proc.refresh_order_totals(ARRAY[1, NULL]::bigint[])', '22004');

--------------------------------------------------------------------------------------------- get_orders
INSERT INTO t.ids SELECT 'other', t.make(2, 'paid', NULL, '{5,6,7}');
SELECT results_eq(
  $$SELECT o.id, o.items::text FROM order_proc.get_orders((SELECT ARRAY[b.id, -1, a.id, b.id, c.id] FROM t.ids a, t.ids b, t.ids c WHERE (a.name, b.name, c.name) = ('first', 'other', 'bare'))) AS o$$,
  $$SELECT id, (order_proc.get_order_with_items(id)).items::text FROM unnest(ARRAY['other', 'first', 'other', 'bare']) WITH ORDINALITY AS w(name, n) JOIN t.ids USING (name) ORDER BY n$$,
  'get_orders: in the order asked, twice when asked twice, unknown ones left out');
SELECT is_empty($$SELECT * FROM order_proc.get_orders('{}')$$, 'get_orders of nothing');

--------------------------------------------------------------------------------------------- totals
INSERT INTO order_store.order_items (order_id, product_id, quantity, price) SELECT id, 9, 10, 0.5 FROM t.ids WHERE name = 'other';
SELECT is(total_amount, 38.00, 'items of one''s own do not touch the total') FROM order_store.orders JOIN t.ids USING (id) WHERE name = 'other';
UPDATE order_store.orders SET updated_at = '2020-01-01' FROM t.ids WHERE ids.id = orders.id AND name = 'other';
SELECT is(order_proc.refresh_order_totals((SELECT array_agg(id) || -1::bigint || min(id) FROM t.ids WHERE name IN ('other', 'bare'))), 2::bigint, 'refresh_order_totals counts orders');
SELECT results_eq($$SELECT name, total_amount FROM order_store.orders JOIN t.ids USING (id) WHERE name IN ('other', 'bare') ORDER BY name$$, $$VALUES ('bare', 0.00::numeric(12,2)), ('other', 43.00)$$, 'refresh_order_totals sums up');
SELECT is((SELECT count(*) FROM order_store.order_status_history), 0::bigint, 'refresh_order_totals writes no history');
SELECT is(order_proc.refresh_order_totals('{}'), 0::bigint, 'refresh_order_totals of nothing');
INSERT INTO order_store.order_items (order_id, product_id, quantity, price) SELECT id, 9, 2147483647, 99999999 FROM t.ids WHERE name = 'bare';
SELECT matches(t.error($$SELECT order_proc.refresh_order_totals(ARRAY[(SELECT id FROM t.ids WHERE name = 'bare')])$$), '^22003 ', 'refresh_order_totals beyond the type');
DELETE FROM order_store.order_items USING t.ids WHERE ids.id = order_id AND name = 'bare';

--------------------------------------------------------------------------------------------- statuses
CREATE FUNCTION t.move(name text, status text, expected text DEFAULT NULL) RETURNS text LANGUAGE sql AS 'SELECT order_proc.update_order_status((SELECT id FROM t.ids WHERE ids.name = move.name), status, expected)';
INSERT INTO t.ids SELECT 'moved', t.make(1);
UPDATE order_store.orders SET updated_at = '2020-01-01' FROM t.ids WHERE ids.id = orders.id AND name = 'moved';
GRANT SELECT ON t.ids TO regress_orders_app;
SET ROLE regress_orders_app;
SELECT is(t.move('moved', 'paid'), 'pending', 'update_order_status returns the previous status');
RESET ROLE;
SELECT results_eq($$SELECT o.status, o.updated_at > '2021-01-01' FROM order_store.orders AS o JOIN t.ids USING (id) WHERE name = 'moved'$$, $$VALUES ('paid'::text, true)$$, 'status and updated_at are set');
SELECT is(t.move('moved', 'processing', 'paid'), 'paid', 'as expected');
SELECT matches(t.error($$SELECT t.move('moved', 'shipped', 'paid')$$), '^OP202 .*processing.*paid', 'OP202: another status than expected');
SELECT matches(t.error($$SELECT t.move('moved', 'pending')$$), '^OP201 .*processing.*pending.*processing.*cancelled, shipped', 'OP201: the DETAIL names the present status and the allowed ones');
SELECT matches(t.error($$SELECT t.move('moved', 'processing')$$), '^OP201 ', 'OP201: the same status again');
SELECT matches(t.error($$SELECT t.move('moved', 'nowhere')$$), '^22023 .*nowhere', 'a status that is unknown');
SELECT matches(t.error($$SELECT order_proc.update_order_status(-1, 'paid')$$), '^P0002 .*-1', 'P0002: an unknown order');
BEGIN;
INSERT INTO order_store.order_statuses (status) VALUES ('');
INSERT INTO order_store.status_transitions (from_status, to_status) VALUES ('processing', 'processing'), ('processing', '');
SELECT matches(t.error($$SELECT t.move('moved', 'processing')$$), '^OP201 .*; allowed next ones: "", cancelled, shipped\. ', 'OP201: a move to the same status is none; one without letters shows');
SELECT matches(t.error($$SELECT t.move('moved', 'nowhere')$$), '^22023 .*Known statuses: .*"", cancelled', 'a status without letters in the HINT');
SELECT is(t.move('moved', ''), 'processing', 'a status without letters');
ROLLBACK;
-- Success is told of what was written only.
CREATE FUNCTION t.swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE FUNCTION t.renumber() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.id := NEW.id + 1000000; RETURN NEW; END';
CREATE FUNCTION t.hold() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.status := OLD.status; RETURN NEW; END';
CREATE FUNCTION t.divert() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.status := ''returned''; RETURN NEW; END';
CREATE FUNCTION t.with_ddl(ddl text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  answer text;
BEGIN
  EXECUTE ddl;
  answer := t.error(statement);
  RAISE SQLSTATE 'UNDO0';
EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
  RETURN answer;
END
$$;
SELECT matches(t.with_ddl(ddl, $$SELECT t.move('moved', 'shipped')$$), expected, ddl) FROM (VALUES
  ('CREATE TRIGGER a BEFORE UPDATE ON order_store.orders FOR EACH ROW EXECUTE FUNCTION t.swallow()', '^OP002 .*did not take the new status.*still "processing"'),
  ('CREATE TRIGGER a BEFORE UPDATE ON order_store.orders FOR EACH ROW EXECUTE FUNCTION t.hold()', '^OP002 .*still "processing"'),
  ('CREATE RULE a AS ON UPDATE TO order_store.orders DO INSTEAD NOTHING', '^OP002 .*still "processing"'),
  ('CREATE TRIGGER a BEFORE UPDATE ON order_store.orders FOR EACH ROW EXECUTE FUNCTION t.divert()', '^no error$')) AS c (ddl, expected);
SELECT matches(t.with_ddl(ddl, format('SELECT order_proc.create_customer(''A'', ''B'', NULL, %s)', id)), expected, concat_ws(', id ', ddl, id)) FROM (VALUES
  ('CREATE TRIGGER a BEFORE INSERT ON order_store.customers FOR EACH ROW EXECUTE FUNCTION t.swallow()', '770001', '^OP002 .*did not take customer 770001'),
  ('CREATE TRIGGER a BEFORE INSERT ON order_store.customers FOR EACH ROW EXECUTE FUNCTION t.swallow()', '7', '^OP002 .*did not take customer 7 '),
  ('CREATE TRIGGER a BEFORE INSERT ON order_store.customers FOR EACH ROW EXECUTE FUNCTION t.swallow()', 'NULL', '^OP002 '),
  ('CREATE RULE a AS ON INSERT TO order_store.customers DO INSTEAD NOTHING', '770001', '^OP002 '),
  ('CREATE RULE a AS ON INSERT TO order_store.customers DO ALSO NOTHING', '770001', '^no error$')) AS c (ddl, id, expected);
BEGIN;
CREATE TRIGGER a BEFORE INSERT ON order_store.customers FOR EACH ROW EXECUTE FUNCTION t.renumber();
SELECT is(order_proc.create_customer('A', 'B', NULL, 770001), 1770001::bigint, 'create_customer returns the id that a trigger gave');
REVOKE SELECT ON order_store.customers FROM regress_orders_app;
GRANT INSERT ON order_store.customers TO regress_orders_app;
SET LOCAL ROLE regress_orders_app;
SELECT matches(t.error($$SELECT order_proc.create_customer('A', 'B', NULL, 770002)$$), '^OP002 .*did not take customer 770002', 'which who may not read it is not told');
ROLLBACK;
SELECT is(t.move('moved', 'shipped') || t.move('moved', 'delivered') || t.move('moved', 'returned'), 'processingshippeddelivered', 'to the end');
SELECT matches(t.error($$SELECT t.move('moved', 'cancelled')$$), '^OP201 .*returned.*none', 'OP201: nothing is behind the end');
SELECT results_eq($$SELECT h.from_status, h.to_status, h.changed_by FROM order_store.order_status_history AS h JOIN t.ids ON ids.id = order_id WHERE name = 'moved' ORDER BY h.id$$,
  format($$VALUES ('pending', 'paid', 'regress_orders_app'), ('paid', 'processing', '%1$s'), ('processing', 'shipped', '%1$s'), ('shipped', 'delivered', '%1$s'), ('delivered', 'returned', '%1$s')$$, current_user), 'the history, with who did it');
SELECT ok(bool_and(changed_at > now() - interval '1 hour'), 'the history, with when') FROM order_store.order_status_history;
UPDATE order_store.orders SET status = 'made up' FROM t.ids WHERE ids.id = orders.id AND name = 'moved';
UPDATE order_store.orders SET status = 'made up', notes = 'x' FROM t.ids WHERE ids.id = orders.id AND name = 'moved';
SELECT results_eq($$SELECT h.from_status, h.to_status FROM order_store.order_status_history AS h JOIN t.ids ON ids.id = order_id WHERE name = 'moved' ORDER BY h.id OFFSET 5$$, $$VALUES ('returned', 'made up')$$, 'a direct UPDATE is recorded, not checked; no change, no record');
SET ROLE regress_orders_app;
SELECT throws_ok('SELECT * FROM order_store.order_status_history', '42501', NULL, 'an application may not read the history');
SELECT throws_ok($$INSERT INTO order_store.order_status_history (order_id, from_status, to_status, changed_by) VALUES (1, 'a', 'b', 'c')$$, '42501', NULL, 'nor forge it');
SELECT throws_ok('SELECT * FROM order_store.idempotency_keys', '42501', NULL, 'nor read keys');
RESET ROLE;
SELECT results_eq('SELECT from_status, to_status FROM order_store.status_transitions ORDER BY 1, 2', $$VALUES
  ('delivered', 'returned'), ('paid', 'cancelled'), ('paid', 'processing'), ('pending', 'cancelled'), ('pending', 'paid'),
  ('processing', 'cancelled'), ('processing', 'shipped'), ('shipped', 'cancelled'), ('shipped', 'delivered')$$, 'the transitions at first');
SELECT results_eq('SELECT status, is_initial, is_terminal FROM order_store.order_statuses ORDER BY 1', $$VALUES
  ('cancelled', false, true), ('delivered', false, false), ('paid', false, false), ('pending', true, false), ('processing', false, false), ('returned', false, true), ('shipped', false, false)$$, 'the statuses at first');

-- The user's edits count at once.
INSERT INTO t.ids SELECT 'edited', t.make(1);
BEGIN;
INSERT INTO order_store.order_statuses VALUES ('on hold');
SELECT is((SELECT status FROM order_store.orders WHERE id = x.id), NULL, 'a new status, used at once') FROM t.make(1, 'on hold') AS x(id);
SELECT is((SELECT count(*) FROM order_store.orders WHERE status = 'on hold'), 1::bigint, 'it is there');
INSERT INTO order_store.status_transitions VALUES ('pending', 'on hold');
SELECT is(t.move('edited', 'on hold'), 'pending', 'a new transition, used at once');
SAVEPOINT s;
UPDATE order_store.order_statuses SET is_initial = false WHERE is_initial;
SELECT matches(t.error('SELECT t.make(1)'), '^22023 ', 'without an initial status one has to be given');
UPDATE order_store.order_statuses SET is_initial = true WHERE status = 'on hold';
CREATE TEMP TABLE held AS SELECT t.make(1) AS id;
SELECT is(o.status, 'on hold', 'another initial status') FROM order_store.orders AS o JOIN held USING (id);
ROLLBACK TO s;
CREATE TEMP TABLE held AS SELECT t.make(1) AS id;
SELECT is(o.status, 'pending', 'the old initial status after ROLLBACK TO') FROM order_store.orders AS o JOIN held USING (id);
ROLLBACK;
SELECT matches(t.error($$SELECT t.make(1, 'on hold')$$), '^22023 ', 'no such status after ROLLBACK');
SELECT matches(t.error($$SELECT t.move('edited', 'on hold')$$), '^22023 ', 'nor a move to it');
DELETE FROM order_store.status_transitions WHERE from_status = 'pending' AND to_status = 'paid';
SELECT matches(t.error($$SELECT t.move('edited', 'paid')$$), '^OP201 .*pending.*cancelled', 'a transition that is gone');
INSERT INTO order_store.status_transitions VALUES ('pending', 'paid');
SELECT is(t.move('edited', 'paid'), 'pending', 'and back');

--------------------------------------------------------------------------------------------- delete
INSERT INTO t.ids SELECT 'keyed', t.make(1, key => 'to go');
SELECT is(t.move('keyed', 'paid'), 'pending', 'an order with history and key');
SELECT is((SELECT count(*) FROM order_store.idempotency_keys AS k JOIN t.ids ON ids.id = order_id WHERE name = 'keyed'), 1::bigint, 'its key');
SELECT is(order_proc.delete_order(id), true, 'delete_order') FROM t.ids WHERE name = 'keyed';
SELECT is(order_proc.delete_order(id), false, 'delete_order of an unknown order') FROM t.ids WHERE name = 'keyed';
SELECT is((SELECT count(*) FROM order_store.order_items JOIN t.ids ON ids.id = order_id WHERE name = 'keyed')
  + (SELECT count(*) FROM order_store.order_status_history JOIN t.ids ON ids.id = order_id WHERE name = 'keyed')
  + (SELECT count(*) FROM order_store.idempotency_keys JOIN t.ids ON ids.id = order_id WHERE name = 'keyed'), 0::bigint, 'items, history and key go with it');
SELECT isnt(t.make(1, key => 'to go'), id, 'the key of a deleted order is free') FROM t.ids WHERE name = 'keyed';

--------------------------------------------------------------------------------------------- idempotency
INSERT INTO t.ids SELECT 'once', t.make(1, 'pending', NULL, '{1.005,2}', 'n', 'k1');
CREATE TABLE t.before AS SELECT (SELECT count(*) FROM order_store.orders) AS orders, (SELECT count(*) FROM order_store.order_items) AS items, (SELECT count(*) FROM order_store.idempotency_keys) AS keys;
SET ROLE regress_orders_app;
SELECT is(t.make(1, 'pending', NULL, '{1.005,2}', 'n', 'k1'), id, 'the same key and request: the first order''s id') FROM t.ids WHERE name = 'once';
SELECT is(t.make(1, 'pending', NULL, '{1.0050,2.00}', 'n', 'k1'), id, 'numbers that are equal are the same request') FROM t.ids WHERE name = 'once';
RESET ROLE;
SELECT results_eq('SELECT (SELECT count(*) FROM order_store.orders), (SELECT count(*) FROM order_store.order_items), (SELECT count(*) FROM order_store.idempotency_keys)', 'TABLE t.before', 'nothing is written');
SELECT matches(t.error($$SELECT t.make(1, 'paid', NULL, '{1.005,2}', 'n', 'k1')$$), '^OP302 .*k1', 'OP302: another status');
SELECT matches(t.error($$SELECT t.make(1, 'pending', 5.02, '{1.005,2}', 'n', 'k1')$$), '^OP302 ', 'OP302: a total given');
SELECT matches(t.error($$SELECT t.make(1, 'pending', NULL, '{1.01,2.01}', 'n', 'k1')$$), '^OP302 ', 'OP302: another price');
SELECT matches(t.error($$SELECT t.make(1, 'pending', NULL, '{1.005}', 'n', 'k1')$$), '^OP302 ', 'OP302: an item less');
SELECT matches(t.error($$SELECT t.make(1, 'pending', NULL, '{1.005,2}', 'N', 'k1')$$), '^OP302 ', 'OP302: other notes');
SELECT matches(t.error($$SELECT t.make(1, 'pending', NULL, '{1.005,2}', NULL, 'k1')$$), '^OP302 ', 'OP302: no notes');
SELECT matches(t.error($$SELECT order_proc.create_order_with_items(1, 'pending', NULL, '{101,103}', '{1,2}', '{1.005,2}', 'n', 'k1')$$), '^OP302 ', 'OP302: another product');
SELECT matches(t.error($$SELECT order_proc.create_order_with_items(1, 'pending', NULL, '{101,102}', '{1,3}', '{1.005,2}', 'n', 'k1')$$), '^OP302 ', 'OP302: another quantity');
SELECT isnt(t.make(2, 'pending', NULL, '{1.005,2}', 'n', 'k1'), id, 'another customer may use the same key') FROM t.ids WHERE name = 'once';
SELECT isnt(t.make(1, 'pending', NULL, '{1.005,2}', 'n', 'K1'), id, 'keys are compared byte by byte') FROM t.ids WHERE name = 'once';
SELECT is(t.make(1, key => ''), t.make(1, key => ''), 'the empty text is a key, too');
SELECT is(t.make(1, key => repeat('x', 255)), t.make(1, key => repeat('x', 255)), 'a key of 255 bytes');
SELECT matches(t.error($$SELECT t.make(1, key => repeat('x', 256))$$), '^22023 .*255', 'a key of 256 bytes');
SELECT matches(t.error($$SELECT t.make(1, key => repeat('ü', 128))$$), '^22023 .*255', 'bytes are counted, not characters');
SELECT isnt(t.make(1), t.make(1), 'without a key each call makes an order');
BEGIN;
SELECT isnt(t.make(1, key => 'undone'), NULL, 'made in a transaction that fails');
ROLLBACK;
SELECT isnt(t.make(1, 'paid', key => 'undone'), NULL, 'the key is free again');
BEGIN;
SELECT is(t.make(1, key => 'twice'), t.make(1, key => 'twice'), 'twice in one transaction');
SAVEPOINT s;
SELECT isnt(t.make(1, key => 'undone too'), NULL, 'made in a savepoint');
ROLLBACK TO s;
SELECT isnt(t.make(1, 'paid', key => 'undone too'), NULL, 'the key is free after ROLLBACK TO');
COMMIT;
UPDATE order_store.orders SET status = 'cancelled', total_amount = 0 FROM t.ids WHERE ids.id = orders.id AND name = 'once';
SELECT is(t.make(1, 'pending', NULL, '{1.005,2}', 'n', 'k1'), id, 'whatever became of the order') FROM t.ids WHERE name = 'once';
-- purge
UPDATE order_store.idempotency_keys SET created_at = now() - interval '2 days' WHERE key = 'k1' AND customer_id = 1;
SELECT is(order_proc.purge_idempotency_keys('3 days'), 0::bigint, 'no key is that old');
SELECT is(order_proc.purge_idempotency_keys('1 day'), 1::bigint, 'one is older than a day');
SELECT isnt(t.make(1, 'pending', NULL, '{1.005,2}', 'n', 'k1'), id, 'a purged key is free') FROM t.ids WHERE name = 'once';
SELECT is(order_proc.purge_idempotency_keys(x), 0::bigint, 'no key is older than ' || x) FROM unnest('{6000 years,7000 years,100000000 years}'::interval[]) AS x;
SELECT throws_ok($$SELECT order_proc.purge_idempotency_keys('-1 day')$$, '22023');
SELECT throws_ok($$SELECT order_proc.purge_idempotency_keys(NULL)$$, '22004');
SET ROLE regress_orders_app;
SELECT throws_ok($$SELECT order_proc.purge_idempotency_keys('0')$$, '42501');
RESET ROLE;
SELECT order_proc.grant_store('regress_orders_app', 'admin');
SET ROLE regress_orders_app;
SELECT ok(order_proc.purge_idempotency_keys('0') > 5, 'admin may purge');
RESET ROLE;

--------------------------------------------------------------------------------------------- lists: against plain SQL
DELETE FROM order_store.orders;
SELECT is_empty('SELECT * FROM order_proc.list_orders()', 'no orders, no list');
SELECT is_empty('SELECT * FROM order_proc.order_counts()', 'no orders, no counts');
SELECT setseed(0.42);
-- 400 orders at 40 times only, so that many are equal.
INSERT INTO order_store.orders (id, customer_id, status, total_amount, notes, created_at)
SELECT order_proc.new_order_id(c), c, (ARRAY['pending', 'paid', 'shipped', 'cancelled'])[1 + floor(random() * 4)], i, CASE WHEN random() < 0.5 THEN 'note ' || i END, timestamptz '2024-01-01 00:00:00.5+00' + floor(random() * 40) * interval '1 microsecond'
FROM generate_series(1, 400) AS i, LATERAL (SELECT 1 + i * 7 % 3 AS c) AS s;
CREATE VIEW t.sorted AS SELECT row_number() OVER (ORDER BY created_at DESC, id DESC) AS n, id, customer_id, status, total_amount, notes, customer_name, customer_email, created_at, updated_at FROM order_store.orders;
CREATE VIEW t.plain AS SELECT id, customer_id, status, total_amount, notes, customer_name, customer_email, created_at, updated_at FROM t.sorted ORDER BY n;
SELECT results_eq('SELECT * FROM order_proc.list_orders()', 'TABLE t.plain', 'list_orders: all, newest first');
SELECT results_eq('SELECT * FROM order_proc.list_orders_paginated()', 'SELECT * FROM t.plain LIMIT 50', 'a page has 50 orders');
SELECT results_eq('SELECT * FROM order_proc.list_orders_paginated(7, 393)', 'SELECT * FROM t.plain LIMIT 7 OFFSET 393', 'the last page');
SELECT results_eq('SELECT * FROM order_proc.list_orders_paginated(7, 398)', 'SELECT * FROM t.plain LIMIT 7 OFFSET 398', 'a page that ends early');
SELECT is_empty('SELECT * FROM order_proc.list_orders_paginated(7, 400)', 'behind the last page');
SELECT is_empty('SELECT * FROM order_proc.list_orders_paginated(0, 0)', 'a page of nothing');
SELECT throws_ok('SELECT * FROM order_proc.list_orders_paginated(-1, 0)', '22023');
SELECT throws_ok('SELECT * FROM order_proc.list_orders_paginated(1, -1)', '22023');
SELECT throws_ok('SELECT * FROM order_proc.list_orders_paginated(NULL, 0)', '22004');
SELECT throws_ok('SELECT * FROM order_proc.list_orders_paginated(1, NULL)', '22004');
SELECT throws_ok('SELECT * FROM order_proc.list_orders_after(-1)', '22023');
SELECT throws_ok('SELECT * FROM order_proc.list_orders_after(NULL)', '22004');
SELECT throws_ok('SELECT * FROM order_proc.list_orders_after(1, now())', '22004');
SELECT throws_ok('SELECT * FROM order_proc.list_orders_after(1, NULL, 5)', '22004');

-- All pages of a size, one after the other, by the key of the last row.
CREATE FUNCTION t.walk(size int, customer bigint, wanted text) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  ids bigint[] := '{}';
  at timestamptz;
  last bigint;
  page order_proc.order_record[];
BEGIN
  LOOP
    page := ARRAY(SELECT o FROM order_proc.list_orders_after(size, at, last, customer, wanted) AS o);
    ids := ids || ARRAY(SELECT p.id FROM unnest(page) WITH ORDINALITY AS p ORDER BY p.ordinality);
    IF cardinality(page) < size THEN RETURN ids; END IF;
    at := page[size].created_at;
    last := page[size].id;
  END LOOP;
END
$$;
SELECT is(count(*) FILTER (WHERE t.walk(size, customer, wanted) = ARRAY(
    SELECT id FROM t.sorted AS s WHERE (customer IS NULL OR s.customer_id = customer) AND (wanted IS NULL OR s.status = wanted) ORDER BY n)),
  count(*), 'keyset pages of all sizes and filters give the list')
FROM unnest(ARRAY[1, 3, 10, 50, 1000]) AS size, unnest(ARRAY[NULL, 1, 3, 99]) AS customer, unnest(ARRAY[NULL, 'paid', 'cancelled', 'nothing']) AS wanted;
SELECT results_eq('SELECT * FROM order_proc.list_orders_after(400, customer_id => 2, status => ''paid'')', 'SELECT * FROM t.plain WHERE customer_id = 2 AND status = ''paid''', 'list_orders_after gives whole orders');
SELECT results_eq('SELECT * FROM order_proc.list_orders_after()', 'SELECT * FROM t.plain LIMIT 50', 'the first page');
SELECT is(count(*) FILTER (WHERE ARRAY(SELECT id FROM order_proc.list_orders_after(5, s.created_at, s.id)) = ARRAY(SELECT x.id FROM t.sorted AS x WHERE x.n > s.n ORDER BY n LIMIT 5)), 400::bigint, 'the page behind each order') FROM t.sorted AS s;
SELECT results_eq('SELECT * FROM order_proc.list_orders_after(3, ''infinity'', 0)', 'SELECT * FROM t.plain LIMIT 3', 'a key of no order');
SELECT results_eq('SELECT * FROM order_proc.order_counts()', 'SELECT status, count(*) FROM order_store.orders GROUP BY status ORDER BY status', 'order_counts');
SELECT results_eq('SELECT o.id, o.notes FROM order_proc.get_orders(ARRAY(SELECT id FROM t.sorted ORDER BY n % 7, n)) AS o', 'SELECT id, notes FROM t.sorted ORDER BY n % 7, n', 'get_orders of all of them');
SET order_proc.fast_path = off;
SELECT results_eq('SELECT o.id, o.notes FROM order_proc.get_orders(ARRAY(SELECT id FROM t.sorted ORDER BY n % 7, n)) AS o', 'SELECT id, notes FROM t.sorted ORDER BY n % 7, n', 'get_orders of all of them, through the executor');
RESET order_proc.fast_path;

--------------------------------------------------------------------------------------------- slots
SELECT is((order_proc.new_order_id(c) & 4095), t.slot(c), 'new_order_id carries the slot of ' || c) FROM unnest(ARRAY[1, 0, -1, 4096, 9223372036854775807, -9223372036854775808]) AS c;
SELECT ok(order_proc.new_order_id(1) >> 12 < order_proc.new_order_id(1) >> 12, 'new_order_id counts up');
SELECT throws_ok('SELECT order_proc.new_order_id(NULL)', '22004');
SELECT matches(t.error('INSERT INTO order_store.orders (id, customer_id, status, total_amount) VALUES ((order_proc.new_order_id(1) # 1), 1, ''paid'', 1)'), '^23514 ', 'an id with another slot');
SELECT setval('order_store.orders_id_seq', 2251799813685247, false);
SELECT is(order_proc.new_order_id(1), (2251799813685247 << 12) | t.slot(1), 'the last id');
SELECT matches(t.error('SELECT order_proc.new_order_id(1)'), '^2200H ', 'no id behind the last');
ALTER SEQUENCE order_store.orders_id_seq MAXVALUE 9223372036854775807;
SELECT matches(t.error('SELECT order_proc.new_order_id(1)'), '^2200H .*2251799813685248.*setval', 'nor with the MAXVALUE taken away');
SELECT matches(t.error('SELECT t.make(1)'), '^2200H .*2251799813685249', 'nor for an order');
DROP SCHEMA order_store CASCADE;
SELECT matches(t.error('SELECT t.make(1)'), '^OP001 .*create_store', 'OP001 without a store');
SELECT matches(t.error('SELECT order_proc.get_order(1)'), '^OP001 .*create_store', 'OP001 without a store, reading');
SELECT matches(t.error('SELECT * FROM order_proc.list_orders()'), '^OP001 .*create_store', 'OP001 without a store, listing');
SELECT matches(t.error('SELECT order_proc.update_order_status(1, ''paid'')'), '^OP001 .*create_store', 'OP001 without a store, moving');
SELECT order_proc.create_store(placement => 'modulo');
INSERT INTO order_store.customers (id) VALUES (-1), (0), (5), (4097), (9223372036854775807), (-9223372036854775808);
CREATE TABLE t.made AS SELECT c, order_proc.create_order_with_items(c, NULL, NULL, '{1}', '{1}', '{1}') AS id FROM order_store.customers AS x(c);
SELECT is(count(*) FILTER (WHERE id & 4095 = c & 4095 AND order_proc.new_order_id(c) & 4095 = c & 4095), 6::bigint, 'slots by modulo') FROM t.made;
SELECT is(path, 'fast', 'modulo is fast, too') FROM order_proc.explain_fast_path() WHERE operation = 'create_order_with_items';
SET order_proc.fast_path = off;
SELECT is(order_proc.create_order_with_items(4097, NULL, NULL, '{1}', '{1}', '{1}') & 4095, 1::bigint, 'slots by modulo through the executor');
SELECT throws_ok('SELECT order_proc.create_store()', '42710');
SELECT * FROM finish();

DROP SCHEMA order_store CASCADE;
DROP SCHEMA t CASCADE;
DROP OWNED BY regress_orders_app;
DROP ROLE regress_orders_owner, regress_orders_app;
