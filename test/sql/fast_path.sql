\set ECHO none
-- The fast path is invisible: for each way the owner may change the tables, the same calls give the same results,
-- errors, rows and side effects with order_proc.fast_path on, with it off, and as plain INSERTs of the same role;
-- and explain_fast_path() tells the path, with a reason that names what stands in the way.
--
-- A case is a row of fp.cases: its DDL is applied, the calls of fp.calls are made by its role, everything there is
-- to see is gathered into a jsonb, and all of it is undone by aborting the subtransaction; three times over.
\pset format unaligned
\pset tuples_only on
\pset pager off
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
DROP SCHEMA IF EXISTS order_store CASCADE;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS order_proc;
CREATE SCHEMA fp;
CREATE EXTENSION amcheck SCHEMA fp;
CREATE ROLE regress_fp_owner;
CREATE ROLE regress_fp_app;
CREATE ROLE regress_fp_member IN ROLE regress_fp_app;
CREATE ROLE regress_fp_detached NOINHERIT IN ROLE regress_fp_app;
CREATE ROLE regress_fp_columns;
CREATE ROLE regress_fp_nobody;
CREATE ROLE regress_fp_other;
SELECT order_proc.create_store('regress_fp_owner');
SELECT order_proc.grant_store('regress_fp_app', 'write');
GRANT USAGE ON SCHEMA order_store TO regress_fp_columns;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA order_store TO regress_fp_columns;
GRANT SELECT (id, first_name, last_name, email) ON order_store.customers TO regress_fp_columns;
GRANT INSERT (id, customer_id, status, total_amount, notes, customer_name, customer_email) ON order_store.orders TO regress_fp_columns;
GRANT INSERT (order_id, product_id, quantity, price) ON order_store.order_items TO regress_fp_columns;

INSERT INTO order_store.customers (id, first_name, last_name, email) VALUES
  (1, 'Ana', 'de la Cruz', 'ana@example.org'), (2, 'Bo', NULL, NULL), (3, NULL, NULL, NULL), (4, NULL, 'Øre', ''), (5, 'Eve', 'Adams', 'eve@example.org'),
  (6, 'Six', 'Six', '6@example.org'), (7, 'Seven', 'Seven', '7@example.org');

------------------------------------------------------------------------------------------------------------
-- The harness
------------------------------------------------------------------------------------------------------------

GRANT USAGE ON SCHEMA fp TO PUBLIC;
CREATE SEQUENCE fp.numbers;
GRANT USAGE ON SEQUENCE fp.numbers TO PUBLIC;

-- What side effects leave behind.
CREATE TABLE fp.log (n bigserial, what text);
GRANT INSERT ON fp.log TO PUBLIC;
GRANT USAGE ON SEQUENCE fp.log_n_seq TO PUBLIC;

-- User code for triggers, defaults, CHECKs and indexes.
CREATE FUNCTION fp.note(what text) RETURNS boolean LANGUAGE sql VOLATILE AS 'INSERT INTO fp.log (what) VALUES (what) RETURNING true';
CREATE FUNCTION fp.number() RETURNS bigint LANGUAGE sql VOLATILE AS $$SELECT nextval('fp.numbers')$$;
CREATE FUNCTION fp.harmless(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN upper($1); END';
CREATE FUNCTION fp.small(numeric) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 < 90; END';
CREATE FUNCTION fp.log_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_LEVEL = 'ROW' THEN
    PERFORM fp.note(format('%s %s %s %s %s', TG_NAME, TG_WHEN, TG_OP, TG_TABLE_NAME, (to_jsonb(NEW) - 'updated_at' - 'created_at')::text));
  ELSE
    PERFORM fp.note(format('%s %s %s %s', TG_NAME, TG_WHEN, TG_OP, TG_TABLE_NAME));
  END IF;
  RETURN NEW;
END
$$;
CREATE FUNCTION fp.count_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM fp.note(format('%s: %s new rows', TG_TABLE_NAME, (SELECT count(*) FROM fresh)));
  RETURN NULL;
END
$$;
CREATE FUNCTION fp.skip_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE FUNCTION fp.change_order() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.notes := concat(NEW.notes, ' touched'); RETURN NEW; END$$;
CREATE FUNCTION fp.change_item() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.quantity := NEW.quantity + 1; RETURN NEW; END$$;
CREATE FUNCTION fp.delete_order() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN DELETE FROM order_store.orders WHERE id = NEW.id; RETURN NULL; END$$;

-- Makes an order by the function, or in mode 'plain' by what a client would send.
CREATE FUNCTION fp.make(customer bigint, status text, total numeric, products bigint[], quantities int[], prices numeric[], notes text DEFAULT NULL, key text DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  new_id bigint;
  name text;
  mail text;
BEGIN
  IF current_setting('fp.mode') <> 'plain' OR key IS NOT NULL THEN
    RETURN order_proc.create_order_with_items(customer, status, total, products, quantities, prices, notes, key);
  END IF;
  new_id := order_proc.new_order_id(customer);
  -- Analysed each time, as a client's statement is.
  EXECUTE $sql$SELECT concat_ws(' ', c.first_name, c.last_name), c.email FROM order_store.customers AS c WHERE c.id = $1$sql$
    USING customer INTO name, mail;
  EXECUTE $sql$
    INSERT INTO order_store.orders (id, customer_id, status, total_amount, customer_name, customer_email, notes)
    VALUES ($1, $2, $3, $4, $5, $6, $7)$sql$
    USING new_id, customer, COALESCE(status, 'pending'),
      COALESCE(total, (SELECT sum(q * p::numeric(10,2)) FROM unnest(quantities, prices) AS u(q, p))), NULLIF(name, ''), mail, notes;
  EXECUTE $sql$
    INSERT INTO order_store.order_items (order_id, product_id, quantity, price)
    SELECT $1, p, q, r FROM unnest($2, $3, $4) AS u(p, q, r)$sql$
    USING new_id, products, quantities, prices;
  RETURN new_id;
END
$$;
-- The order comes after other changes of the same transaction.
CREATE FUNCTION fp.make_after(command text, customer bigint) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE command;
  RETURN fp.make(customer, 'pending', 1, '{1}', '{1}', '{1}');
END
$$;
-- What is made in a subtransaction that fails is not there, and its numbers are used.
CREATE FUNCTION fp.make_in_savepoint() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  lost bigint;
  kept bigint;
BEGIN
  BEGIN
    lost := fp.make(1, 'pending', 1, '{1,2}', '{1,1}', '{1,1}');
    RAISE EXCEPTION SQLSTATE 'FP999';
  EXCEPTION WHEN SQLSTATE 'FP999' THEN
    kept := fp.make(1, 'pending', 2, '{3}', '{1}', '{1}');
  END;
  RETURN format('%s lost, %s kept', lost, kept);
END
$$;
-- Orders by what the caller reads through the functions, and how much of it the caller's own SQL sees.
CREATE FUNCTION fp.read(ids bigint[]) RETURNS text LANGUAGE sql AS $$
  SELECT jsonb_build_object(
    'order', (SELECT to_jsonb(order_proc.get_order(COALESCE(ids[1], 42)))),
    'items', (SELECT (order_proc.get_order_with_items(COALESCE(ids[1], 42))).items::text),
    'with items', (SELECT to_jsonb(order_proc.get_order_with_items(COALESCE(ids[2], 42)))),
    'orders', (SELECT jsonb_agg(to_jsonb(o) ORDER BY n) FROM order_proc.get_orders(ids || 77::bigint || ids[1:1]) WITH ORDINALITY AS o(id, customer_id, status, total_amount, notes, customer_name, customer_email, created_at, updated_at, items, n)))::text
$$;
CREATE FUNCTION fp.last_ids() RETURNS bigint[] LANGUAGE sql SECURITY DEFINER AS $$
  SELECT COALESCE(array_agg(id ORDER BY id DESC), '{}') FROM order_store.orders
$$;
CREATE FUNCTION fp.explain() RETURNS SETOF order_proc.fast_path_status LANGUAGE sql AS 'SELECT * FROM order_proc.explain_fast_path()';

CREATE TABLE fp.calls (n serial, name text, sql text);
INSERT INTO fp.calls (name, sql) VALUES
('seeded',          $$SELECT fp.read(fp.last_ids())$$),
('one item',        $$SELECT fp.make(1, 'pending', 10.00, '{11}', '{1}', '{10.00}')$$),
('three items',     $$SELECT fp.make(5, NULL, NULL, '{1,2,3}', '{1,2,3}', '{0.10,1.00,2.50}')$$),
('notes',           $$SELECT fp.make(2, 'paid', 99.99, '{7}', '{1}', '{5}', 'fragile')$$),
('no names',        $$SELECT fp.make(3, 'pending', NULL, '{9223372036854775807}', '{2147483647}', '{0}', '')$$),
('half a name',     $$SELECT fp.make(4, 'cancelled', 0, '{-1,5}', '{1,1}', '{3,4}', 'Ünïcode ✓')$$),
('rounding',        $$SELECT fp.make(1, 'pending', NULL, '{1,2,3,4}', '{1,2,3,4}', '{1.005,2.675,0.0049999,1e3}')$$),
('long notes',      $$SELECT fp.make(1, 'shipped', 7, '{1}', '{1}', '{7}', repeat('long ', 20000))$$),
('hard notes',      $$SELECT fp.make(1, 'shipped', 7, '{1}', '{1}', '{7}', (SELECT string_agg(sha512(i::text::bytea)::text, '') FROM generate_series(1, 80) i))$$),
('two batches',     $$SELECT fp.make(1, 'pending', NULL, array_agg(i), array_agg(1 + i % 3), array_agg(i / 100.0)) FROM generate_series(1, 1003) i$$),
('three in a query',$$SELECT string_agg(fp.make(i, 'pending', NULL, ARRAY[i], ARRAY[i::int], ARRAY[i])::text, ' ') FROM generate_series(1::bigint, 3) i$$),
('same product',    $$SELECT fp.make(1, 'pending', 42, '{5,5,3}', '{1,1,1}', '{3,2,1}')$$),
('unknown customer',$$SELECT fp.make(999, 'pending', 10.00, '{11}', '{1}', '{10.00}')$$),
('customer updated',$$SELECT fp.make_after('UPDATE order_store.customers SET email = ''new'' WHERE id = 5', 5)$$),
('customer re-keyed', $$SELECT fp.make_after('UPDATE order_store.customers SET id = 50 WHERE id = 6', 50)$$),
('customer deleted',$$SELECT fp.make_after('DELETE FROM order_store.customers WHERE id = 7', 7)$$),
('customer made',   $$SELECT fp.make_after('INSERT INTO order_store.customers (id, first_name) VALUES (60, ''Just'')', 60)$$),
('customer by the query', $$WITH c AS (INSERT INTO order_store.customers (id, first_name) VALUES (61, 'Now') RETURNING id) SELECT fp.make(id, 'pending', 1, '{1}', '{1}', '{1}') FROM c$$),
('update by the query', $$WITH c AS (UPDATE order_store.customers SET first_name = 'Neo' WHERE id = 5 RETURNING id) SELECT fp.make(id, 'pending', 1, '{1}', '{1}', '{1}') FROM c$$),
('customer locked', $$SELECT fp.make_after('SELECT 1 FROM order_store.customers WHERE id = 5 FOR UPDATE', 5)$$),
('in a savepoint',  $$SELECT fp.make_in_savepoint()$$),
('read at once',    $$SELECT order_proc.get_order(fp.make(1, 'pending', 1, '{1}', '{1}', '{1}'))::text$$),
('read',            $$SELECT fp.read(fp.last_ids())$$),
('read unknown',    $$SELECT order_proc.get_order_with_items(42)::text$$),
('unknown status',  $$SELECT order_proc.create_order_with_items(1, 'Pending', 1, '{1}', '{1}', '{1}')$$),
('bad quantity',    $$SELECT order_proc.create_order_with_items(1, 'pending', 1, '{1,2}', '{1,0}', '{1,1}')$$),
('bad price',       $$SELECT order_proc.create_order_with_items(1, 'pending', 1, '{1,2}', '{1,1}', '{1,NaN}')$$),
('huge price',      $$SELECT order_proc.create_order_with_items(1, 'pending', 1, '{1}', '{1}', '{99999999.995}')$$),
('bad total',       $$SELECT order_proc.create_order_with_items(1, 'pending', -0.01, '{1}', '{1}', '{1}')$$),
('key',             $$SELECT fp.make(1, NULL, NULL, '{1}', '{1}', '{1}', NULL, 'k') = fp.make(1, NULL, NULL, '{1}', '{1}', '{1}', NULL, 'k')$$),
('update',          $$SELECT order_proc.update_order_status((fp.last_ids())[1], 'paid')$$),
('refresh',         $$SELECT order_proc.refresh_order_totals((fp.last_ids())[1:2])$$),
('delete',          $$SELECT order_proc.delete_order((fp.last_ids())[1])$$),
('read only',       $$SELECT order_proc.create_order_with_items(1, 'pending', set_config('transaction_read_only', 'on', true)::bool::int, '{1}', '{1}', '{1}')$$),
('constraints',     $$SELECT fp.settle()$$);
CREATE FUNCTION fp.settle() RETURNS text LANGUAGE plpgsql AS 'BEGIN SET CONSTRAINTS ALL IMMEDIATE; RETURN ''settled''; END';

-- One call as the role; its value or its error, whole.
CREATE FUNCTION fp.call(sql text, role text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  value text;
  state text; message text; detail text; hint text; con text; tab text; col text; typ text;
BEGIN
  EXECUTE format('SET LOCAL ROLE %I', role);
  EXECUTE sql INTO value;
  RESET ROLE;
  RETURN jsonb_build_object('value', value);
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT,
    con = CONSTRAINT_NAME, tab = TABLE_NAME, col = COLUMN_NAME, typ = PG_DATATYPE_NAME;
  RETURN jsonb_strip_nulls(jsonb_build_object('sqlstate', state, 'message', message,
    'detail', NULLIF(regexp_replace(detail, 'references tuple \(\d+,\d+\)', 'references a tuple'), ''), 'hint', NULLIF(hint, ''),
    'constraint', NULLIF(con, ''), 'table', NULLIF(tab, ''), 'column', NULLIF(col, ''), 'type', NULLIF(typ, '')));
END
$$;

CREATE FUNCTION fp.rows_of(query text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  result jsonb;
BEGIN
  EXECUTE format('SELECT COALESCE(jsonb_agg(to_jsonb(r)), ''[]'') FROM (%s) AS r', query) INTO result;
  RETURN result;
EXCEPTION WHEN OTHERS THEN
  RETURN to_jsonb(SQLERRM);
END
$$;

-- Whether every index entry of the store's tables is there.
CREATE FUNCTION fp.check_indexes() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  index regclass;
BEGIN
  FOR index IN
    SELECT x.indexrelid FROM pg_index AS x JOIN pg_class AS c ON c.oid = x.indexrelid JOIN pg_am AS a ON a.oid = c.relam
    WHERE c.relnamespace = 'order_store'::regnamespace AND a.amname = 'btree' AND c.relkind = 'i' AND x.indisvalid AND x.indisready
  LOOP
    PERFORM fp.bt_index_check(index, true);
  END LOOP;
  RETURN 'right';
EXCEPTION WHEN OTHERS THEN
  RETURN format('%s: %s', index, SQLERRM);
END
$$;

-- All there is to see after the calls, undone again. mode: fast, executor, plain.
CREATE FUNCTION fp.run(ddl text, role text, mode text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  calls fp.calls[] := (SELECT array_agg(c ORDER BY n) FROM fp.calls AS c);
  call fp.calls;
  outcome jsonb := '{}';
  paths jsonb;
  result jsonb;
BEGIN
  BEGIN
    EXECUTE ddl;
    PERFORM set_config('fp.mode', mode, true);
    PERFORM set_config('order_proc.fast_path', CASE mode WHEN 'fast' THEN 'on' ELSE 'off' END, true);
    PERFORM setval('fp.numbers', 1), setval('fp.log_n_seq', 1);
    -- As the role, before and in the middle of its calls.
    paths := fp.call('SELECT jsonb_object_agg(operation, path || '': '' || reason) FROM fp.explain()', role);
    FOREACH call IN ARRAY calls LOOP
      -- The same ids, whatever the failed calls before used up.
      PERFORM setval('order_store.orders_id_seq', call.n * 10), setval('order_store.order_items_id_seq', call.n * 2000);
      outcome := outcome || jsonb_build_object(call.name, fp.call(call.sql, role));
    END LOOP;
    result := jsonb_build_object(
      'paths', COALESCE((paths->>'value')::jsonb, paths),
      'calls', outcome,
      'orders', fp.rows_of('SELECT * FROM order_store.orders ORDER BY id'),
      'order_items', fp.rows_of('SELECT * FROM order_store.order_items ORDER BY order_id, id'),
      'order_status_history', fp.rows_of('SELECT order_id, from_status, to_status, changed_by FROM order_store.order_status_history ORDER BY order_id, id'),
      'idempotency_keys', fp.rows_of('SELECT customer_id, key, order_id, request_hash FROM order_store.idempotency_keys ORDER BY customer_id, key'),
      'customers', fp.rows_of('SELECT * FROM order_store.customers ORDER BY id, tableoid'),
      'log', fp.rows_of('SELECT what FROM fp.log ORDER BY n'),
      'indexes', fp.check_indexes());
    RAISE EXCEPTION SQLSTATE 'FP000';
  EXCEPTION
    WHEN SQLSTATE 'FP000' THEN RETURN result;
    WHEN OTHERS THEN RETURN jsonb_build_object('harness', SQLERRM);
  END;
END
$$;

-- Where two results differ, shortly.
CREATE FUNCTION fp.differences(a jsonb, b jsonb) RETURNS text LANGUAGE sql AS $$
  WITH flat(side, name, value) AS (
    SELECT s, k || COALESCE('.' || c, ''), CASE k WHEN 'calls' THEN v->c ELSE v END
    FROM (VALUES ('a', a), ('b', b)) AS sides(s, j), jsonb_each(j) AS e(k, v)
      LEFT JOIN fp.calls AS f(n, c, q) ON k = 'calls' WHERE k <> 'paths')
  SELECT COALESCE(string_agg(format(E'%s:\n  %s\n  %s', name, left(x::text, 600), left(y::text, 600)), E'\n' ORDER BY name) FILTER (WHERE n <= 4), '')
  FROM (
    SELECT name, x.value, y.value, row_number() OVER (ORDER BY name)
    FROM (SELECT * FROM flat WHERE side = 'a') AS x FULL JOIN (SELECT * FROM flat WHERE side = 'b') AS y USING (name)
    WHERE x.value IS DISTINCT FROM y.value) AS d(name, x, y, n)
$$;

-- effect: a jsonpath predicate that holds for the result, so that the case is not without one.
CREATE TABLE fp.cases (
  n serial, name text UNIQUE, ddl text, role text DEFAULT 'regress_fp_app',
  create_path text DEFAULT 'fast: ', read_path text DEFAULT 'fast: ',
  effect text DEFAULT '$.calls."one item".value != null', plain boolean DEFAULT true);

CREATE FUNCTION fp.check(the_case text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  c fp.cases := (SELECT c FROM fp.cases AS c WHERE name = the_case);
  fast jsonb := fp.run(c.ddl, c.role, 'fast');
  executor jsonb := fp.run(c.ddl, c.role, 'executor');
  plain jsonb;
BEGIN
  RETURN NEXT matches(COALESCE(fast->'paths'->>'create_order_with_items', fast->'paths'->>'sqlstate', fast::text), '^' || c.create_path, c.name || ': path of create');
  RETURN NEXT matches(COALESCE(fast->'paths'->>'get_order_with_items', fast->'paths'->>'sqlstate', fast::text), '^' || c.read_path, c.name || ': path of get');
  RETURN NEXT is(fp.differences(fast, executor), '', c.name || ': on and off are alike');
  IF c.plain THEN
    plain := fp.run(c.ddl, c.role, 'plain');
    RETURN NEXT is(fp.differences(executor, plain), '', c.name || ': as plain INSERTs');
  END IF;
  RETURN NEXT ok(fast @@ c.effect::jsonpath AND fast->>'indexes' = 'right', c.name || ': takes effect') ||
    CASE WHEN fast @@ c.effect::jsonpath AND fast->>'indexes' = 'right' THEN '' ELSE E'\n' || (SELECT string_agg('#   ' || k || ' ' || (v->>'sqlstate') || ' ' || (v->>'message'), E'\n') FROM jsonb_each(fast->'calls') AS e(k, v) WHERE v ? 'sqlstate') || E'\n# ' || (fast->>'indexes') END;
END
$$;

------------------------------------------------------------------------------------------------------------
-- What the fast path honours
------------------------------------------------------------------------------------------------------------

INSERT INTO fp.cases (name, ddl, effect) VALUES
('tables as they were made', '', '$.orders.size() > 10 && $.calls."two batches".value != null && $.calls.key.value == "true" && $.calls."read at once".value == null'),
('nullable columns of the user''s', $$
  ALTER TABLE order_store.orders ADD region text, ADD tags text[], ADD payload jsonb;
  ALTER TABLE order_store.order_items ADD warehouse int;
  ALTER TABLE order_store.customers ADD phone text NOT NULL DEFAULT '-', ADD upper_email text GENERATED ALWAYS AS (upper(email)) STORED$$,
  '$.orders[0].region == null && $.order_items[0].warehouse == null && $.customers[0].phone == "-"'),
('a default that is gone again', $$
  ALTER TABLE order_store.orders ADD region text DEFAULT 'eu'; ALTER TABLE order_store.orders ALTER region DROP DEFAULT;
  ALTER TABLE order_store.order_items ADD a int DEFAULT 5; ALTER TABLE order_store.order_items ALTER a DROP DEFAULT$$,
  '$.orders[0].region == null && $.order_items[0].a == null'),
('dropped columns, and ours in another place', $$
  ALTER TABLE order_store.orders ADD gone int; ALTER TABLE order_store.orders DROP gone, DROP notes, ADD notes text;
  ALTER TABLE order_store.order_items ADD gone text; ALTER TABLE order_store.order_items DROP gone;
  ALTER TABLE order_store.customers DROP last_name; ALTER TABLE order_store.customers ADD last_name text$$,
  '$.orders[*].notes == "fragile"'),
('NOT NULL on notes', 'ALTER TABLE order_store.orders ALTER notes SET NOT NULL', '$.calls."one item".sqlstate == "23502" && $.calls."one item".column == "notes" && $.calls.notes.value != null'),
('NOT NULL on customer_email', 'ALTER TABLE order_store.orders ALTER customer_email SET NOT NULL', '$.calls."notes".sqlstate == "23502" && $.calls."notes".column == "customer_email" && $.calls."one item".value != null'),
('NOT NULL on customer_name', 'ALTER TABLE order_store.orders ALTER customer_name SET NOT NULL', '$.calls."no names".sqlstate == "23502" && $.calls."half a name".value != null'),
('defaults of columns that are always given', $$
  ALTER TABLE order_store.orders ALTER notes SET DEFAULT 'none', ALTER status SET DEFAULT 'paid', ALTER id SET DEFAULT fp.number(), ALTER customer_name SET DEFAULT 'nobody';
  ALTER TABLE order_store.order_items ALTER quantity SET DEFAULT 9$$,
  '$.orders[0].notes == null'),
('storage and compression', $$
  ALTER TABLE order_store.orders ALTER notes SET STORAGE EXTERNAL; ALTER TABLE order_store.orders SET (fillfactor = 50, toast_tuple_target = 200)$$,
  '$.calls."hard notes".value != null'),
('rows that are too big', 'ALTER TABLE order_store.orders ALTER notes SET STORAGE PLAIN', '$.calls."hard notes".sqlstate == "54000"'),
('unlogged tables', 'ALTER TABLE order_store.idempotency_keys SET UNLOGGED; ALTER TABLE order_store.order_status_history SET UNLOGGED; ALTER TABLE order_store.order_items SET UNLOGGED; ALTER TABLE order_store.orders SET UNLOGGED',
  '$.calls."one item".value != null'),
('NOT NULLs dropped', $$
  ALTER TABLE order_store.orders ALTER customer_id DROP NOT NULL, ALTER status DROP NOT NULL, ALTER created_at DROP NOT NULL;
  ALTER TABLE order_store.order_items ALTER product_id DROP NOT NULL, ALTER quantity DROP NOT NULL, ALTER price DROP NOT NULL;
  INSERT INTO order_store.orders (id, customer_id, status, total_amount, created_at) VALUES (12345, NULL, NULL, 0, NULL);
  INSERT INTO order_store.order_items (order_id, product_id, quantity, price) VALUES (12345, NULL, 1, 2), (12345, 1, NULL, NULL), (12345, 1, 1, 1)$$,
  '$.calls.seeded.value like_regex "null"'),
('CHECKs of ours dropped', $$
  ALTER TABLE order_store.orders DROP CONSTRAINT orders_total_amount_check, DROP CONSTRAINT orders_check;
  ALTER TABLE order_store.order_items DROP CONSTRAINT order_items_quantity_check, DROP CONSTRAINT order_items_price_check;
  INSERT INTO order_store.orders (id, customer_id, status, total_amount) VALUES (1, 1, 'pending', 'NaN');
  INSERT INTO order_store.order_items (order_id, product_id, quantity, price) VALUES (1, 5, -1, 'NaN'), (1, 5, 0, -1.5), (1, 5, 0, -99999999.99)$$,
  '$.calls.seeded.value like_regex "NaN" && $.calls."bad quantity".sqlstate == "23514" && $.calls."bad price".sqlstate == "23514" && $.calls."bad total".sqlstate == "23514"'),
('a CHECK with a built-in function', 'ALTER TABLE order_store.orders ADD CONSTRAINT small CHECK (abs(total_amount) < 90); ALTER TABLE order_store.order_items ADD CHECK (product_id <> 2 OR length(price::text) < 5) NOT VALID',
  '$.calls."notes".sqlstate == "23514" && $.calls."notes".constraint == "small" && $.calls.rounding.sqlstate == "23514"'),
('a CHECK on items', 'ALTER TABLE order_store.order_items ADD CONSTRAINT a CHECK (product_id <> 3), ADD CONSTRAINT b CHECK (price < 100)',
  '$.calls."three items".constraint == "a" && $.calls.rounding.constraint == "a" && $.calls."two batches".constraint == "a"'),
('a CHECK of the whole row', 'ALTER TABLE order_store.orders ADD CONSTRAINT whole CHECK (orders.* IS NOT NULL AND tableoid > 0)',
  '$.calls."one item".constraint == "whole" && $.calls."half a name".value != null'),
('a CHECK that fails to compute', 'ALTER TABLE order_store.orders ADD CHECK (1 / (total_amount - 10) <> 77)', '$.calls."one item".sqlstate == "22012"'),
('a CHECK that looks like one of ours', 'ALTER TABLE order_store.orders ADD CONSTRAINT other_slot CHECK ((id & 4095) = (customer_id & 4095))',
  '$.calls."one item".constraint == "other_slot"'),
('the slot CHECK dropped', 'ALTER TABLE order_store.orders DROP CONSTRAINT orders_check', '$.calls."one item".value != null'),
('a NOT VALID foreign key', 'ALTER TABLE order_store.orders DROP CONSTRAINT orders_customer_id_fkey, ADD CONSTRAINT again FOREIGN KEY (customer_id) REFERENCES order_store.customers ON DELETE RESTRICT ON UPDATE CASCADE NOT VALID',
  '$.calls."unknown customer".sqlstate == "23503" && $.calls."unknown customer".constraint == "again"'),
('a table of the user''s that refers to orders', 'CREATE TABLE fp.parcels (order_id bigint REFERENCES order_store.orders ON DELETE CASCADE)', '$.calls.delete.value == "true"'),
('triggers switched off', $$
  CREATE TRIGGER t BEFORE INSERT ON order_store.orders FOR EACH ROW EXECUTE FUNCTION fp.log_trigger();
  CREATE TRIGGER t BEFORE INSERT ON order_store.order_items FOR EACH ROW EXECUTE FUNCTION fp.skip_trigger();
  ALTER TABLE order_store.orders DISABLE TRIGGER t; ALTER TABLE order_store.order_items DISABLE TRIGGER t$$, '$.log.size() == 0'),
('replica triggers', $$
  CREATE TRIGGER t AFTER INSERT ON order_store.orders FOR EACH ROW EXECUTE FUNCTION fp.log_trigger();
  ALTER TABLE order_store.orders ENABLE REPLICA TRIGGER t$$, '$.log.size() == 0'),
('session_replication_role = local', 'SET LOCAL session_replication_role = local', '$.calls."unknown customer".sqlstate == "23503"'),
('triggers for other events', $$
  CREATE TRIGGER t BEFORE UPDATE OR DELETE ON order_store.orders FOR EACH ROW EXECUTE FUNCTION fp.change_order();
  CREATE TRIGGER u AFTER UPDATE ON order_store.orders FOR EACH STATEMENT EXECUTE FUNCTION fp.log_trigger()$$, '$.log.size() > 0'),
('triggers, rules and policies of customers', $$
  CREATE TRIGGER t BEFORE INSERT OR UPDATE ON order_store.customers FOR EACH ROW EXECUTE FUNCTION fp.log_trigger();
  CREATE RULE r AS ON DELETE TO order_store.customers DO ALSO SELECT 1;
  CREATE POLICY p ON order_store.customers USING (false)$$, '$.log.size() > 0'),
('partial and expression indexes', $$
  CREATE INDEX ON order_store.orders (lower(customer_name) text_pattern_ops, (total_amount * 2) DESC) WHERE notes IS NOT NULL AND total_amount > 5;
  CREATE INDEX ON order_store.orders (COALESCE(notes, customer_email, 'none') COLLATE "C") INCLUDE (status) WHERE length(notes) < 1000;
  CREATE INDEX ON order_store.order_items (product_id, (quantity * price)) WHERE price > 1;
  CREATE INDEX ON order_store.order_items (order_id DESC, price DESC NULLS LAST)$$, '$.order_items.size() > 1000'),
('an index on user columns', 'ALTER TABLE order_store.orders ADD region text; CREATE INDEX ON order_store.orders (region, id); CREATE INDEX ON order_store.orders ((region IS NULL))', '$.orders.size() > 10'),
('a unique index violated', 'CREATE UNIQUE INDEX once ON order_store.orders (customer_id, total_amount)', '$.calls."hard notes".sqlstate == "23505" && $.calls."hard notes".constraint == "once"'),
('a unique index, NULLs not distinct', 'CREATE UNIQUE INDEX once ON order_store.orders (customer_id, notes) NULLS NOT DISTINCT', '$.calls.rounding.sqlstate == "23505"'),
('a partial unique index on an expression', 'CREATE UNIQUE INDEX once ON order_store.orders (lower(status)) WHERE customer_id = 1', '$.calls.rounding.sqlstate == "23505" && $.calls."rounding".detail like_regex "lower"'),
('a unique index within the order', 'CREATE UNIQUE INDEX once ON order_store.order_items (order_id, product_id)', '$.calls."same product".sqlstate == "23505"'),
('an index entry that is too long', 'CREATE INDEX ON order_store.orders (notes)', '$.calls."hard notes".sqlstate == "54000" && $.calls."long notes".value != null'),
('an index expression that fails', 'CREATE INDEX ON order_store.orders ((1 / (total_amount - 10)))', '$.calls."one item".sqlstate == "22012"'),
('two faults in one order, CHECK and unique', 'CREATE UNIQUE INDEX once ON order_store.order_items (order_id, product_id); ALTER TABLE order_store.order_items ADD CONSTRAINT no_threes CHECK (product_id <> 3)',
  '$.calls."same product".constraint == "once" && $.calls."three items".constraint == "no_threes"'),
('two faults in one order, two indexes', 'CREATE UNIQUE INDEX later ON order_store.order_items (order_id, (CASE WHEN product_id = 3 THEN 8 ELSE product_id + price END)); CREATE UNIQUE INDEX once ON order_store.order_items (order_id, product_id)',
  '$.calls."same product".constraint == "once"'),
('two faults in one order, CHECK and type of index', 'ALTER TABLE order_store.orders ADD CONSTRAINT small CHECK (total_amount < 90); CREATE UNIQUE INDEX once ON order_store.orders (customer_id, status)',
  '$.calls."notes".constraint == "small"'),
('an invalid index is fed all the same', $$CREATE INDEX late ON order_store.orders (lower(status)); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'order_store.late'::regclass$$, '$.calls."one item".value != null'),
('another sequence for items', $$ALTER TABLE order_store.order_items ALTER id SET DEFAULT nextval('fp.numbers')$$, '$.order_items[0].id < 9'),
('a sequence the caller may not use', $$CREATE SEQUENCE fp.secret; ALTER TABLE order_store.order_items ALTER id SET DEFAULT nextval('fp.secret')$$, '$.calls."one item".sqlstate == "42501"'),
('a sequence that is used up', 'ALTER SEQUENCE order_store.order_items_id_seq MAXVALUE 1000000 INCREMENT 990000', '$.calls."one item".value != null && $.calls."three items".sqlstate == "2200H"'),
('publication and replica identity', 'CREATE PUBLICATION fp FOR TABLE order_store.orders (id, status) WHERE (total_amount > 5), order_store.order_items; ALTER TABLE order_store.orders REPLICA IDENTITY FULL', '$.calls."one item".value != null'),
('a primary key with more columns', 'ALTER TABLE order_store.orders DROP CONSTRAINT orders_pkey CASCADE, ADD PRIMARY KEY (id) INCLUDE (status); ALTER TABLE order_store.order_items ADD FOREIGN KEY (order_id) REFERENCES order_store.orders ON DELETE CASCADE',
  '$.calls.delete.value == "true"'),
('orders that inherit', 'CREATE TABLE fp.documents (status text, CONSTRAINT short CHECK (length(status) < 8)); ALTER TABLE order_store.orders ADD CONSTRAINT short CHECK (length(status) < 8); ALTER TABLE order_store.orders INHERIT fp.documents',
  '$.calls."half a name".constraint == "short"'),
('row security that does not apply', 'ALTER TABLE order_store.orders ENABLE ROW LEVEL SECURITY; ALTER TABLE order_store.order_items ENABLE ROW LEVEL SECURITY; ALTER TABLE order_store.customers ENABLE ROW LEVEL SECURITY', '$.calls."one item".value != null');
UPDATE fp.cases SET role = 'regress_fp_owner' WHERE name = 'row security that does not apply';

------------------------------------------------------------------------------------------------------------
-- What sends it to the executor
------------------------------------------------------------------------------------------------------------

INSERT INTO fp.cases (name, ddl, create_path, effect) VALUES
('a constant default', $$ALTER TABLE order_store.orders ADD region text DEFAULT 'eu'$$, 'executor: column "region" of "orders" has a default', '$.orders[0].region == "eu"'),
('now() as default', $$ALTER TABLE order_store.order_items ADD seen timestamptz DEFAULT now()$$, 'executor: column "seen" of "order_items" has a default', '$.order_items[0].seen != null'),
('a volatile function as default', $$ALTER TABLE order_store.orders ADD ticket bigint NOT NULL DEFAULT fp.number()$$, 'executor: column "ticket" of "orders" has a default', '$.orders[0].ticket > 0'),
('a serial column', $$ALTER TABLE order_store.order_items ADD line serial; GRANT USAGE ON ALL SEQUENCES IN SCHEMA order_store TO regress_fp_app$$, 'executor: column "line" of "order_items" has a default', '$.order_items[0].line == 1'),
('NOT NULL without default', $$ALTER TABLE order_store.orders ADD region text NOT NULL$$, 'executor: column "region" of "orders" is NOT NULL', '$.calls."one item".sqlstate == "23502" && $.calls."one item".column == "region"'),
('NOT NULL without default on items', $$ALTER TABLE order_store.order_items ADD warehouse int NOT NULL$$, 'executor: column "warehouse" of "order_items" is NOT NULL', '$.calls."one item".sqlstate == "23502" && $.calls."one item".column == "warehouse"'),
('a BEFORE trigger that modifies orders', 'CREATE TRIGGER touch BEFORE INSERT ON order_store.orders FOR EACH ROW EXECUTE FUNCTION fp.change_order()', 'executor: trigger "touch" fires on INSERT', '$.orders[0].notes == " touched"'),
('a BEFORE trigger that modifies items', 'CREATE TRIGGER touch BEFORE INSERT ON order_store.order_items FOR EACH ROW EXECUTE FUNCTION fp.change_item()', 'executor: trigger "touch" fires on INSERT', '$.order_items[0].quantity == 2'),
('a BEFORE trigger that skips orders', 'CREATE TRIGGER skip BEFORE INSERT ON order_store.orders FOR EACH ROW EXECUTE FUNCTION fp.skip_trigger()', 'executor: trigger "skip" fires on INSERT', '$.orders.size() == 0 && $.calls."one item".sqlstate == "23503"'),
('a BEFORE trigger that skips items', 'CREATE TRIGGER skip BEFORE INSERT ON order_store.order_items FOR EACH ROW EXECUTE FUNCTION fp.skip_trigger()', 'executor: trigger "skip" fires on INSERT', '$.order_items.size() == 0 && $.orders.size() > 10'),
('a BEFORE trigger that depends', $$CREATE TRIGGER sometimes BEFORE INSERT ON order_store.order_items FOR EACH ROW WHEN (NEW.product_id = 2) EXECUTE FUNCTION fp.skip_trigger()$$, 'executor: trigger "sometimes" fires on INSERT', '$.calls."three items".value != null && $.order_items.size() > 1000'),
('AFTER triggers', $$
  CREATE TRIGGER seen AFTER INSERT ON order_store.orders FOR EACH ROW EXECUTE FUNCTION fp.log_trigger();
  CREATE TRIGGER seen AFTER INSERT OR UPDATE OR DELETE ON order_store.order_items FOR EACH ROW EXECUTE FUNCTION fp.log_trigger()$$, 'executor: trigger "seen" fires on INSERT', '$.log.size() > 1000'),
('an AFTER trigger that deletes the order', 'CREATE TRIGGER seen AFTER INSERT ON order_store.orders FOR EACH ROW EXECUTE FUNCTION fp.delete_order()', 'executor: trigger "seen" fires on INSERT', '$.orders.size() == 0'),
('statement triggers', $$
  CREATE TRIGGER before BEFORE INSERT ON order_store.orders FOR EACH STATEMENT EXECUTE FUNCTION fp.log_trigger();
  CREATE TRIGGER after AFTER INSERT ON order_store.order_items FOR EACH STATEMENT EXECUTE FUNCTION fp.log_trigger()$$, 'executor: trigger "before" fires on INSERT', '$.log.size() > 10'),
('a transition table', 'CREATE TRIGGER count AFTER INSERT ON order_store.order_items REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION fp.count_trigger()', 'executor: trigger "count" fires on INSERT', '$.log[*].what == "order_items: 3 new rows" && $.log[*].what == "order_items: 1003 new rows"'),
('a deferred constraint trigger', 'CREATE CONSTRAINT TRIGGER later AFTER INSERT ON order_store.orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fp.log_trigger()', 'executor: trigger "later" fires on INSERT', '$.log.size() > 10'),
('a trigger enabled always', 'CREATE TRIGGER seen AFTER INSERT ON order_store.orders FOR EACH ROW EXECUTE FUNCTION fp.log_trigger(); ALTER TABLE order_store.orders ENABLE ALWAYS TRIGGER seen', 'executor: trigger "seen" fires on INSERT', '$.log.size() > 10'),
('replication role replica', 'SET LOCAL session_replication_role = replica', 'executor: session_replication_role is replica', '$.calls."unknown customer".value != null'),
('replica triggers as a replica', 'CREATE TRIGGER seen AFTER INSERT ON order_store.orders FOR EACH ROW EXECUTE FUNCTION fp.log_trigger(); ALTER TABLE order_store.orders ENABLE REPLICA TRIGGER seen; SET LOCAL session_replication_role = replica', 'executor: session_replication_role is replica', '$.log.size() > 10'),
('a generated column', 'ALTER TABLE order_store.order_items ADD amount numeric GENERATED ALWAYS AS (quantity * price) STORED', 'executor: table "order_items" has a generated column', '$.order_items[0].amount == 10'),
('a generated column of orders', 'ALTER TABLE order_store.orders ADD slot bigint GENERATED ALWAYS AS (id & 4095) STORED', 'executor: table "orders" has a generated column', '$.orders[0].slot >= 0'),
('an identity column', 'ALTER TABLE order_store.orders ADD line int GENERATED ALWAYS AS IDENTITY', 'executor: column "line" of "orders" has a default', '$.orders[0].line == 1'),
('our id as identity', 'ALTER TABLE order_store.order_items ALTER id DROP DEFAULT; ALTER TABLE order_store.order_items ALTER id ADD GENERATED BY DEFAULT AS IDENTITY', 'executor: column "id" of "order_items" is an identity column', '$.order_items[0].id < 9'),
('the order''s id as identity', 'ALTER TABLE order_store.orders ALTER id ADD GENERATED ALWAYS AS IDENTITY', 'executor: column "id" of "orders" is an identity column', '$.calls."one item".sqlstate == "428C9"'),
('a CHECK with a user''s function', 'ALTER TABLE order_store.orders ADD CONSTRAINT small CHECK (fp.small(total_amount))', 'executor: CHECK "small" calls a function', '$.calls.notes.constraint == "small"'),
('a CHECK with side effects', 'ALTER TABLE order_store.order_items ADD CONSTRAINT noted CHECK (fp.note(''item'' || product_id))', 'executor: CHECK "noted" calls a function', '$.log.size() > 1000'),
('a CHECK with a stable function', 'ALTER TABLE order_store.orders ADD CONSTRAINT past CHECK (created_at <= now())', 'executor: CHECK "past" calls a function', '$.calls."one item".value != null'),
('a CHECK with a user''s operator', 'CREATE OPERATOR fp.### (FUNCTION = fp.small, RIGHTARG = numeric); ALTER TABLE order_store.orders ADD CONSTRAINT small CHECK (OPERATOR(fp.###) total_amount)', 'executor: CHECK "small" calls a function', '$.calls.notes.constraint == "small"'),
('a CHECK that casts to an enum', $$CREATE TYPE fp.state AS ENUM ('pending', 'paid', 'shipped'); ALTER TABLE order_store.orders ADD CONSTRAINT known CHECK (status::fp.state IS NOT NULL)$$, 'executor: CHECK "known" calls a function', '$.calls."half a name".sqlstate == "22P02"'),
('a CHECK that casts to a domain', $$CREATE DOMAIN fp.state AS text CHECK (VALUE <> 'cancelled'); ALTER TABLE order_store.orders ADD CONSTRAINT known CHECK (status::fp.state IS NOT NULL)$$, 'executor: CHECK "known" calls a function', '$.calls."half a name".sqlstate == "23514"'),
('a CHECK with a function that is not for everybody', 'ALTER TABLE order_store.orders ADD CONSTRAINT lowered CHECK (lower(status) = status); REVOKE EXECUTE ON FUNCTION lower(text) FROM PUBLIC', 'executor: CHECK "lowered" calls a function', '$.calls."one item".sqlstate == "42501"'),
('now() not for everybody', 'REVOKE EXECUTE ON FUNCTION pg_catalog.now() FROM PUBLIC', 'executor: .*now', '$.calls."one item".sqlstate == "42501"'),
('nextval() not for everybody', 'REVOKE EXECUTE ON FUNCTION pg_catalog.nextval(regclass) FROM PUBLIC', 'executor: .*nextval', '$.calls."one item".sqlstate == "42501"'),
('another foreign key', 'CREATE TABLE fp.products (id bigint PRIMARY KEY); INSERT INTO fp.products VALUES (1), (5), (11); ALTER TABLE order_store.order_items ADD FOREIGN KEY (product_id) REFERENCES fp.products; GRANT USAGE ON SCHEMA fp TO regress_fp_owner', 'executor: table "order_items" has 2 foreign keys', '$.calls."one item".value != null && $.calls."three items".sqlstate == "23503"'),
('a second foreign key of orders', 'CREATE TABLE fp.states (status text PRIMARY KEY); INSERT INTO fp.states VALUES (''pending''); ALTER TABLE order_store.orders ADD FOREIGN KEY (status) REFERENCES fp.states', 'executor: table "orders" has 2 foreign keys', '$.calls."one item".value != null && $.calls.notes.sqlstate == "23503"'),
('the foreign key to another parent', 'CREATE TABLE fp.clients (id bigint PRIMARY KEY); INSERT INTO fp.clients VALUES (999), (1); ALTER TABLE order_store.orders DROP CONSTRAINT orders_customer_id_fkey; ALTER TABLE order_store.orders ADD CONSTRAINT clients FOREIGN KEY (customer_id) REFERENCES fp.clients', 'executor: foreign key "clients" is not the one of the store', '$.calls."unknown customer".value != null && $.calls.notes.sqlstate == "23503"'),
('the foreign key from another column', 'ALTER TABLE order_store.orders DROP CONSTRAINT orders_customer_id_fkey; ALTER TABLE order_store.orders ADD payer bigint; ALTER TABLE order_store.orders ADD CONSTRAINT payers FOREIGN KEY (payer) REFERENCES order_store.customers', 'executor: foreign key "payers" is not the one of the store', '$.calls."unknown customer".value != null'),
('a deferrable foreign key', 'ALTER TABLE order_store.orders ALTER CONSTRAINT orders_customer_id_fkey DEFERRABLE', 'executor: foreign key "orders_customer_id_fkey" is deferrable', '$.calls."unknown customer".sqlstate == "23503"'),
('a deferred foreign key', 'ALTER TABLE order_store.orders ALTER CONSTRAINT orders_customer_id_fkey DEFERRABLE INITIALLY DEFERRED', 'executor: foreign key "orders_customer_id_fkey" is deferrable', '$.calls."unknown customer".value != null && $.calls.constraints.sqlstate == "23503"'),
('a deferred foreign key of items', 'ALTER TABLE order_store.order_items ALTER CONSTRAINT order_items_order_id_fkey DEFERRABLE INITIALLY DEFERRED', 'executor: foreign key "order_items_order_id_fkey" is deferrable', '$.calls.constraints.value == "settled"'),
('no foreign key', 'ALTER TABLE order_store.orders DROP CONSTRAINT orders_customer_id_fkey', 'executor: table "orders" has 0 foreign keys', '$.calls."unknown customer".value != null'),
('no foreign key of items', 'ALTER TABLE order_store.order_items DROP CONSTRAINT order_items_order_id_fkey', 'executor: table "order_items" has 0 foreign keys', '$.calls."one item".value != null'),
('foreign keys switched off', 'ALTER TABLE order_store.orders DISABLE TRIGGER ALL', 'executor: foreign key "orders_customer_id_fkey" is not enabled as usual', '$.calls."unknown customer".value != null'),
('an extra column of a domain', $$CREATE DOMAIN fp.needed AS int NOT NULL; ALTER TABLE order_store.orders ADD lines fp.needed$$, 'executor: column "lines" of "orders" is of a domain', '$.calls."one item".sqlstate == "23502"'),
('an exclusion constraint', 'ALTER TABLE order_store.orders ADD CONSTRAINT alone EXCLUDE USING btree (customer_id WITH =, total_amount WITH =)', 'executor: index "alone" is behind an exclusion constraint', '$.calls."hard notes".sqlstate == "23P01"'),
('an exclusion constraint on a hash', 'ALTER TABLE order_store.order_items ADD CONSTRAINT alone EXCLUDE USING hash (product_id WITH =)', 'executor: index "alone" is ', '$.calls."three items".value != null && $.calls."rounding".sqlstate == "23P01"'),
('a deferrable unique constraint', 'ALTER TABLE order_store.orders ADD CONSTRAINT once UNIQUE (customer_id, total_amount) DEFERRABLE INITIALLY DEFERRED', 'executor: .*"once"', '$.calls."hard notes".value != null && $.calls.constraints.sqlstate == "23505"'),
('an index with a user''s function', 'CREATE INDEX shout ON order_store.orders (fp.harmless(status))', 'executor: index "shout" calls a function', '$.calls."one item".value != null'),
('an index for a user''s function', 'CREATE INDEX shout ON order_store.order_items (product_id) WHERE fp.small(price)', 'executor: index "shout" calls a function', '$.calls."one item".value != null'),
('an index with a user''s operator class', $$
  CREATE FUNCTION fp.compare(bigint, bigint) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN btint8cmp($2, $1); END';
  CREATE OPERATOR CLASS fp.backwards FOR TYPE bigint USING btree AS OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 fp.compare(bigint, bigint);
  CREATE INDEX reversed ON order_store.order_items (product_id fp.backwards)$$, 'executor: index "reversed" uses an operator class', '$.calls."two batches".value != null'),
('a gin index', $$ALTER TABLE order_store.orders ADD words tsvector; CREATE INDEX words ON order_store.orders USING gin (to_tsvector('simple', notes))$$, 'executor: index "words" is not a btree', '$.calls."notes".value != null'),
('a brin index', $$CREATE INDEX ranges ON order_store.orders USING brin (created_at)$$, 'executor: index "ranges" is not a btree', '$.calls."notes".value != null'),
('a rule that does more', $$CREATE RULE also AS ON INSERT TO order_store.orders DO ALSO INSERT INTO fp.log (what) VALUES ('rule ' || NEW.total_amount)$$, 'executor: table "orders" has rules', '$.log.size() > 10'),
('another default of created_at', $$ALTER TABLE order_store.orders ALTER created_at SET DEFAULT '2020-01-02 03:04:05+00'$$, 'executor: the default of column "created_at" of "orders" is not now', '$.orders[0].created_at like_regex "2020-01-02"'),
('a default of created_at around now()', $$ALTER TABLE order_store.orders ALTER created_at SET DEFAULT now() - interval '1 day'$$, 'executor: the default of column "created_at" of "orders" is not now', '$.calls."one item".value != null'),
('no default of updated_at', $$ALTER TABLE order_store.orders ALTER updated_at DROP DEFAULT$$, 'executor: the default of column "updated_at" of "orders" is not now', '$.calls."one item".sqlstate == "23502" && $.calls."one item".column == "updated_at"'),
('created_at in whole seconds', $$ALTER TABLE order_store.orders ALTER created_at TYPE timestamptz(0)$$, 'executor: column "created_at" of "orders" has type timestamp\(0\) with time zone', '$.calls."one item".value != null'),
('another type of total_amount', $$ALTER TABLE order_store.orders ALTER total_amount TYPE numeric(14,4)$$, 'executor: column "total_amount" of "orders" has type numeric\(14,4\)', '$.calls."one item".value != null'),
('no default of the items'' id', $$ALTER TABLE order_store.order_items ALTER id DROP DEFAULT$$, 'executor: the default of column "id" of "order_items" is not nextval', '$.calls."one item".sqlstate == "23502"'),
('a user''s default of the items'' id', $$ALTER TABLE order_store.order_items ALTER id SET DEFAULT fp.number()$$, 'executor: the default of column "id" of "order_items" is not nextval', '$.order_items[0].id < 9'),
('a constant default of the items'' id', $$ALTER TABLE order_store.order_items ALTER id SET DEFAULT 5$$, 'executor: the default of column "id" of "order_items" is not nextval', '$.calls."three items".sqlstate == "23505"'),
('customers without a primary key', 'ALTER TABLE order_store.customers DROP CONSTRAINT customers_pkey CASCADE', 'executor: table "orders" has 0 foreign keys', '$.calls."unknown customer".value != null'),
('customers with a unique key instead', 'ALTER TABLE order_store.customers DROP CONSTRAINT customers_pkey CASCADE, ADD UNIQUE (id); ALTER TABLE order_store.orders ADD FOREIGN KEY (customer_id) REFERENCES order_store.customers (id)', 'executor: table "customers" has no primary key', '$.calls."unknown customer".sqlstate == "23503"'),
('an email of a domain', 'CREATE DOMAIN fp.mail AS text; ALTER TABLE order_store.customers ALTER email TYPE fp.mail', 'executor: column "email" of "customers" is of a domain', '$.orders[0].customer_email == "ana@example.org"'),
('customers with heirs', $$CREATE TABLE fp.companies () INHERITS (order_store.customers); INSERT INTO fp.companies (id, first_name) VALUES (1, 'Heir'), (999, 'Only an heir'); GRANT SELECT ON fp.companies TO PUBLIC$$, 'executor: other tables inherit from "customers"', '$.calls."unknown customer".sqlstate == "23503"'),
('an owner who may not read customers', 'REVOKE SELECT ON order_store.customers FROM regress_fp_owner', 'executor: the owner of the customers may not', '$.calls."one item".sqlstate == "42501"'),
('an owner who may not read orders', 'REVOKE SELECT ON order_store.orders FROM regress_fp_owner', 'executor: .*owner', '$.calls."one item".sqlstate == "42501"'),
('an owner who may not enter the schema', 'REVOKE USAGE ON SCHEMA order_store FROM regress_fp_owner', 'executor: .*owner', '$.calls."one item".sqlstate == "42501"');

------------------------------------------------------------------------------------------------------------
-- What changes reads as well
------------------------------------------------------------------------------------------------------------

INSERT INTO fp.cases (name, ddl, create_path, read_path, effect) VALUES
('partitioned orders', $$
  ALTER TABLE order_store.order_items DROP CONSTRAINT order_items_order_id_fkey;
  ALTER TABLE order_store.order_status_history DROP CONSTRAINT order_status_history_order_id_fkey;
  ALTER TABLE order_store.idempotency_keys DROP CONSTRAINT idempotency_keys_order_id_fkey;
  ALTER TABLE order_store.orders RENAME TO old_orders;
  ALTER INDEX order_store.orders_pkey RENAME TO old_pkey;
  ALTER SEQUENCE order_store.orders_id_seq OWNED BY NONE;
  CREATE TABLE order_store.orders (LIKE order_store.old_orders INCLUDING ALL, FOREIGN KEY (customer_id) REFERENCES order_store.customers) PARTITION BY HASH (id);
  CREATE TABLE order_store.orders_0 PARTITION OF order_store.orders FOR VALUES WITH (MODULUS 2, REMAINDER 0);
  CREATE TABLE order_store.orders_1 PARTITION OF order_store.orders FOR VALUES WITH (MODULUS 2, REMAINDER 1);
  DROP TABLE order_store.old_orders;
  CREATE TRIGGER record_status_change AFTER UPDATE OF status ON order_store.orders FOR EACH ROW EXECUTE FUNCTION order_proc.record_status_change();
  ALTER TABLE order_store.orders OWNER TO regress_fp_owner;
  ALTER TABLE order_store.order_items ADD CONSTRAINT order_items_order_id_fkey FOREIGN KEY (order_id) REFERENCES order_store.orders ON DELETE CASCADE;
  ALTER TABLE order_store.order_status_history ADD FOREIGN KEY (order_id) REFERENCES order_store.orders ON DELETE CASCADE;
  GRANT ALL ON order_store.orders TO regress_fp_app$$,
 'executor: table "orders" is partitioned', 'executor: table "orders" is partitioned', '$.calls."one item".value != null && $.calls.update.value != null && $.calls.delete.value == "true"'),
('partitioned customers', $$
  ALTER TABLE order_store.orders DROP CONSTRAINT orders_customer_id_fkey;
  ALTER TABLE order_store.customers RENAME TO old_customers;
  ALTER INDEX order_store.customers_pkey RENAME TO old_customers_pkey;
  ALTER SEQUENCE order_store.customers_id_seq OWNED BY NONE;
  CREATE TABLE order_store.customers (LIKE order_store.old_customers INCLUDING ALL) PARTITION BY HASH (id);
  CREATE TABLE order_store.customers_0 PARTITION OF order_store.customers FOR VALUES WITH (MODULUS 2, REMAINDER 0);
  CREATE TABLE order_store.customers_1 PARTITION OF order_store.customers FOR VALUES WITH (MODULUS 2, REMAINDER 1);
  INSERT INTO order_store.customers SELECT * FROM order_store.old_customers;
  DROP TABLE order_store.old_customers;
  ALTER TABLE order_store.customers OWNER TO regress_fp_owner;
  ALTER TABLE order_store.orders ADD CONSTRAINT orders_customer_id_fkey FOREIGN KEY (customer_id) REFERENCES order_store.customers;
  GRANT ALL ON order_store.customers TO regress_fp_app$$,
 'executor: table "(customers" is partitioned|orders" has \d foreign keys)', 'fast: ', '$.calls."one item".value != null && $.calls."unknown customer".sqlstate == "23503"'),
('partitioned items', $$
  ALTER TABLE order_store.order_items RENAME TO old_items;
  ALTER INDEX order_store.order_items_pkey RENAME TO old_pkey;
  ALTER SEQUENCE order_store.order_items_id_seq OWNED BY NONE;
  CREATE TABLE order_store.order_items (LIKE order_store.old_items INCLUDING ALL, FOREIGN KEY (order_id) REFERENCES order_store.orders ON DELETE CASCADE) PARTITION BY RANGE (order_id);
  CREATE TABLE order_store.items_0 PARTITION OF order_store.order_items DEFAULT;
  DROP TABLE order_store.old_items;
  ALTER TABLE order_store.order_items OWNER TO regress_fp_owner;
  GRANT ALL ON order_store.order_items TO regress_fp_app$$,
 'executor: table "order_items" is partitioned', 'executor: table "order_items" is partitioned', '$.calls."one item".value != null && $.calls.delete.value == "true"'),
('orders as a partition', $$
  CREATE TABLE fp.all_orders (LIKE order_store.orders) PARTITION BY LIST (status);
  ALTER TABLE fp.all_orders ATTACH PARTITION order_store.orders FOR VALUES IN ('pending', 'paid')$$,
 'executor: table "orders" is a partition', 'executor: table "orders" is a partition', '$.calls."one item".value != null && $.calls."half a name".sqlstate == "23514"'),
('an heir of orders', $$
  CREATE TABLE fp.old_orders () INHERITS (order_store.orders); INSERT INTO fp.old_orders (id, customer_id, status, total_amount) VALUES (order_proc.new_order_id(1), 1, 'paid', 5)$$,
 'fast: ', 'executor: other tables inherit from "orders"', '$.calls.seeded.value like_regex "paid"'),
('an heir of items', $$
  INSERT INTO order_store.orders (id, customer_id, status, total_amount) VALUES (order_proc.new_order_id(1), 1, 'paid', 5);
  CREATE TABLE fp.old_items () INHERITS (order_store.order_items); INSERT INTO fp.old_items (order_id, product_id, quantity, price) SELECT id, 123, 1, 2 FROM order_store.orders$$,
 'fast: ', 'executor: other tables inherit from "order_items"', '$.calls.seeded.value like_regex "123"'),
('a varchar status', $$DROP TRIGGER record_status_change ON order_store.orders; ALTER TABLE order_store.orders ALTER status TYPE varchar(9);
  CREATE TRIGGER record_status_change AFTER UPDATE OF status ON order_store.orders FOR EACH ROW EXECUTE FUNCTION order_proc.record_status_change()$$, 'OP002', 'OP002', '$.calls."one item".sqlstate == "OP002"'),
('a status of a domain', $$CREATE DOMAIN fp.state AS text CHECK (VALUE <> 'cancelled'); DROP TRIGGER record_status_change ON order_store.orders; ALTER TABLE order_store.orders ALTER status TYPE fp.state;
  CREATE TRIGGER record_status_change AFTER UPDATE OF status ON order_store.orders FOR EACH ROW EXECUTE FUNCTION order_proc.record_status_change()$$,
 'executor: column "status" of "orders" has type fp.state', 'executor: column "status" of "orders" is of a domain', '$.calls."one item".value != null && $.calls."half a name".sqlstate == "23514"'),
('a price of a domain', $$CREATE DOMAIN fp.money AS numeric(10,2) CHECK (VALUE <> 10); ALTER TABLE order_store.order_items ALTER price TYPE fp.money$$,
 'executor: column "price" of "order_items" has type fp.money', 'executor: column "price" of "order_items" is of a domain', '$.calls."one item".sqlstate == "23514"'),
('orders without a primary key', 'ALTER TABLE order_store.orders DROP CONSTRAINT orders_pkey CASCADE', 'executor: table "order_items" has 0 foreign keys', 'executor: table "orders" has no primary key', '$.calls."one item".value != null'),
('another primary key of items', 'ALTER TABLE order_store.order_items DROP CONSTRAINT order_items_pkey, ADD PRIMARY KEY (id)', 'fast: ', 'executor: the primary key of "order_items" is not the one of the store', '$.calls."one item".value != null'),
('items without a primary key', 'ALTER TABLE order_store.order_items DROP CONSTRAINT order_items_pkey', 'fast: ', 'executor: table "order_items" has no primary key', '$.calls."one item".value != null'),
('a primary key that is deferrable', 'ALTER TABLE order_store.order_items DROP CONSTRAINT order_items_pkey, ADD PRIMARY KEY (order_id, id) DEFERRABLE', 'executor: .*"order_items_pkey"', 'executor: (the primary key of "order_items" is not|table "order_items" has no primary key)', '$.calls."one item".value != null'),
('a primary key that is not valid', $$UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'order_store.orders_pkey'::regclass; ALTER TABLE order_store.orders SET (fillfactor = 99)$$, 'fast: ', 'executor: .*primary key', '$.calls."one item".value != null'),
('row security', $$
  ALTER TABLE order_store.orders ENABLE ROW LEVEL SECURITY;
  CREATE POLICY see ON order_store.orders FOR SELECT USING (total_amount < 50);
  CREATE POLICY make ON order_store.orders FOR INSERT TO regress_fp_app WITH CHECK (customer_id = 1)$$,
 'executor: row level security applies to the caller', 'executor: row level security applies to the caller', '$.calls."one item".value != null && $.calls.notes.sqlstate == "42501"'),
('row security without a policy', 'ALTER TABLE order_store.orders ENABLE ROW LEVEL SECURITY', 'executor: row level security', 'executor: row level security', '$.calls."one item".sqlstate == "42501"'),
('row security on items', $$
  ALTER TABLE order_store.order_items ENABLE ROW LEVEL SECURITY;
  CREATE POLICY see ON order_store.order_items FOR SELECT USING (product_id <> 1);
  CREATE POLICY make ON order_store.order_items FOR INSERT WITH CHECK (product_id <> 3)$$,
 'executor: row level security', 'executor: row level security', '$.calls."one item".value != null && $.calls."three items".sqlstate == "42501"'),
('row security, not to be got around', $$ALTER TABLE order_store.orders ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON order_store.orders; SET LOCAL row_security = off$$,
 'executor: row level security', 'executor: row level security', '$.calls."one item".sqlstate == "42501" && $.calls.read.sqlstate == "42501"'),
('an index that the primary key hides behind', 'CREATE UNIQUE INDEX twin ON order_store.orders (id); ALTER TABLE order_store.orders CLUSTER ON twin', 'fast: ', 'fast: ', '$.calls.read.value != null');

INSERT INTO fp.cases (name, ddl, role, create_path, read_path, effect) VALUES
('a superuser and row security', 'ALTER TABLE order_store.orders ENABLE ROW LEVEL SECURITY; ALTER TABLE order_store.orders FORCE ROW LEVEL SECURITY', current_user, 'fast: ', 'fast: ', '$.calls."one item".value != null'),
('the owner under FORCE', 'ALTER TABLE order_store.orders ENABLE ROW LEVEL SECURITY; ALTER TABLE order_store.orders FORCE ROW LEVEL SECURITY; CREATE POLICY p ON order_store.orders USING (customer_id = 1)', 'regress_fp_owner',
 'executor: row level security', 'executor: row level security', '$.calls."one item".value != null && $.calls.notes.sqlstate == "42501"'),
('customers under FORCE', 'ALTER TABLE order_store.customers ENABLE ROW LEVEL SECURITY; ALTER TABLE order_store.customers FORCE ROW LEVEL SECURITY', 'regress_fp_owner',
 'executor: row level security', 'fast: ', '$.calls."one item".value != null && $.orders[0].customer_name == null && $.calls."unknown customer".sqlstate == "23503"'),
('customers hidden from the caller', 'ALTER TABLE order_store.customers ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON order_store.customers USING (id = 2)', 'regress_fp_app',
 'executor: row level security', 'fast: ', '$.orders[0].customer_name == null && $.orders[*].customer_name == "Bo" && $.calls."unknown customer".sqlstate == "23503"'),
('a member of the role', '', 'regress_fp_member', 'fast: ', 'fast: ', '$.calls."one item".value != null'),
('a member that does not inherit', '', 'regress_fp_detached', 'executor: the caller lacks a privilege', 'executor: the caller lacks a privilege', '$.calls."one item".sqlstate == "42501"'),
('a membership that is over', 'REVOKE regress_fp_app FROM regress_fp_member', 'regress_fp_member', 'executor: the caller lacks a privilege', 'executor: the caller lacks a privilege', '$.calls."one item".sqlstate == "42501"'),
('a role that is not allowed', '', 'regress_fp_nobody', 'executor: the caller lacks a privilege', 'executor: the caller lacks a privilege', '$.calls."one item".sqlstate == "42501"'),
('a role with columns only', '', 'regress_fp_columns', 'fast: ', 'executor: the caller lacks a privilege', '$.calls."one item".value != null && $.calls.read.sqlstate == "42501"'),
('a violation told to a role with columns only', 'ALTER TABLE order_store.orders ADD CONSTRAINT small CHECK (total_amount < 90), ALTER customer_email SET NOT NULL; ALTER TABLE order_store.order_items ADD CONSTRAINT no_threes CHECK (product_id <> 3); CREATE UNIQUE INDEX once ON order_store.orders (customer_id, total_amount)', 'regress_fp_columns',
 'fast: ', 'executor: the caller lacks a privilege', '$.calls.rounding.constraint == "small" && $.calls."three items".constraint == "no_threes" && $.calls."no names".sqlstate == "23502"'),
('no right to insert a column', 'REVOKE INSERT (notes) ON order_store.orders FROM regress_fp_columns', 'regress_fp_columns', 'executor: the caller lacks a privilege', 'executor: the caller lacks a privilege', '$.calls."one item".sqlstate == "42501"'),
('no right to insert a column of items', 'REVOKE INSERT (price) ON order_store.order_items FROM regress_fp_columns', 'regress_fp_columns', 'executor: the caller lacks a privilege', 'executor: the caller lacks a privilege', '$.calls."one item".sqlstate == "42501"'),
('no right to read a column of customers', 'REVOKE SELECT (email) ON order_store.customers FROM regress_fp_columns', 'regress_fp_columns', 'executor: the caller lacks a privilege', 'executor: the caller lacks a privilege', '$.calls."one item".sqlstate == "42501" && $.calls."one item".message like_regex "customers"'),
('columns to read', 'GRANT SELECT (id, customer_id, status, total_amount, notes, customer_name, customer_email, created_at, updated_at) ON order_store.orders TO regress_fp_columns; GRANT SELECT (order_id, id, product_id, quantity, price) ON order_store.order_items TO regress_fp_columns', 'regress_fp_columns', 'fast: ', 'fast: ', '$.calls.read.value != null'),
('not all columns to read', 'GRANT SELECT (id, customer_id, status, total_amount, customer_name, customer_email, created_at, updated_at) ON order_store.orders TO regress_fp_columns; GRANT SELECT ON order_store.order_items TO regress_fp_columns', 'regress_fp_columns', 'fast: ', 'executor: the caller lacks a privilege', '$.calls.read.sqlstate == "42501"'),
('no right on the sequence of orders', 'REVOKE USAGE ON SEQUENCE order_store.orders_id_seq FROM regress_fp_app', 'regress_fp_app', '', 'fast: ', '$.calls."one item".sqlstate == "42501" && $.calls."one item".message like_regex "orders_id_seq"'),
('no right on the sequence of items', 'REVOKE USAGE ON SEQUENCE order_store.order_items_id_seq FROM regress_fp_app', 'regress_fp_app', '', 'fast: ', '$.calls."one item".sqlstate == "42501" && $.calls."one item".message like_regex "order_items_id_seq"'),
('no right to read customers', 'REVOKE SELECT ON order_store.customers FROM regress_fp_app', 'regress_fp_app', 'executor: the caller lacks a privilege', 'fast: ', '$.calls."one item".sqlstate == "42501" && $.calls."one item".message like_regex "customers"'),
('no right to make orders', 'REVOKE INSERT ON order_store.orders FROM regress_fp_app', 'regress_fp_app', 'executor: the caller lacks a privilege', 'fast: ', '$.calls."one item".sqlstate == "42501"'),
('no right to make items', 'REVOKE INSERT ON order_store.order_items FROM regress_fp_app', 'regress_fp_app', 'executor: the caller lacks a privilege', 'fast: ', '$.calls."one item".sqlstate == "42501"'),
('no right to read items', 'REVOKE SELECT ON order_store.order_items FROM regress_fp_app', 'regress_fp_app', 'fast: ', 'executor: the caller lacks a privilege', '$.calls.read.sqlstate == "42501"'),
('no right to use the schema', 'REVOKE USAGE ON SCHEMA order_store FROM regress_fp_app', 'regress_fp_app', 'executor: the caller lacks a privilege', 'executor: the caller lacks a privilege', '$.calls."one item".sqlstate == "42501"'),
('rights by PUBLIC', 'REVOKE ALL ON order_store.orders, order_store.order_items FROM regress_fp_app; GRANT SELECT, INSERT ON order_store.orders, order_store.order_items TO PUBLIC', 'regress_fp_app', 'fast: ', 'fast: ', '$.calls."one item".value != null'),
('no right to use the schema, after another role''s plans', $$
  GRANT ALL ON ALL TABLES IN SCHEMA order_store TO regress_fp_nobody; GRANT ALL ON ALL SEQUENCES IN SCHEMA order_store TO regress_fp_nobody;
  SET LOCAL order_proc.fast_path = off; SET LOCAL ROLE regress_fp_app; SET LOCAL fp.mode = 'function';
  SELECT order_proc.get_order_with_items(fp.make(1, 'pending', 1, '{1}', '{1}', '{1}')); RESET ROLE$$, 'regress_fp_nobody', 'executor: the caller lacks a privilege', 'executor: the caller lacks a privilege', '$.calls."one item".sqlstate == "42501" && $.calls.read.sqlstate == "42501"'),
('functions of a definer', $$
  ALTER FUNCTION fp.make SECURITY DEFINER; ALTER FUNCTION fp.make OWNER TO regress_fp_app;
  ALTER FUNCTION fp.read SECURITY DEFINER; ALTER FUNCTION fp.read OWNER TO regress_fp_app;
  ALTER FUNCTION fp.explain SECURITY DEFINER; ALTER FUNCTION fp.explain OWNER TO regress_fp_app$$, 'regress_fp_nobody', 'fast: ', 'fast: ', '$.calls."one item".value != null && $.calls.read.value != null && $.calls."read unknown".sqlstate == "42501"'),
('functions of a definer who lacks a right', $$
  ALTER FUNCTION fp.make SECURITY DEFINER; ALTER FUNCTION fp.make OWNER TO regress_fp_nobody;
  ALTER FUNCTION fp.explain SECURITY DEFINER; ALTER FUNCTION fp.explain OWNER TO regress_fp_nobody$$, 'regress_fp_app', 'executor: the caller lacks a privilege', 'executor: the caller lacks a privilege', '$.calls."one item".sqlstate == "42501" && $.calls."read unknown".value == null'),
('customers of another owner', 'ALTER TABLE order_store.customers OWNER TO regress_fp_other', 'regress_fp_app', 'executor: the owner of the customers may not', 'fast: ', '$.calls."one item".sqlstate == "42501"'),
('customers of another owner who may', 'ALTER TABLE order_store.customers OWNER TO regress_fp_other; GRANT USAGE ON SCHEMA order_store TO regress_fp_other', 'regress_fp_app', 'fast: ', 'fast: ', '$.calls."one item".value != null'),
('items of another owner', 'ALTER TABLE order_store.order_items OWNER TO regress_fp_other; ALTER TABLE order_store.orders ENABLE ROW LEVEL SECURITY', 'regress_fp_owner', 'executor: the caller lacks a privilege', 'executor: the caller lacks a privilege', '$.calls."one item".sqlstate == "42501"'),
('orders of another owner', 'ALTER TABLE order_store.orders OWNER TO regress_fp_other', 'regress_fp_app', 'executor: .*owner', 'fast: ', '$.calls."one item".sqlstate == "42501"');

-- Prices are rounded to the store's two decimals first, whatever the column would hold.
INSERT INTO fp.cases (name, ddl, create_path, effect, plain) VALUES
('a price with four decimals', $$ALTER TABLE order_store.order_items ALTER price TYPE numeric(12,4)$$, 'executor: column "price" of "order_items" has type numeric\(12,4\)', '$.calls.rounding.value != null', false),
('a price of any size', $$ALTER TABLE order_store.order_items ALTER price TYPE numeric$$, 'executor: column "price" of "order_items" has type numeric', '$.calls.rounding.value != null', false);

-- PostgreSQL's plan cache knows no table that such a rule took out of a statement: nothing must stay of the rule.
INSERT INTO fp.cases (name, ddl, create_path, effect) VALUES
('a rule that does nothing', $$CREATE RULE instead AS ON INSERT TO order_store.order_items DO INSTEAD NOTHING$$, 'executor: table "order_items" has rules', '$.order_items.size() == 0 && $.orders.size() > 10'),
('a rule that did nothing, gone', $$ALTER TABLE order_store.orders ADD region text DEFAULT 'eu'$$, 'executor: column "region"', '$.order_items.size() > 1000');

------------------------------------------------------------------------------------------------------------
-- The run
------------------------------------------------------------------------------------------------------------

SELECT plan((SELECT sum(4 + plain::int)::int FROM fp.cases));
SELECT format('SELECT * FROM fp.check(%L)', name) FROM fp.cases ORDER BY n \gexec
SELECT * FROM finish();

DROP SCHEMA order_store CASCADE;
DROP SCHEMA fp CASCADE;
DROP ROLE regress_fp_owner, regress_fp_app, regress_fp_member, regress_fp_detached, regress_fp_columns, regress_fp_nobody, regress_fp_other;
