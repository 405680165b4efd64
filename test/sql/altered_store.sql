\set ECHO none
-- The owner may alter anything. Every column, table, sequence, index, constraint and trigger of the store is dropped, renamed,
-- retyped or put in disguise, one change at a time, and every function is called: it gives the same answer as before or OP002
-- (OP001 without a store) with a hint. Where plain PostgreSQL rules, its own SQLSTATE is written beside the change.
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_proc CASCADE;
DROP SCHEMA IF EXISTS order_store CASCADE;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION order_proc;
SELECT order_proc.create_store() \g /dev/null
CREATE SCHEMA altered;
SET search_path = altered, public;
SET TimeZone = 'UTC';
SET statement_timeout = '2min';
SELECT no_plan();

SELECT order_proc.create_customer('Ana', 'de la Cruz', 'ana@example.org', 1) \g /dev/null
SELECT order_proc.create_order_with_items(1, 'pending', NULL, '{7,8}', '{1,2}', '{1.50,2.25}', 'note', 'key') AS o \gset
SELECT is(:o, 5958, 'the order that the calls below are about');
-- A second one, older and untouched, so that lists have an order.
INSERT INTO order_store.orders (id, customer_id, status, total_amount, created_at) VALUES (order_proc.new_order_id(1), 1, 'paid', 3, '2020-01-01');

-- What is asked: one row, one text. Calls that write look at what they wrote by plain SQL, in `after`.
CREATE TABLE calls (id int GENERATED ALWAYS AS IDENTITY, name text NOT NULL, call text NOT NULL, after text);
INSERT INTO calls (name, call, after) VALUES
('schema_version', 'SELECT order_proc.schema_version()', NULL),
('require_version', 'SELECT order_proc.require_version(''1.0'')', NULL),
('migrate_store', 'SELECT order_proc.migrate_store()', NULL),
('migration_plan', 'SELECT count(*) FROM order_proc.migration_plan(''1.0'')', NULL),
('apply_migration', 'SELECT order_proc.apply_migration(''1.0'', ''1.1'')', NULL),
('applied_migrations', 'SELECT string_agg(version || direction, '' '' ORDER BY id) FROM order_proc.applied_migrations()', NULL),
('require_backfilled_names', 'SELECT order_proc.require_backfilled_names()', NULL),
('backfill_customer_names', 'CALL order_proc.backfill_customer_names()', NULL),
('create_store', 'SELECT order_proc.create_store()', NULL),
('grant_store', 'SELECT order_proc.grant_store(''pg_read_all_data''::regrole, ''admin'')', NULL),
('new_order_id', 'SELECT order_proc.new_order_id(1) & 4095', NULL),
('create_customer', 'SELECT (order_proc.create_customer(''a'', ''b'', ''c'') > 1)::text', 'SELECT string_agg(concat_ws(''/'', first_name, last_name, email), '' '' ORDER BY id) FROM order_store.customers'),
('create_customer', 'SELECT order_proc.create_customer(''a'', NULL, NULL, 77)', 'SELECT string_agg(concat_ws(''/'', first_name, last_name, email), '' '' ORDER BY id) FROM order_store.customers'),
('create_order_with_items', 'SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{7,9}'', ''{1,3}'', ''{1,2.50}'') & 4095',
 'SELECT (SELECT string_agg(concat_ws(''/'', customer_id, status, total_amount, notes, customer_name, customer_email), '' '' ORDER BY id) FROM order_store.orders) ||
  (SELECT string_agg(concat_ws(''/'', order_id & 4095, product_id, quantity, price), '' '' ORDER BY order_id, id) FROM order_store.order_items)'),
('create_order_with_items', 'SELECT order_proc.create_order_with_items(1, ''paid'', 5, ''{7}'', ''{1}'', ''{1}'', ''n'', ''k2'') & 4095',
 'SELECT (SELECT string_agg(concat_ws(''/'', customer_id, status, total_amount, notes, customer_name, customer_email), '' '' ORDER BY id) FROM order_store.orders) ||
  (SELECT string_agg(concat_ws(''/'', customer_id, key), '' '' ORDER BY key) FROM order_store.idempotency_keys)'),
('create_order_with_items', 'SELECT order_proc.create_order_with_items(1, ''pending'', NULL, ''{7,8}'', ''{1,2}'', ''{1.5,2.25}'', ''note'', ''key'')', NULL),
('create_order_with_items', 'SELECT order_proc.create_order_with_items(1, ''pending'', NULL, ''{7,8}'', ''{1,2}'', ''{1.5,2.25}'', ''another'', ''key'')', NULL),
('create_order_with_items', 'SELECT order_proc.create_order_with_items(1, ''no such'', NULL, ''{7,8}'', ''{1,2}'', ''{1.5,2.25}'')', NULL),
('get_order', 'SELECT order_proc.get_order(5958)', NULL),
('get_order_with_items', 'SELECT order_proc.get_order_with_items(5958)', NULL),
('get_orders', 'SELECT string_agg(x::text, '' '') FROM order_proc.get_orders(''{10054,5958}'') AS x', NULL),
('refresh_order_totals', 'SELECT order_proc.refresh_order_totals(''{5958,10054}'')', 'SELECT string_agg(total_amount::text, '' '' ORDER BY id) FROM order_store.orders'),
('update_order_status', 'SELECT order_proc.update_order_status(5958, ''paid'')',
 'SELECT (SELECT string_agg(status, '' '' ORDER BY id) FROM order_store.orders) || (SELECT string_agg(concat_ws(''/'', order_id, from_status, to_status), '' '') FROM order_store.order_status_history)'),
('update_order_status', 'SELECT order_proc.update_order_status(5958, ''shipped'')', NULL),
('delete_order', 'SELECT order_proc.delete_order(5958)',
 'SELECT concat_ws(''/'', (SELECT string_agg(status, '' '' ORDER BY id) FROM order_store.orders), (SELECT count(*) FROM order_store.order_items), (SELECT count(*) FROM order_store.idempotency_keys))'),
('list_orders', 'SELECT string_agg(x::text, '' '') FROM order_proc.list_orders() AS x', NULL),
('list_orders_paginated', 'SELECT string_agg(x::text, '' '') FROM order_proc.list_orders_paginated(1, 1) AS x', NULL),
('list_orders_after', 'SELECT string_agg(x::text, '' '') FROM order_proc.list_orders_after() AS x', NULL),
('list_orders_after', 'SELECT string_agg(x::text, '' '') FROM order_proc.list_orders_after(50, ''infinity'', 1, 1, ''pending'') AS x', NULL),
('order_counts', 'SELECT string_agg(x::text, '' '') FROM order_proc.order_counts() AS x', NULL),
('purge_idempotency_keys', 'SELECT order_proc.purge_idempotency_keys(''0'')', NULL),
('batch_create_order_items', 'SELECT string_agg(x::text, '' '') FROM order_proc.batch_create_order_items(''{5958,10054}'', ''{7,9}'', ''{1,3}'', ''{1,2.50}'') AS x',
 'SELECT string_agg(concat_ws(''/'', order_id & 4095, product_id, quantity, price), '' '' ORDER BY order_id, product_id, quantity) FROM order_store.order_items'),
('explain_fast_path', 'SELECT count(*) FROM order_proc.explain_fast_path()', NULL),
('customer_ids_in_use', 'SELECT order_proc.customer_ids_in_use(1, 8)', NULL),
('shard_id', 'SELECT order_proc.shard_id()', NULL),
('slot_for_customer', 'SELECT order_proc.slot_for_customer(1)', NULL),
('slot_for_order', 'SELECT order_proc.slot_for_order(5958)', NULL),
('shard_for_customer', 'SELECT order_proc.shard_for_customer(1)', NULL),
('shard_for_order', 'SELECT order_proc.shard_for_order(5958)', NULL),
('shard_states', 'SELECT count(*) FROM order_proc.shard_status', NULL),
('recover', 'SELECT count(*) FROM order_proc.recover()', NULL),
('outcome', 'SELECT order_proc.outcome(1, ''k'')', NULL),
('in_doubt_transactions', 'SELECT count(*) FROM order_proc.in_doubt', NULL),
('fan_out', 'SELECT x FROM order_proc.fan_out(''SELECT 1'') AS t(x int)', NULL),
('fan_out_aggregate', 'SELECT n FROM order_proc.fan_out_aggregate(''SELECT count(*) FROM order_store.orders'') AS t(n bigint)', NULL),
('explain_fan_out_aggregate', 'SELECT shard_query IS NOT NULL FROM order_proc.explain_fan_out_aggregate(''SELECT count(*) FROM order_store.orders'')', NULL),
('create_orders', 'SELECT array_to_string(ARRAY(SELECT id & 4095 FROM unnest(order_proc.create_orders(''[{"customer_id": 1, "product_ids": [7, 8], "quantities": [1, 2], "prices": [1.50, 2]}, {"customer_id": 1, "notes": "n", "idempotency_key": "many", "product_ids": [7], "quantities": [1], "prices": [1]}]'')) AS id), '' '')',
 'SELECT string_agg(concat_ws(''/'', customer_id, status, total_amount, customer_name), '' '' ORDER BY id) FROM order_store.orders'),
('create_orders_of_shard', 'SELECT cardinality(order_proc.create_orders_of_shard(''[{"customer_id": 1, "product_ids": [7], "quantities": [1], "prices": [1.50]}]'', ''{3}''))', NULL),
('create_restore_point', 'SELECT count(*) FROM order_proc.create_restore_point(''p'')', NULL),
('fan_out_exec', 'SELECT command_tag FROM order_proc.fan_out_exec(''SELECT 1'')', NULL),
('record_status_change', 'UPDATE order_store.orders SET status = ''paid'' WHERE id = 5958 RETURNING status',
 'SELECT string_agg(concat_ws(''/'', order_id, from_status, to_status), '' '') FROM order_store.order_status_history'),
('statuses_changed', 'INSERT INTO order_store.order_statuses (status) VALUES (''new'') RETURNING status', 'SELECT order_proc.create_order_with_items(1, ''new'', NULL, ''{7,9}'', ''{1,3}'', ''{1,2.50}'') & 4095');
SELECT is((SELECT string_agg(p.oid::regprocedure::text, ', ')
           FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid JOIN pg_proc AS p ON p.oid = d.objid
           WHERE d.classid = 'pg_proc'::regclass AND d.deptype = 'e' AND e.extname = 'order_proc'
             AND p.proname NOT IN (SELECT name FROM calls) AND 'internal'::regtype <> ALL (p.proargtypes) AND p.prokind <> 'a'
             AND p.proname !~ '^layout_\d+_\d+_(up|down)$|import' AND p.proname NOT IN ('first_name', 'last_name', 'full_name', 'estimated_rows', 'sync_customer_name', 'add_shard', 'join_cluster', 'set_membership', 'register_coordinator', 'adopt_cluster', 'write_receipt', 'write_deciding_receipt', 'check_slot', 'partial_result', 'cluster_changed', 'create_order_with_compensation')),
          NULL, 'every function that looks at the store is called (sync_customer_name: in migrations, the import, membership of a cluster: in suites of their own)');

CREATE TABLE answers (change int, path text, call int, state text, said text, message text, hint text);
-- All calls under one change, each undone, and the change undone in the end.
CREATE FUNCTION answer(change_id int, path text, change text) RETURNS SETOF answers LANGUAGE plpgsql AS $$
DECLARE
  c calls;
  r answers;
  more text;
  list answers[];
BEGIN
  PERFORM set_config('order_proc.fast_path', path, false);
  BEGIN
    BEGIN
      EXECUTE change;
    EXCEPTION WHEN OTHERS THEN
      list := ARRAY[(change_id, path, 0, 'change: ' || SQLSTATE, NULL, SQLERRM, NULL)::answers];
      RAISE SQLSTATE 'UNDO1';
    END;
    FOR c IN SELECT * FROM calls ORDER BY id LOOP
      r := (change_id, path, c.id, NULL, NULL, NULL, NULL);
      BEGIN
        IF c.call ~ '^CALL' THEN EXECUTE c.call; ELSE EXECUTE c.call INTO r.said; END IF;
        BEGIN
          IF c.after IS NOT NULL THEN EXECUTE c.after INTO more; r.said := concat(r.said, ' | ', more); END IF;
        EXCEPTION WHEN OTHERS THEN r.said := NULL;  -- plain SQL may fail on an altered table
        END;
        RAISE SQLSTATE 'UNDO0';
      EXCEPTION
        WHEN SQLSTATE 'UNDO0' THEN r.state := 'ok';
        WHEN query_canceled THEN r.state := '57014';
        WHEN OTHERS THEN GET STACKED DIAGNOSTICS r.state = RETURNED_SQLSTATE, r.message = MESSAGE_TEXT, r.hint = PG_EXCEPTION_HINT;
      END;
      list := list || r;
    END LOOP;
    RAISE SQLSTATE 'UNDO1';
  EXCEPTION WHEN SQLSTATE 'UNDO1' THEN NULL;
  END;
  RETURN QUERY SELECT * FROM unnest(list);
END $$;

INSERT INTO answers SELECT * FROM answer(0, 'on', 'SELECT 1') UNION ALL SELECT * FROM answer(0, 'off', 'SELECT 1');
SELECT is((SELECT string_agg(format('%s: %s %s', name, state, message), E'\n') FROM answers JOIN calls ON id = answers.call WHERE change = 0 AND path = 'on' AND state <> 'ok'),
$$apply_migration: 55000 apply_migration is for the scripts of the extension
create_store: 42710 there is a schema "order_store" in this database already
create_order_with_items: OP302 idempotency key "key" was used for another request
create_order_with_items: 22023 unknown status "no such"
update_order_status: OP201 order 5958 cannot go from "pending" to "shipped"$$, 'what the calls answer when nothing is altered');
SELECT is((SELECT count(*) FROM answers AS a JOIN answers AS b USING (change, call) WHERE a.path = 'on' AND b.path = 'off'
           AND (a.state, a.said, a.message) IS DISTINCT FROM (b.state, b.said, b.message)), 0::bigint, 'with the fast path and without it the same');

-- `also`: SQLSTATEs that plain PostgreSQL gives after such a change. `moved`: rows are gone or hidden, so answers differ.
CREATE TABLE changes (id int GENERATED ALWAYS AS IDENTITY, kind text NOT NULL, sql text NOT NULL, also text NOT NULL, moved boolean NOT NULL);
CREATE VIEW store_tables AS SELECT oid::regclass AS t, relname FROM pg_class WHERE relnamespace = 'order_store'::regnamespace AND relkind = 'r';
-- A type that cannot be taken for the column's own.
INSERT INTO changes (kind, sql, also, moved)
SELECT kind, format(template, t, a.attname, format_type(a.atttypid, a.atttypmod), 'd' || attnum), also, moved FROM store_tables JOIN pg_attribute AS a ON a.attrelid = t, (VALUES
  ('a column dropped', 'ALTER TABLE %s DROP COLUMN %I CASCADE', '42P10', true),
  ('a column renamed', 'ALTER TABLE %s RENAME COLUMN %I TO renamed', '', false),
  ('a column replaced by a circle', 'ALTER TABLE %1$s DROP COLUMN %2$I CASCADE; ALTER TABLE %1$s ADD COLUMN %2$I circle', '42P10', true),
  ('a column replaced by an array', 'ALTER TABLE %1$s DROP COLUMN %2$I CASCADE; ALTER TABLE %1$s ADD COLUMN %2$I %3$s[]', '42P10', true),
  ('a column replaced by varchar', 'ALTER TABLE %1$s DROP COLUMN %2$I CASCADE; ALTER TABLE %1$s ADD COLUMN %2$I varchar(3)', '42P10', true),
  ('a column replaced by one of its type', 'ALTER TABLE %1$s DROP COLUMN %2$I CASCADE; ALTER TABLE %1$s ADD COLUMN %2$I %3$s', '23502 42P10 P0002 22023 OP302 OP201', true),
  ('a column generated', 'ALTER TABLE %1$s DROP COLUMN %2$I CASCADE; ALTER TABLE %1$s ADD COLUMN %2$I %3$s GENERATED ALWAYS AS (NULL::%3$s) STORED', '428C9 42P10 P0002 23502 22023 OP302 OP201', true),
  ('a column without default', 'ALTER TABLE %1$s ALTER COLUMN %2$I DROP DEFAULT', '23502', false)) AS c (kind, template, also, moved)
WHERE attnum > 0 AND NOT attisdropped AND NOT (kind = 'a column without default' AND NOT atthasdef);
INSERT INTO changes (kind, sql, also, moved)
SELECT kind, format(template, t, a.attname, format_type(a.atttypid, a.atttypmod), attnum), also, moved FROM store_tables JOIN pg_attribute AS a ON a.attrelid = t, (VALUES
  ('a column of a domain', 'CREATE DOMAIN altered.d AS %3$s; ALTER TABLE %1$s ALTER COLUMN %2$I TYPE altered.d', '', false),
  ('a column of a domain that nothing suits', 'CREATE DOMAIN altered.d AS %3$s; ALTER TABLE %1$s ALTER COLUMN %2$I TYPE altered.d; ALTER DOMAIN altered.d ADD CHECK (VALUE IS NULL) NOT VALID', '23514', true),
  ('a column full of NULLs', 'ALTER TABLE %1$s ALTER COLUMN %2$I DROP NOT NULL; SET LOCAL session_replication_role = replica; UPDATE %1$s SET %2$I = NULL; RESET session_replication_role', '23502 P0002 22023 OP302 OP201', true)) AS c (kind, template, also, moved)
WHERE attnum > 0 AND NOT attisdropped AND NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = t AND contype IN ('f', 'p') AND attnum = ANY (conkey))
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE confrelid = t AND attnum = ANY (confkey))
  AND NOT (kind <> 'a column full of NULLs' AND (SELECT count(*) FROM pg_depend WHERE refobjid = t AND refobjsubid = attnum AND classid IN ('pg_trigger'::regclass, 'pg_policy'::regclass)) > 0)
  AND NOT (kind = 'a column of a domain that nothing suits' AND relname IN ('store', 'migrations'));
INSERT INTO changes (kind, sql, also, moved)
SELECT kind, format(template, t, relname, (SELECT attname FROM pg_attribute WHERE attrelid = t AND NOT attisdropped AND attnum > 1 ORDER BY attnum LIMIT 1)), also, moved FROM store_tables, (VALUES
  ('a table dropped', 'DROP TABLE %s CASCADE', '', false),
  ('a table renamed', 'ALTER TABLE %s RENAME TO renamed', '', false),
  ('a table moved', 'ALTER TABLE %s SET SCHEMA altered', '', false),
  ('a table emptied', 'TRUNCATE %s CASCADE', '23503 22023 P0002 OP201', true),
  ('a view in place of a table', 'ALTER TABLE %1$s RENAME TO renamed; CREATE VIEW %1$s AS SELECT * FROM order_store.renamed', '', false),
  ('a materialized view in place of a table', 'ALTER TABLE %1$s RENAME TO renamed; CREATE MATERIALIZED VIEW %1$s AS SELECT * FROM order_store.renamed', '', false),
  ('a foreign table in place of a table', 'ALTER TABLE %1$s RENAME TO renamed; CREATE FOREIGN DATA WRAPPER altered; CREATE SERVER altered FOREIGN DATA WRAPPER altered; CREATE FOREIGN TABLE %1$s (a int) SERVER altered', '', false),
  ('a sequence in place of a table', 'ALTER TABLE %1$s RENAME TO renamed; CREATE SEQUENCE %1$s', '', false),
  ('an index in place of a table', 'ALTER TABLE %1$s RENAME TO renamed; CREATE TABLE altered.t (a int); ALTER TABLE altered.t SET SCHEMA order_store; CREATE INDEX %2$I ON order_store.t (a)', '', false),
  ('a type in place of a table', 'ALTER TABLE %1$s RENAME TO renamed; CREATE TYPE %1$s AS (a int)', '', false),
  ('a temporary table in place of a table', 'ALTER TABLE %1$s RENAME TO renamed; CREATE TEMP TABLE %2$I (LIKE order_store.renamed)', '', false),
  ('a table without columns in place of a table', 'ALTER TABLE %1$s RENAME TO renamed; CREATE TABLE %1$s ()', '', false),
  ('a bare copy in place of a table', 'ALTER TABLE %1$s RENAME TO renamed; CREATE TABLE %1$s (LIKE order_store.renamed)', '23502 23503 22023 P0002 OP201 42P10', true),
  ('a child in place of a table', 'ALTER TABLE %1$s RENAME TO renamed; CREATE TABLE %1$s () INHERITS (order_store.renamed)', '23502 23503 22023 P0002 OP201 42P10', true),
  ('a partitioned table in place of a table', 'ALTER TABLE %1$s RENAME TO renamed; CREATE TABLE %1$s (LIKE order_store.renamed INCLUDING DEFAULTS) PARTITION BY LIST (%3$I)', '23514 23503 22023 P0002 OP201 42P10', true),
  ('an unlogged table', 'ALTER TABLE order_store.order_status_history SET UNLOGGED; ALTER TABLE order_store.idempotency_keys SET UNLOGGED', '', false),
  ('a rule that swallows inserts', 'CREATE RULE r AS ON INSERT TO %s DO INSTEAD NOTHING', '0A000 23503 P0002 OP002', true),
  ('a rule that swallows updates', 'CREATE RULE r AS ON UPDATE TO %s DO INSTEAD NOTHING', '0A000 OP002 OP302', true),
  ('a rule that swallows deletes', 'CREATE RULE r AS ON DELETE TO %s DO INSTEAD NOTHING', '0A000 23503 XX000', true),  -- XX000: what a plain DELETE gives when its cascade is swallowed
  ('row security that lets nobody in', 'ALTER TABLE %1$s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', '', false),
  ('all triggers off', 'ALTER TABLE %s DISABLE TRIGGER ALL', '', true),
  ('extra columns', 'ALTER TABLE %s ADD COLUMN extra int, ADD COLUMN another text DEFAULT ''x''', '', false),
  ('a column that must not be NULL', 'ALTER TABLE %1$s ADD COLUMN extra int DEFAULT 1 NOT NULL; ALTER TABLE %1$s ALTER COLUMN extra DROP DEFAULT', '23502', false)) AS c (kind, template, also, moved)
UNION ALL
SELECT kind, format(template, oid::regclass), also, moved FROM pg_class, (VALUES
  ('a sequence dropped', 'DROP SEQUENCE %s CASCADE', '23502', false),
  ('a sequence renamed', 'ALTER SEQUENCE %s RENAME TO renamed', '', false),
  ('a sequence owned by nobody and moved', 'ALTER SEQUENCE %1$s OWNED BY NONE; ALTER SEQUENCE %1$s SET SCHEMA altered', '', false),
  ('a table in place of a sequence', 'ALTER SEQUENCE %1$s RENAME TO renamed; CREATE TABLE %1$s (last_value bigint, log_cnt bigint, is_called boolean)', '', false),
  ('a sequence of negative numbers', 'ALTER SEQUENCE %s MINVALUE -5 MAXVALUE 0 START -5 RESTART -5', '2200H', true),
  ('a sequence of smallint', 'ALTER SEQUENCE %s AS smallint MAXVALUE 30000', '', false),
  ('a sequence owned by nobody', 'ALTER SEQUENCE %s OWNED BY NONE', '', false)) AS c (kind, template, also, moved)
WHERE relnamespace = 'order_store'::regnamespace AND relkind = 'S'
UNION ALL
SELECT kind, format(template, oid::regclass), '', false FROM pg_class, (VALUES
  ('an index renamed', 'ALTER INDEX %s RENAME TO renamed')) AS c (kind, template)
WHERE relnamespace = 'order_store'::regnamespace AND relkind = 'i'
UNION ALL
SELECT kind, format('DROP INDEX %s', oid::regclass), '', false FROM pg_class, (VALUES ('an index dropped')) AS c (kind)
WHERE relnamespace = 'order_store'::regnamespace AND relkind = 'i' AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = pg_class.oid)
UNION ALL
SELECT kind, format(template, conrelid::regclass, conname), also, moved FROM pg_constraint, (VALUES
  ('a constraint dropped', 'ALTER TABLE %s DROP CONSTRAINT %I CASCADE', '42P10', true),
  ('a constraint renamed', 'ALTER TABLE %s RENAME CONSTRAINT %I TO renamed', '', false)) AS c (kind, template, also, moved)
WHERE connamespace = 'order_store'::regnamespace
UNION ALL
SELECT kind, format(template, tgname, tgrelid::regclass), '', moved FROM pg_trigger, (VALUES
  ('a trigger dropped', 'DROP TRIGGER %I ON %s', false),
  ('a trigger renamed', 'ALTER TRIGGER %I ON %s RENAME TO renamed', false),
  ('a trigger off', 'ALTER TABLE %2$s DISABLE TRIGGER %1$I', true),
  ('a trigger for replicas only', 'ALTER TABLE %2$s ENABLE REPLICA TRIGGER %1$I', true),
  ('a trigger of the same name', 'DROP TRIGGER %1$I ON %2$s; CREATE FUNCTION altered.f() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN RETURN NEW; END $f$; CREATE TRIGGER %1$I AFTER UPDATE ON %2$s EXECUTE FUNCTION altered.f()', false),
  ('a trigger that calls a function of the same name', 'DROP TRIGGER %1$I ON %2$s; CREATE FUNCTION altered.%1$I() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN RETURN NEW; END $f$; CREATE TRIGGER %1$I AFTER UPDATE ON %2$s EXECUTE FUNCTION altered.%1$I()', false)) AS c (kind, template, moved)
WHERE NOT tgisinternal AND tgrelid IN (SELECT t FROM store_tables);

-- The one row of order_store.store: missing, doubled, NULL, garbage, lying. A lie about the layout shows in what asks for no more.
INSERT INTO changes (kind, sql, also, moved)
SELECT 'the row of order_store.store', x, '', true FROM unnest(ARRAY[
  'DELETE FROM order_store.store',
  'ALTER TABLE order_store.store ALTER COLUMN layout DROP NOT NULL; UPDATE order_store.store SET layout = NULL',
  'ALTER TABLE order_store.store ALTER COLUMN placement DROP NOT NULL; UPDATE order_store.store SET placement = NULL',
  'UPDATE order_store.store SET layout = ''''',
  'UPDATE order_store.store SET layout = ''1''',
  'UPDATE order_store.store SET layout = '' 1.4''',
  'UPDATE order_store.store SET layout = ''01.4''',
  'UPDATE order_store.store SET layout = ''1.99''',
  'UPDATE order_store.store SET layout = ''99999999999999999999.1''',
  'UPDATE order_store.store SET layout = ''%s%n''',
  'UPDATE order_store.store SET layout = repeat(''x'', 1000000)',
  'UPDATE order_store.store SET layout = (SELECT string_agg(md5(i::text), '''') FROM generate_series(1, 10000) AS i)',
  'ALTER TABLE order_store.store DROP CONSTRAINT store_placement_check; UPDATE order_store.store SET placement = ''x''',
  'ALTER TABLE order_store.store DROP CONSTRAINT store_placement_check; UPDATE order_store.store SET placement = ''''',
  'ALTER TABLE order_store.store DROP CONSTRAINT store_placement_check; UPDATE order_store.store SET placement = repeat(''x'', 1000000)',
  'ALTER TABLE order_store.store DROP CONSTRAINT store_pkey; ALTER TABLE order_store.store DROP CONSTRAINT store_singleton_check; INSERT INTO order_store.store (singleton, layout, placement) VALUES (false, ''1.0'', ''hash'')']) AS x
UNION ALL
-- (migrate_store then makes anew what is there: 42P07, 42701)
SELECT 'a layout that lies', format('UPDATE order_store.store SET layout = %L', v), '42P07 42701', true
FROM (SELECT DISTINCT target AS v FROM pg_extension_update_paths('order_proc') UNION SELECT DISTINCT source FROM pg_extension_update_paths('order_proc')) AS v
WHERE v <> (SELECT layout FROM order_store.store)
UNION ALL
SELECT 'a placement that lies', 'UPDATE order_store.store SET placement = ''modulo''', '23514', true
UNION ALL
SELECT 'the schema', x, 'OP001', true FROM unnest(ARRAY[
  'ALTER SCHEMA order_store RENAME TO renamed',
  'DROP SCHEMA order_store CASCADE',
  'DROP SCHEMA order_store CASCADE; CREATE SCHEMA order_store',
  'DROP SCHEMA order_store CASCADE; CREATE SCHEMA order_store; CREATE TABLE order_store.orders ()',
  'DROP SCHEMA order_store CASCADE; CREATE SCHEMA order_store; CREATE VIEW order_store.store AS SELECT ''1.4''::text AS layout, ''hash''::text AS placement']) AS x;

SELECT format('INSERT INTO answers SELECT * FROM answer(%s, %L, %L)', id, path, sql) FROM changes, unnest(ARRAY['on', 'off']) AS path ORDER BY id, path \gexec
RESET order_proc.fast_path;
SELECT is((SELECT string_agg(DISTINCT format('%s %s: %s', sql, state, message), E'\n') FROM answers JOIN changes ON id = change WHERE answers.call = 0), NULL, 'every change could be made');

-- What calls answer that were refused before the change, too, stays their answer.
CREATE VIEW strays AS
SELECT k.kind, k.sql, c.name, a.path, a.state, a.said, b.said AS before, a.message, a.hint, k.moved
FROM answers AS a JOIN changes AS k ON k.id = a.change JOIN calls AS c ON c.id = a.call JOIN answers AS b ON b.change = 0 AND b.path = a.path AND b.call = a.call
WHERE NOT CASE
  WHEN a.state ~ '^OP00[12]$' THEN (a.state = 'OP002' OR k.also ~ 'OP001') AND COALESCE(a.hint, '') <> ''
  -- These are plain statements.
  WHEN c.name IN ('record_status_change', 'statuses_changed') AND a.state ~ '^(ok|42|22P02|22001)' THEN true
  WHEN a.state = b.state THEN k.moved OR (a.said, a.message) IS NOT DISTINCT FROM (b.said, b.message) OR a.said IS NULL
  -- The place was taken, and is not.
  WHEN c.name = 'create_store' THEN a.state = 'ok' AND k.kind = 'the schema'
  WHEN k.moved AND a.state = 'ok' AND b.state <> 'ok' THEN true
  ELSE a.state = ANY (string_to_array(k.also, ' ')) END;
SELECT cmp_ok((SELECT count(*) FROM answers), '>', 20000::bigint, 'calls under every change, with the fast path and without');
-- One line for each kind of change.
SELECT is((SELECT string_agg(format('%s: %s with fast_path %s: %s %s', sql, name, path, state, COALESCE(message, format('%s, not %s', left(said, 200), left(before, 200)))), E'\n')
           FROM (SELECT * FROM strays WHERE strays.kind = c.kind ORDER BY sql, name, path LIMIT 10) AS s),
          NULL, kind) FROM changes AS c GROUP BY kind ORDER BY kind COLLATE "C";

SELECT * FROM finish();
DROP SCHEMA altered CASCADE;
DROP EXTENSION order_proc CASCADE;
DROP SCHEMA order_store CASCADE;
