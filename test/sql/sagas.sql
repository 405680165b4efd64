\set ECHO none
-- Sagas and restore points in one database: create_order_with_compensation against create_order_with_items, follow-ups that cannot be
-- or fail, rights, what recover() makes of rows that were left; the arguments of create_restore_point. Sessions and servers that
-- die, and shards, are in test/cluster/sagas.pl and test/cluster/atomic.pl.
\pset format unaligned
\pset tuples_only on
\set VERBOSITY sqlstate
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_proc CASCADE;
DROP SCHEMA IF EXISTS order_store CASCADE;
CREATE EXTENSION IF NOT EXISTS pgtap;
DROP ROLE IF EXISTS regress_op_owner, regress_op_app, regress_op_reader;
CREATE ROLE regress_op_owner;
CREATE ROLE regress_op_app;
CREATE ROLE regress_op_reader;
CREATE EXTENSION order_proc;
CREATE SCHEMA sagas;
GRANT USAGE ON SCHEMA sagas TO PUBLIC;
SET search_path = sagas, public;
SELECT no_plan();
CREATE FUNCTION state_of(sql text, OUT state text, OUT message text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE sql;
  state := 'ok';
EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
END $$;

-- Without a store.
CALL order_proc.create_order_with_compensation(NULL, 1, NULL, NULL, '{7}', '{1}', '{1}', 'pg_catalog.int8up(bigint)');
SELECT is(:'SQLSTATE'::text, 'OP001', 'create_order_with_compensation without a store');
SELECT is((state_of('SELECT order_proc.create_restore_point(''p'')')).state, 'OP001', 'create_restore_point without a store');
SELECT is((state_of('SELECT order_proc.recover()')).state, 'OP001', 'recover without a store');

SELECT order_proc.create_store('regress_op_owner', 'modulo') \g /dev/null
SET ROLE regress_op_owner;
SELECT order_proc.grant_store('regress_op_app', 'write'), order_proc.grant_store('regress_op_reader', 'read') \g /dev/null
RESET ROLE;
SELECT order_proc.create_customer('A', 'B', id => 1), order_proc.create_customer('C', 'D', id => 2) \g /dev/null

CREATE TABLE noted (order_id bigint, by_role name DEFAULT current_user, path text DEFAULT current_setting('search_path'));
GRANT INSERT, SELECT, DELETE ON noted TO PUBLIC;
CREATE FUNCTION note(o bigint) RETURNS bigint LANGUAGE sql AS 'INSERT INTO sagas.noted (order_id) VALUES (o) RETURNING order_id';
CREATE FUNCTION counts() RETURNS text LANGUAGE sql AS $$ SELECT (SELECT count(*) FROM order_store.orders) || ' orders, ' || (SELECT count(*) FROM sagas.noted) || ' noted, ' || (SELECT count(*) FROM order_store.sagas) || ' open' $$;
CREATE FUNCTION content(o bigint) RETURNS TABLE (customer_id bigint, status text, total numeric, notes text, name text, email text, items text) LANGUAGE sql AS $$
  SELECT o.customer_id, o.status, o.total_amount, o.notes, o.customer_name, o.customer_email, (SELECT string_agg(concat_ws(' ', i.product_id, i.quantity, i.price), ', ' ORDER BY i.id) FROM order_store.order_items AS i WHERE i.order_id = o.id)
  FROM order_store.orders AS o WHERE o.id = content.o $$;
SELECT counts() AS counts \gset

-- The order: as create_order_with_items makes it, or refuses it. The procedure is called in a session of its own, where it may commit.
CREATE EXTENSION dblink SCHEMA sagas;
SELECT dblink_connect('other', format('host=%s port=%s dbname=%s user=%s', quote_literal(split_part(current_setting('unix_socket_directories'), ',', 1)), current_setting('port'), quote_literal(current_database()), quote_literal(current_user))) \g /dev/null
CREATE FUNCTION outcome_of(sql text, OUT outcome text, OUT id bigint) LANGUAGE plpgsql AS $$
DECLARE
  state text; message text; detail text; hint text;
BEGIN
  EXECUTE sql INTO id;
  outcome := 'ok';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  outcome := concat_ws('|', state, message, detail, hint);
END $$;
CREATE FUNCTION called(arguments text, OUT outcome text, OUT id bigint) LANGUAGE sql AS $$
  SELECT * FROM sagas.outcome_of(format('SELECT * FROM sagas.dblink(''other'', %L) AS t (id bigint)', format('CALL order_proc.create_order_with_compensation(NULL, %s, ''sagas.note(bigint)'')', arguments))) $$;
CREATE TABLE cases (number int GENERATED ALWAYS AS IDENTITY, arguments text);
INSERT INTO cases (arguments) VALUES
  ('1, NULL, NULL, ''{7}'', ''{2}'', ''{1.50}'''),
  ('2, ''pending'', 12.345, ''{7,8,7}'', ''{2,1,3}'', ''{1.505,0,99999999.99}'''),
  ('1, ''paid'', 0, ''[5:6]={7,8}'', ''[-1:0]={2,1}'', ''{1,2}'''),
  ('NULL, NULL, NULL, ''{7}'', ''{1}'', ''{1}'''),
  ('99, NULL, NULL, ''{7}'', ''{1}'', ''{1}'''),
  ('-9223372036854775808, NULL, NULL, ''{7}'', ''{1}'', ''{1}'''),
  ('1, ''nonsense'', NULL, ''{7}'', ''{1}'', ''{1}'''),
  ('1, '''', NULL, ''{7}'', ''{1}'', ''{1}'''),
  ('1, NULL, -1, ''{7}'', ''{1}'', ''{1}'''),
  ('1, NULL, ''NaN'', ''{7}'', ''{1}'', ''{1}'''),
  ('1, NULL, 1e20, ''{7}'', ''{1}'', ''{1}'''),
  ('1, NULL, NULL, NULL, ''{1}'', ''{1}'''),
  ('1, NULL, NULL, ''{7}'', NULL, ''{1}'''),
  ('1, NULL, NULL, ''{7}'', ''{1}'', NULL'),
  ('1, NULL, NULL, ''{}'', ''{}'', ''{}'''),
  ('1, NULL, NULL, ''{7,8}'', ''{1}'', ''{1}'''),
  ('1, NULL, NULL, ''{7,NULL}'', ''{1,1}'', ''{1,1}'''),
  ('1, NULL, NULL, ''{7}'', ''{0}'', ''{1}'''),
  ('1, NULL, NULL, ''{7}'', ''{-2147483648}'', ''{1}'''),
  ('1, NULL, NULL, ''{7}'', ''{1}'', ''{NaN}'''),
  ('1, NULL, NULL, ''{7}'', ''{1}'', ''{Infinity}'''),
  ('1, NULL, NULL, ''{{7},{8}}'', ''{{1},{1}}'', ''{{1},{1}}'''),
  ('1, NULL, NULL, ''{7}'', ''{2147483647}'', ''{99999999.99}''');
INSERT INTO cases (arguments) SELECT format('2, NULL, NULL, %L, %L, %L', array_agg(n), array_agg(1 + n % 9), array_agg(n % 7 + 0.25)) FROM generate_series(1, 5000) AS n;
-- Not in the transaction that compares: the procedure's session must see what this one commits, and the other way round.
CREATE TABLE answers AS SELECT c.number, d.outcome AS directly, d.id AS its, NULL::text AS by_saga, NULL::bigint AS sagas FROM cases AS c, LATERAL outcome_of('SELECT order_proc.create_order_with_items(' || c.arguments || ')') AS d;
UPDATE answers AS a SET (by_saga, sagas) = (SELECT w.outcome, w.id FROM cases AS c, LATERAL called(c.arguments) AS w WHERE c.number = a.number);
SELECT is(a.by_saga, a.directly, format('%s: %s', left(a.directly, 5), left(c.arguments, 70))) FROM answers AS a JOIN cases AS c USING (number) ORDER BY a.number;
SELECT is((SELECT string_agg(t::text, E'\n') FROM content(a.sagas) AS t), (SELECT string_agg(t::text, E'\n') FROM content(a.its) AS t), 'the same order') FROM answers AS a WHERE directly = 'ok' ORDER BY number;
SELECT is((SELECT count(*) FROM answers WHERE directly = 'ok'), 4::bigint, 'four were made');
SELECT is(counts(), '8 orders, 4 noted, 0 open', 'by each of both, and their follow-ups ran');
DELETE FROM order_store.orders;
DELETE FROM noted;
-- A constraint that is asked at COMMIT belongs to the transaction that makes the order.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no orders today' USING ERRCODE = 'P0007'; END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON order_store.orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
CALL order_proc.create_order_with_compensation(NULL, 1, NULL, NULL, '{7}', '{1}', '{1}', 'sagas.note(bigint)');
SELECT is(:'SQLSTATE'::text, 'P0007', 'refused by the first COMMIT');
DROP TRIGGER refuse ON order_store.orders;
SELECT is(counts(), :'counts', 'nothing is there');

-- Where it may be called.
\set call 'CALL order_proc.create_order_with_compensation(NULL, 1, NULL, NULL, ''{7}'', ''{1}'', ''{1}'', '
BEGIN;
:call 'sagas.note(bigint)');
ROLLBACK;
SELECT is(:'LAST_ERROR_SQLSTATE'::text, '2D000', 'not in a transaction block');
CREATE FUNCTION inside() RETURNS void LANGUAGE plpgsql AS $$ DECLARE o bigint; BEGIN CALL order_proc.create_order_with_compensation(o, 1, NULL, NULL, '{7}', '{1}', '{1}', 'sagas.note(bigint)'); END $$;
SELECT is((state_of('SELECT sagas.inside()')).state, '2D000', 'nor in a function');
DO $$ DECLARE o bigint; BEGIN BEGIN CALL order_proc.create_order_with_compensation(o, 1, NULL, NULL, '{7}', '{1}', '{1}', 'sagas.note(bigint)'); EXCEPTION WHEN division_by_zero THEN NULL; END; END $$;
SELECT is(:'SQLSTATE'::text, '2D000', 'nor in a block with an exception handler');
SELECT is(counts(), :'counts', 'nothing is there');
DO $$ DECLARE o bigint := -5; BEGIN CALL order_proc.create_order_with_compensation(o, 1, NULL, NULL, '{7}', '{1}', '{1}', 'sagas.note(bigint)'); ASSERT EXISTS (SELECT FROM order_store.orders WHERE id = o); END $$;
SELECT is(:'SQLSTATE'::text, '00000', 'a DO block: the order''s id comes back, whatever was passed');
SELECT is(counts(), '1 orders, 1 noted, 0 open', 'and the order is there');
CREATE PROCEDURE outside() LANGUAGE plpgsql AS $$ DECLARE o bigint; BEGIN FOR i IN 1 .. 3 LOOP CALL order_proc.create_order_with_compensation(o, 1, NULL, NULL, '{7}', '{1}', '{1}', 'sagas.note(bigint)'); END LOOP; END $$;
CALL outside();
SELECT is(counts(), '4 orders, 4 noted, 0 open', 'a procedure, in a loop');
SELECT results_eq('SELECT DISTINCT by_role, path FROM sagas.noted', 'VALUES (current_user, ''pg_catalog, pg_temp''::text)', 'follow-ups run as the caller, under a locked search_path');
SET default_transaction_isolation = 'serializable';
:call 'sagas.note(bigint)') \g /dev/null
SELECT is(counts(), '5 orders, 5 noted, 0 open', 'SERIALIZABLE');
RESET default_transaction_isolation;
SET default_transaction_read_only = on;
:call 'sagas.note(bigint)');
SELECT is(:'SQLSTATE'::text, '25006', 'read-only');
RESET default_transaction_read_only;
DELETE FROM order_store.orders;
DELETE FROM noted;

-- Follow-ups that are none.
CREATE PROCEDURE a_procedure(o bigint) LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION nothing() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION two(a bigint, b text) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION many(VARIADIC a bigint[]) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION anything(a anyelement) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION smaller(a int) RETURNS void LANGUAGE sql AS '';
:call NULL);
SELECT is(:'SQLSTATE'::text, '22004', 'no follow-up');
:call 4294967295::oid::regprocedure);
SELECT is(:'SQLSTATE'::text, '42883', 'one that does not exist');
:call '-'::regprocedure);
SELECT is(:'SQLSTATE'::text, '42883', 'oid 0');
:call 'sagas.a_procedure(bigint)');
SELECT is(:'SQLSTATE'::text, '42809', 'a procedure');
:call 'pg_catalog.sum(bigint)');
SELECT is(:'SQLSTATE'::text, '42809', 'an aggregate');
:call 'pg_catalog.lag(anyelement)');
SELECT is(:'SQLSTATE'::text, '42809', 'a window function');
:call 'sagas.nothing()');
SELECT is(:'SQLSTATE'::text, '22023', 'no argument');
:call 'sagas.two(bigint,text)');
SELECT is(:'SQLSTATE'::text, '22023', 'two');
:call 'sagas.many(bigint[])');
SELECT is(:'SQLSTATE'::text, '22023', 'an array');
:call 'sagas.anything(anyelement)');
SELECT is(:'SQLSTATE'::text, '22023', 'anything');
:call 'sagas.smaller(int)');
SELECT is(:'SQLSTATE'::text, '22023', 'an int');
SELECT is(counts(), :'counts', 'nothing is there');

-- Follow-ups of every shape that can be called.
CREATE FUNCTION "We""ird; Name"(o bigint) RETURNS boolean LANGUAGE sql AS 'SELECT sagas.note(o) IS NULL';
CREATE FUNCTION more(o bigint, b text DEFAULT 'x', c int DEFAULT 1) RETURNS void LANGUAGE sql AS 'SELECT sagas.note(o)';
CREATE FUNCTION rows(o bigint) RETURNS SETOF bigint LANGUAGE sql AS 'SELECT sagas.note(o) FROM generate_series(1, 1)';
CREATE FUNCTION outs(o bigint, OUT a int, OUT b text) LANGUAGE plpgsql AS $$ BEGIN PERFORM sagas.note(o); END $$;
CREATE FUNCTION strict_null(o bigint) RETURNS int STRICT LANGUAGE sql AS 'SELECT NULL::int FROM sagas.note(o)';
CREATE FUNCTION definer(o bigint) RETURNS void SECURITY DEFINER LANGUAGE sql AS 'SELECT sagas.note(o)';
CREATE FUNCTION remove(o bigint) RETURNS boolean LANGUAGE sql AS 'SELECT order_proc.delete_order(sagas.note(o))';
CREATE FUNCTION another(o bigint) RETURNS bigint LANGUAGE sql AS $$ SELECT order_proc.create_order_with_items(2, NULL, NULL, '{9}', '{1}', '{1}') FROM sagas.note(o) $$;
CREATE FUNCTION handled(o bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN PERFORM sagas.note(o); END; END $$;
:call 'sagas."We""ird; Name"(bigint)') \g /dev/null
:call 'sagas.more(bigint,text,int)') \g /dev/null
:call 'sagas.rows(bigint)') \g /dev/null
:call 'sagas.outs(bigint)') \g /dev/null
:call 'sagas.strict_null(bigint)') \g /dev/null
:call 'sagas.definer(bigint)') \g /dev/null
:call 'sagas.handled(bigint)') \g /dev/null
SELECT is(counts(), '7 orders, 7 noted, 0 open', 'a name to be quoted, defaults, rows, OUT parameters, NULL, SECURITY DEFINER, an error that it handles');
:call 'sagas.another(bigint)') \g /dev/null
SELECT is(counts(), '9 orders, 8 noted, 0 open', 'one that makes an order itself');
:call 'sagas.remove(bigint)') \g /dev/null
SELECT is(counts(), '9 orders, 9 noted, 0 open', 'one that deletes the order');
DELETE FROM order_store.orders;
DELETE FROM noted;

-- Follow-ups that fail: the error is theirs, the order is gone.
CREATE FUNCTION fail(o bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM sagas.note(o); RAISE EXCEPTION 'sold out' USING ERRCODE = 'P0001', DETAIL = 'None left.', HINT = 'Order less'; END $$;
CREATE FUNCTION divide(o bigint) RETURNS bigint LANGUAGE sql AS 'SELECT sagas.note(o) / 0';
CREATE FUNCTION remove_and_fail(o bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM order_proc.delete_order(o); PERFORM 1 / 0; END $$;
CREATE FUNCTION nested(o bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM sagas.note(o); PERFORM sagas.inside(); END $$;
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'too late' USING ERRCODE = '23514'; END $$;
CREATE TABLE never (order_id bigint);
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON never DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();
CREATE FUNCTION fail_late(o bigint) RETURNS void LANGUAGE sql AS 'INSERT INTO sagas.never SELECT sagas.note(o)';
CREATE FUNCTION twice(o bigint) RETURNS void LANGUAGE sql AS 'SELECT sagas.note(o)';
CREATE FUNCTION twice(o bigint, b text DEFAULT 'x') RETURNS void LANGUAGE sql AS 'SELECT sagas.note(o)';
CREATE FUNCTION drops_itself(o bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN DROP FUNCTION sagas.drops_itself(bigint); PERFORM 1 / 0; END $$;
SELECT is(left(outcome, 37), 'P0001|sold out|None left.|Order less.', 'a follow-up that raises'),
       matches(outcome, 's\. Order \d+ was deleted again: the follow-up failed\.$', 'and what became of the order, in its HINT')
FROM outcome_of('SELECT * FROM sagas.dblink(''other'', $c$CALL order_proc.create_order_with_compensation(NULL, 1, NULL, NULL, ''{7}'', ''{1}'', ''{1}'', ''sagas.fail(bigint)'')$c$) AS t (id bigint)');
:call 'sagas.divide(bigint)');
SELECT is(:'SQLSTATE'::text, '22012', 'one that divides by zero');
:call 'sagas.remove_and_fail(bigint)');
SELECT is(:'SQLSTATE'::text, '22012', 'one that deletes the order and fails');
:call 'sagas.nested(bigint)');
SELECT is(:'SQLSTATE'::text, '2D000', 'one that calls it again');
:call 'sagas.fail_late(bigint)');
SELECT is(:'SQLSTATE'::text, '23514', 'one that fails at its COMMIT');
:call 'sagas.drops_itself(bigint)');
SELECT is(:'SQLSTATE'::text, '22012', 'one that drops itself and fails');
:call 'sagas.twice(bigint)');
SELECT is(:'SQLSTATE'::text, '42725', 'one that cannot be told from another by its name and a bigint');
SELECT is(counts(), :'counts', 'nothing is there');
SELECT is(to_regprocedure('sagas.drops_itself(bigint)') IS NOT NULL, true, 'what a follow-up did is undone');

-- Rights.
CREATE FUNCTION mine(o bigint) RETURNS void LANGUAGE sql AS 'SELECT sagas.note(o)';
REVOKE EXECUTE ON FUNCTION mine FROM PUBLIC;
SET ROLE regress_op_app;
:call 'sagas.mine(bigint)');
SELECT is(:'SQLSTATE'::text, '42501', 'no EXECUTE on the follow-up');
:call 'sagas.note(bigint)') \g /dev/null
SELECT results_eq('SELECT by_role FROM sagas.noted', 'VALUES (''regress_op_app''::name)', 'who may write may call it');
SELECT is((state_of(sql)).state, '42501', sql) FROM unnest(ARRAY['TABLE order_store.sagas', 'DELETE FROM order_store.sagas', 'UPDATE order_store.sagas SET step = ''''',
  'INSERT INTO order_store.sagas (order_id, step, compensation, recorded_by) VALUES (1, '''', '''', ''regress_op_owner'')', 'SELECT order_proc.recover()', 'SELECT order_proc.create_restore_point(''p'')']) AS sql;
RESET ROLE;
SET ROLE regress_op_reader;
:call 'sagas.note(bigint)');
SELECT is(:'SQLSTATE'::text, '42501', 'who may only read may not');
RESET ROLE;
DELETE FROM order_store.orders;
DELETE FROM noted;
REVOKE DELETE ON order_store.orders FROM regress_op_app;
SET ROLE regress_op_app;
:call 'sagas.note(bigint)');
SELECT is(:'SQLSTATE'::text, '42501', 'who may not delete may not begin');
RESET ROLE;
GRANT DELETE ON order_store.orders TO regress_op_app;
SELECT is(counts(), :'counts', 'nothing is there');
CREATE FUNCTION takes_rights(o bigint) RETURNS void SECURITY DEFINER LANGUAGE plpgsql AS $$ BEGIN REVOKE DELETE ON order_store.orders FROM regress_op_app; PERFORM 1 / 0; END $$;
SET ROLE regress_op_app;
:call 'sagas.takes_rights(bigint)');
RESET ROLE;
SELECT is(counts(), :'counts', 'a right that the failed follow-up took is there again, and the order gone');
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'kept by %', current_user; END $$;
CREATE TRIGGER keep BEFORE DELETE ON order_store.orders FOR EACH ROW EXECUTE FUNCTION keep();
SET ROLE regress_op_app;
:call 'sagas.divide(bigint)');
SELECT is(:'SQLSTATE'::text, '22012', 'an order that cannot be deleted: the error is the follow-up''s');
RESET ROLE;
SELECT is(counts(), '1 orders, 0 noted, 1 open', 'and the saga stays');
SELECT results_eq('SELECT order_id, attempts, last_error, recorded_by, attempted_at IS NOT NULL FROM order_store.sagas', 'SELECT id, 1, ''kept by regress_op_app'', ''regress_op_app'', true FROM order_store.orders', 'with what went wrong');

-- What recover() makes of it.
SELECT is((state_of('ALTER EXTENSION order_proc UPDATE TO ''1.7''')).state, '55000', 'no way down with an open saga');
SELECT results_eq('SELECT gid, shard_id, action FROM order_proc.recover()', 'SELECT ''saga '' || id, NULL::int, ''failed'' FROM order_store.sagas', 'what still cannot be deleted');
SELECT results_eq('SELECT attempts, last_error FROM order_store.sagas', 'VALUES (2, ''kept by regress_op_owner'')', 'is tried as the owner of the store, who may not act as the role that called');
GRANT regress_op_app TO regress_op_owner;
SELECT is((SELECT action FROM order_proc.recover()), 'failed', 'and again');
SELECT results_eq('SELECT attempts, last_error FROM order_store.sagas', 'VALUES (3, ''kept by regress_op_app'')', 'as that role once he may');
REVOKE regress_op_app FROM regress_op_owner;
DROP TRIGGER keep ON order_store.orders;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT order_proc.recover();
ROLLBACK;
SELECT is(:'LAST_ERROR_SQLSTATE'::text, '25001', 'not with an old snapshot');
BEGIN READ ONLY;
SELECT order_proc.recover();
ROLLBACK;
SELECT is(:'LAST_ERROR_SQLSTATE'::text, '25006', 'nor read-only');
BEGIN;
SELECT is((SELECT action FROM order_proc.recover()), 'compensated', 'once it can be');
ROLLBACK;
SELECT is(counts(), '1 orders, 0 noted, 1 open', 'rolled back: as before');
SET ROLE regress_op_owner;
SELECT is((state_of('SELECT order_proc.recover()')).state, '42501', 'the owner of the store needs EXECUTE');
RESET ROLE;
GRANT EXECUTE ON FUNCTION order_proc.recover() TO regress_op_owner, regress_op_app;
SET ROLE regress_op_app;
SELECT is((state_of('SELECT order_proc.recover()')).state, '42501', 'and EXECUTE is not enough');
RESET ROLE;
SET ROLE regress_op_owner;
SELECT is((SELECT action FROM order_proc.recover()), 'compensated', 'the owner with EXECUTE');
RESET ROLE;
SELECT is(counts(), :'counts', 'nothing is left');
SELECT is_empty('SELECT * FROM order_proc.recover()', 'a second time there is nothing to do');
REVOKE EXECUTE ON FUNCTION order_proc.recover() FROM regress_op_owner, regress_op_app;

-- Rows as crashes leave them, and as they should not be.
CREATE FUNCTION leave(customer bigint, by_role text, compensation text DEFAULT 'SELECT order_proc.delete_order(%s)') RETURNS void LANGUAGE sql AS $$
  INSERT INTO order_store.sagas (order_id, step, compensation, recorded_by)
  SELECT o, format('SELECT sagas.note(%s)', o), format(compensation, o), by_role FROM order_proc.create_order_with_items(customer, NULL, NULL, '{7}', '{1}', '{1}') AS o $$;
GRANT regress_op_app TO regress_op_owner;
SELECT leave(1, 'regress_op_app'), leave(2, 'regress_op_owner'), leave(1, 'regress_op_app', 'SELECT pg_catalog.bool_or(order_proc.delete_order(%s))') \g /dev/null
SELECT results_eq('SELECT action FROM order_proc.recover()', 'VALUES (''compensated''), (''compensated''), (''compensated'')', 'three that were left');
SELECT is(counts(), :'counts', 'are gone, their follow-ups never ran');
SELECT leave(1, 'nobody of that name'), leave(1, 'regress_op_reader'), leave(1, 'regress_op_app', 'SELECT nonsense'), leave(1, 'regress_op_app', ''), leave(1, 'regress_op_app', 'SELECT 1 / 0 -- %s'), leave(2, 'regress_op_app') \g /dev/null
SELECT results_eq('SELECT action FROM order_proc.recover()', 'VALUES (''failed''), (''failed''), (''failed''), (''compensated''), (''failed''), (''compensated'')', 'what fails keeps nobody else');
SELECT results_eq('SELECT recorded_by, attempts, last_error FROM order_store.sagas ORDER BY id', $$VALUES ('nobody of that name', 1, 'role "nobody of that name" does not exist'), ('regress_op_reader', 1, 'permission denied for table orders'),
  ('regress_op_app', 1, 'column "nonsense" does not exist'), ('regress_op_app', 1, 'division by zero')$$, 'and says why');
-- One whose role the owner of the store may not act as: the owner deletes the order, and the row's text does not count.
DELETE FROM order_store.sagas;
DELETE FROM order_store.orders;
REVOKE regress_op_app FROM regress_op_owner;
SELECT leave(1, 'regress_op_app', 'CREATE TABLE sagas.forged AS SELECT %s') \g /dev/null
SELECT is((SELECT action FROM order_proc.recover()), 'compensated', 'a role that the owner is no member of');
SELECT is(to_regclass('sagas.forged'), NULL, 'a text in its name is not run');
SELECT is(counts(), :'counts', 'the order is deleted all the same');
-- An order that is gone already; a row that is locked.
SELECT leave(1, 'regress_op_owner') \g /dev/null
DELETE FROM order_store.orders;
SELECT is((SELECT action FROM order_proc.recover()), 'compensated', 'an order that is gone');
SELECT leave(1, 'regress_op_owner') \g /dev/null
\setenv PGDATABASE :DBNAME
BEGIN;
SELECT id FROM order_store.sagas FOR UPDATE \g /dev/null
\! psql -XAtq -c "SELECT action FROM order_proc.recover()"
ROLLBACK;
SELECT is(counts(), '1 orders, 0 noted, 1 open', 'a row that another session has locked is left alone');
SELECT is((SELECT action FROM order_proc.recover()), 'compensated', 'until it is free');

-- On a shard: only what is there.
SELECT order_proc.set_membership(7, 3, decode(repeat('00', 512), 'hex')) \g /dev/null
:call 'sagas.note(bigint)');
SELECT is(:'SQLSTATE'::text, 'OP402', 'on a shard without the slot');
SELECT is((state_of('SELECT order_proc.create_restore_point(''p'')')).state, '55000', 'a restore point is for the coordinator to make');
SELECT matches((state_of('SELECT order_proc.create_restore_point(''p'')')).message, 'shard 3', 'and says whose shard it is');
UPDATE order_store.cluster SET owned_slots = decode(repeat('ff', 512), 'hex');
:call 'sagas.note(bigint)') \g /dev/null
SELECT is(counts(), '1 orders, 1 noted, 0 open', 'on a shard with it');
DELETE FROM order_store.orders;
DELETE FROM noted;
DELETE FROM order_store.cluster;

-- Restore points.
SELECT is((state_of(format('SELECT order_proc.create_restore_point(%s)', name))).state, expected, name || ': ' || expected) FROM (VALUES ('NULL', '22004'), ('''''', '22023'), ('repeat(''x'', 63)', 'ok'), ('repeat(''x'', 64)', '22023'),
  ('repeat(''€'', 21)', 'ok'), ('repeat(''€'', 22)', '22023'), ('repeat(''x'', 10000000)', '22023'), ('E''a\nb''', '22023'), ('E''\t''', '22023'), ('E''a\x7f''', '22023'), ('''a b''''c"d;--''', 'ok'), ('''x''', 'ok'), ('''x''', 'ok')) AS c (name, expected);
SELECT pg_current_wal_insert_lsn() AS before \gset
SELECT shard_id IS NULL AS here, lsn FROM order_proc.create_restore_point('between') \gset
SELECT pg_current_wal_insert_lsn() AS after \gset
SELECT is(:'here'::boolean, true, 'one row, of this server');
SELECT is(:'before'::pg_lsn < :'lsn' AND :'lsn'::pg_lsn <= :'after', true, 'where the log is');
SELECT results_eq('SELECT count(*) FROM order_proc.create_restore_point(''a'') AS a, order_proc.create_restore_point(''b'') AS b', 'VALUES (1::bigint)', 'two in a statement');
BEGIN READ ONLY;
SELECT order_proc.create_restore_point('p');
ROLLBACK;
SELECT is(:'LAST_ERROR_SQLSTATE'::text, '25006', 'not read-only');
GRANT EXECUTE ON FUNCTION order_proc.create_restore_point(text) TO regress_op_app;
SET ROLE regress_op_app;
SELECT is((state_of('SELECT order_proc.create_restore_point(''p'')')).message, 'permission denied for function pg_create_restore_point', 'the server''s own function has to be granted, too');
RESET ROLE;
GRANT EXECUTE ON FUNCTION pg_create_restore_point(text) TO regress_op_app;
SET ROLE regress_op_app;
SELECT is((state_of('SELECT order_proc.create_restore_point(''p'')')).state, 'ok', 'then it may');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION pg_create_restore_point(text) FROM regress_op_app;

-- Down and up again.
ALTER EXTENSION order_proc UPDATE TO '1.7';
:call 'sagas.note(bigint)');
SELECT is(:'SQLSTATE'::text, '42883', 'down to 1.7: there is no such procedure');
SELECT is(to_regclass('order_store.sagas'), NULL, 'nor its table');
SELECT is_empty('SELECT * FROM order_proc.recover()', 'recover() of 1.7 looks for no sagas');
ALTER EXTENSION order_proc UPDATE TO '1.8';
:call 'sagas.note(bigint)') \g /dev/null
SELECT is(counts(), '1 orders, 1 noted, 0 open', 'up to 1.8: they are back');

SELECT dblink_disconnect('other') \g /dev/null
SELECT * FROM finish();
DROP SCHEMA sagas CASCADE;
DROP EXTENSION order_proc CASCADE;
DROP SCHEMA order_store CASCADE;
DROP ROLE regress_op_owner, regress_op_app, regress_op_reader;
