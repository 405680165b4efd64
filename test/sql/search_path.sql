\set ECHO none
-- A hostile search_path: operators, functions, aggregates, tables, types and casts that raise stand before PostgreSQL's own, and
-- temporary objects are named like ours. Every function is called, by a superuser and by a role with 'write', and so are the
-- scripts of the chain: the answers are those of a clean path.
\pset format unaligned
\pset tuples_only on
\set VERBOSITY terse
SET client_min_messages = warning;
SET TimeZone = 'UTC';
DROP EXTENSION IF EXISTS order_proc CASCADE;
DROP SCHEMA IF EXISTS order_store CASCADE;
CREATE EXTENSION IF NOT EXISTS pgtap;
DROP ROLE IF EXISTS regress_op_owner, regress_op_write;
CREATE ROLE regress_op_owner;
CREATE ROLE regress_op_write;
CREATE SCHEMA evil;
CREATE SCHEMA calm;
GRANT USAGE ON SCHEMA evil, calm TO PUBLIC;
SET search_path = pg_catalog, calm, public, pg_temp;
SELECT no_plan();

-- An operator, a function of each of PostgreSQL's own over the types that we use; all raise.
CREATE TABLE calm.planted (what text);
CREATE FUNCTION calm.plant() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  r record;
  operator text;
  types constant oid[] := ARRAY['bool', 'int2', 'int4', 'int8', 'text', 'name', 'numeric', 'timestamptz', 'timestamp', 'interval', 'oid', 'bytea', 'json', 'jsonb', 'regclass', 'regrole', 'regproc', 'float8', 'char', '"char"',
    'int4[]', 'int8[]', 'text[]', 'numeric[]', 'unknown', 'record', 'void', 'trigger', 'tid', 'xid']::regtype[]::oid[];
BEGIN
  FOR r IN SELECT p.oid, proname, pg_get_function_identity_arguments(p.oid) AS args, prorettype::regtype AS returns, proretset
    FROM pg_proc AS p WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind IN ('f', 'a') AND proargtypes::oid[] <@ types AND prorettype = ANY (types || ARRAY['cstring'::regtype::oid]) AND provariadic = 0
      AND NOT prorettype IN ('trigger'::regtype, 'cstring'::regtype, 'unknown'::regtype) AND NOT (prorettype = 'record'::regtype) AND proname !~ '^(pg_stat|binary_upgrade|brin|gin|gist|spg|hash_|bt|pg_replication|pg_logical|pg_ls|pg_wal)' LOOP
    BEGIN
      EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s%s LANGUAGE plpgsql AS %L', r.proname, (SELECT string_agg(t::regtype::text, ', ' ORDER BY n) FROM unnest((SELECT proargtypes FROM pg_proc WHERE oid = r.oid)::oid[]) WITH ORDINALITY AS u (t, n)),
                     CASE WHEN r.proretset THEN 'SETOF ' ELSE '' END, r.returns, format('BEGIN RAISE USING MESSAGE = %L; END', 'hostile function ' || r.proname));
      INSERT INTO calm.planted VALUES ('function');
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
  FOR r IN SELECT o.oid, oprname, NULLIF(oprleft, 0)::regtype AS l, oprright::regtype AS r, oprresult::regtype AS returns FROM pg_operator AS o
    WHERE oprnamespace = 'pg_catalog'::regnamespace AND (oprleft = 0 OR oprleft = ANY (types)) AND oprright = ANY (types) AND oprresult = ANY (types) LOOP
    EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', 'operator_' || r.oid, concat_ws(', ', r.l, r.r), r.returns, format('BEGIN RAISE USING MESSAGE = %L; END', 'hostile operator ' || r.oprname));
    EXECUTE format('CREATE OPERATOR evil.%s (%srightarg = %s, function = evil.%I)', r.oprname, 'leftarg = ' || r.l || ', ', r.r, 'operator_' || r.oid);
    INSERT INTO calm.planted VALUES ('operator');
  END LOOP;
  -- The polymorphic ones.
  FOR r IN SELECT * FROM (VALUES ('unnest', 'anyarray', 'SETOF anyelement'), ('count', 'anyelement', 'bigint'), ('array_length', 'anyarray, int', 'int'), ('cardinality', 'anyarray', 'int'), ('array_agg', 'anyelement', 'anyarray'), ('max', 'anyelement', 'anyelement'),
      ('min', 'anyelement', 'anyelement'), ('sum', 'anyelement', 'anyelement'), ('json_agg', 'anyelement', 'json'), ('to_json', 'anyelement', 'json'), ('row_to_json', 'record', 'json'), ('json_build_object', 'VARIADIC text[]', 'json'), ('concat', 'VARIADIC text[]', 'text'),
      ('concat_ws', 'text, VARIADIC text[]', 'text'), ('format', 'text, VARIADIC text[]', 'text'), ('generate_series', 'int, int', 'SETOF int'), ('count', '', 'bigint')) AS t (name, args, returns) LOOP
    BEGIN
      EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', r.name, r.args, r.returns, 'BEGIN RAISE ''hostile function''; END');
    EXCEPTION WHEN duplicate_function THEN NULL;
    END;
  END LOOP;
  FOREACH operator IN ARRAY ARRAY['=', '<>', '<', '>', '<=', '>=', '||', '@>', '<@', '&&'] LOOP
    EXECUTE format('CREATE FUNCTION evil.%I(anyelement, anyelement) RETURNS boolean LANGUAGE plpgsql AS %L', 'any ' || operator, 'BEGIN RAISE ''hostile operator''; END');
    EXECUTE format('CREATE OPERATOR evil.%s (leftarg = anyelement, rightarg = anyelement, function = evil.%I)', operator, 'any ' || operator);
    EXECUTE format('CREATE FUNCTION evil.%I(anyarray, anyarray) RETURNS boolean LANGUAGE plpgsql AS %L', 'anyarray ' || operator, 'BEGIN RAISE ''hostile operator''; END');
    EXECUTE format('CREATE OPERATOR evil.%s (leftarg = anyarray, rightarg = anyarray, function = evil.%I)', operator, 'anyarray ' || operator);
  END LOOP;
END $$;
SELECT plant() \g /dev/null
SELECT cmp_ok(count(*), '>', 300::bigint, 'hostile ' || what || 's') FROM planted GROUP BY what ORDER BY what;
-- Tables and types of every name that we, or the catalog, use. A table is a type, too.
SELECT format('CREATE TABLE evil.%I (hostile int)', n) FROM (
  SELECT unnest(ARRAY['store', 'migrations', 'customers', 'orders', 'order_items', 'order_statuses', 'status_transitions', 'order_status_history', 'idempotency_keys', 'migration_step', 'order_record', 'order_with_items', 'order_count', 'pg_extension',
    'pg_class', 'pg_namespace', 'pg_index', 'pg_proc', 'pg_attribute', 'pg_constraint', 'pg_trigger', 'pg_roles', 'text', 'int4', 'int8', 'bool', 'numeric', 'interval', 'timestamptz', 'name', 'oid', 'regclass', 'regrole', 'json', 'bytea', 'void', 'trigger',
    'orders_id_seq', 'customers_id_seq', 'order_items_id_seq']) AS n) AS s \gexec
SELECT format('CREATE DOMAIN evil.%I AS pg_catalog.text CHECK (false)', n) FROM unnest(ARRAY['order_proc', 'order_store', 'layout']) AS n \gexec
CREATE COLLATION evil."C" (provider = libc, locale = 'C.UTF-8');
CREATE COLLATION evil."default" (provider = libc, locale = 'C.UTF-8');

-- The same questions as ever; each is one statement with names of ours and PostgreSQL's own spelled out.
CREATE TABLE calm.questions (id int GENERATED ALWAYS AS IDENTITY, call text, writes boolean, app boolean);
INSERT INTO questions (call, writes, app) VALUES
('SELECT order_proc.schema_version()', false, true),
('SELECT order_proc.require_version(''1.0'')', false, true),
('SELECT order_proc.require_version(''99.0'')', false, true),
('SELECT pg_catalog.count(*) FROM order_proc.migration_plan(''1.0'')', false, true),
('SELECT pg_catalog.string_agg(version, '' '') FROM order_proc.migration_history', false, true),
('SELECT order_proc.estimated_rows(''no.such'')', false, true),
('SELECT order_proc.require_backfilled_names()', false, true),
('SELECT order_proc.first_name(''Ana de la Cruz'')', false, true),
('SELECT order_proc.last_name(''Ana de la Cruz'')', false, true),
('SELECT order_proc.full_name(''Ana'', ''Cruz'')', false, true),
('SELECT order_proc.new_order_id(1) OPERATOR(pg_catalog.&) 4095', true, true),
('SELECT order_proc.create_customer(''a'', ''b'', NULL, 99)', true, true),
('SELECT order_proc.create_customer(''a'', ''b'') OPERATOR(pg_catalog.>) 0', true, true),
('SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{7,8}'', ''{1,2}'', ''{1.5,2.25}'') OPERATOR(pg_catalog.&) 4095', true, true),
('SELECT order_proc.create_order_with_items(1, ''paid'', 5, ''{7,8}'', ''{1,2}'', ''{1.5,2.25}'', ''n'', ''k2'') OPERATOR(pg_catalog.&) 4095', true, true),
('SELECT order_proc.create_order_with_items(1, ''pending'', NULL, ''{7,8}'', ''{1,2}'', ''{1.50,2.25}'', ''note'', ''key'')', false, true),
('SELECT order_proc.create_order_with_items(1, ''pending'', NULL, ''{7}'', ''{1}'', ''{1.50}'', ''note'', ''key'')', false, true),
('SELECT order_proc.create_order_with_items(1, ''no such'', NULL, ''{7}'', ''{1}'', ''{1.50}'')', false, true),
('SELECT order_proc.create_order_with_items(77, NULL, NULL, ''{7}'', ''{1}'', ''{1.50}'')', false, true),
('SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{7}'', ''{0}'', ''{1.50}'')', false, true),
('SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{7}'', ''{1,2}'', ''{1.50}'')', false, true),
('SELECT pg_catalog.count(*) FROM order_proc.batch_create_order_items(''{5958}'', ''{7}'', ''{1}'', ''{1}'')', true, true),
('SELECT order_proc.get_order(5958)', false, true),
('SELECT order_proc.get_order_with_items(5958)', false, true),
('SELECT pg_catalog.count(x) FROM order_proc.get_orders(''{5958,1}'') AS x', false, true),
('SELECT order_proc.refresh_order_totals(''{5958}'')', true, true),
('SELECT pg_catalog.cardinality(order_proc.create_orders(''[{"customer_id": 1, "product_ids": [7], "quantities": [1], "prices": [1]}]''))', true, true),
('SELECT pg_catalog.count(x) FROM order_proc.create_restore_point(''p'') AS x', true, false),
('SELECT order_proc.update_order_status(5958, ''paid'')', true, true),
('SELECT order_proc.update_order_status(5958, ''shipped'')', true, true),
('SELECT order_proc.update_order_status(5958, ''paid'', ''shipped'')', true, true),
('SELECT order_proc.update_order_status(1, ''paid'')', true, true),
('UPDATE order_store.orders SET status = ''paid'' RETURNING status', true, true),
('SELECT order_proc.delete_order(5958)', true, true),
('SELECT pg_catalog.count(x) FROM order_proc.list_orders() AS x', false, true),
('SELECT pg_catalog.count(x) FROM order_proc.list_orders_paginated(10, 0) AS x', false, true),
('SELECT pg_catalog.count(x) FROM order_proc.list_orders_after(10) AS x', false, true),
('SELECT pg_catalog.count(x) FROM order_proc.list_orders_after(10, ''infinity'', 5, 1, ''pending'') AS x', false, true),
('SELECT order_proc.order_counts()', false, true),
('SELECT pg_catalog.string_agg(path, '' '') FROM order_proc.explain_fast_path()', false, true),
('SELECT order_proc.purge_idempotency_keys(''0'')', true, false),
('CALL order_proc.backfill_customer_names()', true, false),
('SELECT order_proc.migrate_store()', true, false),
('SELECT order_proc.grant_store(''regress_op_write'', ''admin'')', true, false),
('SELECT order_proc.create_store()', true, false),
('INSERT INTO order_store.order_statuses (status) VALUES (''new'') RETURNING status', true, false),
('DROP SCHEMA order_store CASCADE; SELECT order_proc.create_store(''regress_op_owner'', ''modulo'')', true, false),
('DROP SCHEMA order_store CASCADE; DROP EXTENSION order_proc CASCADE; CREATE EXTENSION order_proc; SELECT order_proc.create_store()', true, false),
('ALTER EXTENSION order_proc UPDATE TO ''1.4''; ALTER EXTENSION order_proc UPDATE TO ''1.0''; ALTER EXTENSION order_proc UPDATE TO ''1.1''; ALTER EXTENSION order_proc UPDATE TO ''1.3''; SELECT order_proc.schema_version()', true, false),
('ALTER EXTENSION order_proc UPDATE TO ''1.0''; ALTER EXTENSION order_proc UPDATE TO ''1.4''', true, false),
('ALTER EXTENSION order_proc UPDATE TO ''1.3''; UPDATE order_store.customers SET name = ''Eva Gil'' RETURNING concat_ws(''/'', first_name, last_name)', true, false),
('ALTER EXTENSION order_proc UPDATE TO ''1.0''; SELECT pg_catalog.count(*) FROM order_proc.migration_plan(''1.4'')', true, false),
('ALTER EXTENSION order_proc UPDATE TO ''1.3''; SELECT pg_catalog.count(*) FROM order_proc.migration_plan(''1.4'')', true, false);
UPDATE questions SET call = replace(call, 'concat_ws(', 'pg_catalog.concat_ws(');

-- Each part of a statement string runs under the path, nothing else does: no operator, no function outside of it.
CREATE FUNCTION calm.under(who text, path text, sql text) RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  r text;
  part text;
  query boolean;
  row record;
  parts text[] := string_to_array(sql, '; ');
  i int;
BEGIN
  BEGIN
    EXECUTE format('SET LOCAL ROLE %I', who);
    FOR i IN 1 .. cardinality(parts) LOOP
      part := parts[i];
      query := part ~ '^(SELECT|UPDATE|INSERT)';
      EXECUTE 'SET LOCAL search_path = ' || path;
      IF query THEN
        EXECUTE part INTO row;
      ELSE
        EXECUTE part;
      END IF;
      SET LOCAL search_path = pg_catalog, pg_temp;
      IF query THEN
        r := concat_ws(' ', r, row);
      END IF;
    END LOOP;
    RAISE SQLSTATE 'UNDO0';
  EXCEPTION
    WHEN SQLSTATE 'UNDO0' THEN NULL;
    WHEN OTHERS THEN r := SQLSTATE || ' ' || SQLERRM;
  END;
  SET LOCAL search_path = pg_catalog, pg_temp;
  RETURN COALESCE(r, 'nothing');
END $$;

CREATE TABLE calm.answers (setting text, question int, who text, path text, fast_path text, answer text);
CREATE PROCEDURE calm.ask(setting text, paths text[]) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  q record;
  path text;
  fast_path text;
  who text;
  answer text;
BEGIN
  FOREACH path IN ARRAY paths LOOP
    FOREACH fast_path IN ARRAY ARRAY['on', 'off'] LOOP
      EXECUTE 'SET LOCAL order_proc.fast_path = ' || fast_path;
      FOR q IN SELECT * FROM calm.questions ORDER BY id LOOP
        FOREACH who IN ARRAY ARRAY[session_user::text, 'regress_op_write'] LOOP
          IF who = session_user OR q.app THEN
            answer := calm.under(who, path, q.call);
            INSERT INTO calm.answers VALUES (setting, q.id, who, path, fast_path, answer);
          END IF;
        END LOOP;
      END LOOP;
    END LOOP;
  END LOOP;
END $$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA calm TO PUBLIC;

CREATE EXTENSION order_proc;
SELECT order_proc.create_store('regress_op_owner') \g /dev/null
SELECT order_proc.grant_store('regress_op_write', 'write') \g /dev/null
SELECT order_proc.create_customer('Ana', 'de la Cruz', 'ana@example.org', 1) \g /dev/null
SELECT order_proc.create_order_with_items(1, 'pending', NULL, '{7,8}', '{1,2}', '{1.50,2.25}', 'note', 'key') \g /dev/null
CALL ask('clean', ARRAY['pg_catalog, pg_temp']);
SELECT is((SELECT string_agg(call || ': ' || answer, E'\n') FROM answers JOIN questions ON id = question WHERE answer ~ '^ ?(XX|42[^7])...' AND setting = 'clean'), NULL, 'the questions make sense');
-- Is the path a hostile one at all?
SELECT matches(under(session_user::text, 'evil, pg_catalog', sql), 'hostile|type|array_agg|does not exist|malformed|not unique', sql || ' under the hostile path')
FROM (VALUES ('SELECT 1 = 1'), ('SELECT now()'), ('SELECT count(1)'), ('SELECT 1::bigint + 1::bigint'), ('SELECT hashint8extended(1::bigint, 0::bigint)'), ('SELECT ''a''::text || ''b''::text'), ('SELECT nextval(''order_store.orders_id_seq''::regclass)'), ('SELECT id FROM orders')) AS t (sql);
CALL ask('hostile', ARRAY['evil, pg_catalog', 'evil']);
-- Temporary tables of the same names, before everything else.
SELECT format('CREATE TEMP TABLE %I (LIKE order_store.%1$I)', relname) FROM pg_class WHERE relnamespace = 'order_store'::regnamespace AND relkind = 'r' \gexec
SELECT format('CREATE TEMP TABLE %I (hostile int)', n) FROM unnest(ARRAY['pg_class', 'pg_extension', 'migration_step', 'order_record', 'order_with_items', 'text', 'int8', 'numeric', 'regclass', 'migration_history']) AS n \gexec
CREATE TEMP SEQUENCE orders_id_seq;
CREATE TEMP SEQUENCE customers_id_seq;
CREATE TEMP SEQUENCE order_items_id_seq;
INSERT INTO pg_temp.store VALUES (true, '9.9', 'modulo', '2000-01-01');
INSERT INTO pg_temp.orders (id, customer_id, status, total_amount, created_at, updated_at) VALUES (5958, 1, 'temporary', 0, '2000-01-01', '2000-01-01');
CALL ask('temporary', ARRAY['pg_temp, pg_catalog', 'pg_temp, evil, pg_catalog', '''''']);
SELECT is((SELECT count(*) FROM pg_temp.orders), 1::bigint, 'nothing was written into temporary tables');
SELECT format('DROP TABLE pg_temp.%I', relname) FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r' AND relname !~ '^__t' \gexec
DROP SEQUENCE pg_temp.orders_id_seq, pg_temp.customers_id_seq, pg_temp.order_items_id_seq;
-- Casts that raise, implicit ones between types of PostgreSQL's own that have none.
CREATE TABLE calm.casts AS SELECT s::regtype AS s, t::regtype AS t FROM (VALUES ('text', 'bigint'), ('bigint', 'text'), ('numeric', 'text'), ('text', 'numeric'), ('text', 'timestamptz'), ('timestamptz', 'text'), ('text', 'interval'), ('integer', 'text'), ('text', 'integer'), ('json', 'text'), ('text', 'json'), ('bigint[]', 'text'), ('oid', 'text'), ('boolean', 'bigint'), ('bigint', 'boolean'), ('bytea', 'text')) AS c (s, t)
WHERE NOT EXISTS (SELECT FROM pg_cast WHERE castsource = s::regtype AND casttarget = t::regtype);
SELECT format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN RAISE %L; END $f$', 'cast ' || s || ' ' || t, s, t, 'hostile cast'), format('CREATE CAST (%s AS %s) WITH FUNCTION evil.%I(%1$s) AS ASSIGNMENT', s, t, 'cast ' || s || ' ' || t) FROM casts \gexec
CALL ask('casts', ARRAY['evil, pg_catalog', 'pg_catalog']);
CREATE TEMP TABLE proof AS SELECT under(session_user::text, 'pg_catalog', 'SELECT CAST(CAST(''1'' AS bigint) AS text)') AS answer;
SELECT format('DROP CAST (%s AS %s)', s, t) FROM casts \gexec
SELECT matches(answer, 'hostile cast', 'the casts are hostile ones') FROM proof;

SELECT cmp_ok((SELECT count(*) FROM answers WHERE setting <> 'clean'), '>', 500::bigint, 'questions asked');
SELECT is((SELECT string_agg(format('as %s under %s, %s, fast_path %s: %s, not %s', a.who, a.path, a.setting, a.fast_path, a.answer, c.answer), E'\n')
           FROM answers AS a JOIN answers AS c USING (question, who, fast_path) WHERE c.setting = 'clean' AND a.setting <> 'clean' AND a.question = q.id AND a.answer <> c.answer), NULL, call) FROM questions AS q ORDER BY id;
SELECT is((SELECT count(*) FROM order_store.orders), 1::bigint, 'nothing was left behind');

SELECT * FROM finish();
DROP EXTENSION order_proc CASCADE;
DROP SCHEMA order_store CASCADE;
DROP SCHEMA evil CASCADE;
DROP SCHEMA calm CASCADE;
DROP OWNED BY regress_op_owner, regress_op_write;
DROP ROLE regress_op_owner, regress_op_write;
