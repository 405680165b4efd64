\set ECHO none
-- The owner of the store is not trusted with a superuser's rights. He plants code in every place that his tables offer, superusers
-- run the chain up and down, migrate_store, the backfill and the order functions: the code runs as him, cannot become anybody
-- else, and leaves no setting behind.
\pset format unaligned
\pset tuples_only on
\set VERBOSITY terse
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_proc CASCADE;
DROP SCHEMA IF EXISTS order_store CASCADE;
CREATE EXTENSION IF NOT EXISTS pgtap;
DROP ROLE IF EXISTS regress_op_owner, regress_op_other, regress_op_app;
CREATE ROLE regress_op_owner;
CREATE ROLE regress_op_other;
CREATE ROLE regress_op_app;
CREATE SCHEMA escalation;
GRANT USAGE ON SCHEMA escalation TO PUBLIC;
GRANT CREATE ON SCHEMA escalation TO regress_op_owner;
SET search_path = escalation, public;
SELECT no_plan();
SELECT current_user AS me \gset

CREATE TABLE seen (id int GENERATED ALWAYS AS IDENTITY, what text, who text, super boolean, got text);
GRANT INSERT, SELECT ON seen TO PUBLIC;
CREATE FUNCTION outcome(sql text, OUT state text, OUT message text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE sql;
  RAISE SQLSTATE 'UNDO0';
EXCEPTION
  WHEN SQLSTATE 'UNDO0' THEN state := 'ok';
  WHEN OTHERS THEN GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
END $$;
-- Who ran what; the rows are taken.
CREATE FUNCTION told() RETURNS text LANGUAGE sql AS $$
WITH d AS (DELETE FROM escalation.seen RETURNING *)
SELECT string_agg(DISTINCT concat_ws(' ', what, 'as', who, CASE WHEN super THEN '(superuser)' END, 'got', got), ', ') FROM d WHERE who <> 'regress_op_owner' OR super OR got IS NOT NULL $$;

-- What the owner plants. Whatever he tries to become, he tells; armed when a superuser is at work.
SET ROLE regress_op_owner;
CREATE FUNCTION tell(what text) RETURNS void LANGUAGE plpgsql SECURITY INVOKER AS $$
DECLARE
  attempt text;
  tried text;
BEGIN
  IF COALESCE(current_setting('escalation.armed', true), '') = '' THEN RETURN; END IF;
  FOREACH attempt IN ARRAY ARRAY['SET ROLE postgres', 'SET LOCAL ROLE ' || quote_ident((SELECT rolname FROM pg_roles WHERE rolsuper ORDER BY oid LIMIT 1)), 'RESET ROLE', 'SET ROLE NONE',
      'SET SESSION AUTHORIZATION DEFAULT', 'RESET SESSION AUTHORIZATION', 'ALTER ROLE regress_op_owner SUPERUSER', 'GRANT regress_op_other TO regress_op_owner',
      'CREATE FUNCTION order_proc.planted() RETURNS int LANGUAGE sql AS ''SELECT 1''', 'CREATE EXTENSION dblink', 'COPY escalation.seen TO PROGRAM ''true''', 'ALTER SYSTEM SET work_mem = ''4MB''',
      'CREATE OR REPLACE FUNCTION order_proc.record_status_change() RETURNS trigger LANGUAGE plpgsql AS ''BEGIN RETURN NEW; END''', 'SET session_replication_role = replica',
      'ALTER EXTENSION order_proc ADD TABLE order_store.store'] LOOP
    BEGIN
      EXECUTE attempt;
      IF attempt !~ '^RESET|DEFAULT|NONE' OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        tried := concat_ws(', ', tried, attempt);
      END IF;
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
  -- Settings to leave behind.
  IF current_setting('escalation.armed') <> 'now' THEN
    INSERT INTO escalation.seen (what, who, super, got) SELECT $1, rolname, rolsuper, tried FROM pg_roles WHERE rolname = current_user;
    RETURN;
  END IF;
  PERFORM set_config('search_path', 'order_store', false), set_config('lock_timeout', '1234', false), set_config('order_proc.fast_path', 'off', false), set_config('statement_timeout', '54321', false),
    set_config('client_min_messages', 'error', false), set_config('row_security', 'off', false), set_config('DateStyle', 'German', false), set_config('escalation.armed', 'x', false);
  INSERT INTO escalation.seen (what, who, super, got) SELECT $1, rolname, rolsuper, tried FROM pg_roles WHERE rolname = current_user;
END $$;
CREATE FUNCTION tell_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM escalation.tell(concat_ws(' ', TG_WHEN, TG_OP, TG_LEVEL, 'trigger on', TG_TABLE_NAME));
  IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
  RETURN NEW;
END $$;
CREATE FUNCTION change_email() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.email := concat(NEW.email, '.'); RETURN NEW; END $$;
-- For CHECKs, indexes, generated columns, domains, defaults; immutable only by its word.
CREATE FUNCTION tell_value(anyelement, what text) RETURNS anyelement IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM escalation.tell(what); RETURN $1; END $$;
CREATE FUNCTION tell_true(what text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM escalation.tell(what); RETURN true; END $$;
CREATE FUNCTION tell_time() RETURNS timestamptz VOLATILE LANGUAGE plpgsql AS $$ BEGIN PERFORM escalation.tell('a default'); RETURN clock_timestamp(); END $$;
RESET ROLE;

CREATE PROCEDURE fresh(version text, owner name DEFAULT 'regress_op_owner') LANGUAGE plpgsql AS $$
BEGIN
  DROP EXTENSION IF EXISTS order_proc CASCADE;
  DROP SCHEMA IF EXISTS order_store CASCADE;
  EXECUTE format('CREATE EXTENSION order_proc VERSION %L', version);
  PERFORM order_proc.create_store(owner::text::regrole);
  PERFORM order_proc.create_customer('Ana', 'de la Cruz', 'ana@example.org', 1), order_proc.create_customer('Cher', NULL, NULL, 2);
  PERFORM order_proc.create_order_with_items(1, NULL, NULL, '{7,8}', '{1,2}', '{1.50,2.25}', idempotency_key => 'k');
END $$;
-- Run as the owner.
CREATE PROCEDURE plant() LANGUAGE plpgsql AS $$
DECLARE
  t regclass;
BEGIN
  CREATE DOMAIN order_store.telling AS text CHECK (escalation.tell_true('a domain'));
  ALTER TABLE order_store.customers ALTER COLUMN email TYPE order_store.telling,
    ADD COLUMN generated text GENERATED ALWAYS AS (escalation.tell_value(email::text, 'a generated column')) STORED,
    ADD CHECK (escalation.tell_true('a CHECK on customers')), ADD EXCLUDE USING btree (escalation.tell_value(email::text, 'an exclusion constraint') WITH =);
  ALTER TABLE order_store.store ADD CHECK (escalation.tell_true('a CHECK on store'));
  ALTER TABLE order_store.migrations ALTER COLUMN applied_at SET DEFAULT escalation.tell_time(), ADD CHECK (escalation.tell_true('a CHECK on migrations'));
  CREATE INDEX ON order_store.customers (escalation.tell_value(email::text, 'an index'));
  CREATE INDEX ON order_store.customers (id) WHERE escalation.tell_true('a partial index');
  CREATE TRIGGER change_email BEFORE UPDATE ON order_store.customers FOR EACH ROW EXECUTE FUNCTION escalation.change_email();
  CREATE STATISTICS order_store.telling ON (escalation.tell_value(id, 'statistics')), created_at FROM order_store.customers;
  CREATE RULE r AS ON UPDATE TO order_store.store DO ALSO SELECT escalation.tell('a rule on store');
  CREATE POLICY p ON order_store.customers USING (escalation.tell_true('a policy on customers')) WITH CHECK (escalation.tell_true('a policy on customers'));
  CREATE POLICY p ON order_store.order_statuses USING (escalation.tell_true('a policy on statuses'));
  ALTER TABLE order_store.customers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
  ALTER TABLE order_store.order_statuses ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
  FOR t IN SELECT oid FROM pg_class WHERE relnamespace = to_regnamespace('order_store') AND relkind = 'r' AND relname NOT IN ('orders', 'order_items') LOOP
    EXECUTE format('CREATE TRIGGER %I BEFORE INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION escalation.tell_trigger()', 'aaa', t);
    EXECUTE format('CREATE TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION escalation.tell_trigger()', 'bbb', t);
    EXECUTE format('CREATE TRIGGER %I BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION escalation.tell_trigger()', 'ccc', t);
    EXECUTE format('CREATE CONSTRAINT TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON %s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION escalation.tell_trigger()', 'ddd', t);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER aaa', t);
  END LOOP;
END $$;
CREATE FUNCTION settings() RETURNS text LANGUAGE sql AS $$
SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) || current_user || session_user || current_setting('escalation.armed', true)
FROM pg_settings WHERE name IN ('search_path', 'lock_timeout', 'order_proc.fast_path', 'statement_timeout', 'client_min_messages', 'row_security', 'DateStyle', 'role', 'session_replication_role') $$;

-- The chain up and down, by a superuser, each step with everything planted.
CALL fresh('1.0');
SET ROLE regress_op_owner;
CALL plant();
RESET ROLE;
SET escalation.armed = 'now';
DELETE FROM seen;
LOAD '$libdir/order_proc';
SELECT settings() AS settings \gset
CREATE VIEW steps AS
SELECT source, target, string_to_array(source, '.')::int[] AS a, string_to_array(target, '.')::int[] AS b FROM pg_extension_update_paths('order_proc') WHERE path = source || '--' || target;
CREATE TABLE fired (what text);
CREATE FUNCTION after_step(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO fired SELECT DISTINCT what FROM seen;
  RETURN NEXT is(told(), NULL, step || ': what the owner planted runs as the owner');
END $$;
SELECT CASE target WHEN '1.4' THEN 'CALL order_proc.backfill_customer_names()' END,
       CASE target WHEN '1.4' THEN 'SELECT * FROM after_step(''the backfill'')' END,
       format('ALTER EXTENSION order_proc UPDATE TO %L', target),
       format('SELECT is(settings(), %L, %L)', :'settings', 'up to ' || target || ': settings are as before'),
       format('SELECT * FROM after_step(%L)', 'up to ' || target)
FROM steps WHERE a < b ORDER BY b \gexec
SELECT format('ALTER EXTENSION order_proc UPDATE TO %L', target),
       format('SELECT is(settings(), %L, %L)', :'settings', 'down to ' || target || ': settings are as before'),
       format('SELECT * FROM after_step(%L)', 'down to ' || target)
FROM steps WHERE a > b ORDER BY b DESC \gexec
RESET escalation.armed;
-- The tests above are worth something: all of it ran, but for policies, which do not concern the owner at work.
SELECT is((SELECT string_agg(w, ', ') FROM unnest(ARRAY['a domain', 'a generated column', 'a CHECK on customers', 'a CHECK on store', 'a CHECK on migrations', 'a default', 'an index', 'a partial index', 'an exclusion constraint', 'a rule on store',
  'BEFORE UPDATE ROW trigger on customers', 'AFTER UPDATE ROW trigger on customers', 'BEFORE UPDATE STATEMENT trigger on customers', 'BEFORE UPDATE ROW trigger on store', 'AFTER UPDATE ROW trigger on store', 'BEFORE INSERT ROW trigger on migrations', 'AFTER INSERT ROW trigger on migrations']) AS w
  WHERE w NOT IN (SELECT what FROM fired)), NULL, 'each kind of planted code was run');
SELECT is((SELECT string_agg(what, ', ') FROM fired WHERE what ~ 'policy'), NULL, 'row security does not concern a step, not even when forced');
SELECT is((SELECT count(*) FROM order_store.customers WHERE name IN ('Ana de la Cruz', 'Cher')), 2::bigint, 'and hides no row from it');

-- Deferred by force: refused or run as the owner, never later with the superuser's rights.
SET escalation.armed = 'now';
CREATE FUNCTION order_store.defer() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET CONSTRAINTS ALL DEFERRED; RETURN NEW; END $$;
ALTER FUNCTION order_store.defer() OWNER TO regress_op_owner;
SET ROLE regress_op_owner;
CREATE TRIGGER zzz BEFORE INSERT OR UPDATE ON order_store.store FOR EACH ROW EXECUTE FUNCTION order_store.defer();
CREATE TRIGGER zzz BEFORE INSERT OR UPDATE ON order_store.migrations FOR EACH ROW EXECUTE FUNCTION order_store.defer();
CREATE TRIGGER zzz BEFORE INSERT OR UPDATE ON order_store.customers FOR EACH ROW EXECUTE FUNCTION order_store.defer();
RESET ROLE;
DELETE FROM seen;
BEGIN;
SELECT matches((outcome('ALTER EXTENSION order_proc UPDATE TO ''1.1''')).state, '^(ok|42501)$', 'constraints deferred in the middle of a step');
COMMIT;
ALTER EXTENSION order_proc UPDATE TO '1.1';
SELECT is(told(), NULL, 'do not wait for the superuser''s commit');

-- migrate_store, called by a superuser.
RESET escalation.armed;
CALL fresh('1.0');
DROP EXTENSION order_proc CASCADE;
CREATE EXTENSION order_proc;
SET ROLE regress_op_owner;
CALL plant();
RESET ROLE;
DELETE FROM seen;
SET escalation.armed = 'now';
SELECT settings() AS settings \gset
SELECT is(order_proc.migrate_store(), (SELECT default_version FROM pg_available_extensions WHERE name = 'order_proc'), 'migrate_store by a superuser');
SELECT is(settings(), :'settings', 'migrate_store: settings are as before');
SELECT cmp_ok((SELECT count(*) FROM seen), '>', 10::bigint, 'migrate_store: planted code was run');
SELECT is(told(), NULL, 'migrate_store: as the owner');

-- The backfill, called by a superuser, batch by batch.
RESET escalation.armed;
CALL fresh('1.2');
ALTER EXTENSION order_proc UPDATE TO '1.3';
SET ROLE regress_op_owner;
CALL plant();
RESET ROLE;
DELETE FROM seen;
SET escalation.armed = 'now';
SELECT settings() AS settings \gset
CALL order_proc.backfill_customer_names(1);
SELECT is(settings(), :'settings', 'the backfill: settings are as before');
SELECT cmp_ok((SELECT count(*) FROM seen WHERE what ~ 'customers'), '>=', 6::bigint, 'the backfill: planted code was run');
SELECT is(told(), NULL, 'the backfill: as the owner');
RESET escalation.armed;
SELECT is((SELECT count(*) FROM order_store.customers WHERE first_name IS NOT NULL), 2::bigint, 'the backfill: did its work');
-- A constraint in the name of ours: validated as the owner.
SET ROLE regress_op_owner;
RESET escalation.armed;
ALTER TABLE order_store.customers DROP CONSTRAINT customers_names_backfilled;
ALTER TABLE order_store.customers ADD CONSTRAINT customers_names_backfilled CHECK (escalation.tell_true('a constraint in the name of ours')) NOT VALID;
RESET ROLE;
DELETE FROM seen;
SET escalation.armed = 'now';
SELECT settings() AS settings \gset
CALL order_proc.backfill_customer_names();
SELECT is(told(), NULL, 'a constraint in the name of ours is validated as the owner');
SELECT is(settings(), :'settings', 'and leaves no settings behind');
-- By the owner himself; by nobody else.
SET ROLE regress_op_owner;
CALL order_proc.backfill_customer_names();
RESET ROLE;
DELETE FROM seen;
SET ROLE regress_op_app;
SELECT is((outcome('CALL order_proc.backfill_customer_names()')).state, '42501', 'the backfill is the owner''s');
RESET ROLE;
SELECT is(told(), NULL, 'and nothing ran');

-- Objects made by planted code in the middle of a script are the owner's, and no members of the extension.
RESET escalation.armed;
CALL fresh('1.2');
SET ROLE regress_op_owner;
CREATE FUNCTION order_store.make() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  CREATE TABLE IF NOT EXISTS order_store.made (x int);
  CREATE OR REPLACE FUNCTION order_store.made() RETURNS int LANGUAGE sql AS 'SELECT 1';
  CREATE OR REPLACE VIEW order_store.made_view AS SELECT 1 AS x;
  BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN CREATE TABLE IF NOT EXISTS order_store.made_after_error (x int); END;
  BEGIN CREATE TEMP TABLE planted (x int); INSERT INTO escalation.seen (what, who, super) VALUES ('a temporary table', 'nobody', true); EXCEPTION WHEN insufficient_privilege THEN NULL; END;
  RETURN NEW;
END $$;
CREATE TRIGGER make BEFORE INSERT ON order_store.migrations FOR EACH ROW EXECUTE FUNCTION order_store.make();
RESET ROLE;
ALTER EXTENSION order_proc UPDATE TO '1.3';
SELECT is((SELECT string_agg(relname || ' of ' || relowner::regrole, ', ' ORDER BY relname) FROM pg_class WHERE relname ~ '^made' AND relnamespace = 'order_store'::regnamespace),
          'made of regress_op_owner, made_after_error of regress_op_owner, made_view of regress_op_owner', 'made in the middle of a script: the owner''s');
SELECT is((SELECT count(*) FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid WHERE deptype = 'e' AND extname = 'order_proc' AND pg_describe_object(classid, objid, objsubid) ~ 'made|order_store'), 0::bigint, 'and no members');
SELECT is((SELECT count(*) FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid WHERE deptype = 'e' AND extname = 'order_proc' AND classid = 'pg_proc'::regclass AND pg_describe_object(classid, objid, objsubid) ~ 'layout_1_3|sync_customer_name|backfill'), 4::bigint, 'while the script''s own functions are');
SELECT is(told(), NULL, 'no temporary table either');
-- A step that fails and is caught: afterwards objects are no members of anything, and the user is who he was.
SET ROLE regress_op_owner;
CREATE OR REPLACE FUNCTION order_store.make() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no' USING ERRCODE = 'P0099'; END $$;
RESET ROLE;
DO $$
BEGIN
  ALTER EXTENSION order_proc UPDATE TO '1.2';
EXCEPTION WHEN SQLSTATE 'P0099' THEN
  CREATE TABLE escalation.after_failure (who text);
  INSERT INTO escalation.after_failure VALUES (current_user);
END $$;
SELECT is((SELECT who FROM after_failure), :'me', 'after a failure that is caught the user is who he was');
SELECT is((SELECT count(*) FROM pg_depend WHERE objid = 'escalation.after_failure'::regclass AND deptype = 'e'), 0::bigint, 'and what he makes is no member');
SELECT is((SELECT extversion || ' ' || order_proc.schema_version() FROM pg_extension WHERE extname = 'order_proc'), '1.3 1.3', 'extension and store are where they were');

-- Event triggers of a superuser see the owner, outside of the extension.
DROP TRIGGER make ON order_store.migrations;
CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO escalation.seen (what, who, super, got)
  SELECT command_tag || ' ' || object_identity, current_user, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user), CASE WHEN in_extension THEN 'a member' END
  FROM pg_event_trigger_ddl_commands() WHERE object_identity ~ '^order_store';
END $$;
CREATE EVENT TRIGGER order_proc_test ON ddl_command_end EXECUTE FUNCTION on_ddl();
ALTER EXTENSION order_proc UPDATE TO '1.2';
ALTER EXTENSION order_proc UPDATE TO '1.3';
DROP EVENT TRIGGER order_proc_test;
SELECT cmp_ok((SELECT count(*) FROM seen), '>', 2::bigint, 'event triggers see the statements of a step');
SELECT is(told(), NULL, 'as the owner''s, not the extension''s');

-- One owner for all of the store: a step acts as him, so it must be his code that it runs.
CREATE FUNCTION refused(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  t text;
  o record;
BEGIN
  FOR t IN SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('order_store') AND relkind = 'r' ORDER BY relname LOOP
    EXECUTE format('ALTER TABLE order_store.%I OWNER TO regress_op_other', t);
    SELECT * INTO o FROM outcome(statement);
    RETURN NEXT is(o.state, '55000', format('%s with %s given away', statement, t));
    RETURN NEXT matches(o.hint, '^ALTER TABLE order_store\.\S+ OWNER TO \S+;$', format('%s with %s given away: what to run', statement, t));
    EXECUTE format('ALTER TABLE order_store.%I OWNER TO regress_op_owner', t);
  END LOOP;
END $$;
SET escalation.armed = 'now';
CALL fresh('1.3');
ALTER TABLE order_store.customers OWNER TO regress_op_other;
GRANT CREATE, USAGE ON SCHEMA order_store TO regress_op_other;
SET ROLE regress_op_other;
CREATE TRIGGER tell BEFORE UPDATE ON order_store.customers FOR EACH ROW EXECUTE FUNCTION escalation.tell_trigger();
RESET ROLE;
ALTER TABLE order_store.customers OWNER TO regress_op_owner;
SELECT * FROM refused('ALTER EXTENSION order_proc UPDATE TO ''1.4''');
SELECT * FROM refused('ALTER EXTENSION order_proc UPDATE TO ''1.2''');
SELECT is((SELECT string_agg(extversion || ' ' || order_proc.schema_version(), '') FROM pg_extension WHERE extname = 'order_proc'), '1.3 1.3', 'refused steps change nothing');
ALTER TABLE order_store.customers OWNER TO regress_op_other;
CALL order_proc.backfill_customer_names();
ALTER TABLE order_store.customers OWNER TO regress_op_owner;
CALL fresh('1.0', current_user);
-- The store a superuser's, one table somebody else's.
ALTER TABLE order_store.customers OWNER TO regress_op_other;
GRANT CREATE, USAGE ON SCHEMA order_store TO regress_op_other;
SET ROLE regress_op_other;
CREATE TRIGGER tell BEFORE UPDATE OR INSERT ON order_store.customers FOR EACH ROW EXECUTE FUNCTION escalation.tell_trigger();
RESET escalation.armed;
ALTER TABLE order_store.customers ADD CHECK (escalation.tell_true('a CHECK on customers'));
RESET ROLE;
DELETE FROM seen;
SET escalation.armed = 'now';
SELECT is((outcome(format('ALTER EXTENSION order_proc UPDATE TO %L', target))).state, '55000', 'a superuser''s store with another''s table: up to ' || target) FROM steps WHERE source = '1.0' ORDER BY b;
DROP EXTENSION order_proc CASCADE;
CREATE EXTENSION order_proc;
SELECT is((outcome('SELECT order_proc.migrate_store()')).state, '55000', 'a superuser''s store with another''s table: migrate_store');
SELECT is((SELECT count(*) FROM seen), 0::bigint, 'and none of his code was run');

-- What order functions do on the library's behalf is the owner's doing, whoever calls. (Not delete_order: what a plain DELETE
-- cascades to fires AFTER triggers as the caller, in PostgreSQL itself.)
SELECT default_version AS newest FROM pg_available_extensions WHERE name = 'order_proc' \gset
CALL fresh(:'newest');
SELECT order_proc.create_order_with_items(2, NULL, NULL, '{7}', '{1}', '{1}') AS o \gset
SELECT order_proc.grant_store('regress_op_app', 'write') \g /dev/null
RESET escalation.armed;
SET ROLE regress_op_owner;
DO $$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['order_status_history', 'idempotency_keys'] LOOP
    EXECUTE format('CREATE TRIGGER aaa BEFORE INSERT OR UPDATE OR DELETE ON order_store.%I FOR EACH ROW EXECUTE FUNCTION escalation.tell_trigger()', t);
    EXECUTE format('CREATE TRIGGER bbb AFTER INSERT OR UPDATE OR DELETE ON order_store.%I FOR EACH STATEMENT EXECUTE FUNCTION escalation.tell_trigger()', t);
    EXECUTE format('ALTER TABLE order_store.%I ADD CHECK (escalation.tell_true(%L))', t, 'a CHECK on ' || t);
  END LOOP;
END $$;
CREATE POLICY p ON order_store.order_statuses USING (escalation.tell_true('a policy on statuses'));
CREATE POLICY p ON order_store.status_transitions USING (escalation.tell_true('a policy on transitions'));
ALTER TABLE order_store.order_statuses ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE order_store.status_transitions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
RESET ROLE;
DELETE FROM seen;
-- As in any trigger, his settings would stay: none this time.
SET escalation.armed = 'but no settings';
CREATE FUNCTION by(caller text, path text, call text, expect boolean) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE n int;
BEGIN
  PERFORM set_config('order_proc.fast_path', path, true);
  EXECUTE format('SET LOCAL ROLE %I', caller);
  EXECUTE call;
  RESET ROLE;
  SELECT count(*) INTO n FROM escalation.seen;
  RETURN NEXT ok((n > 0) = expect, format('%s with fast_path %s: planted code was %srun', call, path, CASE WHEN expect THEN '' ELSE 'not ' END));
  RETURN NEXT is(told(), NULL, format('%s with fast_path %s: nobody but the owner', call, path));
END $$;
SELECT format('SELECT * FROM by(%L, %L, %L, %L)', who, path, call, expect)
FROM (VALUES (current_user::text), ('regress_op_app')) AS w (who), unnest(ARRAY['on', 'off']) AS path, (VALUES
  (1, 'SELECT order_proc.create_order_with_items(1, ''pending'', NULL, ''{7}'', ''{1}'', ''{1}'', NULL, gen_random_uuid()::text)', true),
  (2, 'SELECT order_proc.create_order_with_items(1, NULL, NULL, ''{7,8}'', ''{1,2}'', ''{1.50,2.25}'', idempotency_key => ''k'')', false),
  (3, 'DO $d$ DECLARE o bigint := order_proc.create_order_with_items(1, NULL, NULL, ''{7}'', ''{1}'', ''{1}''); BEGIN PERFORM order_proc.update_order_status(o, ''paid''); END $d$', true),
  (4, 'SELECT order_proc.list_orders()', false),
  (5, 'SELECT order_proc.get_order_with_items(5958)', false)) AS c (n, call, expect) ORDER BY who = 'regress_op_app', path DESC, n \gexec
SELECT order_proc.purge_idempotency_keys('0') \g /dev/null
RESET escalation.armed;
SELECT cmp_ok((SELECT count(*) FROM seen), '>', 0::bigint, 'purge_idempotency_keys by a superuser: planted code was run');
SELECT is(told(), NULL, 'purge_idempotency_keys by a superuser: as the owner');

-- A schema for the code that somebody else made is refused.
DROP EXTENSION order_proc CASCADE;
DROP SCHEMA order_store CASCADE;
DROP SCHEMA order_proc;
CREATE SCHEMA order_proc AUTHORIZATION regress_op_other;
SELECT is((outcome('CREATE EXTENSION order_proc')).state, '42501', 'a schema order_proc that somebody else made is refused');
SELECT isnt((outcome('CREATE EXTENSION order_proc')).hint, NULL, 'with a hint');
DROP SCHEMA order_proc;
CREATE SCHEMA order_proc;
GRANT CREATE ON SCHEMA order_proc TO PUBLIC;
CREATE EXTENSION order_proc;
SELECT ok(NOT has_schema_privilege('regress_op_other', 'order_proc', 'CREATE'), 'a superuser''s is taken, and nobody else may CREATE there');
SELECT is((SELECT count(*) FROM pg_proc WHERE pronamespace = 'order_proc'::regnamespace AND proowner <> (SELECT extowner FROM pg_extension WHERE extname = 'order_proc')), 0::bigint, 'nothing of others stands among the functions');

SELECT * FROM finish();
RESET escalation.armed;
DROP EXTENSION order_proc CASCADE;
DROP SCHEMA IF EXISTS order_store CASCADE;
DROP SCHEMA escalation CASCADE;
DROP OWNED BY regress_op_owner, regress_op_other, regress_op_app;
DROP ROLE regress_op_owner, regress_op_other, regress_op_app;
