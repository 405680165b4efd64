\set ECHO none
-- batch_create_order_items: what it answers row by row, what it leaves behind, and that nobody can tell the fast path from
-- the executor, nor either from plain INSERTs, on tables as they were made and on altered ones.
\pset format unaligned
\pset tuples_only on
\pset pager off
SET client_min_messages = warning;
SET timezone = 'UTC';
DROP EXTENSION IF EXISTS order_proc CASCADE;
DROP SCHEMA IF EXISTS order_store CASCADE;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION order_proc;
CREATE SCHEMA batch;
CREATE EXTENSION amcheck SCHEMA batch;
CREATE EXTENSION pgrowlocks SCHEMA batch;
SET search_path = batch, public;
CREATE ROLE regress_batch_owner;
CREATE ROLE regress_batch_app;
CREATE ROLE regress_batch_columns;
CREATE ROLE regress_batch_nobody;
SELECT order_proc.create_store('regress_batch_owner');
SELECT order_proc.grant_store('regress_batch_app', 'write');
GRANT USAGE ON SCHEMA order_store TO regress_batch_columns;
GRANT USAGE ON SEQUENCE order_store.order_items_id_seq TO regress_batch_columns;
GRANT INSERT (order_id, product_id, quantity, price) ON order_store.order_items TO regress_batch_columns;
GRANT USAGE ON SCHEMA batch TO PUBLIC;
SELECT no_plan();

-- Orders 1 to 4 of customer 1, whose slot is 1862: n << 12 | 1862.
INSERT INTO order_store.customers (id, first_name) VALUES (1, 'Ana');
INSERT INTO order_store.orders (id, customer_id, status, total_amount) SELECT order_proc.new_order_id(1), 1, 'pending', 0 FROM generate_series(1, 4);
SELECT results_eq('SELECT id FROM order_store.orders ORDER BY id', 'SELECT unnest(ARRAY[5958, 10054, 14150, 18246]::bigint[])', 'the orders of the batches below');
SELECT results_eq($$SELECT path, reason ~ 'as the store made them' FROM order_proc.explain_fast_path() WHERE operation = 'batch_create_order_items'$$,
  $$VALUES ('fast', true)$$, 'batches take the fast path on the tables as they were made');

------------------------------------------------------------------------------------------------------------
-- Result rows
------------------------------------------------------------------------------------------------------------

-- What a call answers and leaves, undone: its result rows without the messages or its SQLSTATE, then the products that went in.
CREATE FUNCTION outcome(sql text, before text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  answer text;
  state text;
BEGIN
  BEGIN
    IF before IS NOT NULL THEN EXECUTE before; END IF;
    BEGIN
      EXECUTE format($q$SELECT string_agg(concat_ws(' ', chunk, first_row || '-' || last_row, inserted, '#' || rejected_row, sqlstate), ', ') FROM %s AS b$q$, sql) INTO answer;
    EXCEPTION WHEN query_canceled OR others THEN
      GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE;
      answer := state;
    END;
    answer := format('%s | %s', answer, (SELECT string_agg(product_id::text, ',' ORDER BY id) FROM order_store.order_items));
    RAISE EXCEPTION SQLSTATE 'UNDO0';
  EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
    RETURN answer;
  END;
END
$$;
-- The same with the fast path and without.
CREATE FUNCTION alike(sql text, expected text, what text, before text DEFAULT NULL) RETURNS SETOF text LANGUAGE sql AS $$
  SELECT is(outcome(sql, concat_ws('; ', 'SET LOCAL order_proc.fast_path = ' || path, before)), expected, format('%s (%s)', what, path)) FROM unnest(ARRAY['on', 'off']) AS path
$$;
-- order_ids by the number of the order; products count from 1.
CREATE FUNCTION orders(VARIADIC numbers int[]) RETURNS bigint[] LANGUAGE sql IMMUTABLE AS $$ SELECT array_agg(n::bigint << 12 | 1862 ORDER BY i) FROM unnest(numbers) WITH ORDINALITY AS u (n, i) $$;
CREATE FUNCTION batch_of(order_numbers text, quantities text, prices text, chunk_size int, on_error text) RETURNS text LANGUAGE sql AS $$
  SELECT format('order_proc.batch_create_order_items(batch.orders(VARIADIC %L), ARRAY(SELECT generate_series(1, %s))::bigint[], %L, %L, %s, %L)',
    order_numbers, cardinality(order_numbers::int[]), quantities, prices, chunk_size, on_error)
$$;

\set clean '''{1,2,1,3,4,2,1}'', ''{1,2,3,4,5,6,7}'', ''{1,2.005,3,0,99999999.99,1e-5,-0.004}'''
SELECT alike(batch_of(:clean, s, e), r || ' | 1,2,3,4,5,6,7', format('no faults, chunks of %s, %s', s, e))
FROM (VALUES (1, '1 1-1 1, 2 2-2 1, 3 3-3 1, 4 4-4 1, 5 5-5 1, 6 6-6 1, 7 7-7 1'), (3, '1 1-3 3, 2 4-6 3, 3 7-7 1'), (6, '1 1-6 6, 2 7-7 1'), (7, '1 1-7 7'), (8, '1 1-7 7'), (2147483647, '1 1-7 7')) AS t (s, r),
  unnest(ARRAY['abort', 'skip_chunk', 'skip_row']) AS e ORDER BY 1;

-- Each predictable fault, in the middle of a chunk.
SELECT alike(format('order_proc.batch_create_order_items(%L, %L, %L, %L, 3, ''skip_row'')', o, p, q, r), format('1 1-3 2, 1 1-3 0 #2 %s, 2 4-4 1 | %s', state, left_in), what || ', skip_row'),
  alike(format('order_proc.batch_create_order_items(%L, %L, %L, %L, 3, ''skip_chunk'')', o, p, q, r), format('1 1-3 0 %s, 2 4-4 1 | 4', state), what || ', skip_chunk'),
  alike(format('order_proc.batch_create_order_items(%L, %L, %L, %L, 3, ''abort'')', o, p, q, r), state || ' | ', what || ', abort')
FROM (VALUES
  ('an order that is NULL', '22004', '{5958,NULL,5958,5958}', '{1,2,3,4}', '{1,1,1,1}', '{1,1,1,1}', '1,3,4'),
  ('a product that is NULL', '22004', '{5958,5958,5958,5958}', '{1,NULL,3,4}', '{1,1,1,1}', '{1,1,1,1}', '1,3,4'),
  ('a quantity that is NULL', '22004', '{5958,5958,5958,5958}', '{1,2,3,4}', '{1,NULL,1,1}', '{1,1,1,1}', '1,3,4'),
  ('a price that is NULL', '22004', '{5958,5958,5958,5958}', '{1,2,3,4}', '{1,1,1,1}', '{1,NULL,1,1}', '1,3,4'),
  ('quantity 0', '23514', '{5958,5958,5958,5958}', '{1,2,3,4}', '{1,0,1,1}', '{1,1,1,1}', '1,3,4'),
  ('a negative quantity', '23514', '{5958,5958,5958,5958}', '{1,2,3,4}', '{1,-2147483648,1,1}', '{1,1,1,1}', '1,3,4'),
  ('a negative price', '23514', '{5958,5958,5958,5958}', '{1,2,3,4}', '{1,1,1,1}', '{1,-0.005,1,1}', '1,3,4'),
  ('a price that is not a number', '23514', '{5958,5958,5958,5958}', '{1,2,3,4}', '{1,1,1,1}', '{1,NaN,1,1}', '1,3,4'),
  ('minus infinity', '23514', '{5958,5958,5958,5958}', '{1,2,3,4}', '{1,1,1,1}', '{1,-Infinity,1,1}', '1,3,4'),
  ('infinity', '22003', '{5958,5958,5958,5958}', '{1,2,3,4}', '{1,1,1,1}', '{1,Infinity,1,1}', '1,3,4'),
  ('a price that is rounded out of range', '22003', '{5958,5958,5958,5958}', '{1,2,3,4}', '{1,1,1,1}', '{1,99999999.995,1,1}', '1,3,4'),
  ('an enormous price', '22003', '{5958,5958,5958,5958}', '{1,2,3,4}', '{1,1,1,1}', '{1,1e1000,1,1}', '1,3,4'),
  ('an unknown order', '23503', '{5958,77,5958,5958}', '{1,2,3,4}', '{1,1,1,1}', '{1,1,1,1}', '1,3,4'),
  ('an order before all', '23503', '{5958,-9223372036854775808,5958,5958}', '{1,2,3,4}', '{1,1,1,1}', '{1,1,1,1}', '1,3,4'),
  ('an order after all', '23503', '{5958,9223372036854775807,5958,5958}', '{1,2,3,4}', '{1,1,1,1}', '{1,1,1,1}', '1,3,4')) AS t (what, state, o, p, q, r, left_in);

\set faults '''{1,77,2,1,3,1,4,78,2}'', ''{1,1,0,1,NULL,1,1,0,1}'', ''{1,2,3,NaN,5,1e9,7,8,9}'''
SELECT alike(batch_of(:faults, 4, 'skip_row'), '1 1-4 1, 1 1-4 0 #2 23503, 1 1-4 0 #3 23514, 1 1-4 0 #4 23514, 2 5-8 1, 2 5-8 0 #5 22004, 2 5-8 0 #6 22003, 2 5-8 0 #8 23514, 3 9-9 1 | 1,7,9', 'several faults in several chunks');
SELECT alike(batch_of(:faults, 9, 'skip_row'), '1 1-9 3, 1 1-9 0 #2 23503, 1 1-9 0 #3 23514, 1 1-9 0 #4 23514, 1 1-9 0 #5 22004, 1 1-9 0 #6 22003, 1 1-9 0 #8 23514 | 1,7,9', 'several faults in one chunk');
SELECT alike(batch_of(:faults, 1, 'skip_row'), '1 1-1 1, 2 2-2 0, 2 2-2 0 #2 23503, 3 3-3 0, 3 3-3 0 #3 23514, 4 4-4 0, 4 4-4 0 #4 23514, 5 5-5 0, 5 5-5 0 #5 22004, 6 6-6 0, 6 6-6 0 #6 22003, 7 7-7 1, 8 8-8 0, 8 8-8 0 #8 23514, 9 9-9 1 | 1,7,9', 'chunks that are one faulty row');
SELECT alike(batch_of(:faults, 4, 'skip_chunk'), '1 1-4 0 23503, 2 5-8 0 22004, 3 9-9 1 | 9', 'a failed chunk tells its first fault');
SELECT alike(batch_of(:faults, s, 'abort'), '23503 | ', format('the first faulty row ends it, chunks of %s', s)) FROM unnest(ARRAY[1, 2, 9]) AS s;
SELECT alike(batch_of('{77,78}', '{1,1}', '{1,1}', 5, 'skip_row'), '1 1-2 0, 1 1-2 0 #1 23503, 1 1-2 0 #2 23503 | ', 'nothing but faults');

-- Messages, whole.
CREATE TABLE answer AS SELECT * FROM order_proc.batch_create_order_items(orders(1, 19, 2, 2, 2, 1, 1), '{1,2,3,4,NULL,6,7}', '{1,1,0,1,1,1,1}', '{1,1,1,-1,1,100000000,NaN}', 100, 'skip_row');
SELECT results_eq('SELECT rejected_row, sqlstate, message FROM answer', $$VALUES
  (NULL::bigint, NULL::text, NULL::text),
  (2, '23503', 'order 79686 does not exist'),
  (3, '23514', 'quantity must be positive: 0'),
  (4, '23514', 'price must be a number and not negative: -1'),
  (5, '22004', 'product_id must not be NULL'),
  (6, '22003', 'price is out of range for numeric(10,2): 100000000'),
  (7, '23514', 'price must be a number and not negative: NaN')$$, 'messages of skip_row');
SELECT throws_ok('SELECT * FROM ' || batch_of('{1,1,19}', '{1,0,1}', '{1,1,1}', 2, 'abort'), '23514', 'quantity must be positive: 0', 'message of abort');
CREATE FUNCTION detail_of(sql text, OUT detail text, OUT hint text, OUT context text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE sql;
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
END
$$;
SELECT results_eq($$SELECT d.detail, d.hint ~ 'skip_row', d.context ~ '^batch_create_order_items, chunk 2, rows 3 to 4\n' FROM batch_of('{1,1,1,19}', '{1,1,1,1}', '{1,1,1,1}', 2, 'abort') AS b, detail_of('SELECT * FROM ' || b) AS d$$,
  $$VALUES ('Row 4 of the batch.', true, true)$$, 'abort tells the row and the chunk');
SELECT results_eq($$SELECT d.detail FROM detail_of('SELECT order_proc.batch_create_order_items(''{1,2}'', ''{1}'', ''{1,2,3}'', ''{}'')') AS d$$, $$VALUES ('They have 2, 1, 3 and 0 elements.')$$, 'lengths are told');
DELETE FROM order_store.order_items;

-- Shapes and options.
SELECT alike(format('order_proc.batch_create_order_items(%s)', args), expected, args) FROM (VALUES
  ('''{}'', ''{}'', ''{}'', ''{}''', ' | '),
  ('''{}'', ''{}'', ''{}'', ''{}'', 1, ''skip_row''', ' | '),
  ('NULL, ''{1}'', ''{1}'', ''{1}''', '22004 | '),
  ('''{5958}'', NULL, ''{1}'', ''{1}''', '22004 | '),
  ('''{5958}'', ''{1}'', NULL, ''{1}''', '22004 | '),
  ('''{5958}'', ''{1}'', ''{1}'', NULL', '22004 | '),
  ('''{5958}'', ''{1}'', ''{1}'', ''{1}'', NULL', '22004 | '),
  ('''{5958}'', ''{1}'', ''{1}'', ''{1}'', 10, NULL', '22004 | '),
  ('''{5958}'', ''{1}'', ''{1}'', ''{1}'', 0', '22023 | '),
  ('''{5958}'', ''{1}'', ''{1}'', ''{1}'', -1', '22023 | '),
  ('''{}'', ''{}'', ''{}'', ''{}'', 0', '22023 | '),
  ('''{5958}'', ''{1}'', ''{1}'', ''{1}'', 10, ''''', '22023 | '),
  ('''{5958}'', ''{1}'', ''{1}'', ''{1}'', 10, ''Abort''', '22023 | '),
  ('''{5958}'', ''{1}'', ''{1}'', ''{1}'', 10, ''skip''', '22023 | '),
  ('''{}'', ''{}'', ''{}'', ''{}'', 10, ''skip''', '22023 | '),
  ('''{5958,5958}'', ''{1}'', ''{1}'', ''{1}''', '22023 | '),
  ('''{5958}'', ''{1,2}'', ''{1}'', ''{1}'', 10, ''skip_row''', '22023 | '),
  ('''{5958}'', ''{1}'', ''{1,1}'', ''{1}'', 10, ''skip_row''', '22023 | '),
  ('''{5958}'', ''{1}'', ''{1}'', ''{}'', 10, ''skip_row''', '22023 | '),
  ('''{{5958}}'', ''{1}'', ''{1}'', ''{1}''', '22023 | '),
  ('''{5958}'', ''{{1}}'', ''{1}'', ''{1}''', '22023 | '),
  ('''{5958}'', ''{1}'', ''{{1}}'', ''{1}''', '22023 | '),
  ('''{5958}'', ''{1}'', ''{1}'', ''{{1}}''', '22023 | '),
  ('''[5:6]={5958,10054}'', ''[-2:-1]={1,2}'', ''[0:1]={1,1}'', ''{1,1}''', '1 1-2 2 | 1,2'),
  ('''[5:6]={5958,77}'', ''[-2:-1]={1,2}'', ''[2147483645:2147483646]={1,1}'', ''[7:8]={1,1}'', 1, ''skip_row''', '1 1-1 1, 2 2-2 0, 2 2-2 0 #2 23503 | 1'),
  ('on_error => ''skip_row'', chunk_size => 1, prices => ''{1}'', quantities => ''{1}'', product_ids => ''{9}'', order_ids => ''{14150}''', '1 1-1 1 | 9')) AS t (args, expected);

------------------------------------------------------------------------------------------------------------
-- What only the insert can reveal
------------------------------------------------------------------------------------------------------------

CREATE SEQUENCE statements;
GRANT USAGE ON SEQUENCE statements TO PUBLIC;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.product_id::text = ANY (TG_ARGV[1:]) THEN RAISE EXCEPTION USING ERRCODE = TG_ARGV[0], MESSAGE = format('no %s please', NEW.product_id); END IF;
  RETURN NEW;
END
$$;
CREATE FUNCTION refuse(state text, VARIADIC products int[]) RETURNS text LANGUAGE sql AS $$
  SELECT format('CREATE TRIGGER refuse BEFORE INSERT ON order_store.order_items FOR EACH ROW EXECUTE FUNCTION batch.refuse(%L, ''%s'')', state, array_to_string(products, ''', '''))
$$;
CREATE FUNCTION count_statement() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM nextval(''batch.statements''); RETURN NULL; END';

\set ten '''{1,2,1,3,4,2,1,1,3,4}'', ''{1,1,1,1,1,1,1,1,1,1}'', ''{1,2,3,4,5,6,7,8,9,10}'''
\set check '''ALTER TABLE order_store.order_items ADD CHECK (product_id NOT IN (2, 3, 10))'''
\set later '''CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON order_store.order_items FOR EACH ROW EXECUTE FUNCTION batch.refuse(''''23000'''', 2, 3, 10)'''
SELECT alike(batch_of(:ten, 100, 'skip_row'), format('1 1-10 7, 1 1-10 0 #2 %1$s, 1 1-10 0 #3 %1$s, 1 1-10 0 #10 %1$s | 1,4,5,6,7,8,9', state), what || ', skip_row', ddl),
  alike(batch_of(:ten, 4, 'skip_row'), format('1 1-4 2, 1 1-4 0 #2 %1$s, 1 1-4 0 #3 %1$s, 2 5-8 4, 3 9-10 1, 3 9-10 0 #10 %1$s | 1,4,5,6,7,8,9', state), what || ', skip_row in chunks', ddl),
  alike(batch_of(:ten, 4, 'skip_chunk'), format('1 1-4 0 %1$s, 2 5-8 4, 3 9-10 0 %1$s | 5,6,7,8', state), what || ', skip_chunk', ddl),
  alike(batch_of(:ten, 4, 'abort'), state || ' | ', what || ', abort', ddl)
FROM (VALUES ('a CHECK of the user''s', '23514', :check), ('a trigger that raises', 'P0001', refuse('P0001', 2, 3, 10)), ('a constraint trigger that raises', '23000', :later)) AS t (what, state, ddl);
SELECT alike(batch_of('{1,2,77,3,4,2,1,1,3,4}', '{0,1,1,1,1,1,1,1,1,1}', '{1,2,3,4,5,6,7,8,NaN,10}', 5, 'skip_row'),
  '1 1-5 2, 1 1-5 0 #1 23514, 1 1-5 0 #2 P0001, 1 1-5 0 #3 23503, 2 6-10 3, 2 6-10 0 #9 23514, 2 6-10 0 #10 P0001 | 4,5,6,7,8', 'faults of both kinds in the order of rows', refuse('P0001', 2, 10));

-- Of rows that exclude each other the first one stays.
\set twins 'format(''order_proc.batch_create_order_items(batch.orders(1, 1, 2, 1, 2, 1, 3), %L, %L, %L, %s, %L)'', ''{5,5,5,6,5,6,7}'', ''{1,1,1,1,1,1,1}'', ''{1,2,3,4,5,6,7}'''
SELECT alike(:twins, 100, 'skip_row'), '1 1-7 4, 1 1-7 0 #2 23505, 1 1-7 0 #5 23505, 1 1-7 0 #6 23505 | 5,5,6,7', 'a unique index', ddl),
  alike(:twins, 2, 'skip_row'), '1 1-2 1, 1 1-2 0 #2 23505, 2 3-4 2, 3 5-6 0, 3 5-6 0 #5 23505, 3 5-6 0 #6 23505, 4 7-7 1 | 5,5,6,7', 'a unique index over chunks', ddl),
  alike(:twins, 2, 'skip_chunk'), '1 1-2 0 23505, 2 3-4 2, 3 5-6 0 23505, 4 7-7 1 | 5,6,7', 'a unique index, skip_chunk', ddl),
  alike(:twins, 2, 'abort'), '23505 | ', 'a unique index, abort', ddl)
FROM (VALUES ('CREATE UNIQUE INDEX once ON order_store.order_items (order_id, product_id)')) AS t (ddl);
SELECT alike(:twins, 3, 'skip_row'), '1 1-3 2, 1 1-3 0 #2 23505, 2 4-6 2, 2 4-6 0 #6 23505, 3 7-7 1 | 5,5,6,5,7', 'a partial unique index on an expression',
  'CREATE UNIQUE INDEX once ON order_store.order_items (order_id, (product_id % 10)) WHERE price < 5 OR price = 6');

-- Halving, not a savepoint for each row: n rows with one bad one take 2 log2(n) + 1 statements.
CREATE FUNCTION statements_of(bad text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  before constant bigint := nextval('batch.statements');
BEGIN
  CREATE TRIGGER n BEFORE INSERT ON order_store.order_items EXECUTE FUNCTION batch.count_statement();
  EXECUTE bad;
  PERFORM order_proc.batch_create_order_items(array_agg(5958::bigint), array_agg(i), array_agg(1), array_agg(1), 1024, 'skip_row') FROM generate_series(1::bigint, 1024) AS i;
  DROP TRIGGER n ON order_store.order_items;
  DROP TRIGGER refuse ON order_store.order_items;
  RETURN nextval('batch.statements') - before - 1;
END
$$;
SELECT is(statements_of(refuse('P0001', -1)), 1::bigint, '1,024 good rows are one INSERT');
SELECT is(statements_of(refuse('P0001', 700)), 21::bigint, 'one bad row of 1,024 takes 21');
SELECT is((SELECT count(*) FROM order_store.order_items), 2047::bigint, 'all the others went in');
SELECT results_eq('SELECT product_id FROM order_store.order_items ORDER BY id', 'SELECT i FROM generate_series(1::bigint, 1024) AS i UNION ALL (SELECT i FROM generate_series(1::bigint, 1024) AS i WHERE i <> 700 ORDER BY i)', 'in the order of rows');
DELETE FROM order_store.order_items;

-- Errors that are no fault of the data end the call in every mode.
SELECT alike(batch_of(:ten, 4, e), state || ' | ', format('SQLSTATE %s from the insert, %s', state, e), refuse(state, 7))
FROM unnest(ARRAY['skip_row', 'skip_chunk']) AS e, unnest(ARRAY['57014', '57P01', '42501', '25006', '40001', '40P01', '53100', '53200', '55P03', '58030', 'XX000', 'XX001']) AS state;
-- And those that are one do not.
SELECT alike(batch_of(:ten, 4, 'skip_row'), format('1 1-4 4, 2 5-8 3, 2 5-8 0 #7 %s, 3 9-10 2 | 1,2,3,4,5,6,8,9,10', state), format('SQLSTATE %s from the insert', state), refuse(state, 7))
FROM unnest(ARRAY['P0001', '22000', '22003', '22P02', '23000', '23502', '23503', '23505', '23514', '23P01', '44000', 'ABCDE']) AS state;
CREATE FUNCTION cancel_at_seven() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.product_id = 7 THEN PERFORM pg_cancel_backend(pg_backend_pid()); PERFORM pg_sleep(60); END IF;
  RETURN NEW;
END
$$;
CREATE FUNCTION sleep_at_seven() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.product_id = 7 THEN PERFORM pg_sleep(60); END IF;
  RETURN NEW;
END
$$;
SELECT is(outcome(batch_of(:ten, 4, 'skip_row'), 'CREATE TRIGGER t BEFORE INSERT ON order_store.order_items FOR EACH ROW EXECUTE FUNCTION batch.cancel_at_seven()'), '57014 | ', 'a cancel is not swallowed');
SET statement_timeout = '500ms';
SELECT is(outcome(batch_of(:ten, 4, e), 'CREATE TRIGGER t BEFORE INSERT ON order_store.order_items FOR EACH ROW EXECUTE FUNCTION batch.sleep_at_seven()'), '57014 | ', 'statement_timeout is not swallowed by ' || e)
FROM unnest(ARRAY['skip_row']) AS e;
SELECT is(outcome(batch_of(:ten, 4, e), 'CREATE TRIGGER t BEFORE INSERT ON order_store.order_items FOR EACH ROW EXECUTE FUNCTION batch.sleep_at_seven()'), '57014 | ', 'statement_timeout is not swallowed by ' || e)
FROM unnest(ARRAY['skip_chunk']) AS e;
RESET statement_timeout;
SELECT alike(batch_of(:ten, 4, e), '25006 | ', 'a read-only transaction, ' || e, 'SET LOCAL transaction_read_only = on') FROM unnest(ARRAY['abort', 'skip_chunk', 'skip_row']) AS e;

------------------------------------------------------------------------------------------------------------
-- Transactions, locks, totals, rights
------------------------------------------------------------------------------------------------------------

BEGIN;
SELECT is(outcome(batch_of(:ten, 4, 'skip_row')), '1 1-4 4, 2 5-8 4, 3 9-10 2 | 1,2,3,4,5,6,7,8,9,10', 'in a transaction block');
SAVEPOINT s;
SELECT order_proc.batch_create_order_items(orders(1, 77, 2), '{1,2,3}', '{1,1,1}', '{1,1,1}', 2, 'skip_row') \g /dev/null
SELECT is((SELECT count(*) FROM order_store.order_items), 2::bigint, 'two of three went in');
ROLLBACK TO s;
SELECT is((SELECT count(*) FROM order_store.order_items), 0::bigint, 'ROLLBACK TO undoes the batch');
SELECT order_proc.batch_create_order_items(orders(1, 3, 1), '{1,2,3}', '{1,1,1}', '{1,1,1}', 2, 'skip_row') \g /dev/null
RELEASE s;
SELECT results_eq('SELECT locked_row::text, modes FROM pgrowlocks(''order_store.orders'') ORDER BY locked_row::text',
  $$SELECT ctid::text, ARRAY['For Key Share'] FROM order_store.orders WHERE id IN (5958, 14150) ORDER BY ctid::text$$, 'the orders of the batch are locked FOR KEY SHARE, no others');
COMMIT;
SELECT is((SELECT count(*) FROM order_store.order_items), 3::bigint, 'committed');
SELECT is((SELECT sum(total_amount) FROM order_store.orders), 0.00, 'batches leave totals alone');
SELECT is(order_proc.refresh_order_totals('{5958,14150}'), 2::bigint, 'refresh_order_totals sets them');
SELECT results_eq('SELECT total_amount FROM order_store.orders ORDER BY id', 'VALUES (2.00), (0), (1), (0)', 'the totals');
-- What a failed chunk took: savepoints leave no lock on what they put in and no row.
DELETE FROM order_store.order_items;
DO $$
BEGIN
  PERFORM order_proc.batch_create_order_items(batch.orders(1, 2), '{1,2}', '{1,1}', '{1,1}');
  PERFORM order_proc.batch_create_order_items(batch.orders(1, 77), '{3,4}', '{1,1}', '{1,1}', 1, 'abort');
EXCEPTION WHEN foreign_key_violation THEN
END
$$;
SELECT is((SELECT count(*) FROM order_store.order_items), 0::bigint, 'a block of PL/pgSQL that fails leaves nothing of a batch before');
-- Orders of the same transaction, of the same statement, gone in the same transaction.
BEGIN;
INSERT INTO order_store.orders (id, customer_id, status, total_amount) VALUES (5::bigint << 12 | 1862, 1, 'pending', 0);
DELETE FROM order_store.orders WHERE id = 18246;
SELECT alike(batch_of('{5,4,1}', '{1,1,1}', '{1,1,1}', 2, 'skip_row'), '1 1-2 1, 1 1-2 0 #2 23503, 2 3-3 1 | 1,3', 'an order made and an order deleted before, in the transaction');
UPDATE order_store.orders SET notes = 'new' WHERE id = 5958;
SELECT alike(batch_of('{5,4,1}', '{1,1,1}', '{1,1,1}', 2, 'skip_row'), '1 1-2 1, 1 1-2 0 #2 23503, 2 3-3 1 | 1,3', 'an order updated before, in the transaction');
ROLLBACK;
WITH made AS (INSERT INTO order_store.orders (id, customer_id, status, total_amount) VALUES (6::bigint << 12 | 1862, 1, 'pending', 0) RETURNING id)
SELECT order_proc.batch_create_order_items(ARRAY[id], '{1}', '{1}', '{1}') FROM made \g /dev/null
SELECT is((SELECT count(*) FROM order_store.order_items WHERE order_id = 6::bigint << 12 | 1862), 1::bigint, 'items of an order made by the same statement');
DELETE FROM order_store.orders WHERE id = 6::bigint << 12 | 1862;
SELECT results_eq('SELECT count(*), sum((b).inserted) FROM (SELECT order_proc.batch_create_order_items(orders(1, 2), ARRAY[i, i], ''{1,1}'', ''{1,1}'', 1) AS b FROM generate_series(1::bigint, 50) AS i) AS s', 'VALUES (100::bigint, 100::numeric)', 'fifty batches in a query');
DELETE FROM order_store.order_items;

CREATE FUNCTION as_role(role text, sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  answer text;
BEGIN
  EXECUTE format('SET LOCAL ROLE %I', role);
  answer := batch.outcome(sql);
  RESET ROLE;
  RETURN split_part(answer, ' |', 1);
EXCEPTION WHEN OTHERS THEN
  RETURN SQLSTATE;
END
$$;
ALTER FUNCTION outcome(text, text) RENAME TO outcome_of_caller;
CREATE FUNCTION outcome(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  answer text;
BEGIN
  EXECUTE format($q$SELECT string_agg(concat_ws(' ', chunk, first_row || '-' || last_row, inserted, '#' || rejected_row, sqlstate), ', ') FROM %s AS b$q$, sql) INTO answer;
  RETURN answer;
END
$$;
CREATE FUNCTION by_role(role text, expected text, what text, ddl text DEFAULT NULL) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  answer text;
  path text;
BEGIN
  FOREACH path IN ARRAY ARRAY['on', 'off'] LOOP
    BEGIN
      EXECUTE concat_ws('; ', 'SET LOCAL order_proc.fast_path = ' || path, ddl);
      answer := batch.as_role(role, batch.batch_of('{1,77,2}', '{1,1,1}', '{1,1,1}', 2, 'skip_row'));
      RAISE EXCEPTION SQLSTATE 'UNDO0';
    EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
    END;
    RETURN NEXT is(answer, expected, format('%s (%s)', what, path));
  END LOOP;
END
$$;
\set went '''1 1-2 1, 1 1-2 0 #2 23503, 2 3-3 1'''
SELECT by_role('regress_batch_app', :went, 'a role that may write');
SELECT by_role('regress_batch_owner', :went, 'the owner');
SELECT by_role('regress_batch_columns', :went, 'a role with the four columns only, and no right on orders');
SELECT by_role('regress_batch_nobody', '42501', 'a role without rights');
SELECT by_role('regress_batch_columns', '42501', 'a column is missing', 'REVOKE INSERT (price) ON order_store.order_items FROM regress_batch_columns');
SELECT by_role('regress_batch_app', '42501', 'no right on the sequence', 'REVOKE USAGE ON SEQUENCE order_store.order_items_id_seq FROM regress_batch_app');
SELECT by_role('regress_batch_app', '42501', 'no right on the schema', 'REVOKE USAGE ON SCHEMA order_store FROM regress_batch_app');
SELECT by_role('regress_batch_app', :went, 'orders hidden by row security are found, as a foreign key finds them', 'ALTER TABLE order_store.orders ENABLE ROW LEVEL SECURITY');
SELECT by_role('regress_batch_owner', :went, 'the owner under FORCE as well', 'ALTER TABLE order_store.orders ENABLE ROW LEVEL SECURITY; ALTER TABLE order_store.orders FORCE ROW LEVEL SECURITY');
SELECT by_role('regress_batch_app', '42501', 'no policy lets items in', 'ALTER TABLE order_store.order_items ENABLE ROW LEVEL SECURITY');
SELECT by_role('regress_batch_app', :went, 'a policy that does', 'ALTER TABLE order_store.order_items ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON order_store.order_items FOR INSERT WITH CHECK (product_id < 100)');

------------------------------------------------------------------------------------------------------------
-- Fast, by the executor, and as plain INSERTs: the same rows, the same answers
------------------------------------------------------------------------------------------------------------

CREATE TABLE input (name text, n int, order_id bigint, product_id bigint, quantity int, price numeric);
GRANT SELECT ON input TO PUBLIC;
-- Without faults; with one in chunks 2 and 4 of 5 rows; with all sorts of them; with products 13 and with twins.
INSERT INTO input
SELECT 'clean', i, (1 + i * 7 % 4)::bigint << 12 | 1862, 100 + i, 1 + i % 5, i * 0.375 FROM generate_series(1, 23) AS i
UNION ALL SELECT 'grouped', i, (1 + i / 400)::bigint << 12 | 1862, 1000 + i, 1, 0.005 * i FROM generate_series(1, 1100) AS i
UNION ALL SELECT 'scattered', i, (1 + i * 37 % 4)::bigint << 12 | 1862, 1000 + i, 1 + i % 9, i FROM generate_series(1, 500) AS i
UNION ALL SELECT 'single', i, CASE WHEN i = 7 THEN 77 ELSE 5958 END, 200 + i, CASE WHEN i = 18 THEN 0 ELSE 1 END, i FROM generate_series(1, 23) AS i
UNION ALL SELECT 'mixed', i, CASE i WHEN 3 THEN NULL WHEN 4 THEN 77 WHEN 20 THEN -5 ELSE (1 + i % 4)::bigint << 12 | 1862 END, CASE WHEN i <> 5 THEN 300 + i END, CASE i WHEN 6 THEN NULL WHEN 8 THEN 0 WHEN 9 THEN -1 ELSE i END,
  CASE i WHEN 11 THEN NULL WHEN 12 THEN 'NaN' WHEN 13 THEN 1e30 WHEN 14 THEN -1 ELSE i END FROM generate_series(1, 23) AS i
UNION ALL SELECT 'thirteen', i, (1 + i % 4)::bigint << 12 | 1862, CASE WHEN i IN (7, 8, 19, 23) THEN 13 ELSE 400 + i END, 1, i FROM generate_series(1, 23) AS i
UNION ALL SELECT 'twins', i, (1 + i % 2)::bigint << 12 | 1862, 500 + i % 7, 1, i FROM generate_series(1, 23) AS i
UNION ALL SELECT 'one thirteen', i, (1 + i % 4)::bigint << 12 | 1862, CASE WHEN i = 177 THEN 13 ELSE 10000 + i END, 1, i FROM generate_series(1, 300) AS i;

-- Is it for the caller to leave the row out?
CREATE FUNCTION by_data(state text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT left(state, 2) <> ALL ('{25,40,42,53,55,57,58,XX}') $$;

-- What a careful client does without the function: an INSERT per chunk; or savepoints, by chunk or by row.
CREATE FUNCTION plain(o bigint[], p bigint[], q int[], r numeric[], chunk_size int, on_error text) RETURNS SETOF order_proc.batch_result LANGUAGE plpgsql AS $$
DECLARE
  one constant text := 'INSERT INTO order_store.order_items (order_id, product_id, quantity, price) SELECT * FROM unnest($1, $2, $3, $4)';
  result order_proc.batch_result;
  rejected order_proc.batch_result[];
  n bigint;
  state text;
BEGIN
  FOR start IN 1..cardinality(o) BY chunk_size LOOP
    result := ((start - 1) / chunk_size + 1, start, least(start + chunk_size - 1, cardinality(o)), 0, NULL, NULL, NULL);
    rejected := '{}';
    IF on_error = 'abort' THEN
      EXECUTE one USING o[start:result.last_row], p[start:result.last_row], q[start:result.last_row], r[start:result.last_row];
      GET DIAGNOSTICS n = ROW_COUNT;
      result.inserted := n;
    ELSIF on_error = 'skip_chunk' THEN
      BEGIN
        EXECUTE one USING o[start:result.last_row], p[start:result.last_row], q[start:result.last_row], r[start:result.last_row];
        GET DIAGNOSTICS n = ROW_COUNT;
        result.inserted := n;
      EXCEPTION WHEN OTHERS THEN
        IF NOT batch.by_data(SQLSTATE) THEN RAISE; END IF;
        result.sqlstate := SQLSTATE;
      END;
    ELSE
      FOR i IN start..result.last_row LOOP
        BEGIN
          EXECUTE one USING o[i:i], p[i:i], q[i:i], r[i:i];
          GET DIAGNOSTICS n = ROW_COUNT;
          result.inserted := result.inserted + n;
        EXCEPTION WHEN OTHERS THEN
          IF NOT batch.by_data(SQLSTATE) THEN RAISE; END IF;
          rejected := rejected || (result.chunk, result.first_row, result.last_row, 0, i, SQLSTATE, NULL)::order_proc.batch_result;
        END;
      END LOOP;
    END IF;
    RETURN NEXT result;
    RETURN QUERY SELECT * FROM unnest(rejected);
  END LOOP;
END
$$;

CREATE TABLE calls (n serial, input text, chunk_size int, on_error text);
INSERT INTO calls (input, chunk_size, on_error) VALUES
('clean', 100, 'abort'), ('clean', 5, 'abort'), ('grouped', 1100, 'abort'), ('scattered', 100000, 'abort'), ('clean', 1, 'skip_chunk'), ('clean', 7, 'skip_row'),
('single', 5, 'abort'), ('single', 5, 'skip_chunk'), ('single', 5, 'skip_row'), ('mixed', 100, 'skip_row'), ('mixed', 4, 'skip_row'),
('thirteen', 100, 'abort'), ('thirteen', 5, 'skip_chunk'), ('thirteen', 5, 'skip_row'), ('thirteen', 100, 'skip_row'), ('thirteen', 1, 'skip_row'),
('twins', 100, 'abort'), ('twins', 5, 'skip_chunk'), ('twins', 5, 'skip_row'), ('twins', 100, 'skip_row'), ('one thirteen', 256, 'skip_row');

CREATE FUNCTION call(c calls, mode text, role text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  answer jsonb;
  state text; con text;
BEGIN
  EXECUTE format('SET LOCAL ROLE %I', role);
  EXECUTE format($q$
    SELECT (SELECT jsonb_agg(to_jsonb(b)) FROM %s(o, p, q, r, %s, %L) AS b)
    FROM (SELECT array_agg(order_id ORDER BY n), array_agg(product_id ORDER BY n), array_agg(quantity ORDER BY n), array_agg(price ORDER BY n) FROM batch.input WHERE name = %L) AS i (o, p, q, r)$q$,
    CASE mode WHEN 'plain' THEN 'batch.plain' ELSE 'order_proc.batch_create_order_items' END, c.chunk_size, c.on_error, c.input) INTO answer;
  RESET ROLE;
  RETURN answer;
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, con = CONSTRAINT_NAME;
  RETURN jsonb_build_object('sqlstate', state);
END
$$;

CREATE TABLE log (n bigserial, what text);
GRANT INSERT ON log TO PUBLIC;
GRANT USAGE ON SEQUENCE log_n_seq TO PUBLIC;
CREATE FUNCTION log_row() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO batch.log (what) VALUES (concat_ws(' ', TG_NAME, NEW.order_id, NEW.product_id)); RETURN NEW; END$$;
CREATE FUNCTION log_rows() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO batch.log (what) SELECT concat_ws(' ', TG_NAME, count(*)) FROM fresh; RETURN NULL; END$$;
CREATE FUNCTION skip_thirteen() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.product_id = 13 THEN RETURN NULL; END IF; RETURN NEW; END$$;
CREATE FUNCTION double_quantity() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.quantity := NEW.quantity * 2; RETURN NEW; END$$;
CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.price > 0 THEN NEW.price := NEW.price + (SELECT count(*) FROM order_store.order_items WHERE order_id = NEW.order_id); END IF; RETURN NEW; END$$;

CREATE FUNCTION rows_of(query text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  result jsonb;
BEGIN
  EXECUTE format('SELECT COALESCE(jsonb_agg(to_jsonb(r)), ''[]'') FROM (%s) AS r', query) INTO result;
  RETURN result;
END
$$;
-- Whether every row is in every index.
CREATE FUNCTION check_indexes() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  index regclass;
BEGIN
  FOR index IN
    SELECT x.indexrelid FROM pg_index AS x JOIN pg_class AS c ON c.oid = x.indexrelid JOIN pg_am AS a ON a.oid = c.relam
    WHERE x.indrelid = 'order_store.order_items'::regclass AND a.amname = 'btree' AND c.relkind = 'i' AND x.indisvalid AND x.indisready
  LOOP
    PERFORM batch.bt_index_check(index, true);
  END LOOP;
  RETURN 'right';
EXCEPTION WHEN OTHERS THEN
  RETURN format('%s: %s', index, SQLERRM);
END
$$;

-- What the calls of a mode answer and leave, undone. Ids differ where savepoints used some up; their order does not.
CREATE FUNCTION run(ddl text, role text, mode text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  c batch.calls;
  answers jsonb := '{}';
  result jsonb;
  status jsonb;
BEGIN
  BEGIN
    EXECUTE ddl;
    PERFORM set_config('order_proc.fast_path', CASE mode WHEN 'fast' THEN 'on' ELSE 'off' END, true);
    EXECUTE format('SET LOCAL ROLE %I', role);
    status := (SELECT to_jsonb(path || ': ' || reason) FROM order_proc.explain_fast_path() WHERE operation = 'batch_create_order_items');
    RESET ROLE;
    FOR c IN SELECT * FROM batch.calls ORDER BY n LOOP
      IF c.input = 'twins' THEN DELETE FROM order_store.order_items WHERE product_id BETWEEN 500 AND 507; END IF;
      IF c.input IN ('clean', 'thirteen', 'single') THEN DELETE FROM order_store.order_items WHERE product_id BETWEEN 100 AND 499; END IF;
      answers := answers || jsonb_build_object(format('%s, %s, %s', c.input, c.chunk_size, c.on_error), batch.call(c, mode, role));
      -- What each call leaves.
      answers := answers || jsonb_build_object(format('%s, %s, %s: rows', c.input, c.chunk_size, c.on_error),
        batch.rows_of('SELECT md5(string_agg((to_jsonb(i) - ''id'')::text, '','' ORDER BY i.id)), count(*) FROM order_store.order_items AS i'));
    END LOOP;
    result := jsonb_build_object('status', status, 'answers', answers, 'indexes', batch.check_indexes(),
      'log', batch.rows_of('SELECT what FROM batch.log ORDER BY n'), 'items', (SELECT COALESCE(jsonb_agg(r - 'id' ORDER BY r->'id'), '[]') FROM jsonb_array_elements(batch.rows_of('SELECT * FROM order_store.order_items')) AS r));
    RAISE EXCEPTION SQLSTATE 'UNDO0';
  EXCEPTION
    WHEN SQLSTATE 'UNDO0' THEN RETURN result;
    WHEN OTHERS THEN RETURN jsonb_build_object('harness', SQLERRM);
  END;
END
$$;
-- Answers without their messages; a plain INSERT's NULL is 23502.
CREATE FUNCTION bare(answers jsonb) RETURNS jsonb LANGUAGE sql AS $$
  SELECT jsonb_object_agg(k, CASE WHEN jsonb_typeof(v) <> 'array' OR k ~ 'rows$' THEN v
    ELSE (SELECT jsonb_agg(e - 'message' || CASE WHEN k ~ '^mixed' AND e->>'sqlstate' = '23502' THEN '{"sqlstate":"22004"}' ELSE '{}'::jsonb END ORDER BY n) FROM jsonb_array_elements(v) WITH ORDINALITY AS a (e, n)) END)
  FROM jsonb_each(answers) AS j (k, v)
$$;
CREATE FUNCTION differences(a jsonb, b jsonb) RETURNS text LANGUAGE sql AS $$
  SELECT COALESCE(string_agg(format(E'%s:\n  %s\n  %s', k, left(x::text, 500), left(y::text, 500)), E'\n') FILTER (WHERE n <= 3), '')
  FROM (SELECT k, x.value, y.value, row_number() OVER () FROM jsonb_each(a) AS x (k, value) FULL JOIN jsonb_each(b) AS y (k, value) USING (k) WHERE x.value IS DISTINCT FROM y.value) AS d (k, x, y, n)
$$;

-- effect: a jsonpath predicate that holds for the result, so that the alteration is not without one.
CREATE TABLE cases (n serial, name text UNIQUE, ddl text, path text, effect text, role text DEFAULT 'regress_batch_app', plain boolean DEFAULT true);
CREATE FUNCTION check_case(the_case text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  c batch.cases := (SELECT c FROM batch.cases AS c WHERE name = the_case);
  fast jsonb := batch.run(c.ddl, c.role, 'fast');
  executor jsonb := batch.run(c.ddl, c.role, 'executor');
BEGIN
  RETURN NEXT matches(COALESCE(fast->>'status', fast->>'harness'), '^' || c.path, c.name || ': path');
  RETURN NEXT is(batch.differences((fast - '{answers,status}'::text[]) || (fast->'answers'), (executor - '{answers,status}'::text[]) || (executor->'answers')), '', c.name || ': on and off are alike');
  IF c.plain THEN
    RETURN NEXT is(batch.differences(batch.bare(executor->'answers'), batch.bare(batch.run(c.ddl, c.role, 'plain')->'answers')), '', c.name || ': as plain INSERTs');
  END IF;
  RETURN NEXT ok(fast @@ c.effect::jsonpath AND fast->>'indexes' = 'right', c.name || ': takes effect');
END
$$;

INSERT INTO cases (name, ddl, path, effect) VALUES
('tables as they were made', '', 'fast: ', '$.items.size() > 1500 && $.answers."thirteen, 100, skip_row".size() == 1 && $.answers."single, 5, abort".sqlstate == "23503"'),
('a CHECK', 'ALTER TABLE order_store.order_items ADD CHECK (product_id <> 13)', '', '$.answers."thirteen, 100, skip_row".size() == 5 && $.answers."thirteen, 100, abort".sqlstate == "23514"'),
('a CHECK that fails to compute', 'ALTER TABLE order_store.order_items ADD CHECK (1 / (product_id - 13) < 5)', '', '$.answers."thirteen, 100, skip_row"[1].sqlstate == "22012"'),
('a unique index', 'CREATE UNIQUE INDEX ON order_store.order_items (order_id, product_id)', '', '$.answers."twins, 100, skip_row".size() == 10 && $.answers."twins, 100, abort".sqlstate == "23505"'),
('a partial unique index', 'CREATE UNIQUE INDEX ON order_store.order_items (product_id, order_id) WHERE product_id < 506', '', '$.answers."twins, 100, skip_row".size() == 9'),
('a unique index on an expression', 'CREATE UNIQUE INDEX ON order_store.order_items (order_id, (product_id * 2), (price > 1000))', '', '$.answers."twins, 5, skip_row".size() > 5'),
('indexes, partial, on expressions, descending', $$
  CREATE INDEX ON order_store.order_items (product_id, (quantity * price)) WHERE price > 1; CREATE INDEX ON order_store.order_items (order_id DESC, price DESC NULLS LAST);
  CREATE INDEX ON order_store.order_items ((order_id >> 12)) INCLUDE (quantity) WHERE quantity > 1$$, '', '$.items.size() > 1500'),
('an index that fails to compute', 'CREATE INDEX ON order_store.order_items ((1 / (product_id - 13)))', '', '$.answers."thirteen, 100, skip_row"[1].sqlstate == "22012"'),
('two faults, two constraints', 'CREATE UNIQUE INDEX ON order_store.order_items (order_id, product_id); ALTER TABLE order_store.order_items ADD CHECK (product_id <> 13 AND price <> 22)', '', '$.answers."twins, 100, skip_row"[9].sqlstate == "23505"'),
('a column that may be NULL', 'ALTER TABLE order_store.order_items ADD warehouse int', 'fast: ', '$.items[0].warehouse == null && $.items.size() > 1500'),
('columns dropped and moved', 'ALTER TABLE order_store.order_items ADD gone text; ALTER TABLE order_store.order_items DROP gone; ALTER TABLE order_store.order_items DROP price; ALTER TABLE order_store.order_items ADD price numeric(10,2) NOT NULL CHECK (price >= 0 AND price <> ''NaN'')',
 '', '$.items.size() > 1500'),
('a column with a default', 'ALTER TABLE order_store.order_items ADD region text NOT NULL DEFAULT ''eu''', 'executor: column "region"', '$.items[0].region == "eu"'),
('a generated column', 'ALTER TABLE order_store.order_items ADD line numeric GENERATED ALWAYS AS (quantity * price) STORED', 'executor: ', '$.items[0].line > 0'),
('price numeric(12,4)', 'ALTER TABLE order_store.order_items ALTER price TYPE numeric(12,4)', 'executor: column "price"', '$.items[0].price == 0.005'),
('price numeric', 'ALTER TABLE order_store.order_items ALTER price TYPE numeric', 'executor: column "price"', '$.items[0].price == 0.005'),
('price numeric(6,1)', 'ALTER TABLE order_store.order_items ALTER price TYPE numeric(6,1)', 'executor: column "price"', '$.items[0].price == 0'),
('a trigger before that changes rows', 'CREATE TRIGGER t BEFORE INSERT ON order_store.order_items FOR EACH ROW EXECUTE FUNCTION batch.double_quantity()', 'executor: trigger "t"', '$.items[0].quantity == 2'),
('a trigger before that leaves rows out', 'CREATE TRIGGER t BEFORE INSERT ON order_store.order_items FOR EACH ROW EXECUTE FUNCTION batch.skip_thirteen()', 'executor: trigger "t"', '!exists($.items[*] ? (@.product_id == 13))'),
('a trigger before that raises', refuse('P0001', 13), 'executor: trigger "refuse"', '$.answers."thirteen, 100, skip_row".size() == 5'),
('a trigger after', 'CREATE TRIGGER t AFTER INSERT ON order_store.order_items FOR EACH ROW EXECUTE FUNCTION batch.log_row()', 'executor: trigger "t"', '$.log.size() > 1500'),
('a trigger after the statement', 'CREATE TRIGGER t AFTER INSERT ON order_store.order_items REFERENCING NEW TABLE AS fresh EXECUTE FUNCTION batch.log_rows()', 'executor: trigger "t"', '$.log.size() > 10'),
('a trigger that looks at the table', 'CREATE TRIGGER t BEFORE INSERT ON order_store.order_items FOR EACH ROW EXECUTE FUNCTION batch.seen()', 'executor: trigger "t"', '$.items[1].price > 1'),
('a trigger switched off', 'CREATE TRIGGER t BEFORE INSERT ON order_store.order_items FOR EACH ROW EXECUTE FUNCTION batch.skip_thirteen(); ALTER TABLE order_store.order_items DISABLE TRIGGER t', 'fast: ', 'exists($.items[*] ? (@.product_id == 13))'),
('row security', 'ALTER TABLE order_store.order_items ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON order_store.order_items FOR INSERT WITH CHECK (product_id IS DISTINCT FROM 13)', 'executor: row level security', '$.answers."thirteen, 100, abort".sqlstate == "42501" && $.answers."thirteen, 5, skip_row".sqlstate == "42501" && $.items.size() > 1500'),
('row security that lets nobody', 'ALTER TABLE order_store.order_items ENABLE ROW LEVEL SECURITY', 'executor: row level security', '$.answers."clean, 100, abort".sqlstate == "42501"'),
('a rule that does more', 'CREATE RULE r AS ON INSERT TO order_store.order_items DO ALSO INSERT INTO batch.log (what) VALUES (NEW.product_id)', 'executor: ', '$.log.size() > 1500'),
('a foreign key of the user''s', 'CREATE TABLE batch.products (id bigint PRIMARY KEY); INSERT INTO batch.products SELECT DISTINCT product_id FROM batch.input WHERE product_id <> 13; ALTER TABLE order_store.order_items ADD FOREIGN KEY (product_id) REFERENCES batch.products', 'executor: ', '$.answers."thirteen, 100, skip_row".size() == 5'),
('a foreign key that is deferrable', 'ALTER TABLE order_store.order_items ALTER CONSTRAINT order_items_order_id_fkey DEFERRABLE', 'executor: foreign key', '$.answers."single, 5, abort".sqlstate == "23503"'),
('a foreign key that is not validated', 'ALTER TABLE order_store.order_items DROP CONSTRAINT order_items_order_id_fkey, ADD FOREIGN KEY (order_id) REFERENCES order_store.orders ON DELETE CASCADE NOT VALID', 'fast: ', '$.answers."single, 5, abort".sqlstate == "23503"'),
('an exclusion constraint', 'ALTER TABLE order_store.order_items ADD EXCLUDE USING btree (order_id WITH =, product_id WITH =)', 'executor: ', '$.answers."twins, 100, skip_row"[1].sqlstate == "23P01"'),
('a hash index', 'CREATE INDEX ON order_store.order_items USING hash (product_id)', '', '$.items.size() > 1500'),
('a primary key with more columns', 'ALTER TABLE order_store.order_items DROP CONSTRAINT order_items_pkey, ADD PRIMARY KEY (order_id, id) INCLUDE (product_id)', '', '$.items.size() > 1500'),
('no primary key', 'ALTER TABLE order_store.order_items DROP CONSTRAINT order_items_pkey', '', '$.items.size() > 1500'),
('unlogged', 'ALTER TABLE order_store.order_items SET UNLOGGED', '', '$.items.size() > 1500'),
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
  INSERT INTO order_store.orders SELECT * FROM order_store.old_orders;
  DROP TABLE order_store.old_orders;
  CREATE TRIGGER record_status_change AFTER UPDATE OF status ON order_store.orders FOR EACH ROW EXECUTE FUNCTION order_proc.record_status_change();
  ALTER TABLE order_store.orders OWNER TO regress_batch_owner;
  ALTER TABLE order_store.order_items ADD CONSTRAINT order_items_order_id_fkey FOREIGN KEY (order_id) REFERENCES order_store.orders ON DELETE CASCADE;
  GRANT ALL ON order_store.orders TO regress_batch_app$$,
 'executor: ', '$.items.size() > 1500 && $.answers."single, 5, abort".sqlstate == "23503"'),
('partitioned items', $$
  ALTER TABLE order_store.order_items RENAME TO old_items;
  ALTER INDEX order_store.order_items_pkey RENAME TO old_pkey;
  ALTER SEQUENCE order_store.order_items_id_seq OWNED BY NONE;
  CREATE TABLE order_store.order_items (LIKE order_store.old_items INCLUDING ALL, FOREIGN KEY (order_id) REFERENCES order_store.orders ON DELETE CASCADE) PARTITION BY RANGE (order_id);
  CREATE TABLE order_store.items_0 PARTITION OF order_store.order_items FOR VALUES FROM (0) TO (10000);
  CREATE TABLE order_store.items_1 PARTITION OF order_store.order_items DEFAULT;
  DROP TABLE order_store.old_items;
  ALTER TABLE order_store.order_items OWNER TO regress_batch_owner;
  GRANT ALL ON order_store.order_items TO regress_batch_app$$,
 'executor: table "order_items" is partitioned', '$.items.size() > 1500'),
('publication', 'CREATE PUBLICATION regress_batch FOR TABLE order_store.order_items WHERE (price > 5); ALTER TABLE order_store.order_items REPLICA IDENTITY FULL', 'fast: ', '$.items.size() > 1500');
-- Batches go to orders that exist and have sane items, also where no constraint says so; and a row with several faults tells the predictable one.
INSERT INTO cases (name, ddl, path, effect, plain) VALUES
('a column that must not be NULL', 'ALTER TABLE order_store.order_items ADD warehouse int NOT NULL', '', '$.items.size() == 0 && $.answers."clean, 7, skip_row".size() == 4 + 23', false),
('CHECKs of ours dropped', 'ALTER TABLE order_store.order_items DROP CONSTRAINT order_items_quantity_check, DROP CONSTRAINT order_items_price_check', '', '$.answers."single, 5, skip_row"[5].sqlstate == "23514" || $.answers."single, 5, skip_row"[6].sqlstate == "23514"', false),
('a rule that does nothing', 'CREATE RULE r AS ON INSERT TO order_store.order_items DO INSTEAD NOTHING', 'executor: ', '$.items.size() == 0 && $.answers."clean, 100, abort"[0].inserted == 0', false),
('no foreign key', 'ALTER TABLE order_store.order_items DROP CONSTRAINT order_items_order_id_fkey', 'executor: table "order_items" has 0 foreign keys', '$.answers."single, 5, abort".sqlstate == "23503"', false),
('foreign keys switched off', 'ALTER TABLE order_store.order_items DISABLE TRIGGER ALL', 'executor: ', '$.answers."single, 5, abort".sqlstate == "23503"', false),
('a foreign key that is deferred', 'ALTER TABLE order_store.order_items ALTER CONSTRAINT order_items_order_id_fkey DEFERRABLE INITIALLY DEFERRED', 'executor: foreign key', '$.answers."single, 5, abort".sqlstate == "23503"', false);
INSERT INTO cases (name, ddl, path, effect, role) VALUES
('a role with columns only', '', 'fast: ', '$.items.size() > 1500', 'regress_batch_columns'),
('the owner', '', 'fast: ', '$.items.size() > 1500', 'regress_batch_owner'),
('a role without rights', '', 'executor: ', '$.answers."clean, 100, abort".sqlstate == "42501" && $.answers."mixed, 4, skip_row".sqlstate == "42501"', 'regress_batch_nobody');
SELECT format('SELECT * FROM check_case(%L)', name) FROM cases ORDER BY n \gexec

-- The path that is told is the path that is taken: the executor's errors name its statement.
CREATE FUNCTION told_and_taken(ddl text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  told text;
  context text;
BEGIN
  EXECUTE ddl;
  told := (SELECT path FROM order_proc.explain_fast_path() WHERE operation = 'batch_create_order_items');
  PERFORM order_proc.batch_create_order_items('{5958,5958}', '{13,13}', '{1,1}', '{1,1}');
  RAISE EXCEPTION SQLSTATE 'UNDO0';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
  RETURN concat_ws(' ', told, CASE WHEN context ~ 'SQL statement "INSERT' THEN 'executor' ELSE 'fast' END);
END
$$;
SELECT ok(told_and_taken(ddl) IN ('fast fast', 'executor executor'), 'the path told is the path taken: ' || ddl) FROM unnest(ARRAY[
  'ALTER TABLE order_store.order_items ADD CHECK (product_id <> 13)', 'CREATE UNIQUE INDEX ON order_store.order_items (order_id, product_id)',
  refuse('P0001', 13), 'CREATE INDEX ON order_store.order_items ((1 / (product_id - 13)))']) AS ddl;

------------------------------------------------------------------------------------------------------------
-- A million
------------------------------------------------------------------------------------------------------------

INSERT INTO order_store.orders (id, customer_id, status, total_amount) SELECT order_proc.new_order_id(1), 1, 'pending', 0 FROM generate_series(1, 1000);
CREATE TABLE million AS
SELECT array_agg(CASE WHEN i % 100000 = 5 THEN -i ELSE (10 + (hashint8extended(i, 0) & 511)) << 12 | 1862 END ORDER BY i) AS o, array_agg(i ORDER BY i) AS p, array_agg((i % 9)::int + CASE WHEN i % 250000 = 9 THEN -5 ELSE 1 END ORDER BY i) AS q, array_agg((i % 1000) / 100.0 ORDER BY i) AS r
FROM generate_series(1::bigint, 1000000) AS i;
CREATE TABLE answers AS SELECT b.* FROM million, order_proc.batch_create_order_items(o, p, q, r, on_error => 'skip_row') AS b;
SELECT results_eq('SELECT chunk, first_row, last_row, inserted FROM answers WHERE rejected_row IS NULL ORDER BY chunk',
  $$SELECT n, n * 100000::bigint - 99999, n * 100000::bigint, 100000::bigint - (SELECT count(*) FROM answers WHERE chunk = n AND rejected_row IS NOT NULL) FROM generate_series(1, 10) AS n$$, 'a million rows: ten chunks');
SELECT results_eq('SELECT rejected_row, sqlstate FROM answers WHERE rejected_row IS NOT NULL',
  $$SELECT i, CASE WHEN i % 100000 = 5 THEN '23503' ELSE '23514' END FROM generate_series(1::bigint, 1000000) AS i WHERE i % 100000 = 5 OR (i % 9)::int - 5 <= 0 AND i % 250000 = 9 ORDER BY i$$, 'its faults');
SELECT is((SELECT count(*) FROM million, unnest(o, p, q, r) AS u (o, p, q, r) FULL JOIN order_store.order_items AS i ON i.product_id = u.p
           WHERE (i.order_id, i.quantity, i.price) IS DISTINCT FROM (u.o, u.q, round(u.r, 2)) AND u.p NOT IN (SELECT rejected_row FROM answers WHERE rejected_row IS NOT NULL)), 0::bigint, 'every other row is there as it was given');
SELECT is((SELECT count(*) FROM (SELECT product_id > lag(product_id) OVER (ORDER BY id) AS rising FROM order_store.order_items) AS s WHERE NOT rising), 0::bigint, 'with ids in the order of rows');
SELECT is(check_indexes(), 'right', 'and in every index');
TRUNCATE order_store.order_items;
SELECT is((SELECT sum(b.inserted) FROM million, order_proc.batch_create_order_items(o[100:], p[100:], q[100:], r[100:], 2147483647, 'skip_chunk') AS b), 0::numeric, 'a million rows in one chunk that fails');
SELECT is((SELECT count(*) FROM order_store.order_items), 0::bigint, 'leave nothing');
SELECT is((SELECT sum(b.inserted) FROM million, order_proc.batch_create_order_items(
  (SELECT array_agg(greatest(v, 10::bigint << 12 | 1862) ORDER BY n) FROM unnest(o) WITH ORDINALITY AS u (v, n)), p, array_fill(1, ARRAY[1000000]), r, 2147483647) AS b), 1000000::numeric, 'a million rows in one chunk');
SELECT is(check_indexes(), 'right', 'are in every index');

SELECT * FROM finish();
DROP EXTENSION order_proc CASCADE;
DROP SCHEMA order_store CASCADE;
DROP SCHEMA batch CASCADE;
DROP ROLE regress_batch_owner, regress_batch_app, regress_batch_columns, regress_batch_nobody;
