\set ECHO none
-- The chain of layouts, up and down: every adjacent pair leaves catalog and data as they were, a fresh store equals an upgraded
-- one, an old dump under a newer extension is noticed and mended, names are split, kept in step, backfilled and joined again.
-- The versions are those that the scripts offer.
\pset format unaligned
\pset tuples_only on
\set VERBOSITY terse
SET client_min_messages = warning;
SET TimeZone = 'UTC';
DROP EXTENSION IF EXISTS order_proc CASCADE;
DROP SCHEMA IF EXISTS order_store CASCADE;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE SCHEMA migrations;
SET search_path = migrations, public;
DROP ROLE IF EXISTS regress_op_owner, regress_op_app;
CREATE ROLE regress_op_owner;
CREATE ROLE regress_op_app;
SELECT no_plan();

CREATE VIEW pairs AS
SELECT source, target, string_to_array(source, '.')::int[] AS a, string_to_array(target, '.')::int[] AS b
FROM pg_extension_update_paths('order_proc') WHERE path = source || '--' || target;
CREATE VIEW ups AS SELECT * FROM pairs WHERE a < b;
CREATE VIEW versions AS
SELECT v AS version, string_to_array(v, '.')::int[] AS n FROM (SELECT source FROM pairs UNION SELECT target FROM pairs) AS s (v);
SELECT version AS newest FROM versions ORDER BY n DESC LIMIT 1 \gset
SELECT is((SELECT default_version FROM pg_available_extensions WHERE name = 'order_proc'), :'newest', 'the default version is the newest');
SELECT results_eq($$SELECT target, source FROM pairs WHERE a < b ORDER BY a$$, $$SELECT source, target FROM pairs WHERE a > b ORDER BY b$$, 'each step up has its step down');
SELECT is((SELECT count(*) FROM ups), (SELECT count(*) FROM versions) - 1, 'the steps are one chain');
SELECT ok(path IS NOT NULL, format('a way from %s to %s', source, target)) FROM pg_extension_update_paths('order_proc') WHERE path IS NULL;

CREATE FUNCTION outcome(sql text, OUT state text, OUT message text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE sql;
  RAISE SQLSTATE 'UNDO0';
EXCEPTION
  WHEN SQLSTATE 'UNDO0' THEN state := 'ok';
  WHEN OTHERS THEN GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
END $$;

-- Everything that the catalog says about the store, one line each; columns by name, since one that came back stands last.
CREATE FUNCTION shape() RETURNS TABLE (line text) LANGUAGE sql SET search_path = pg_catalog AS $$
WITH r AS (SELECT * FROM pg_class WHERE relnamespace = to_regnamespace('order_store'))
SELECT format('%s %s owner %s acl %s rls %s%s options %s persistence %s comment %s', relkind, relname, relowner::regrole, relacl, relrowsecurity, relforcerowsecurity, reloptions, relpersistence, obj_description(oid, 'pg_class')) FROM r
UNION ALL SELECT format('column %s.%s %s notnull %s default %s generated %s collation %s acl %s comment %s', relname, attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid), attgenerated, attcollation::regcollation, attacl, col_description(r.oid, attnum))
  FROM r JOIN pg_attribute AS a ON attrelid = r.oid AND attnum > 0 AND NOT attisdropped LEFT JOIN pg_attrdef ON adrelid = r.oid AND adnum = attnum WHERE relkind IN ('r', 'v')
UNION ALL SELECT format('constraint %s.%s %s validated %s', conrelid::regclass, conname, pg_get_constraintdef(c.oid), convalidated) FROM pg_constraint AS c JOIN r ON conrelid = r.oid
UNION ALL SELECT format('index %s valid %s', pg_get_indexdef(indexrelid), indisvalid) FROM pg_index JOIN r ON indrelid = r.oid
UNION ALL SELECT format('trigger %s enabled %s', pg_get_triggerdef(t.oid), tgenabled) FROM pg_trigger AS t JOIN r ON tgrelid = r.oid WHERE NOT tgisinternal
UNION ALL SELECT format('policy %s.%s %s %s %s', relname, polname, polcmd, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) FROM pg_policy JOIN r ON polrelid = r.oid
UNION ALL SELECT format('sequence %s.%s %s %s %s %s', sequencename, data_type, start_value, min_value, max_value, increment_by) FROM pg_sequences WHERE schemaname = 'order_store'
UNION ALL SELECT format('sequence %s of %s', d.objid::regclass, pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)) FROM pg_depend AS d JOIN r ON r.oid = d.objid WHERE relkind = 'S' AND deptype = 'a' AND classid = 'pg_class'::regclass
UNION ALL SELECT format('schema %s owner %s acl %s', nspname, nspowner::regrole, nspacl) FROM pg_namespace WHERE nspname IN ('order_store', 'order_proc')
UNION ALL SELECT format('member %s', pg_describe_object(d.classid, d.objid, d.objsubid)) FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass WHERE d.deptype = 'e' AND extname = 'order_proc'
UNION ALL SELECT format('function %s %s acl %s comment %s', oid::regprocedure, md5(CASE prokind WHEN 'a' THEN (SELECT a::text FROM pg_aggregate AS a WHERE aggfnoid = pg_proc.oid) ELSE pg_get_functiondef(oid) END), proacl, md5(obj_description(oid, 'pg_proc'))) FROM pg_proc WHERE pronamespace = to_regnamespace('order_proc') $$;
-- Every row of the store but the history of migrations; sequences, too.
CREATE FUNCTION data() RETURNS TABLE (line text) LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
  t regclass;
BEGIN
  FOR t IN SELECT oid FROM pg_class WHERE relnamespace = to_regnamespace('order_store') AND relkind = 'r' AND relname <> 'migrations' LOOP
    RETURN QUERY EXECUTE format('SELECT %L || '' '' || to_jsonb(x) FROM %s AS x', t, t);
  END LOOP;
  RETURN QUERY SELECT format('%s at %s', sequencename, last_value) FROM pg_sequences WHERE schemaname = 'order_store' AND sequencename <> 'migrations_id_seq';
END $$;
CREATE TABLE snapshots (taken text, line text);
CREATE FUNCTION snapshot(name text, with_data boolean DEFAULT true) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO migrations.snapshots SELECT name, line FROM migrations.shape();
  INSERT INTO migrations.snapshots SELECT name, line FROM migrations.data() WHERE with_data;
END $$;
CREATE FUNCTION differences(one text, other text) RETURNS text LANGUAGE sql AS $$
SELECT string_agg(line, E'\n') FROM (
  (SELECT '- ' || line AS line FROM migrations.snapshots WHERE taken = one EXCEPT ALL SELECT '- ' || line FROM migrations.snapshots WHERE taken = other) UNION ALL
  (SELECT '+ ' || line FROM migrations.snapshots WHERE taken = other EXCEPT ALL SELECT '+ ' || line FROM migrations.snapshots WHERE taken = one) LIMIT 20) AS d $$;

-- Fresh, upgraded, downgraded: empty stores, looked at from the inside.
CREATE PROCEDURE fresh(version text) LANGUAGE plpgsql AS $$
BEGIN
  DROP EXTENSION IF EXISTS order_proc CASCADE;
  DROP SCHEMA IF EXISTS order_store CASCADE;
  EXECUTE format('CREATE EXTENSION order_proc VERSION %L', version);
  PERFORM order_proc.create_store('regress_op_owner');
END $$;
CREATE PROCEDURE go(version text) LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('ALTER EXTENSION order_proc UPDATE TO %L', version); END $$;
SELECT format('CALL fresh(%L)', version), format('DO $d$ BEGIN PERFORM migrations.snapshot(%L); END $d$', 'fresh ' || version) FROM versions ORDER BY n \gexec
CALL fresh('1.0');
SELECT format('CALL go(%L)', target), format('DO $d$ BEGIN PERFORM migrations.snapshot(%L); END $d$', 'up to ' || target) FROM ups ORDER BY b \gexec
SELECT format('CALL go(%L)', source), format('DO $d$ BEGIN PERFORM migrations.snapshot(%L); END $d$', 'down to ' || source) FROM ups ORDER BY b DESC \gexec
CREATE FUNCTION timeless() RETURNS void LANGUAGE sql AS $$
UPDATE migrations.snapshots SET line = regexp_replace(line, '"created_at": "[^"]*"', '"created_at": "then"') WHERE line ~ '^order_store\.store ' $$;
SELECT timeless() \g /dev/null
SELECT is(differences('fresh ' || target, 'up to ' || target), NULL, format('a store upgraded to %s is like a fresh one', target)) FROM ups ORDER BY b;
SELECT is(differences('fresh ' || source, 'down to ' || source), NULL, format('a store downgraded to %s is like a fresh one', source)) FROM ups ORDER BY b DESC;
SELECT cmp_ok((SELECT count(*) FROM snapshots WHERE taken = 'fresh 1.0'), '>', 150::bigint, 'the comparison sees something');
SELECT isnt(differences('fresh 1.0', 'fresh ' || version), NULL, 'and tells 1.0 from ' || version) FROM versions WHERE version <> '1.0' ORDER BY n;
SELECT is((SELECT string_agg(DISTINCT line, ', ') FROM snapshots WHERE line ~ '^member .*order_store'), NULL, 'nothing of the store is a member of the extension, at any version');
SELECT is((SELECT string_agg(format('%s %s', version, direction), ', ' ORDER BY id) FROM order_proc.migration_history),
          (SELECT '1.0 up' || string_agg(', ' || target || ' up', '' ORDER BY b) || string_agg(', ' || source || ' down', '' ORDER BY b DESC) FROM ups),
          'the history has each step');
SELECT is((SELECT string_agg(DISTINCT applied_by, ', ') FROM order_proc.migration_history), current_user::text, 'and who took it');
SELECT ok(bool_and(duration >= '0' AND applied_at BETWEEN now() - interval '1 hour' AND clock_timestamp()), 'how long it took, and when') FROM order_proc.migration_history;
SELECT ok(NOT has_schema_privilege('regress_op_owner', 'order_proc', 'CREATE') AND has_schema_privilege('regress_op_owner', 'order_proc', 'USAGE'), 'the owner has USAGE on the code, no CREATE');
SELECT is((SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'order_store'), 'regress_op_owner', 'and owns the data');
SELECT is((SELECT string_agg(relname, ', ') FROM pg_class WHERE relnamespace = to_regnamespace('order_store') AND relkind IN ('r', 'S') AND relowner <> 'regress_op_owner'::regrole), NULL, 'all of it');

-- Every adjacent pair, up, down, up, with data and with things of the owner's own on the tables.
TRUNCATE snapshots;
CALL fresh('1.0');
CREATE TABLE seen (fired_as text, super boolean);
GRANT INSERT ON seen TO PUBLIC;
GRANT USAGE ON SCHEMA migrations TO PUBLIC;
SET ROLE regress_op_owner;
ALTER TABLE order_store.orders ADD COLUMN warehouse text DEFAULT 'north', ADD COLUMN doubled numeric GENERATED ALWAYS AS (total_amount * 2) STORED;
ALTER TABLE order_store.customers ADD COLUMN vip boolean NOT NULL DEFAULT false, ALTER COLUMN email SET STATISTICS 500;
CREATE INDEX customers_lower_email ON order_store.customers (lower(email));
CREATE POLICY everybody ON order_store.customers USING (true) WITH CHECK (true);
COMMENT ON COLUMN order_store.customers.email IS 'as given';
ALTER TABLE order_store.orders SET (fillfactor = 90);
GRANT SELECT (id, email) ON order_store.customers TO regress_op_app;
CREATE FUNCTION order_store.watch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO migrations.seen SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user;
  RETURN NEW;
END $$;
CREATE TRIGGER watch BEFORE INSERT OR UPDATE ON order_store.customers FOR EACH ROW EXECUTE FUNCTION order_store.watch();
CREATE TABLE order_store.own (order_id bigint REFERENCES order_store.orders ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED, remark text);
CREATE VIEW order_store.emails AS SELECT id, email FROM order_store.customers;
RESET ROLE;
-- Users' views on the functions never stand in the way.
CREATE VIEW order_view AS SELECT o.*, g AS whole FROM order_proc.list_orders() AS o, LATERAL order_proc.get_order_with_items(o.id) AS g;
CREATE VIEW counts_view AS SELECT * FROM order_proc.order_counts();
SELECT order_proc.create_customer('Ana', 'de la Cruz', 'ana@example.org', 1), order_proc.create_customer('Cher', NULL), order_proc.create_customer(NULL, NULL),
       order_proc.create_customer(NULL, 'Ng'), order_proc.create_customer('', NULL), order_proc.create_customer('  padded ', ' twice  ') \g /dev/null
SELECT order_proc.create_order_with_items(1, NULL, NULL, '{7,8}', '{1,2}', '{1.50,2.25}', idempotency_key => 'k'), order_proc.create_order_with_items(2, 'paid', 12.34, '{9}', '{3}', '{1}') \g /dev/null
SELECT order_proc.update_order_status(5958, 'paid') \g /dev/null
INSERT INTO order_store.own VALUES (5958, 'x');

SELECT CASE target WHEN '1.4' THEN 'CALL order_proc.backfill_customer_names()' END,
       format('DO $d$ BEGIN PERFORM migrations.snapshot(%L); END $d$', format('%s before %s', source, target)),
       format('CALL go(%L)', target), format('DO $d$ BEGIN PERFORM migrations.snapshot(%L); END $d$', format('%s after %s', target, source)),
       format('CALL go(%L)', source), format('DO $d$ BEGIN PERFORM migrations.snapshot(%L); END $d$', format('%s after %s', source, target)),
       format('CALL go(%L)', target), format('DO $d$ BEGIN PERFORM migrations.snapshot(%L); END $d$', format('%s once more', target)),
       format('SELECT is(count(*), 2::bigint, %L) FROM migrations.order_view AS o, migrations.counts_view AS c WHERE c.status = ''paid''', 'views of users read orders at ' || target)
FROM ups ORDER BY b \gexec
SELECT is(differences(format('%s before %s', source, target), format('%s after %s', source, target)), NULL, format('%s to %s and back leaves catalog and data as they were', source, target)) FROM ups ORDER BY b;
SELECT is(differences(format('%s after %s', target, source), format('%s once more', target)), NULL, format('%s, %s and %s again: no difference', target, source, target)) FROM ups ORDER BY b;
-- All the way down, and up again.
SELECT format('CALL go(%L)', source), format('DO $d$ BEGIN PERFORM migrations.snapshot(%L); END $d$', source || ' down') FROM ups ORDER BY b DESC \gexec
SELECT is(differences('1.0 before 1.1', '1.0 down'), NULL, 'at 1.0 again, with the data of 1.0');
SELECT CASE target WHEN '1.4' THEN 'CALL order_proc.backfill_customer_names()' END, format('CALL go(%L)', target) FROM ups ORDER BY b \gexec
SELECT snapshot('newest again') \g /dev/null
SELECT is(differences(:'newest' || ' once more', 'newest again'), NULL, 'and at the newest with the same data');
SELECT results_eq($$SELECT id, first_name, last_name FROM order_store.customers ORDER BY id$$,
  $$VALUES (1::bigint, 'Ana', 'de la Cruz'), (2, 'Cher', NULL), (3, NULL, NULL), (4, 'Ng', NULL), (5, '', NULL), (6, '  padded', '  twice  ')$$, 'names came through all of it');
SELECT results_eq($$SELECT customer_name, total_amount FROM order_store.orders ORDER BY customer_id$$, $$VALUES ('Ana de la Cruz', 6.00), ('Cher', 12.34)$$, 'and so did the orders');
SELECT is((SELECT count(*) FROM order_store.order_status_history), 1::bigint, 'and their history');
SELECT is((SELECT string_agg(DISTINCT fired_as || CASE WHEN super THEN ' (super)' ELSE '' END, ', ') FROM seen WHERE fired_as <> current_user), 'regress_op_owner', 'the owner''s trigger was run by the steps, as the owner');
DROP VIEW order_view, counts_view;

-- All the way in one command; a step that fails takes the whole way back.
CALL fresh('1.0');
ALTER EXTENSION order_proc UPDATE;
SELECT is(order_proc.schema_version(), :'newest', 'an empty store goes from 1.0 to the newest in one command');
SELECT is((SELECT extversion FROM pg_extension WHERE extname = 'order_proc'), :'newest', 'the extension, too');
ALTER EXTENSION order_proc UPDATE TO '1.0';
SELECT is(order_proc.schema_version(), '1.0', 'and back in one');
SET ROLE regress_op_owner;
ALTER TABLE order_store.orders ADD COLUMN notes int;
RESET ROLE;
DELETE FROM snapshots;
SELECT snapshot('before') \g /dev/null
SELECT is((outcome('CALL migrations.go(''1.2'')')).state, '42701', 'a column of the owner''s in the way of 1.2');
ALTER EXTENSION order_proc UPDATE TO '1.2';
SELECT snapshot('after') \g /dev/null
SELECT is(differences('before', 'after'), NULL, 'a way that fails at its second step leaves nothing of the first behind');
SELECT is((SELECT extversion FROM pg_extension WHERE extname = 'order_proc'), '1.0', 'and the extension where it was');
-- Caught in a script or a block, what comes after is as it should be.
DO $$ BEGIN ALTER EXTENSION order_proc UPDATE TO '1.2'; EXCEPTION WHEN duplicate_column THEN CREATE TABLE order_store.mine (); ALTER EXTENSION order_proc UPDATE TO '1.1'; END $$;
SELECT is(order_proc.schema_version(), '1.1', 'another way after a failure that was caught');
SELECT is((SELECT count(*) FROM pg_depend WHERE objid = 'order_store.mine'::regclass AND deptype = 'e'), 0::bigint, 'what is made after a failure that was caught is no member');
DROP TABLE order_store.mine;
-- Without a store the chain is code only.
DROP EXTENSION order_proc CASCADE;
DROP SCHEMA order_store CASCADE;
CREATE EXTENSION order_proc VERSION '1.0';
ALTER EXTENSION order_proc UPDATE;
ALTER EXTENSION order_proc UPDATE TO '1.1';
SELECT is((outcome('SELECT order_proc.schema_version()')).state, 'OP001', 'the chain goes up and down without a store');
SELECT order_proc.create_store() \g /dev/null
SELECT is(order_proc.schema_version(), '1.1', 'a store is made at the layout of the installed version');

-- Each layout: versions, notes, customers.
CREATE FUNCTION at_layout(v text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  n int[] := string_to_array(v, '.')::int[];
  o bigint;
BEGIN
  RETURN NEXT is(order_proc.schema_version(), v, v || ': schema_version');
  RETURN NEXT is((outcome('SELECT order_proc.require_version(''1.0'')')).state, 'ok', v || ': 1.0 is required');
  RETURN NEXT is((outcome(format('SELECT order_proc.require_version(%L)', v))).state, 'ok', v || ': itself is required');
  RETURN NEXT is((outcome(format('SELECT order_proc.require_version(''1.%s'')', n[2] + 1))).state, 'OP003', v || ': the next is required');
  RETURN NEXT is((outcome('SELECT order_proc.require_version(''1.10'')')).state, 'OP003', v || ': 1.10 is not older than 1.2');
  RETURN NEXT ok((outcome('SELECT order_proc.require_version(''9.0'')')).hint <> '', v || ': with a hint');
  PERFORM order_proc.create_customer('Ana', 'de la Cruz', 'ana@example.org', 1);
  PERFORM order_proc.create_customer('Cher', NULL, NULL, 2);
  PERFORM order_proc.create_customer(NULL, NULL, 'x@example.org', 3);
  PERFORM order_proc.create_customer(NULL, 'Ng', NULL, 4);
  o := order_proc.create_order_with_items(1, NULL, NULL, '{7,8}', '{1,2}', '{1.50,2.25}');
  RETURN NEXT is((order_proc.get_order(o)).notes, NULL, v || ': no notes');
  RETURN NEXT is((order_proc.get_order(o)).customer_name, 'Ana de la Cruz', v || ': the name is copied');
  RETURN NEXT is((order_proc.get_order(o)).customer_email, 'ana@example.org', v || ': the email is copied');
  PERFORM order_proc.create_order_with_items(c, NULL, NULL, '{7}', '{1}', '{1}') FROM generate_series(2, 4) AS c;
  RETURN NEXT is((SELECT string_agg(concat_ws('|', customer_id, customer_name), ', ' ORDER BY customer_id) FROM order_proc.list_orders() WHERE customer_id > 1), '2|Cher, 3, 4|Ng', v || ': half a name and none');
  FOREACH o IN ARRAY ARRAY[0, 1] LOOP
    PERFORM set_config('order_proc.fast_path', (o = 0)::text, true);
    RETURN NEXT is((outcome('SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{7}'', ''{1}'', ''{1}'', ''a note'')')).state, CASE WHEN n < '{1,2}' THEN '0A000' ELSE 'ok' END, v || ': with notes');
    RETURN NEXT is((outcome('DO $b$ DECLARE o bigint := order_proc.create_order_with_items(1, NULL, NULL, ''{7}'', ''{1}'', ''{1}'', ''''); BEGIN ASSERT (order_proc.get_order_with_items(o)).notes = ''''; END $b$')).state, CASE WHEN n < '{1,2}' THEN '0A000' ELSE 'ok' END, v || ': with an empty note');
  END LOOP;
  PERFORM set_config('order_proc.fast_path', 'on', true);
  IF n < '{1,3}' THEN
    RETURN NEXT results_eq('SELECT name FROM order_store.customers ORDER BY id', 'VALUES (''Ana de la Cruz''), (''Cher''), (NULL), (''Ng'')', v || ': names in one');
  END IF;
  IF n >= '{1,3}' THEN
    RETURN NEXT results_eq('SELECT first_name, last_name FROM order_store.customers ORDER BY id', 'VALUES (''Ana'', ''de la Cruz''), (''Cher'', NULL), (NULL, NULL), (NULL, ''Ng'')', v || ': names in two parts');
  END IF;
  IF n = '{1,3}' THEN
    RETURN NEXT results_eq('SELECT name FROM order_store.customers ORDER BY id', 'VALUES (''Ana de la Cruz''), (''Cher''), (NULL), (''Ng'')', v || ': and in one');
  END IF;
  RETURN NEXT is((SELECT count(*) FROM order_proc.list_orders()), 4::bigint, v || ': a list');
  RETURN NEXT is((SELECT count(*) FROM order_proc.list_orders_after(2)), 2::bigint, v || ': a page');
END $$;
SELECT format('CALL fresh(%L)', version), format('SELECT * FROM at_layout(%L)', version) FROM versions ORDER BY n \gexec

-- An old dump under the newest extension: rows and triggers of the old layout, functions of the new.
-- Each call is a transaction, so that CREATE EXTENSION finds the store there.
CREATE PROCEDURE fill() LANGUAGE plpgsql AS $$
BEGIN
  PERFORM order_proc.create_customer('Ana', 'de la Cruz', 'ana@example.org', 1), order_proc.create_customer('Cher', NULL, NULL, 2), order_proc.create_customer(NULL, NULL, NULL, 3);
  PERFORM order_proc.create_order_with_items(1, NULL, NULL, '{7,8}', '{1,2}', '{1.50,2.25}', idempotency_key => 'k');
  PERFORM order_proc.update_order_status(5958, 'paid');
  IF order_proc.schema_version() = '1.3' THEN
    CALL not_backfilled(4, 'not backfilled');
  END IF;
END $$;
-- A customer from before 1.3.
CREATE PROCEDURE not_backfilled(id bigint, name text) LANGUAGE plpgsql AS $$
BEGIN
  ALTER TABLE order_store.customers DISABLE TRIGGER sync_customer_name, DROP CONSTRAINT IF EXISTS customers_names_backfilled;
  INSERT INTO order_store.customers (id, name) VALUES ($1, $2);
  ALTER TABLE order_store.customers ENABLE TRIGGER sync_customer_name, ADD CONSTRAINT customers_names_backfilled CHECK (name IS NULL OR first_name IS NOT NULL OR last_name IS NOT NULL) NOT VALID;
END $$;
CREATE PROCEDURE dump_and_restore() LANGUAGE plpgsql AS $$
DECLARE
  commands text[];
  c text;
BEGIN
  SELECT array_agg(pg_get_triggerdef(t.oid) || CASE tgenabled WHEN 'A' THEN format('; ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', tgrelid::regclass, tgname) ELSE '' END)
    INTO commands FROM pg_trigger AS t JOIN pg_class AS r ON r.oid = tgrelid WHERE relnamespace = to_regnamespace('order_store') AND NOT tgisinternal;
  DROP EXTENSION order_proc CASCADE;
  CREATE EXTENSION order_proc;
  FOREACH c IN ARRAY commands LOOP
    EXECUTE c;
  END LOOP;
END $$;
CREATE FUNCTION old_dump(v text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  newest text := (SELECT version FROM versions ORDER BY n DESC LIMIT 1);
  c text;
  n int[] := string_to_array(v, '.')::int[];
BEGIN
  RETURN NEXT is(order_proc.schema_version(), v, v || ': an old dump keeps its layout');
  FOREACH c IN ARRAY ARRAY['SELECT order_proc.list_orders()', 'SELECT order_proc.get_order(5958)', 'SELECT order_proc.get_order_with_items(5958)', 'SELECT order_proc.create_customer(''a'', ''b'')',
      'SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{7}'', ''{1}'', ''{1}'')', 'SELECT order_proc.update_order_status(5958, ''processing'')', 'SELECT order_proc.delete_order(5958)', 'SELECT order_proc.order_counts()'] LOOP
    RETURN NEXT is((SELECT concat_ws(' ', state, hint) FROM outcome(c)), CASE v WHEN newest THEN 'ok' ELSE 'OP002 SELECT order_proc.migrate_store();' END, format('%s: %s', v, c));
  END LOOP;
  RETURN NEXT is((outcome('UPDATE order_store.orders SET status = ''shipped''')).state, 'ok', v || ': a plain UPDATE goes on');
  RETURN NEXT is((outcome('INSERT INTO order_store.customers (id, email) VALUES (77, ''x'')')).state, 'ok', v || ': a plain INSERT goes on');
  RETURN NEXT is(order_proc.migrate_store(v), v, v || ': migrate_store to where it is');
  RETURN NEXT is(order_proc.migrate_store(), newest, v || ': migrate_store');
  RETURN NEXT is(order_proc.schema_version(), newest, v || ': the layout afterwards');
  RETURN NEXT results_eq('SELECT id, first_name, last_name FROM order_store.customers WHERE id < 4 ORDER BY id', 'VALUES (1::bigint, ''Ana'', ''de la Cruz''), (2, ''Cher'', NULL), (3, NULL, NULL)', v || ': names are split');
  IF v = '1.3' THEN
    RETURN NEXT results_eq('SELECT first_name, last_name FROM order_store.customers WHERE id = 4', 'VALUES (''not'', ''backfilled'')', v || ': those not backfilled, too');
  END IF;
  RETURN NEXT is((order_proc.get_order_with_items(5958)).items::text, '[{"id":1,"product_id":7,"quantity":1,"price":1.50},{"id":2,"product_id":8,"quantity":2,"price":2.25}]', v || ': the order');
  RETURN NEXT is(order_proc.create_order_with_items(1, NULL, NULL, '{7,8}', '{1,2}', '{1.50,2.25}', idempotency_key => 'k'), 5958::bigint, v || ': its idempotency key');
  RETURN NEXT is((SELECT string_agg(line, E'\n') FROM migrations.shape() WHERE line NOT IN (SELECT line FROM migrations.snapshots WHERE taken = 'fresh')), NULL, v || ': the catalog is that of a fresh store');
  RETURN NEXT is((SELECT string_agg(line, E'\n') FROM migrations.snapshots WHERE taken = 'fresh' AND line NOT IN (SELECT line FROM migrations.shape())), NULL, v || ': all of it');
  RETURN NEXT is((SELECT version || ' ' || direction || ' ' || applied_by FROM order_proc.migration_history ORDER BY id DESC LIMIT 1), newest || ' up ' || current_user, v || ': and in the history');
  RETURN NEXT is(order_proc.migrate_store(), newest, v || ': once more changes nothing');
END $$;
CALL fresh(:'newest');
DELETE FROM snapshots;
SELECT snapshot('fresh', false) \g /dev/null
SELECT format('CALL fresh(%L)', version), 'CALL fill()', 'CALL dump_and_restore()', format('SELECT * FROM old_dump(%L)', version) FROM versions ORDER BY n \gexec
-- By the owner, who is no superuser; only as far as asked; nobody else.
CALL fresh('1.0');
CALL fill();
CALL dump_and_restore();
GRANT EXECUTE ON FUNCTION order_proc.migrate_store(text) TO regress_op_owner, regress_op_app;
SET ROLE regress_op_app;
SELECT is((outcome('SELECT order_proc.migrate_store()')).state, '42501', 'migrate_store is the owner''s');
SET ROLE regress_op_owner;
SELECT is(order_proc.migrate_store('1.2'), '1.2', 'the owner, as far as asked');
SELECT is(order_proc.migrate_store(), :'newest', 'the owner, to the end');
RESET ROLE;
SELECT is((SELECT string_agg(line, E'\n') FROM shape() WHERE line !~ '^function .*migrate_store' AND line NOT IN (SELECT line FROM snapshots WHERE taken = 'fresh')), NULL, 'the catalog is that of a fresh store');
SELECT is((SELECT string_agg(version || ' ' || applied_by, ', ' ORDER BY id) FROM order_proc.migration_history WHERE version <> '1.0'),
          (SELECT string_agg(target || ' regress_op_owner', ', ' ORDER BY b) FROM ups), 'the history says that it was the owner');
SELECT is((SELECT concat_ws(' ', state, hint) FROM outcome('SELECT order_proc.migrate_store(''1.2'')')), '22023 The way down is ALTER EXTENSION order_proc UPDATE TO ''1.2'';', 'migrate_store does not go down');
-- A lagging store and ALTER EXTENSION: only a step from exactly its layout is taken.
CALL fresh('1.2');
CALL fill();
CALL dump_and_restore();
ALTER EXTENSION order_proc UPDATE TO '1.3';
SELECT is(order_proc.schema_version(), '1.2', 'a step down leaves a store that is not there');
ALTER EXTENSION order_proc UPDATE TO '1.2';
SELECT is((order_proc.get_order(5958)).status, 'paid', 'an extension brought down to the store works on it');
ALTER EXTENSION order_proc UPDATE TO '1.1';
SELECT is(order_proc.schema_version(), '1.1', 'and takes it along from there');
-- A store that is newer than the extension.
CALL fresh(:'newest');
SELECT order_proc.create_customer('a', 'b') \g /dev/null
DROP EXTENSION order_proc CASCADE;
CREATE EXTENSION order_proc VERSION '1.0';
SELECT is(order_proc.schema_version(), :'newest', 'CREATE EXTENSION of an old version leaves a newer store alone');
SELECT is((SELECT concat_ws(' ', state, hint) FROM outcome('SELECT order_proc.list_orders()')), format('OP002 ALTER EXTENSION order_proc UPDATE TO ''%s'';', :'newest'), 'the functions say what to run');
SELECT is((outcome('SELECT order_proc.migrate_store()')).state, '55000', 'migrate_store does not bring it down');
SELECT is((outcome('SELECT order_proc.migrate_store(''1.0'')')).state, '55000', 'nor when asked to');
ALTER EXTENSION order_proc UPDATE;
SELECT order_proc.migrate_store() \g /dev/null
SELECT is((SELECT count(*) FROM order_proc.list_orders()), 0::bigint, 'and it works again');

-- DROP EXTENSION.
CALL fresh(:'newest');
SELECT order_proc.create_customer('Ana', 'de la Cruz', 'ana@example.org', 1), order_proc.create_order_with_items(1, NULL, NULL, '{7,8}', '{1,2}', '{1.50,2.25}', 'note', 'k') \g /dev/null
DELETE FROM snapshots;
SELECT snapshot('before') \g /dev/null
SELECT is((outcome('DROP EXTENSION order_proc')).state, '2BP01', 'DROP EXTENSION refuses while there is a store');
DROP EXTENSION order_proc CASCADE;
INSERT INTO snapshots SELECT 'dropped', line FROM data();
SELECT is((SELECT string_agg(line, E'\n') FROM snapshots AS s WHERE taken = 'before' AND line ~ '^order_store' AND NOT EXISTS (SELECT FROM snapshots AS t WHERE taken = 'dropped' AND t.line = s.line)), NULL, 'CASCADE removes no row');
SELECT is((outcome('UPDATE order_store.orders SET notes = ''x''; INSERT INTO order_store.customers (id) VALUES (77)')).state, 'ok', 'the tables are tables without the extension');
CREATE EXTENSION order_proc;
SELECT is((SELECT concat_ws(' ', state, hint) FROM outcome(c)), 'OP002 SELECT order_proc.migrate_store();', 'after CASCADE and CREATE EXTENSION: ' || c)
FROM unnest(ARRAY['SELECT order_proc.get_order(5958)', 'SELECT order_proc.list_orders()', 'SELECT order_proc.update_order_status(5958, ''paid'')', 'SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{7}'', ''{1}'', ''{1}'')', 'SELECT order_proc.create_customer(''a'', ''b'')']) AS c;
SELECT is(order_proc.migrate_store(), :'newest', 'migrate_store mends it');
SELECT snapshot('after') \g /dev/null
SELECT is(differences('before', 'after'), NULL, 'catalog and data are as before');
SELECT is(order_proc.update_order_status(5958, 'paid'), 'pending', 'and it works');
SELECT is((SELECT count(*) FROM order_store.order_status_history), 1::bigint, 'with history');
-- The same at each older version.
CREATE FUNCTION mended(v text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
  RETURN NEXT is((SELECT concat_ws(' ', state, hint) FROM outcome('SELECT order_proc.get_order(5958)')), 'OP002 SELECT order_proc.migrate_store();', v || ' dropped and made again: OP002');
  RETURN NEXT is(order_proc.migrate_store(), v, v || ': mended');
  PERFORM snapshot('mended');
  RETURN NEXT is(differences(v, 'mended'), NULL, v || ': as before');
  RETURN NEXT is((order_proc.get_order(5958)).status, 'paid', v || ': it works');
END $$;
SELECT 'DELETE FROM snapshots', format('CALL fresh(%L)', version), 'CALL fill()', format('DO $d$ BEGIN PERFORM snapshot(%L); DROP EXTENSION order_proc CASCADE; CREATE EXTENSION order_proc VERSION %1$L; END $d$', version), format('SELECT * FROM mended(%L)', version) FROM versions ORDER BY n \gexec

-- The contract: 1.4 refuses while a row is not backfilled.
CALL fresh('1.2');
INSERT INTO order_store.customers (id, name) VALUES (1, 'Ana de la Cruz'), (2, NULL), (3, ''), (4, 'Cher'), (5, ' a  b '), (6, 'x '), (7, ' '), (8, E'tab\there too'), (9, 'Zoë Ü');
\set hint 'ALTER EXTENSION order_proc UPDATE TO ''1.3''; CALL order_proc.backfill_customer_names(); ALTER EXTENSION order_proc UPDATE;'
SELECT results_eq($$SELECT state, hint FROM migrations.outcome('ALTER EXTENSION order_proc UPDATE')$$, format('SELECT %L, %L', '55000', :'hint'), '1.2 to the newest refuses with the way to go');
SELECT results_eq($$SELECT state, hint FROM migrations.outcome('ALTER EXTENSION order_proc UPDATE TO ''1.4''')$$, format('SELECT %L, %L', '55000', :'hint'), '1.2 to 1.4, too');
ALTER EXTENSION order_proc UPDATE TO '1.3';
SELECT results_eq($$SELECT state, hint FROM migrations.outcome('ALTER EXTENSION order_proc UPDATE TO ''1.4''')$$, format('SELECT %L, %L', '55000', :'hint'), '1.3 to 1.4 before the backfill, too');
SELECT ok((SELECT bool_and(first_name IS NULL AND last_name IS NULL) FROM order_store.customers), 'the expansion leaves rows alone');
SELECT ok(NOT convalidated, 'the CHECK is not validated yet') FROM pg_constraint WHERE conname = 'customers_names_backfilled';
-- The way that the hint tells, as it is told.
BEGIN;
SELECT is((outcome('CALL order_proc.backfill_customer_names()')).state, '2D000', 'the backfill does not run in a transaction block');
ROLLBACK;
-- Interrupted: what is committed stays, called again it goes on.
CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id = 5 THEN RAISE 'not this one'; END IF; RETURN NEW; END $$;
CREATE TRIGGER stop BEFORE UPDATE ON order_store.customers FOR EACH ROW EXECUTE FUNCTION stop();
CALL order_proc.backfill_customer_names(2);
SELECT results_eq($$SELECT id FROM order_store.customers WHERE first_name IS NOT NULL ORDER BY id$$, $$VALUES (1::bigint), (3)$$, 'batches before the interruption are committed');
DROP TRIGGER stop ON order_store.customers;
CALL order_proc.backfill_customer_names(batch_size => 1, pause => '1 ms');
SELECT results_eq($$SELECT id, first_name, last_name FROM order_store.customers ORDER BY id$$,
$$VALUES (1::bigint, 'Ana', 'de la Cruz'), (2, NULL, NULL), (3, '', NULL), (4, 'Cher', NULL), (5, ' a', ' b '), (6, 'x', ''), (7, ' ', NULL), (8, E'tab\there', 'too'), (9, 'Zoë', 'Ü')$$, 'called again it goes on');
SELECT ok(convalidated, 'and ends with a validated CHECK') FROM pg_constraint WHERE conname = 'customers_names_backfilled';
SELECT is((SELECT count(*) FROM order_store.customers WHERE order_proc.full_name(first_name, last_name) IS DISTINCT FROM name), 0::bigint, 'the parts give the names back');
SELECT string_agg(xmin::text, ' ' ORDER BY id) AS written FROM order_store.customers \gset
CALL order_proc.backfill_customer_names();
SELECT is((SELECT string_agg(xmin::text, ' ' ORDER BY id) FROM order_store.customers), :'written', 'once more writes nothing');
ALTER EXTENSION order_proc UPDATE TO '1.4';
SELECT hasnt_column('order_store', 'customers', 'name', 'name is gone');
SELECT hasnt_trigger('order_store', 'customers', 'sync_customer_name', 'and the trigger');
ALTER EXTENSION order_proc UPDATE;
CALL order_proc.backfill_customer_names();
SELECT is((SELECT count(*) FROM pg_proc WHERE pronamespace = to_regnamespace('order_proc') AND proname IN ('backfill_customer_names', 'sync_customer_name')), 2::bigint, 'the backfill stays, and the trigger''s function for old dumps');
BEGIN;
SELECT is((outcome('CALL order_proc.backfill_customer_names()')).state, 'ok', 'where it has nothing to do it runs anywhere');
ROLLBACK;
UPDATE order_store.customers SET first_name = 'Anna Maria', last_name = 'Cruz' WHERE id = 1;
ALTER EXTENSION order_proc UPDATE TO '1.3';
SELECT results_eq($$SELECT id, name FROM order_store.customers ORDER BY id$$,
$$VALUES (1::bigint, 'Anna Maria Cruz'), (2, NULL), (3, ''), (4, 'Cher'), (5, ' a  b '), (6, 'x '), (7, ' '), (8, E'tab\there too'), (9, 'Zoë Ü')$$, '1.3 brings the names back');
SELECT results_eq($$SELECT first_name, last_name FROM order_store.customers WHERE id = 1$$, $$VALUES ('Anna Maria', 'Cruz')$$, 'and leaves the parts as they were put');
-- The CHECK of another making, or dropped, is no licence.
CALL not_backfilled(70, 'not backfilled');
ALTER TABLE order_store.customers DROP CONSTRAINT customers_names_backfilled;
SELECT is((outcome('ALTER EXTENSION order_proc UPDATE TO ''1.4''')).state, '55000', 'refused without the CHECK');
ALTER TABLE order_store.customers ADD CONSTRAINT customers_names_backfilled CHECK (true);
SELECT is((outcome('ALTER EXTENSION order_proc UPDATE TO ''1.4''')).state, '55000', 'refused with a CHECK of another making');
ALTER TABLE order_store.customers DROP CONSTRAINT customers_names_backfilled, ADD CONSTRAINT customers_names_backfilled CHECK (name IS NULL OR first_name IS NOT NULL OR last_name IS NOT NULL) NOT VALID;
SELECT is((outcome('ALTER EXTENSION order_proc UPDATE TO ''1.4''')).state, '55000', 'refused with the CHECK not validated');
CALL order_proc.backfill_customer_names();
SELECT is((outcome('ALTER EXTENSION order_proc UPDATE TO ''1.4''')).state, 'ok', 'and goes after the backfill');
ALTER TABLE order_store.customers DROP CONSTRAINT customers_names_backfilled;
CALL order_proc.backfill_customer_names();
SELECT is((outcome('ALTER EXTENSION order_proc UPDATE TO ''1.4''')).state, 'ok', 'and again');
SELECT is((SELECT string_agg(convalidated::text, ',') FROM pg_constraint WHERE conname = 'customers_names_backfilled'), 'true', 'the backfill brings the CHECK back when it was dropped');
-- Row security that would hide rows from the owner hides none from a step.
CALL not_backfilled(71, 'hidden away');
ALTER TABLE order_store.customers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SELECT is((outcome('ALTER EXTENSION order_proc UPDATE TO ''1.4''')).state, '55000', 'row security of the owner''s does not hide what is not backfilled from the contract');
CALL order_proc.backfill_customer_names();
SELECT results_eq('SELECT first_name, last_name FROM order_store.customers WHERE id = 71', $$VALUES ('hidden', 'away')$$, 'nor from the backfill');
ALTER EXTENSION order_proc UPDATE TO '1.4';
ALTER EXTENSION order_proc UPDATE TO '1.3';
SELECT results_eq('SELECT name FROM order_store.customers WHERE id = 71', $$VALUES ('hidden away')$$, 'nor from the way back');

-- Splitting, as the contract has it.
SELECT results_eq(format('SELECT order_proc.first_name(%1$L), order_proc.last_name(%1$L)', name), format('SELECT %L::text, %L::text', f, l), format('%s is split', replace(quote_nullable(name), E'\n', '\n')))
FROM (VALUES ('Ana de la Cruz', 'Ana', 'de la Cruz'), ('Ana', 'Ana', NULL), ('', '', NULL), (' ', ' ', NULL), ('   ', '   ', NULL), ('Ana ', 'Ana', ''), ('Ana  Maria', 'Ana', ' Maria'),
             (' Ana Maria', ' Ana', 'Maria'), ('  Ana', '  Ana', NULL), ('  Ana  ', '  Ana', ' '), ('a b c d', 'a', 'b c d'), (E'a\tb c', E'a\tb', 'c'), (E'a\nb', E'a\nb', NULL), ('Ü ñ', 'Ü', 'ñ'), (E'a\u00a0b c', E'a\u00a0b', 'c'), (NULL, NULL, NULL)) AS t (name, f, l);
SELECT is((SELECT string_agg(quote_literal(name), ', ') FROM (SELECT string_agg(CASE (i >> (2 * p)) & 3 WHEN 0 THEN ' ' WHEN 1 THEN 'a' WHEN 2 THEN 'é' ELSE '  ' END, '' ORDER BY p) AS name FROM generate_series(0, 4095) AS i, generate_series(0, 5) AS p GROUP BY i) AS s
           WHERE concat_ws(' ', order_proc.first_name(name), order_proc.last_name(name)) IS DISTINCT FROM name OR order_proc.full_name(order_proc.first_name(name), order_proc.last_name(name)) IS DISTINCT FROM name),
          NULL, 'joined by one blank, the parts of any name give it back');
SELECT is(order_proc.full_name(f, l), e, format('%L and %L are joined', f, l)) FROM (VALUES ('a', 'b', 'a b'), ('a', NULL, 'a'), (NULL, 'b', 'b'), (NULL, NULL, NULL), ('', '', ' '), ('a', '', 'a ')) AS t (f, l, e);

-- The trigger of 1.3, both ways.
CALL fresh('1.3');
CREATE FUNCTION in_step(statements text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r text;
BEGIN
  EXECUTE statements;
  SELECT concat(quote_nullable(name), ' = ', quote_nullable(first_name), ' + ', quote_nullable(last_name)) INTO r FROM order_store.customers;
  RAISE SQLSTATE 'UNDO0';
EXCEPTION
  WHEN SQLSTATE 'UNDO0' THEN RETURN r;
END $$;
SELECT is(in_step(replace(s, ':old', 'CALL migrations.not_backfilled(1, ''Ana Cruz'');')), e, s) FROM (VALUES
  ('INSERT INTO order_store.customers (name) VALUES (''Ana de la Cruz'')', '''Ana de la Cruz'' = ''Ana'' + ''de la Cruz'''),
  ('INSERT INTO order_store.customers (first_name, last_name) VALUES (''Ana'', ''de la Cruz'')', '''Ana de la Cruz'' = ''Ana'' + ''de la Cruz'''),
  ('INSERT INTO order_store.customers (first_name) VALUES (''Ana'')', '''Ana'' = ''Ana'' + NULL'),
  ('INSERT INTO order_store.customers (last_name) VALUES (''Cruz'')', '''Cruz'' = NULL + ''Cruz'''),
  ('INSERT INTO order_store.customers (name, first_name, last_name) VALUES (''x y'', ''Ana'', ''Cruz'')', '''Ana Cruz'' = ''Ana'' + ''Cruz'''),
  ('INSERT INTO order_store.customers (name, first_name) VALUES (''x y'', ''Ana'')', '''Ana'' = ''Ana'' + NULL'),
  ('INSERT INTO order_store.customers (email) VALUES (''e'')', 'NULL = NULL + NULL'),
  ('INSERT INTO order_store.customers (name) VALUES ('''')', ''''' = '''' + NULL'),
  ('INSERT INTO order_store.customers (name) VALUES (''Ana Cruz''); UPDATE order_store.customers SET name = ''Eva Sanz Gil''', '''Eva Sanz Gil'' = ''Eva'' + ''Sanz Gil'''),
  ('INSERT INTO order_store.customers (name) VALUES (''Ana Cruz''); UPDATE order_store.customers SET first_name = ''Eva''', '''Eva Cruz'' = ''Eva'' + ''Cruz'''),
  ('INSERT INTO order_store.customers (name) VALUES (''Ana Cruz''); UPDATE order_store.customers SET last_name = NULL', '''Ana'' = ''Ana'' + NULL'),
  ('INSERT INTO order_store.customers (name) VALUES (''Ana Cruz''); UPDATE order_store.customers SET first_name = NULL, last_name = NULL', 'NULL = NULL + NULL'),
  ('INSERT INTO order_store.customers (name) VALUES (''Ana Cruz''); UPDATE order_store.customers SET name = NULL', 'NULL = NULL + NULL'),
  ('INSERT INTO order_store.customers (name) VALUES (''Ana Cruz''); UPDATE order_store.customers SET name = ''x y'', first_name = ''Eva''', '''Eva Cruz'' = ''Eva'' + ''Cruz'''),
  ('INSERT INTO order_store.customers (name) VALUES (''Ana Cruz''); UPDATE order_store.customers SET name = ''x y'', first_name = ''Eva'', last_name = ''Gil''', '''Eva Gil'' = ''Eva'' + ''Gil'''),
  ('INSERT INTO order_store.customers (first_name, last_name) VALUES (''Ana Maria'', ''Cruz''); UPDATE order_store.customers SET email = ''e''', '''Ana Maria Cruz'' = ''Ana Maria'' + ''Cruz'''),
  ('INSERT INTO order_store.customers (first_name, last_name) VALUES (''Ana Maria'', ''Cruz''); UPDATE order_store.customers SET name = name', '''Ana Maria Cruz'' = ''Ana Maria'' + ''Cruz'''),
  -- rows from before, not backfilled yet
  (':old UPDATE order_store.customers SET email = ''e''', '''Ana Cruz'' = ''Ana'' + ''Cruz'''),
  (':old UPDATE order_store.customers SET name = ''Eva Gil''', '''Eva Gil'' = ''Eva'' + ''Gil'''),
  (':old UPDATE order_store.customers SET first_name = ''Eva''', '''Eva Cruz'' = ''Eva'' + ''Cruz'''),
  (':old UPDATE order_store.customers SET last_name = ''Gil''', '''Ana Gil'' = ''Ana'' + ''Gil'''),
  (':old UPDATE order_store.customers SET first_name = ''Eva'', last_name = ''Gil''', '''Eva Gil'' = ''Eva'' + ''Gil'''),
  (':old UPDATE order_store.customers SET name = NULL', 'NULL = NULL + NULL')) AS t (s, e);

-- The plan: what it lists, and what is worth running beforehand.
CALL fresh('1.0');
SELECT order_proc.create_customer('Ana', 'de la Cruz', NULL, 1), order_proc.create_order_with_items(1, NULL, NULL, '{7}', '{1}', '{1}') \g /dev/null
ANALYZE order_store.orders, order_store.customers;
SELECT is((SELECT count(*) FROM order_proc.migration_plan('1.0')), 0::bigint, 'nothing to do for the present layout');
SELECT results_eq(format('SELECT step FROM order_proc.migration_plan(%L)', :'newest'), format('SELECT generate_series(1, (SELECT count(*)::int FROM order_proc.migration_plan(%L)))', :'newest'), 'steps are numbered through');
SELECT is((SELECT string_agg(DISTINCT phase, ', ' ORDER BY phase) FROM order_proc.migration_plan(:'newest')), 'attach, change, prepare', 'in phases');
SELECT is((SELECT string_agg(p::text, E'\n') FROM order_proc.migration_plan(:'newest') AS p WHERE statement IS NULL OR lock_level IS NULL OR online IS NULL), NULL, 'each with its lock');
SELECT is((SELECT string_agg(DISTINCT lock_level, ', ') FROM order_proc.migration_plan(:'newest') WHERE lock_level <> 'none' AND lock_level !~ '^(AccessShare|RowShare|RowExclusive|ShareUpdateExclusive|Share|ShareRowExclusive|Exclusive|AccessExclusive)Lock$'), NULL, 'whose name PostgreSQL knows');
SELECT is((SELECT estimated_rows FROM order_proc.migration_plan('1.1') WHERE phase = 'prepare' LIMIT 1), 1::bigint, 'and the rows that it goes over');
SELECT is((SELECT string_agg(line, E'\n') FROM order_proc.migration_plan('1.1'), unnest(ARRAY[statement]) AS line WHERE phase = 'prepare' AND line !~ '^CREATE INDEX CONCURRENTLY IF NOT EXISTS '), NULL, 'the indexes can be built beforehand');
DELETE FROM snapshots;
SELECT snapshot('before') \g /dev/null
SELECT count(*) FROM order_proc.migration_plan(:'newest') \g /dev/null
SELECT snapshot('after') \g /dev/null
SELECT is(differences('before', 'after'), NULL, 'looking at the plan changes nothing');
SET ROLE regress_op_owner;
SELECT statement FROM order_proc.migration_plan('1.1') WHERE phase = 'prepare' \gexec
RESET ROLE;
CREATE TABLE indexes AS SELECT oid, relname, relfilenode FROM pg_class WHERE relnamespace = to_regnamespace('order_store') AND relkind = 'i';
SELECT is((SELECT count(*) FROM indexes WHERE relname ~ 'created_at'), 3::bigint, 'three indexes, built beforehand');
ALTER EXTENSION order_proc UPDATE TO '1.1';
SELECT is((SELECT count(*) FROM indexes JOIN pg_class USING (oid, relname, relfilenode)), (SELECT count(*) FROM indexes), 'and the script takes them as they are');
SELECT is((SELECT count(*) FROM pg_index WHERE indrelid = 'order_store.orders'::regclass), 4::bigint, 'making no other');
ALTER EXTENSION order_proc UPDATE TO '1.0';
-- An invalid one of an interrupted CONCURRENTLY.
CREATE INDEX orders_created_at_id_idx ON order_store.orders (created_at DESC, id DESC);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'order_store.orders_created_at_id_idx'::regclass;
SELECT is((SELECT phase || ': ' || statement FROM order_proc.migration_plan('1.1') WHERE step = 1), 'prepare: DROP INDEX CONCURRENTLY order_store.orders_created_at_id_idx', 'the plan prints first how to be rid of an invalid index');
SELECT results_eq($$SELECT state, hint FROM migrations.outcome('ALTER EXTENSION order_proc UPDATE TO ''1.1''')$$, $$VALUES ('55000', 'DROP INDEX CONCURRENTLY order_store.orders_created_at_id_idx;')$$, 'an invalid index is refused');
SELECT statement FROM order_proc.migration_plan('1.1') WHERE phase = 'prepare' \gexec
ALTER EXTENSION order_proc UPDATE TO '1.1';
SELECT ok(bool_and(indisvalid), 'the plan puts it right') FROM pg_index WHERE indrelid = 'order_store.orders'::regclass;
-- One of the right name and of another making is no licence; how it is stored is the owner's affair.
ALTER EXTENSION order_proc UPDATE TO '1.0';
CREATE FUNCTION index_judged(definition text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  r record;
BEGIN
  EXECUTE definition;
  SELECT * INTO r FROM migrations.outcome('ALTER EXTENSION order_proc UPDATE TO ''1.1''');
  IF r.state = '55000' THEN
    EXECUTE r.hint;
    IF (SELECT o.state FROM migrations.outcome('ALTER EXTENSION order_proc UPDATE TO ''1.1''') AS o) <> 'ok' THEN r.message := 'its hint does not help'; END IF;
  END IF;
  RAISE SQLSTATE 'UNDO0' USING MESSAGE = concat_ws(' ', r.state, r.message);
EXCEPTION
  WHEN SQLSTATE 'UNDO0' THEN RETURN SQLERRM;
END $$;
DROP INDEX IF EXISTS order_store.orders_created_at_id_idx, order_store.orders_customer_id_created_at_id_idx;
SELECT is(index_judged(definition), judgement, definition) FROM (VALUES
  ('CREATE INDEX orders_created_at_id_idx ON order_store.orders (created_at DESC, id DESC)', 'ok'),
  ('CREATE INDEX orders_created_at_id_idx ON order_store.orders (created_at DESC, id DESC) WITH (fillfactor = 80, deduplicate_items = off)', 'ok'),
  ('CREATE INDEX orders_created_at_id_idx ON order_store.orders (created_at, id)', '55000 "orders_created_at_id_idx" is not the index of layout 1.1'),
  ('CREATE INDEX orders_created_at_id_idx ON order_store.orders (id)', '55000 "orders_created_at_id_idx" is not the index of layout 1.1'),
  ('CREATE INDEX orders_created_at_id_idx ON order_store.orders (created_at DESC, id DESC) WITH (fillfactor = 80) WHERE id > 0', '55000 "orders_created_at_id_idx" is not the index of layout 1.1'),
  ('CREATE UNIQUE INDEX orders_created_at_id_idx ON order_store.orders (created_at DESC, id DESC)', '55000 "orders_created_at_id_idx" is not the index of layout 1.1'),
  ('CREATE INDEX orders_created_at_id_idx ON order_store.customers (created_at DESC, id DESC)', '55000 "orders_created_at_id_idx" is not the index of layout 1.1')) AS t (definition, judgement);
ALTER EXTENSION order_proc UPDATE TO '1.1';
SELECT statement FROM order_proc.migration_plan('1.0') WHERE phase = 'prepare' \gexec
SELECT is((SELECT count(*) FROM pg_index WHERE indrelid = 'order_store.orders'::regclass), 1::bigint, 'the indexes go beforehand as well');
ALTER EXTENSION order_proc UPDATE TO '1.0';
ALTER EXTENSION order_proc UPDATE TO '1.1';
-- The backfill and the names' way back.
ALTER EXTENSION order_proc UPDATE TO '1.3';
SELECT statement FROM order_proc.migration_plan('1.4') WHERE phase = 'prepare' \gexec
SELECT is((outcome('ALTER EXTENSION order_proc UPDATE TO ''1.4''')).state, 'ok', 'what the plan prepares suffices for 1.4');
ALTER EXTENSION order_proc UPDATE;
SELECT order_proc.create_customer('Eva', 'Gil', NULL, 2) \g /dev/null
SELECT cmp_ok((SELECT count(*) FROM order_proc.migration_plan('1.0')), '>', 5::bigint, 'the plan goes down, too');
ALTER EXTENSION order_proc UPDATE TO '1.4';
SELECT statement FROM order_proc.migration_plan('1.3') WHERE phase = 'prepare' \gexec
SELECT results_eq('SELECT name FROM order_store.customers ORDER BY id', $$VALUES ('Ana de la Cruz'), ('Eva Gil')$$, 'the names are joined beforehand, online');
SELECT results_eq($$SELECT conname, convalidated FROM pg_constraint WHERE conname ~ '^customers_names' ORDER BY 1$$, $$VALUES ('customers_names_backfilled'::name, true), ('customers_names_joined', true)$$, 'and it is validated that they all are');
SELECT statement FROM order_proc.migration_plan('1.3') WHERE phase = 'prepare' \gexec
SELECT order_proc.create_customer('Cher', NULL, NULL, 3) \g /dev/null
INSERT INTO order_store.customers (id, first_name, last_name) VALUES (4, 'Ana Maria', 'Cruz');
-- What the trigger did not see is put right by the script, which takes no strong lock before.
ALTER TABLE order_store.customers DISABLE TRIGGER sync_customer_name;
UPDATE order_store.customers SET first_name = 'Hannah' WHERE id = 1;
ALTER TABLE order_store.customers ENABLE TRIGGER sync_customer_name;
SELECT order_proc.create_order_with_items(3, NULL, NULL, '{7}', '{1}', '{1}') AS o \gset
SELECT is((order_proc.get_order(:o)).customer_name, 'Cher', 'while the shop is open');
UPDATE order_store.customers SET last_name = 'Sanz' WHERE id = 2;
CREATE TABLE locks_held (locks text);
GRANT INSERT ON locks_held TO PUBLIC;
CREATE FUNCTION note_locks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO migrations.locks_held SELECT string_agg(DISTINCT mode, ', ' ORDER BY mode) FROM pg_locks WHERE relation = 'order_store.customers'::regclass AND pid = pg_backend_pid();
  RETURN NEW;
END $$;
CREATE TRIGGER z_note_locks BEFORE UPDATE ON order_store.customers FOR EACH ROW EXECUTE FUNCTION note_locks();
ALTER EXTENSION order_proc UPDATE TO '1.3';
SELECT results_eq('SELECT DISTINCT locks FROM locks_held', $$VALUES ('RowExclusiveLock')$$, 'a prepared way down holds no strong lock while it fills in the rest');
DROP TRIGGER z_note_locks ON order_store.customers;
SELECT results_eq('SELECT name FROM order_store.customers ORDER BY id', $$VALUES ('Hannah de la Cruz'), ('Eva Sanz'), ('Cher'), ('Ana Maria Cruz')$$, 'the script does the rest');
SELECT results_eq('SELECT first_name, last_name FROM order_store.customers WHERE id = 4', $$VALUES ('Ana Maria', 'Cruz')$$, 'and parts stay as they were put');
DELETE FROM snapshots;
SELECT snapshot('prepared', false) \g /dev/null
CALL fresh('1.3');
SELECT snapshot('fresh', false) \g /dev/null
SELECT is(differences('fresh', 'prepared'), NULL, 'a prepared way down ends in the same catalog');
-- A column of the owner's own called name is neither taken nor filled.
CALL fresh('1.4');
SELECT order_proc.create_customer('Ana', 'Cruz', NULL, 1) \g /dev/null
ALTER TABLE order_store.customers ADD COLUMN name text DEFAULT 'mine';
SELECT is((outcome(statement)).state, '42701', 'a column name of the owner''s own stands in the way of the plan') FROM order_proc.migration_plan('1.3') WHERE step = 1;
SELECT is((outcome('ALTER EXTENSION order_proc UPDATE TO ''1.3''')).state, '42701', 'and of the script');
CALL order_proc.backfill_customer_names();
SELECT is((SELECT name FROM order_store.customers), 'mine', 'and is left alone');
-- Beyond a lock of somebody else: at once, with advice, and nothing changed. The lock is a prepared transaction's.
ALTER TABLE order_store.customers DROP COLUMN name;
BEGIN;
LOCK TABLE order_store.customers IN ACCESS SHARE MODE;
PREPARE TRANSACTION 'regress_op_holder';
DELETE FROM snapshots;
SELECT snapshot('before', false) \g /dev/null
SELECT clock_timestamp() AS began \gset
SELECT state, hint FROM outcome('ALTER EXTENSION order_proc UPDATE TO ''1.3''') \gset
SELECT ok(clock_timestamp() - :'began'::timestamptz BETWEEN '150 ms' AND '20 s', 'a lock that is held is waited for briefly');
SELECT is(:'state'::text, '55P03', 'then the step fails');
SELECT matches(:'hint'::text, 'migration_plan\(''1\.3''\).*try again', 'with advice');
SELECT is((outcome(statement)).state, '55P03', 'so does what the plan prepares') FROM order_proc.migration_plan('1.3') WHERE step = 1;
SELECT snapshot('after', false) \g /dev/null
SELECT is(differences('before', 'after'), NULL, 'and nothing is changed');
ROLLBACK PREPARED 'regress_op_holder';
SELECT is((outcome('ALTER EXTENSION order_proc UPDATE TO ''1.3''')).state, 'ok', 'tried again it goes through');

SELECT * FROM finish();
DROP EXTENSION order_proc CASCADE;
DROP SCHEMA order_store CASCADE;
DROP SCHEMA migrations CASCADE;
DROP OWNED BY regress_op_owner, regress_op_app;
DROP ROLE regress_op_owner, regress_op_app;
