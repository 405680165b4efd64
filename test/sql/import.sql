\set ECHO none
-- Imports: COPY and INSERT into order_import and order_import_lines. What becomes of each line, what is left behind, and that
-- the answers equal those of plain SQL that validates a staging table of texts, on tables as they were made and on altered ones.
\pset format unaligned
\pset tuples_only on
\pset pager off
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
DROP EXTENSION IF EXISTS order_proc CASCADE;
DROP SCHEMA IF EXISTS order_store CASCADE;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION order_proc;
CREATE ROLE regress_import_owner;
CREATE ROLE regress_import_app;
CREATE ROLE regress_import_other;
CREATE ROLE regress_import_reader;
CREATE ROLE regress_import_nobody;
SELECT order_proc.create_store('regress_import_owner') \g /dev/null
SELECT order_proc.grant_store('regress_import_app', 'write'), order_proc.grant_store('regress_import_other', 'write'), order_proc.grant_store('regress_import_reader', 'read') \g /dev/null
CREATE SCHEMA t;
GRANT USAGE ON SCHEMA t TO PUBLIC;
INSERT INTO order_store.customers (id, first_name, last_name, email) VALUES
  (1, 'Ana', 'de la Cruz', 'ana@example.org'), (2, 'Bo', NULL, NULL), (3, NULL, NULL, NULL), (-5, 'Eve', 'Adams', 'eve@example.org'), (9223372036854775807, 'Max', NULL, NULL);

-- An order by its reference: customer, status, total, copied name and email, created_at where given, and its items.
CREATE FUNCTION t.made(pattern text DEFAULT '') RETURNS TABLE (order_ref text, made text) LANGUAGE sql AS $$
  SELECT k.key, concat_ws(' ', o.customer_id, o.status, o.total_amount, COALESCE(quote_literal(o.customer_name), '-'), COALESCE(o.customer_email, '-'),
      CASE WHEN o.created_at = now() THEN 'now' ELSE o.created_at::text END,
      '|', (SELECT string_agg(format('%s:%s*%s', i.product_id, i.quantity, i.price), ' ' ORDER BY i.id) FROM order_store.order_items AS i WHERE i.order_id = o.id))
  FROM order_store.orders AS o JOIN order_store.idempotency_keys AS k ON k.order_id = o.id AND k.customer_id = o.customer_id WHERE k.key ~ ('^' || pattern) ORDER BY k.key COLLATE "C", o.customer_id
$$;
-- The rejects of the last import.
CREATE FUNCTION t.rejects() RETURNS TABLE (line bigint, raw text, state text, message text) LANGUAGE sql AS $$
  SELECT line_number, raw_line, sqlstate, message FROM order_store.import_rejects WHERE import_id = (SELECT import_id FROM order_proc.last_import()) ORDER BY line_number
$$;
CREATE FUNCTION t.summary() RETURNS text LANGUAGE sql AS $$ SELECT format('lines %s rejected %s orders %s items %s known %s customers %s', lines, rejected, orders, items, known, customers) FROM order_proc.last_import() $$;
-- SQLSTATE and message of what a statement raises.
CREATE FUNCTION t.error(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE state text; message text; detail text;
BEGIN
  EXECUTE statement;
  RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
  RETURN concat_ws(' | ', state, message, NULLIF(detail, ''));
END $$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA t TO PUBLIC;
SELECT no_plan();
SELECT ok(order_proc.last_import() IS NULL, 'last_import is NULL before the first one');

------------------------------------------------------------------------------------------------------------ formats
BEGIN;
COPY order_proc.order_import FROM STDIN (FORMAT csv, HEADER);
order_ref,customer_id,product_id,quantity,price,created_at,status
A,1,10,1,1.005,2020-01-01,paid
B,2,11,2,2.00,,
A,1,12,3,3,2021-01-01,shipped
C,9,12,3,3,,
B,2,13,1,0,2020-05-05,cancelled
"D
d",1,12,0,3,,
"E
e",3,12,1,0.004,,
A,1,10,1,1.005,2020-01-01,paid
F,-5,-9223372036854775808,2147483647,0.01,,
F,-5,9223372036854775807,1,99999999.99,,
G,9223372036854775807, 0007 ,+1,1e2,2020-02-29 12:00+02,delivered
\.
SELECT results_eq('SELECT * FROM t.made()', $$VALUES
  ('A', '1 paid 11.02 ''Ana de la Cruz'' ana@example.org 2020-01-01 00:00:00+00 | 10:1*1.01 12:3*3.00 10:1*1.01'),
  ('B', '2 pending 4.00 ''Bo'' - now | 11:2*2.00 13:1*0.00'),
  (E'E\ne', '3 pending 0.00 - - now | 12:1*0.00'),
  ('F', '-5 pending 121474836.46 ''Eve Adams'' eve@example.org now | -9223372036854775808:2147483647*0.01 9223372036854775807:1*99999999.99'),
  ('G', '9223372036854775807 delivered 100.00 ''Max'' - 2020-02-29 10:00:00+00 | 7:1*100.00')$$, 'csv: orders, totals, names, status and created_at of the first line, items in file order');
SELECT results_eq('SELECT * FROM t.rejects()', $$VALUES
  (5::bigint, 'C,9,12,3,3,,', '23503', 'customer 9 does not exist'),
  (8, E'"D\nd",1,12,0,3,,', '23514', 'quantity must be positive: 0')$$, 'csv: rejects by line numbers as COPY counts, with the raw line');
SELECT is(t.summary(), 'lines 11 rejected 2 orders 5 items 9 known 0 customers 0', 'csv: last_import');
SELECT ok(started_at BETWEEN now() AND clock_timestamp() AND duration >= '0' AND duration < '1 min', 'last_import: time') FROM order_proc.last_import();
ROLLBACK;
SELECT ok(order_proc.last_import() IS NULL, 'an import that was rolled back does not count');

BEGIN;
COPY order_proc.order_import FROM STDIN;
A	1	10	1	1	\N	\N
A	1	x	1	1	\N	\N
A\tb	1	11	2	2.50		paid
\N	1	11	2	2	\N	\N
C	1	11	2	2	2020-01-01	\N
\.
SELECT results_eq('SELECT * FROM t.made()', $$VALUES ('A', '1 pending 1.00 ''Ana de la Cruz'' ana@example.org now | 10:1*1.00'),
  (E'A\tb', '1 paid 5.00 ''Ana de la Cruz'' ana@example.org now | 11:2*2.50'), ('C', '1 pending 4.00 ''Ana de la Cruz'' ana@example.org 2020-01-01 00:00:00+00 | 11:2*2.00')$$, 'text format');
SELECT results_eq('SELECT * FROM t.rejects()', $$VALUES (2::bigint, E'A\t1\tx\t1\t1\t\\N\t\\N', '22P02', 'product_id is not of type bigint: "x"'),
  (4, E'\\N\t1\t11\t2\t2\t\\N\t\\N', '22004', 'order_ref is missing')$$, 'text format: rejects');
ROLLBACK;

BEGIN;
COPY order_proc.order_import (price, order_ref, quantity, customer_id, product_id) FROM STDIN (FORMAT csv, DELIMITER ';', NULL 'nil');
1.50;A;2;1;7
nil;A;2;1;7
;A;2;1;7
2;B;1;1;8
\.
SELECT results_eq('SELECT order_ref, made FROM t.made()', $$VALUES ('A', '1 pending 3.00 ''Ana de la Cruz'' ana@example.org now | 7:2*1.50'), ('B', '1 pending 2.00 ''Ana de la Cruz'' ana@example.org now | 8:1*2.00')$$, 'a column list');
SELECT results_eq('SELECT * FROM t.rejects()', $$VALUES (2::bigint, 'nil;A;2;1;7', '22004', 'price is missing'), (3, ';A;2;1;7', '22004', 'price is missing')$$, 'a column list: NULL and empty are missing');
COPY order_proc.order_import (order_ref, customer_id) FROM STDIN (FORMAT csv);
A,1
\.
SELECT results_eq('SELECT line, state FROM t.rejects()', $$VALUES (1::bigint, '22004')$$, 'a column list without what is needed');
COPY order_proc.order_import FROM STDIN (FORMAT csv) WHERE order_ref <> 'skip';
skip,1,x,1,1,,
W,1,7,1,1,,
skip,1,x,1,1,,
W,1,7,0,1,,
\.
SELECT results_eq('SELECT line, raw, state FROM t.rejects()', $$VALUES (4::bigint, 'W,1,7,0,1,,', '23514')$$, 'WHERE leaves lines out, which count all the same');
SELECT is(t.summary(), 'lines 2 rejected 1 orders 1 items 1 known 0 customers 0', 'WHERE: last_import');
ROLLBACK;

-- binary
SELECT current_setting('data_directory') || '/order_import.bin' AS file \gset
COPY (SELECT * FROM (VALUES ('A', '1', '7', '1', '1', NULL, NULL), ('A', '1', '8', '-1', '1', NULL, ''), ('B', '1', '9', '1', 'NaN', '', 'paid'), ('B', '1', '9', '1', '2', '2020-01-01', 'paid')) AS v) TO :'file' (FORMAT binary);
BEGIN;
COPY order_proc.order_import FROM :'file' (FORMAT binary);
SELECT results_eq('SELECT order_ref, made FROM t.made()', $$VALUES ('A', '1 pending 1.00 ''Ana de la Cruz'' ana@example.org now | 7:1*1.00'), ('B', '1 paid 2.00 ''Ana de la Cruz'' ana@example.org 2020-01-01 00:00:00+00 | 9:1*2.00')$$, 'binary format');
SELECT results_eq('SELECT line, state, message FROM t.rejects()', $$VALUES (2::bigint, '23514', 'quantity must be positive: -1'), (3, '23514', 'price must be a number and not negative: NaN')$$, 'binary format: rejects');
SELECT ok(bool_and(raw ~ '^[AB],1,'), 'binary format: the line is put together from its columns') FROM t.rejects();
ROLLBACK;

-- INSERT
BEGIN;
INSERT INTO order_proc.order_import VALUES ('A', '1', '7', '1', '1'), ('A', '1', '7', '0', '1'), ('B', '2', '8', '1', '2');
SELECT results_eq('SELECT line, state FROM t.rejects()', $$VALUES (2::bigint, '23514')$$, 'INSERT counts rows from 1');
INSERT INTO order_proc.order_import (order_ref, customer_id, product_id, quantity, price, status) SELECT 'S' || n, 1, n, n - 1, 2, 'paid' FROM generate_series(1, 3) AS n;
SELECT results_eq('SELECT order_ref, made FROM t.made(''S'')', $$VALUES ('S2', '1 paid 2.00 ''Ana de la Cruz'' ana@example.org now | 2:1*2.00'), ('S3', '1 paid 4.00 ''Ana de la Cruz'' ana@example.org now | 3:2*2.00')$$, 'INSERT .. SELECT');
CREATE TEMP TABLE returned AS WITH i AS (INSERT INTO order_proc.order_import VALUES ('R', '1', '7', '1', '1', NULL, ''), ('R', 'x', '7', '1', '1', NULL, NULL) RETURNING *) SELECT * FROM i;
SELECT results_eq('TABLE returned', $$VALUES ('R', '1', '7', '1', '1', NULL, ''), ('R', 'x', '7', '1', '1', NULL, NULL)$$, 'RETURNING gives the rows');
SELECT is(t.summary(), 'lines 2 rejected 1 orders 1 items 1 known 0 customers 0', 'RETURNING: last_import');
INSERT INTO order_proc.order_import SELECT 'none' WHERE false;
SELECT is(t.summary(), 'lines 0 rejected 0 orders 0 items 0 known 0 customers 0', 'an import of nothing');
INSERT INTO order_proc.order_import DEFAULT VALUES;
SELECT results_eq('SELECT line, state, message FROM t.rejects()', $$VALUES (1::bigint, '22004', 'order_ref is missing')$$, 'DEFAULT VALUES');
PREPARE one(text, text) AS INSERT INTO order_proc.order_import VALUES ($1, $2, '1', '1', '1');
EXECUTE one('P1', '1'); EXECUTE one('P2', '2'); EXECUTE one('P3', '1'); EXECUTE one('P4', '1'); EXECUTE one('P5', '1'); EXECUTE one('P6', '1'); EXECUTE one('P7', '1');
SELECT is((SELECT count(*) FROM t.made('P')), 7::bigint, 'a prepared INSERT');
DEALLOCATE one;
ROLLBACK;

SELECT matches(t.error(s), '^' || e || ' ', s) FROM (VALUES
  ('COPY order_proc.order_import FROM ''/dev/null'' (FREEZE)', '55000'),
  ('UPDATE order_proc.order_import SET price = 1', '55000'),
  ('DELETE FROM order_proc.order_import', '55000'),
  ('UPDATE order_proc.order_import_lines SET line = 1', '55000'),
  ('DELETE FROM order_proc.order_import_lines', '55000'),
  ('TRUNCATE order_proc.order_import', '42809')) AS v (s, e);
SELECT is_empty('TABLE order_proc.order_import', 'order_import reads as empty');
SELECT is_empty('TABLE order_proc.order_import_lines', 'order_import_lines reads as empty');
-- What COPY itself refuses ends it.
SELECT t.error(format('COPY order_proc.order_import FROM %L (FORMAT csv)', :'file')) ~ '^22' AS refused \gset
SELECT ok(:'refused', 'what COPY cannot parse ends COPY');
SELECT is((SELECT count(*) FROM order_store.orders), 0::bigint, 'nothing is left of all that');

------------------------------------------------------------------------------------------------------------ faults
-- Each fault of each column, between two good lines of the order: order_ref, customer, product, quantity, price, created_at, status.
CREATE TABLE t.faults (n int GENERATED ALWAYS AS IDENTITY, state text, column_name text, value text);
INSERT INTO t.faults (state, column_name, value) VALUES
  ('22004', 'order_ref', NULL), ('22004', 'order_ref', ''), ('22023', 'order_ref', repeat('x', 256)), ('22023', 'order_ref', repeat('ä', 128)),
  ('22004', 'customer_id', NULL), ('22004', 'customer_id', ''), ('22P02', 'customer_id', 'x'), ('22P02', 'customer_id', ' '), ('22P02', 'customer_id', '1.0'), ('22P02', 'customer_id', '0x1'), ('22P02', 'customer_id', '1 1'),
  ('22003', 'customer_id', '9223372036854775808'), ('22003', 'customer_id', '-9223372036854775809'), ('22003', 'customer_id', repeat('9', 1000)), ('23503', 'customer_id', '4'), ('23503', 'customer_id', '-9223372036854775808'), ('23503', 'customer_id', '-1'),
  ('22004', 'product_id', NULL), ('22004', 'product_id', ''), ('22P02', 'product_id', 'ä'), ('22P02', 'product_id', '--1'), ('22P02', 'product_id', '+'), ('22003', 'product_id', '9223372036854775808'), ('22P02', 'product_id', '1e3'), ('22P02', 'product_id', '１'),
  ('22004', 'quantity', NULL), ('22004', 'quantity', ''), ('22P02', 'quantity', 'one'), ('22P02', 'quantity', '1.5'), ('23514', 'quantity', '0'), ('23514', 'quantity', '-0'), ('23514', 'quantity', '-1'), ('23514', 'quantity', '-2147483648'),
  ('22003', 'quantity', '2147483648'), ('22003', 'quantity', '-2147483649'), ('22003', 'quantity', '99999999999999999999'),
  ('22004', 'price', NULL), ('22004', 'price', ''), ('22P02', 'price', 'x'), ('22P02', 'price', '1,5'), ('22P02', 'price', '.'), ('22P02', 'price', '1e'), ('22P02', 'price', '1.2.3'), ('22P02', 'price', '$1'), ('22P02', 'price', '- 1'), ('22P02', 'price', '0x10'),
  ('23514', 'price', '-1'), ('23514', 'price', '-0.005'), ('23514', 'price', '-1e1000'), ('23514', 'price', 'NaN'), ('23514', 'price', 'nan'), ('23514', 'price', '-Infinity'), ('23514', 'price', '-inf'),
  ('22003', 'price', 'Infinity'), ('22003', 'price', '+inf'), ('22003', 'price', '100000000'), ('22003', 'price', '99999999.995'), ('22003', 'price', '1e8'), ('22003', 'price', '1e1000'), ('22003', 'price', '922337203685477580.85'), ('22003', 'price', '92233720368547758.08'), ('22003', 'price', repeat('9', 10000)),
  ('22007', 'created_at', 'x'), ('22007', 'created_at', ' '), ('22007', 'created_at', 'yesterdayy'), ('22007', 'created_at', '12:00'), ('22007', 'created_at', repeat('1', 1000)), ('22007', 'created_at', '2020-02-30'), ('22007', 'created_at', '294277-01-01'), ('22007', 'created_at', '4714-01-01 BC'),
  ('22007', 'created_at', '2020-01-01 00:00 Mars/Olympus'),
  ('22023', 'status', 'x'), ('22023', 'status', 'Paid'), ('22023', 'status', ' '), ('22023', 'status', 'paid '), ('22023', 'status', repeat('x', 100000));
CREATE TABLE t.lines (n int PRIMARY KEY, order_ref text, customer_id text, product_id text, quantity text, price text, created_at text, status text);
INSERT INTO t.lines SELECT n * 3 - 2, 'O' || n, '1', '1', '1', '1', '2020-01-01', 'paid' FROM t.faults UNION ALL SELECT n * 3, 'O' || n, '1', '3', '3', '3', '', '' FROM t.faults;
INSERT INTO t.lines SELECT n * 3 - 1, f[1], f[2], f[3], f[4], f[5], f[6], f[7] FROM t.faults,
  LATERAL (SELECT array_agg(CASE WHEN c = column_name THEN value ELSE good END ORDER BY i) FROM unnest('{order_ref,customer_id,product_id,quantity,price,created_at,status}'::text[], ARRAY['O' || n, '1', '2', '2', '2', '', '']) WITH ORDINALITY AS u (c, good, i)) AS x (f);
CREATE VIEW t.inserted AS SELECT order_ref, customer_id, product_id, quantity, price, created_at, status FROM t.lines ORDER BY n;

BEGIN;
INSERT INTO order_proc.order_import TABLE t.inserted;
SELECT is(string_agg(format('%s %s: %s, not %s (%s)', column_name, left(value, 40), r.state, f.state, message), E'\n' ORDER BY n), NULL, 'skip_row: each fault has its SQLSTATE and line')
FROM t.faults AS f FULL JOIN t.rejects() AS r ON r.line = f.n * 3 - 1 WHERE f.state IS DISTINCT FROM r.state;
SELECT is(string_agg(DISTINCT message, E'\n'), NULL, 'messages have the form of the house') FROM t.rejects() WHERE message ~ '[^.]\.$' OR message ~ '^[A-Z]' OR length(message) > 300;
SELECT is((SELECT count(DISTINCT made) FROM t.made()), 1::bigint, 'skip_row: the good lines of all those orders are loaded');
SELECT results_eq('SELECT DISTINCT made FROM t.made()', $$VALUES ('1 paid 10.00 ''Ana de la Cruz'' ana@example.org 2020-01-01 00:00:00+00 | 1:1*1.00 3:3*3.00')$$, 'skip_row: with the status and created_at of their first good line');
SELECT is((SELECT count(*) FROM t.made()), (SELECT count(*) FROM t.faults), 'skip_row: every order is there');
SELECT is(count(*), 0::bigint, 'the raw line of each reject') FROM t.rejects() JOIN t.lines ON n = line
  WHERE raw IS DISTINCT FROM concat_ws(',', COALESCE(order_ref, ''), COALESCE(customer_id, ''), COALESCE(product_id, ''), COALESCE(quantity, ''), COALESCE(price, ''), COALESCE(created_at, ''), COALESCE(status, '')) AND length(raw) < 65536 AND raw NOT LIKE '%"%';
SELECT is(t.summary(), format('lines %s rejected %s orders %s items %s known 0 customers 0', 3 * count(*), count(*), count(*), 2 * count(*)), 'skip_row: last_import') FROM t.faults;
ROLLBACK;

BEGIN;
SET LOCAL order_proc.import_on_error = skip_order;
INSERT INTO order_proc.order_import TABLE t.inserted;
SELECT is((SELECT count(*) FROM t.made()), (SELECT count(*) FROM t.faults WHERE column_name = 'order_ref'), 'skip_order: orders with a bad line are left out whole');
SELECT is(count(*), (SELECT count(*) * 3 FROM t.faults WHERE column_name <> 'order_ref') + (SELECT count(*) FROM t.faults WHERE column_name = 'order_ref'), 'skip_order: each of their lines is rejected') FROM t.rejects();
SELECT is(string_agg(format('%s %s: %s, not %s', column_name, left(value, 40), r.state, f.state), E'\n' ORDER BY n), NULL, 'skip_order: the bad line tells its fault')
FROM t.faults AS f LEFT JOIN t.rejects() AS r ON r.line = f.n * 3 - 1 WHERE f.state IS DISTINCT FROM r.state;
ROLLBACK;

SET order_proc.import_on_error = abort;
CREATE TABLE t.aborted AS SELECT f.*, t.error(format('INSERT INTO order_proc.order_import SELECT order_ref, customer_id, product_id, quantity, price, created_at, status FROM t.lines WHERE n BETWEEN %s AND %s ORDER BY n', n * 3 - 2, n * 3)) AS answer FROM t.faults AS f;
SELECT is(string_agg(format('%s %s: %s, not %s', column_name, left(value, 40), answer, state), E'\n' ORDER BY n), NULL, 'abort: each fault ends the import with its SQLSTATE')
FROM t.aborted WHERE answer !~ ('^' || state || ' .*Line 2 of the import');
RESET order_proc.import_on_error;
SELECT is((SELECT count(*) FROM order_store.orders), 0::bigint, 'abort: nothing is left behind');
SELECT is((SELECT count(*) FROM order_store.import_rejects), 0::bigint, 'abort: no rejects either');
-- The first bad line of the file wins.
SET order_proc.import_on_error = abort;
SELECT matches(t.error('INSERT INTO order_proc.order_import VALUES ' || v), e, 'abort, first bad line: ' || w) FROM (VALUES
  ('(''A'',1,1,1,1), (''B'',77,1,1,1), (''C'',1,''x'',1,1)', '^23503 .*Line 2 ', 'unknown customer, then malformed'),
  ('(''A'',1,1,1,1), (''C'',1,''x'',1,1), (''B'',77,1,1,1)', '^22P02 .*Line 2 ', 'malformed, then unknown customer'),
  ('(''A'',1,1,1,1), (''B'',77,1,1,1), (''C'',78,1,1,1)', '^23503 .*customer 77.*Line 2 ', 'two unknown customers'),
  ('(''A'',1,1,1,1), (''B'',1,1,1,1), (''A'',2,1,1,1), (''B'',2,1,1,1)', '^22023 .*Line 3 ', 'two orders whose lines disagree'),
  ('(''B'',1,1,1,1), (''A'',1,1,1,1), (''B'',2,1,1,1), (''A'',2,1,1,1)', '^22023 .*Line 3 ', 'two orders whose lines disagree, the other way'),
  ('(''A'',1,1,1,1), (''A'',2,1,1,1), (''B'',1,1,0,1)', '^22023 .*Line 2 ', 'lines that disagree, then malformed')) AS v (v, e, w);
RESET order_proc.import_on_error;

-- Lines of an order anywhere; lines that disagree on the customer.
BEGIN;
COPY order_proc.order_import FROM STDIN (FORMAT csv);
A,2,x,1,1,2019-01-01,paid
B,1,1,1,1,,
A,1,1,1,1,2020-01-01,shipped
A,2,2,1,1,,
B,1,2,1,2,2020-01-01,paid
A,1,3,1,1.5,,
B,7,2,1,2,2020-01-01,paid
B,3,2,1,2,2020-01-01,paid
\.
SELECT results_eq('SELECT * FROM t.made()', $$VALUES ('A', '1 shipped 2.50 ''Ana de la Cruz'' ana@example.org 2020-01-01 00:00:00+00 | 1:1*1.00 3:1*1.50'), ('B', '1 pending 3.00 ''Ana de la Cruz'' ana@example.org now | 1:1*1.00 2:1*2.00')$$, 'the first good line says whose order it is');
SELECT results_eq('SELECT line, raw, state, message FROM t.rejects()', $$VALUES (1::bigint, 'A,2,x,1,1,2019-01-01,paid', '22P02', 'product_id is not of type bigint: "x"'),
  (4, 'A,2,2,1,1,,', '22023', 'order "A" belongs to customer 1, not to 2'), (7, 'B,7,2,1,2,2020-01-01,paid', '23503', 'customer 7 does not exist'), (8, 'B,3,2,1,2,2020-01-01,paid', '22023', 'order "B" belongs to customer 1, not to 3')$$,
  'later lines of another customer are rejected, as they came');
ROLLBACK;
BEGIN;
SET LOCAL order_proc.import_on_error = skip_order;
COPY order_proc.order_import FROM STDIN (FORMAT csv);
A,1,1,1,1,,
B,1,1,1,1,,
A,2,1,1,1,,
A,1,2,1,1,,
\.
SELECT results_eq('SELECT order_ref FROM t.made()', $$VALUES ('B')$$, 'skip_order: lines that disagree are bad ones');
SELECT results_eq('SELECT line, raw FROM t.rejects()', $$VALUES (1::bigint, 'A,1,1,1,1,,'), (3, 'A,2,1,1,1,,'), (4, 'A,1,2,1,1,,')$$, 'skip_order: rejects in file order, as they came');
ROLLBACK;

-- A total beyond its type.
BEGIN;
COPY order_proc.order_import FROM STDIN (FORMAT csv);
A,1,1,100,99999999.99,,
B,1,1,1,1,,
A,1,1,1,1.00,2020-01-01,
C,1,1,100,99999999.99,,
C,1,1,1,0.99,,
\.
SELECT results_eq('SELECT * FROM t.made()', $$VALUES ('B', '1 pending 1.00 ''Ana de la Cruz'' ana@example.org now | 1:1*1.00'), ('C', '1 pending 9999999999.99 ''Ana de la Cruz'' ana@example.org now | 1:100*99999999.99 1:1*0.99')$$, 'a total beyond its type rejects that order alone');
SELECT results_eq('SELECT line, raw, state, message FROM t.rejects()', $$VALUES (1::bigint, 'A,1,1,100,99999999.99,,', '22003', 'total_amount of order "A" is out of range for numeric(12,2)'),
  (3, 'A,1,1,1,1.00,2020-01-01,', '22003', 'total_amount of order "A" is out of range for numeric(12,2)')$$, 'with each of its lines, as they came');
ROLLBACK;

------------------------------------------------------------------------------------------------------------ order_import_lines
BEGIN;
COPY order_proc.order_import_lines FROM STDIN (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02');
Order_Ref,customer_id,product_id,quantity,price,created_at,status
A,1,1,1,1,,
A,1,2,2
"A","1","2","2","2.5","",""
B,1,1,1,1,,,
"C,1,1,1,1,,
D "d,1,1,1,1,,
"E""e,",2,1,1,1,,paid
"F"x,1,1,1,1,,

,,,,,,
G,1,1,1,1,,
order_ref,customer_id,product_id,quantity,price,created_at,status
\.
SELECT results_eq('SELECT * FROM t.made()', $$VALUES ('A', '1 pending 6.00 ''Ana de la Cruz'' ana@example.org now | 1:1*1.00 2:2*2.50'), ('E"e,', '2 paid 1.00 ''Bo'' - now | 1:1*1.00'), ('G', '1 pending 1.00 ''Ana de la Cruz'' ana@example.org now | 1:1*1.00')$$, 'order_import_lines: good lines');
SELECT results_eq('SELECT line, raw, state FROM t.rejects()', $$VALUES (3::bigint, 'A,1,2,2', '22P04'), (5, 'B,1,1,1,1,,,', '22P04'), (6, '"C,1,1,1,1,,', '22P04'), (7, 'D "d,1,1,1,1,,', '22P04'),
  (9, '"F"x,1,1,1,1,,', '22P04'), (11, ',,,,,,', '22004'), (13, 'order_ref,customer_id,product_id,quantity,price,created_at,status', '22P02')$$, 'order_import_lines: ragged and badly quoted ones, a header only in front');
SELECT is(lines, 11::bigint, 'order_import_lines: the header and the empty line are no lines') FROM order_proc.last_import();
INSERT INTO order_proc.order_import_lines VALUES ('I,1,1,1,1,,'), (NULL), ('I,1,1,1'), (E'J,1,1,1,1,,\r\n'), ('"K",1,1,1,1,"2020-01-01",""');
SELECT results_eq('SELECT order_ref FROM t.made(''[IJK]'')', $$VALUES ('I'), ('J'), ('K')$$, 'order_import_lines by INSERT');
SELECT ok(EXISTS (SELECT FROM t.rejects() WHERE raw = 'I,1,1,1' AND state = '22P04' AND line = 3), 'order_import_lines by INSERT: a row is a line, also one that is NULL');
ROLLBACK;
-- Empty lines are passed over, and counted: by COPY, where they come as NULL, and by INSERT.
SET order_proc.import_on_error = abort;
BEGIN;
COPY order_proc.order_import_lines FROM STDIN (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02');

order_ref,customer_id,product_id,quantity,price,created_at,status

A,1,1,1,1,,

\.
SELECT is(t.summary(), 'lines 1 rejected 0 orders 1 items 1 known 0 customers 0', 'order_import_lines: empty lines are no lines, also before the header');
SELECT matches(t.error($$INSERT INTO order_proc.order_import_lines VALUES (NULL), (''), (E'\r'), ('Order_ref,customer_id,product_id,quantity,price,created_at,status'), (''), ('B,1,1,1,1,,'), (NULL), ('C,1')$$), '^22P04 .*Line 8 ', 'order_import_lines by INSERT: empty lines and the header count for the numbers of lines');
INSERT INTO order_proc.order_import_lines VALUES (NULL), (''), (E'\r'), ('B,1,1,1,1,,'), ('');
SELECT is(t.summary(), 'lines 1 rejected 0 orders 1 items 1 known 0 customers 0', 'order_import_lines by INSERT: NULL, nothing and a carriage return are empty lines');
SELECT matches(t.error($$INSERT INTO order_proc.order_import_lines VALUES (' ')$$), '^22P04 ', 'a blank is no empty line');
ROLLBACK;
RESET order_proc.import_on_error;
BEGIN;
SET LOCAL order_proc.import_on_error = skip_order;
INSERT INTO order_proc.order_import_lines VALUES ('A,1,1,1,1,,'), ('A,1,1,1,1'), ('B,1,1,1,1,,'), ('B,1,"1,1,1,,'), ('"C",1,1,1,1,,'), ('"C",1,1,1,1,,,,'), ('D,1,1,1,1,,');
SELECT results_eq('SELECT order_ref FROM t.made()', $$VALUES ('D')$$, 'skip_order: a ragged line leaves out the order that it names');
ROLLBACK;
SET order_proc.import_on_error = abort;
SELECT matches(t.error('INSERT INTO order_proc.order_import_lines VALUES (''A,77,1,1,1,,''), (''B,1,1'')'), '^23503 .*Line 1 ', 'abort: an unknown customer before a ragged line');
SELECT matches(t.error('INSERT INTO order_proc.order_import_lines VALUES (''A,1,1,1,1,,''), (''B,1,1'')'), '^22P04 .*Line 2 ', 'abort: a ragged line');
RESET order_proc.import_on_error;

------------------------------------------------------------------------------------------------------------ idempotency
CREATE TABLE t.file (n int GENERATED ALWAYS AS IDENTITY, order_ref text, customer_id text, product_id text, quantity text, price text, created_at text, status text);
INSERT INTO t.file (order_ref, customer_id, product_id, quantity, price, created_at, status) VALUES ('A','1','1','1','1','2020-01-01','paid'), ('B','1','2','1','1','',NULL), ('A','1','3','1','2.005','',''), ('A','1','x','1','1','',''), ('A','1','1','1','1','2020-01-01','paid'), ('C','2','9','9','9','','shipped');
CREATE FUNCTION t.import(sort text DEFAULT 'n') RETURNS text LANGUAGE plpgsql AS $$ BEGIN
  EXECUTE 'INSERT INTO order_proc.order_import SELECT order_ref, customer_id, product_id, quantity, price, created_at, status FROM t.file ORDER BY ' || sort; RETURN t.summary(); END $$;
BEGIN;
SELECT is(t.import(), 'lines 6 rejected 1 orders 3 items 5 known 0 customers 0', 'first run');
CREATE TEMP TABLE before AS SELECT * FROM t.made();
SELECT is(t.import(), 'lines 6 rejected 1 orders 0 items 0 known 3 customers 0', 'the second run adds nothing');
SELECT is(t.import('n DESC'), 'lines 6 rejected 1 orders 0 items 0 known 3 customers 0', 'the same lines in another order are known');
UPDATE t.file SET price = ' 2.01 ', quantity = '+01' WHERE product_id = '3'; UPDATE t.file SET created_at = '2020-01-01T00:00:00Z' WHERE product_id = '1'; UPDATE t.file SET status = '' WHERE order_ref = 'B';
SELECT is(t.import(), 'lines 6 rejected 1 orders 0 items 0 known 3 customers 0', 'the same values spelt otherwise are known');
INSERT INTO order_store.order_statuses VALUES ('aaa', false, false), ('zzz', false, false);
SELECT is(t.import(), 'lines 6 rejected 1 orders 0 items 0 known 3 customers 0', 'the same file is known after statuses were added');
DELETE FROM order_store.order_statuses WHERE status IN ('cancelled', 'aaa', 'returned');
SELECT is(t.import(), 'lines 6 rejected 1 orders 0 items 0 known 3 customers 0', 'and after statuses were removed');
SET LOCAL timezone = 'Asia/Tokyo'; UPDATE t.file SET created_at = '2020-01-01 09:00' WHERE product_id = '1'; 
SELECT is(t.import(), 'lines 6 rejected 1 orders 0 items 0 known 3 customers 0', 'the same moment in another time zone is known');
SET LOCAL timezone = 'UTC'; UPDATE t.file SET created_at = '2020-01-01' WHERE product_id = '1';
SELECT results_eq('SELECT * FROM t.made()', 'TABLE before', 'the orders are as they were');
SAVEPOINT s;
UPDATE t.file SET quantity = 2 WHERE product_id = '3';
SELECT is(t.import(), 'lines 6 rejected 4 orders 0 items 0 known 2 customers 0', 'a changed line: its order is rejected');
SELECT results_eq('SELECT line, raw, state FROM t.rejects() WHERE state <> ''22P02''', $$VALUES (1::bigint, 'A,1,1,1,1,2020-01-01,paid', 'OP302'), (3, 'A,1,3,2, 2.01 ,,', 'OP302'), (5, 'A,1,1,1,1,2020-01-01,paid', 'OP302')$$, 'OP302 for each of its good lines, as they came');
ROLLBACK TO s;
DELETE FROM t.file WHERE n = 5;
SELECT is(t.import(), 'lines 5 rejected 3 orders 0 items 0 known 2 customers 0', 'a line less is another request');
ROLLBACK TO s;
UPDATE t.file SET product_id = '4' WHERE product_id = 'x';
SELECT is(t.import(), 'lines 6 rejected 4 orders 0 items 0 known 2 customers 0', 'a line that was bad and is mended: never skipped in silence');
ROLLBACK TO s;
UPDATE t.file SET status = 'shipped' WHERE order_ref = 'B';
SELECT is(t.import(), 'lines 6 rejected 2 orders 0 items 0 known 2 customers 0', 'another status is another request');
ROLLBACK TO s;
SET LOCAL order_proc.import_on_error = abort;
DELETE FROM t.file WHERE product_id = 'x';
SELECT is(t.error('SELECT t.import()'), 'no error', 'abort: known orders are no fault');
UPDATE t.file SET quantity = 2 WHERE product_id = '2';
SELECT matches(t.error('SELECT t.import()'), '^OP302 .*Line 2 ', 'abort: OP302 ends it');
ROLLBACK TO s;
UPDATE t.file SET customer_id = '3' WHERE order_ref = 'C';
SELECT is(t.import(), 'lines 6 rejected 1 orders 1 items 1 known 2 customers 0', 'a key is per customer');
ROLLBACK TO s;
SELECT order_proc.delete_order(order_id) FROM order_store.idempotency_keys WHERE key = 'A' \g /dev/null
SELECT is(t.import(), 'lines 6 rejected 1 orders 1 items 3 known 2 customers 0', 'an order that was deleted is loaded again');
ROLLBACK TO s;
SELECT matches(t.error('SELECT order_proc.create_order_with_items(1, ''paid'', NULL, ''{1,3,1}'', ''{1,1,1}'', ''{1,2.005,1}'', NULL, ''A'')'), '^OP302 ', 'create_order_with_items under a key of an import');
SELECT order_proc.create_order_with_items(1, 'paid', NULL, '{1}', '{1}', '{1}', NULL, 'own') \g /dev/null
INSERT INTO order_proc.order_import VALUES ('own', '1', '1', '1', '1', '', 'paid'), ('other', '1', '1', '1', '1', NULL, NULL);
SELECT is(t.summary(), 'lines 2 rejected 1 orders 1 items 1 known 0 customers 0', 'an import under a key of create_order_with_items');
SELECT results_eq('SELECT line, state FROM t.rejects()', $$VALUES (1::bigint, 'OP302')$$, 'is OP302');
ROLLBACK;

-- References of every shape.
BEGIN;
CREATE TEMP TABLE refs (ref text);
INSERT INTO refs VALUES ('"'), (''''), (','), (E'a\nb'), (E'\r'), (E'\\'), (E'\\N'), ('NULL'), (' '), (' a'), ('a '), ('a'), ('A'), ('ä'), (E'a\u0308'), ('🛒'), (repeat('x', 255)), (repeat('ä', 127)), (repeat('x', 254) || 'y'), ('%s%n%d'), ('"a"'), ('""'), ('$1'), (E'\x01');
INSERT INTO order_proc.order_import SELECT ref, '1', row_number() OVER (), '1', '1' FROM refs;
SELECT results_eq('SELECT order_ref COLLATE "C" FROM t.made() ORDER BY 1', 'SELECT ref COLLATE "C" FROM refs ORDER BY 1', 'references of every shape');
INSERT INTO order_proc.order_import SELECT ref, '1', row_number() OVER (), '1', '1' FROM refs;
SELECT is(t.summary(), format('lines %s rejected 0 orders 0 items 0 known %s customers 0', count(*), count(*)), 'are known again') FROM refs;
INSERT INTO order_proc.order_import SELECT ref, '1', 1, '2', '1' FROM refs;
SELECT is(count(*), (SELECT count(*) FROM refs), 'and rejected with OP302') FROM t.rejects() WHERE state = 'OP302';
ROLLBACK;
BEGIN;
COPY order_proc.order_import FROM STDIN (FORMAT csv);
"a,b",1,1,1,1,,
"a""b",1,1,1,1,,
"a
b",1,1,1,1,,
"a,b",1,2,0,1,,
"a""b",2,1,1,1,,
\.
SELECT results_eq('SELECT line, raw FROM t.rejects()', $$VALUES (5::bigint, '"a,b",1,2,0,1,,'), (6, '"a""b",2,1,1,1,,')$$, 'raw lines are quoted as they were');
ROLLBACK;

------------------------------------------------------------------------------------------------------------ customers
BEGIN;
SET LOCAL order_proc.import_create_customers = on;
INSERT INTO order_proc.order_import VALUES ('A', '50', '1', '1', '1'), ('B', '51', '1', '1', '1'), ('C', '50', '1', '1', '1'), ('D', '52', 'x', '1', '1'), ('E', '1', '1', '1', '1');
SELECT is(t.summary(), 'lines 5 rejected 1 orders 4 items 4 known 0 customers 2', 'import_create_customers makes those that are unknown');
SELECT results_eq('SELECT id, first_name, email FROM order_store.customers WHERE id BETWEEN 50 AND 60 ORDER BY id', $$VALUES (50::bigint, NULL, NULL), (51, NULL, NULL)$$, 'but none for a bad line');
SET LOCAL order_proc.import_on_error = abort;
INSERT INTO order_proc.order_import SELECT 'X' || n, 100 + n % 5000, '1', '1', '1' FROM generate_series(1, 12000) AS n;
SELECT is(t.summary(), 'lines 12000 rejected 0 orders 12000 items 12000 known 0 customers 5000', 'thousands of them');
SELECT is(order_proc.create_customer('next', NULL), 4::bigint, 'automatic ids go on beside them');
ROLLBACK;
-- Thousands of known ones, forth and back.
BEGIN;
INSERT INTO order_store.customers (id, first_name, email) SELECT n, 'c' || n, n || '@x' FROM generate_series(1000, 10999) AS n;
INSERT INTO order_proc.order_import SELECT 'X' || n, 1000 + n * 7919 % 12000, '1', '1', '1' FROM generate_series(0, 23999) AS n;
SELECT is(t.summary(), 'lines 24000 rejected 4000 orders 20000 items 20000 known 0 customers 0', 'thousands of known and unknown customers');
SELECT is(count(*), 0::bigint, 'their names and emails are copied') FROM order_store.orders WHERE customer_name IS DISTINCT FROM 'c' || customer_id OR customer_email IS DISTINCT FROM customer_id || '@x';
SELECT is(count(*), 0::bigint, 'totals are those of the items') FROM order_store.orders AS o WHERE total_amount <> (SELECT sum(quantity * price) FROM order_store.order_items AS i WHERE i.order_id = o.id);
ROLLBACK;

------------------------------------------------------------------------------------------------------------ transactions, last_import
SELECT is((SELECT count(*) FROM order_store.orders), 0::bigint, 'nothing is left of all that');
INSERT INTO order_proc.order_import VALUES ('t0', '1', '1', '1', '1');
SELECT import_id AS first FROM order_proc.last_import() \gset
BEGIN;
INSERT INTO order_proc.order_import VALUES ('t1', '1', '1', '1', '1'), ('t1', '1', '1', '1', '1');
SELECT is(t.summary(), 'lines 2 rejected 0 orders 1 items 2 known 0 customers 0', 'last_import within the transaction');
ROLLBACK;
SELECT is(import_id, :first::bigint, 'after ROLLBACK it is the one before') FROM order_proc.last_import();
BEGIN;
INSERT INTO order_proc.order_import VALUES ('t2', '1', '1', '1', '1'), ('t2', '1', '1', '1', '1'), ('t2', '1', '1', '1', '1');
SAVEPOINT a;
INSERT INTO order_proc.order_import VALUES ('t2', '1', '1', '1', '1'), ('t3', '1', '1', '1', '1');
SELECT is(t.summary(), 'lines 2 rejected 1 orders 1 items 1 known 0 customers 0', 'two imports in one transaction');
ROLLBACK TO a;
SELECT is(t.summary(), 'lines 3 rejected 0 orders 1 items 3 known 0 customers 0', 'after ROLLBACK TO it is the one before, of this transaction');
DO $$ BEGIN
  INSERT INTO order_proc.order_import VALUES ('t4', '1', '1', '1', '1');
  RAISE 'no';
EXCEPTION WHEN raise_exception THEN NULL; END $$;
SELECT is(t.summary(), 'lines 3 rejected 0 orders 1 items 3 known 0 customers 0', 'after an exception that was caught, too');
DO $$ BEGIN
  INSERT INTO order_proc.order_import SELECT 't5', '1', '1', '1', CASE WHEN n < 5000 THEN n ELSE 1 / (n - 5000) END FROM generate_series(1, 6000) AS n;
EXCEPTION WHEN division_by_zero THEN
  INSERT INTO order_proc.order_import VALUES ('t6', '1', '1', '1', '1');
END $$;
SELECT is(t.summary(), 'lines 1 rejected 0 orders 1 items 1 known 0 customers 0', 'an import in the handler of a failed one');
SAVEPOINT b;
SAVEPOINT c;
INSERT INTO order_proc.order_import VALUES ('t7', '1', '1', '1', '1'), ('t8', '1', '1', '1', '1');
RELEASE c;
SELECT is(t.summary(), 'lines 2 rejected 0 orders 2 items 2 known 0 customers 0', 'after RELEASE');
ROLLBACK TO b;
SELECT is(t.summary(), 'lines 1 rejected 0 orders 1 items 1 known 0 customers 0', 'after ROLLBACK TO around it');
COMMIT;
SELECT is(t.summary(), 'lines 1 rejected 0 orders 1 items 1 known 0 customers 0', 'after COMMIT');
SELECT results_eq('SELECT order_ref FROM t.made(''t'')', $$VALUES ('t0'), ('t2'), ('t6')$$, 'and those orders are there');
SELECT is((SELECT count(*) FROM order_store.import_rejects), 0::bigint, 'rejects go with their import');
ALTER SEQUENCE order_store.import_id_seq RESTART 1000;
SET client_min_messages = notice;
INSERT INTO order_proc.order_import VALUES ('t0', '1', '1', '1', '1'), ('n1', '1', '1', '0', '1'), ('n2', '1', '1', '1', '1');
SET client_min_messages = warning;
SELECT matches(t.error('BEGIN READ ONLY'), '^(0A000|25|2D)', 'no transaction control here');
BEGIN READ ONLY;
SELECT matches(t.error('INSERT INTO order_proc.order_import VALUES (''r'', ''1'', ''1'', ''1'', ''1'')'), '^25006 ', 'a read-only transaction');
ROLLBACK;
-- A COPY that fails in the middle leaves nothing.
COPY order_proc.order_import FROM STDIN (FORMAT csv);
c1,1,1,1,1,,
c2,1,1,x,1,,
c3,1,1
c4,1,1,1,1,,
\.
SELECT is((SELECT count(*) FROM t.made('c')), 0::bigint, 'a ragged line ends COPY, nothing is left');
SELECT is((SELECT count(*) FROM order_store.import_rejects WHERE raw_line ~ '^c'), 0::bigint, 'no rejects either');

-- Nested imports.
CREATE FUNCTION t.nest(ref text, rows int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO order_proc.order_import SELECT ref, '1', n, '1', '1' FROM generate_series(1, rows) AS n;
  RETURN t.summary();
END $$;
BEGIN;
INSERT INTO order_proc.order_import SELECT 'outer', '1', n, '1', length(t.nest('inner' || n, n)) FROM generate_series(1, 3) AS n;
SELECT is(t.summary(), 'lines 3 rejected 0 orders 1 items 3 known 0 customers 0', 'a function in the SELECT list that imports: the outer one');
SELECT results_eq('SELECT order_ref, regexp_count_items FROM (SELECT order_ref, (SELECT count(*) FROM regexp_matches(made, '':1\*'', ''g'')) FROM t.made(''(inner|outer)'')) AS v (order_ref, regexp_count_items)', $$VALUES ('inner1', 1::bigint), ('inner2', 2), ('inner3', 3), ('outer', 3)$$, 'each line goes to its own import');
ROLLBACK;
CREATE FUNCTION t.nest_and_fail(ref text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO order_proc.order_import VALUES (ref, '1', '1', 1 / (length(ref) - length(ref)), '1');
EXCEPTION WHEN division_by_zero THEN RETURN '7';
END $$;
BEGIN;
INSERT INTO order_proc.order_import SELECT 'outer', '1', t.nest_and_fail('in' || n), '1', '1' FROM generate_series(1, 3) AS n;
SELECT is(t.summary(), 'lines 3 rejected 0 orders 1 items 3 known 0 customers 0', 'inner imports that fail and are caught');
ROLLBACK;
BEGIN;
WITH a AS (INSERT INTO order_proc.order_import VALUES ('wa', '1', '1', '1', '1') RETURNING order_ref), b AS (INSERT INTO order_proc.order_import VALUES ('wb', '1', '1', '1', '1'))
INSERT INTO order_proc.order_import SELECT 'wc', '1', '2', '3', '4' FROM a;
SELECT is(t.summary(), 'lines 3 rejected 0 orders 3 items 3 known 0 customers 0', 'CTEs into one view are one import');
ROLLBACK;
BEGIN;
SELECT is(t.error($$WITH a AS (INSERT INTO order_proc.order_import VALUES ('wa', '1', '1', '1', '1') RETURNING order_ref)
INSERT INTO order_proc.order_import_lines SELECT order_ref || 'x,1,1,1,1,,' FROM a$$), 'no error', 'CTEs into both views');
SELECT results_eq('SELECT order_ref FROM t.made(''w'')', $$VALUES ('wa'), ('wax')$$, 'are two imports');
ROLLBACK;

------------------------------------------------------------------------------------------------------------ rights
CREATE FUNCTION t.as_role(role text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text; BEGIN
  EXECUTE format('SET LOCAL ROLE %I', role);
  answer := t.error(statement);
  RESET ROLE;
  RETURN answer;
END $$;
\set one '''INSERT INTO order_proc.order_import VALUES (''''rights'''', ''''1'''', ''''1'''', ''''1'''', ''''1''''), (''''rights'''', ''''1'''', ''''x'''', ''''1'''', ''''1'''')'''
BEGIN;
SELECT is(t.as_role('regress_import_app', :one), 'no error', 'a role with write imports');
SELECT is(t.summary(), 'lines 2 rejected 1 orders 1 items 1 known 0 customers 0', 'all of it');
SELECT results_eq('SELECT made FROM t.made(''rights'')', $$VALUES ('1 pending 1.00 ''Ana de la Cruz'' ana@example.org now | 1:1*1.00')$$, 'with the names of the customer');
SELECT is(t.as_role('regress_import_other', 'INSERT INTO order_proc.order_import VALUES (''mine'', ''1'', ''1'', ''0'', ''1'')'), 'no error', 'so does another one');
SET LOCAL ROLE regress_import_app;
SELECT results_eq('SELECT raw_line, imported_by FROM order_store.import_rejects', $$VALUES ('rights,1,x,1,1,,', 'regress_import_app')$$, 'a role sees its own rejects only');
SET LOCAL ROLE regress_import_other;
SELECT results_eq('SELECT raw_line, imported_by FROM order_store.import_rejects', $$VALUES ('mine,1,1,0,1,,', 'regress_import_other')$$, 'so does the other one');
RESET ROLE;
SELECT matches(t.as_role('regress_import_app', s), '^42501 ', 'not by an importer: ' || s) FROM unnest(ARRAY['DELETE FROM order_store.import_rejects', 'UPDATE order_store.import_rejects SET message = 1',
  'INSERT INTO order_store.import_rejects VALUES (1, 1, 1, 1, 1, ''regress_import_other'')', 'SELECT nextval(''order_store.import_id_seq'')', 'TRUNCATE order_store.import_rejects',
  'INSERT INTO order_store.idempotency_keys VALUES (1, ''x'', 1, '''')', 'TABLE order_store.idempotency_keys']) AS s;
SELECT matches(t.as_role('regress_import_reader', :one), '^42501 ', 'a role with read may not');
SELECT matches(t.as_role('regress_import_nobody', :one), '^42501 ', 'a role with nothing may not');
ROLLBACK;
BEGIN;
SET LOCAL order_proc.import_create_customers = on;
GRANT USAGE ON SCHEMA order_store TO regress_import_nobody;
GRANT SELECT ON order_store.customers TO regress_import_nobody;
GRANT INSERT ON order_store.orders, order_store.order_items TO regress_import_nobody;
GRANT USAGE ON SEQUENCE order_store.orders_id_seq, order_store.order_items_id_seq TO regress_import_nobody;
SELECT is(t.as_role('regress_import_nobody', :one), 'no error', 'INSERT on orders and items, SELECT on customers and USAGE on the sequences suffice');
SELECT matches(t.as_role('regress_import_nobody', 'INSERT INTO order_proc.order_import VALUES (''x'', ''99'', ''1'', ''1'', ''1'')'), '^42501 ', 'customers are made with the caller''s rights');
REVOKE INSERT ON order_store.order_items FROM regress_import_nobody;
SELECT matches(t.as_role('regress_import_nobody', :one), '^42501 .*order_items', 'without INSERT on items: 42501');
GRANT INSERT (order_id, product_id, quantity, price) ON order_store.order_items TO regress_import_nobody;
SELECT is(t.as_role('regress_import_nobody', replace(:one, 'rights', 'columns')), 'no error', 'INSERT on the columns suffices');
REVOKE SELECT ON order_store.customers FROM regress_import_nobody;
SELECT matches(t.as_role('regress_import_nobody', replace(:one, 'rights', 'nocustomers')), '^42501 .*customers', 'names are read with the caller''s rights');
ROLLBACK;
-- Row security on orders: the caller's policies count.
BEGIN;
ALTER TABLE order_store.orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON order_store.orders FOR ALL TO regress_import_app USING (customer_id = 1) WITH CHECK (customer_id = 1);
SELECT is(t.as_role('regress_import_app', 'INSERT INTO order_proc.order_import VALUES (''y1'', ''1'', ''1'', ''1'', ''1'')'), 'no error', 'row security: what a policy allows');
SELECT matches(t.as_role('regress_import_app', 'INSERT INTO order_proc.order_import VALUES (''y2'', ''1'', ''1'', ''1'', ''1''), (''y3'', ''2'', ''1'', ''1'', ''1'')'), '^(42501 .*row-level security|no error)', 'row security: what it does not');
SELECT is((SELECT count(*) FROM order_store.orders WHERE customer_id = 2), 0::bigint, 'is not there');
ROLLBACK;

------------------------------------------------------------------------------------------------------------ user code in the middle
-- A customer who goes while the import runs: no order without its customer.
CREATE FUNCTION t.drop_customer(n int, at int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
  IF n = at THEN DELETE FROM order_store.customers WHERE id = 3; END IF;
  RETURN '1';
END $$;
CREATE FUNCTION t.orphans() RETURNS SETOF bigint LANGUAGE sql AS $$
  SELECT id FROM order_store.orders AS o WHERE NOT EXISTS (SELECT FROM order_store.customers AS c WHERE c.id = o.customer_id)
  UNION ALL SELECT order_id FROM order_store.order_items AS i WHERE NOT EXISTS (SELECT FROM order_store.orders AS o WHERE o.id = i.order_id)
$$;
BEGIN;
SELECT t.error('INSERT INTO order_proc.order_import SELECT ''g'' || n, ''3'', ''1'', t.drop_customer(n, 5000), ''1'' FROM generate_series(1, 10000) AS n') \g /dev/null
SELECT is((SELECT count(*) FROM t.orphans()), 0::bigint, 'a customer deleted by a function in the SELECT list');
ROLLBACK;
BEGIN;
SELECT t.error('INSERT INTO order_proc.order_import SELECT ''g'' || n, ''3'', ''1'', t.drop_customer(n, 10), ''1'' FROM generate_series(1, 10) AS n') \g /dev/null
SELECT is((SELECT count(*) FROM t.orphans()), 0::bigint, 'the same at the last line');
ROLLBACK;
BEGIN;
CREATE FUNCTION t.drops() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM order_store.customers WHERE id = 3; RETURN NEW; END $$;
CREATE TRIGGER d BEFORE INSERT ON order_store.order_items FOR EACH STATEMENT EXECUTE FUNCTION t.drops();
SELECT t.error('INSERT INTO order_proc.order_import SELECT ''g'' || n, 1 + n % 3, ''1'', ''1'', ''1'' FROM generate_series(1, 3000) AS n') \g /dev/null
SELECT is((SELECT count(*) FROM t.orphans()), 0::bigint, 'a customer deleted by a trigger on items');
ROLLBACK;
BEGIN;
CREATE FUNCTION t.drops() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM order_store.customers WHERE id = 3; RETURN NEW; END $$;
CREATE TRIGGER d BEFORE INSERT ON order_store.customers FOR EACH STATEMENT EXECUTE FUNCTION t.drops();
SET LOCAL order_proc.import_create_customers = on;
SELECT t.error('INSERT INTO order_proc.order_import SELECT ''g'' || n, CASE WHEN n < 5000 THEN 3 ELSE 77 END, ''1'', ''1'', ''1'' FROM generate_series(1, 10000) AS n') \g /dev/null
SELECT is((SELECT count(*) FROM t.orphans()), 0::bigint, 'a customer deleted by a trigger on customers');
ROLLBACK;
-- A hostile search_path.
CREATE SCHEMA h;
CREATE FUNCTION h.fail(int8, int8) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE FUNCTION h.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE FUNCTION h.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE OPERATOR h.= (LEFTARG = int8, RIGHTARG = int8, FUNCTION = h.fail);
CREATE OPERATOR h.< (LEFTARG = int8, RIGHTARG = int8, FUNCTION = h.fail);
BEGIN;
CREATE TEMP TABLE customers (id text); CREATE TEMP TABLE orders (id text); CREATE TEMP TABLE order_items (id text); CREATE TEMP TABLE import_rejects (id text); CREATE TEMP TABLE idempotency_keys (id text);
SET LOCAL search_path = pg_temp, h, pg_catalog;
SET LOCAL order_proc.import_create_customers = on;
SET LOCAL order_proc.fast_path = off;
INSERT INTO order_proc.order_import VALUES ('h1', '1', '1', '1', '1'), ('h2', '88', '1', '1', '1'), ('h2', '88', 'x', '1', '1');
SET LOCAL order_proc.fast_path = on;
INSERT INTO order_proc.order_import VALUES ('h1', '1', '1', '1', '1'), ('h3', '89', '1', '1', '1'), ('h3', '89', 'x', '1', '1');
SET LOCAL search_path = public, pg_catalog;
SELECT is(t.summary(), 'lines 3 rejected 1 orders 1 items 1 known 1 customers 1', 'a hostile search_path');
ROLLBACK;
DROP SCHEMA h CASCADE;
-- The progress view. The import runs under INSERT here, so there is no row; the view of a COPY is read by a function in its WHERE.
CREATE TABLE t.progress (relid text, tuples bigint);
CREATE FUNCTION t.note(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_stat_clear_snapshot(); INSERT INTO t.progress SELECT relid::regclass, tuples_processed FROM pg_stat_progress_copy WHERE pid = pg_backend_pid(); RETURN true; END $$;
BEGIN;
COPY order_proc.order_import FROM STDIN (FORMAT csv) WHERE t.note(order_ref);
p1,1,1,1,1,,
p2,1,1,1,1,,
p3,1,1,1,1,,
\.
SELECT results_eq('TABLE t.progress', $$VALUES ('order_proc.order_import', 0::bigint), ('order_proc.order_import', 1), ('order_proc.order_import', 2)$$, 'pg_stat_progress_copy tells how far a COPY is');
ROLLBACK;
-- Trigger functions anywhere else.
SELECT matches(t.error('SELECT order_proc.' || f || '()'), '^(0A000|39P01) ', f || ' called as a function') FROM unnest(ARRAY['begin_import', 'import_line', 'end_import']) AS f;
BEGIN;
CREATE TABLE t.plain (a text);
CREATE TRIGGER a BEFORE INSERT ON t.plain FOR EACH STATEMENT EXECUTE FUNCTION order_proc.begin_import();
SELECT matches(t.error('INSERT INTO t.plain VALUES (1)'), '^39P01 ', 'begin_import on a table');
DROP TRIGGER a ON t.plain;
CREATE TRIGGER a AFTER INSERT ON t.plain FOR EACH STATEMENT EXECUTE FUNCTION order_proc.end_import();
SELECT matches(t.error('INSERT INTO t.plain VALUES (1)'), '^39P01 ', 'end_import on a table');
DROP TRIGGER a ON t.plain;
CREATE TRIGGER a BEFORE INSERT ON t.plain FOR EACH ROW EXECUTE FUNCTION order_proc.import_line();
SELECT matches(t.error('INSERT INTO t.plain VALUES (1)'), '^39P01 ', 'import_line on a table');
ROLLBACK;

------------------------------------------------------------------------------------------------------------ against plain SQL
TRUNCATE order_store.orders, order_store.import_rejects CASCADE;
-- A few thousand lines, dirty in every column.
SELECT setseed(0.3) \g /dev/null
TRUNCATE t.lines;
CREATE FUNCTION t.pick(clean text[], dirty text[], share float) RETURNS text LANGUAGE sql VOLATILE AS $$
  SELECT CASE WHEN random() < share THEN dirty[1 + floor(random() * cardinality(dirty))::int] ELSE clean[1 + floor(random() * cardinality(clean))::int] END $$;
INSERT INTO t.lines SELECT n, ref, t.pick(ARRAY[c, c, c, ' ' || c, c, c, c, c, c, c, c, c, c, c, c, c, '+3'], ARRAY[NULL, '', 'x', '1.0', '77', '78', '-1', '99999999999999999999', '0x1'], 0.03),
  t.pick(ARRAY[n::text, '0', '-7', ' 42 '], ARRAY[NULL, '', 'p1', '1e2', '9223372036854775808'], 0.02),
  t.pick(ARRAY['1', '2', ' 3', '+4', '0012', '500'], ARRAY[NULL, '', '0', '-1', '1.5', 'many', '2147483648', '2147483647', '-2147483649'], 0.03),
  t.pick(ARRAY['1', '0.005', '2.345', '1e1', '.5', '7.', '0', '-0.001', '19.994999', '99999.99', '+3', ' 1.10 '], ARRAY[NULL, '', '-1', 'NaN', 'inf', '-inf', '1,5', 'x', '100000000', '99999999.994', '99999999.995', '922337203685477580.85', '1e9', '-1e9', '1e', '1e-30'], 0.04),
  t.pick(ARRAY['', NULL, '2020-01-01', '2020-01-01 12:30:00.123456+02', 'Jan 5 2021', '20200131T101112', '2020-07-01 10:00 Europe/Madrid', 'epoch', 'infinity'], ARRAY['x', '2020-13-01', '2020-02-30', '10:00', '99999999-01-01', ' ', '2020-01-01 25:00', '2020-01-01 00:00 Nowhere/City'], 0.02),
  t.pick(ARRAY['', NULL, 'paid', 'pending', 'shipped'], ARRAY['x', 'Paid', ' '], 0.02)
FROM (SELECT n, t.pick(ARRAY['r' || n % 700, 'r' || n % 701, 's' || n / 5], ARRAY[NULL, '', repeat('z', 256)], 0.005) AS ref FROM generate_series(1, 6000) AS n) AS r,
  LATERAL (SELECT ('{1,2,3,-5,9223372036854775807}'::text[])[1 + COALESCE(hashtext(ref), 0) & 3]) AS h (c) ORDER BY n;

-- The same in plain SQL: what PostgreSQL's own input functions say of each column, in the order of the columns.
CREATE FUNCTION t.cast_state(value text, type text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE state text; BEGIN
  EXECUTE format('SELECT %L::%s', value, type);
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE;
  -- Imports have one answer for all bad timestamps.
  RETURN CASE state WHEN '22008' THEN '22007' ELSE state END;
END $$;
CREATE TABLE t.judged AS
SELECT l.*, COALESCE(
    CASE WHEN COALESCE(order_ref, '') = '' THEN '22004' WHEN octet_length(order_ref) > 255 THEN '22023' END,
    CASE WHEN COALESCE(customer_id, '') = '' THEN '22004' ELSE t.cast_state(customer_id, 'bigint') END,
    CASE WHEN COALESCE(product_id, '') = '' THEN '22004' ELSE t.cast_state(product_id, 'bigint') END,
    CASE WHEN COALESCE(quantity, '') = '' THEN '22004' WHEN t.cast_state(quantity, 'int') IS NOT NULL THEN t.cast_state(quantity, 'int') WHEN quantity::int <= 0 THEN '23514' END,
    CASE WHEN COALESCE(price, '') = '' THEN '22004' WHEN t.cast_state(price, 'numeric') IS NOT NULL THEN t.cast_state(price, 'numeric')
      WHEN price::numeric = 'NaN' OR round(price::numeric, 2) < 0 THEN '23514' ELSE t.cast_state(price, 'numeric(10,2)') END,
    CASE WHEN COALESCE(created_at, '') <> '' THEN replace(t.cast_state(created_at, 'timestamptz'), '22023', '22007') END,  -- 22023: an unknown time zone
   
    CASE WHEN COALESCE(status, '') <> '' AND NOT EXISTS (SELECT FROM order_store.order_statuses AS s WHERE s.status = l.status) THEN '22023' END) AS state
FROM t.lines AS l;
UPDATE t.judged AS j SET state = '23503' WHERE state IS NULL AND NOT EXISTS (SELECT FROM order_store.customers AS c WHERE c.id = j.customer_id::bigint);
UPDATE t.judged AS j SET state = '22023' FROM (SELECT DISTINCT ON (order_ref) order_ref, customer_id::bigint AS customer FROM t.judged WHERE state IS NULL ORDER BY order_ref, n) AS f WHERE j.order_ref = f.order_ref AND j.state IS NULL AND j.customer_id::bigint <> f.customer;
CREATE TABLE t.judged_by_order (LIKE t.judged);
INSERT INTO t.judged_by_order SELECT n, order_ref, customer_id, product_id, quantity, price, created_at, status,
  COALESCE(state, CASE WHEN bool_or(state IS NOT NULL) OVER (PARTITION BY order_ref) THEN '22000' END) FROM t.judged;
-- Orders beyond their total are left out last.
CREATE FUNCTION t.leave_out_large(judged regclass) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
  EXECUTE format('UPDATE %1$s SET state = ''22003'' WHERE state IS NULL AND order_ref IN (SELECT order_ref FROM %1$s WHERE state IS NULL GROUP BY 1 HAVING sum(quantity::int * price::numeric(10,2)) > 9999999999.99)', judged);
END $$;
SELECT t.leave_out_large('t.judged'), t.leave_out_large('t.judged_by_order') \g /dev/null
CREATE FUNCTION t.expected_orders(judged regclass) RETURNS TABLE (order_ref text, made text) LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE format($q$
  SELECT order_ref, concat_ws(' ', (array_agg(customer_id::bigint ORDER BY n))[1], COALESCE(NULLIF((array_agg(status ORDER BY n))[1], ''), 'pending'), sum(quantity::int * price::numeric(10,2)),
    NULLIF((array_agg(created_at ORDER BY n))[1], '')::timestamptz, '|', string_agg(format('%%s:%%s*%%s', product_id::bigint, quantity::int, price::numeric(10,2)), ' ' ORDER BY n))
  FROM %s WHERE state IS NULL GROUP BY order_ref ORDER BY order_ref COLLATE "C"$q$, judged); END $$;
CREATE FUNCTION t.stored_orders() RETURNS TABLE (order_ref text, made text) LANGUAGE sql AS $$
  SELECT k.key, concat_ws(' ', o.customer_id, o.status, o.total_amount, CASE WHEN o.created_at <> now() THEN o.created_at END, '|', (SELECT string_agg(format('%s:%s*%s', i.product_id, i.quantity, i.price), ' ' ORDER BY i.id) FROM order_store.order_items AS i WHERE i.order_id = o.id))
  FROM order_store.orders AS o JOIN order_store.idempotency_keys AS k ON k.order_id = o.id ORDER BY k.key COLLATE "C" $$;
CREATE FUNCTION t.difference(judged regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text; BEGIN
  EXECUTE format($q$ SELECT string_agg(d, E'\n') FROM (
    SELECT format('line %%s (%%s): %%s, not %%s', n, concat_ws(',', j.order_ref, customer_id, product_id, quantity, price, created_at, status), COALESCE(r.state, 'good'), COALESCE(j.state, 'good')) AS d
      FROM %1$s AS j FULL JOIN t.rejects() AS r ON r.line = j.n WHERE r.state IS DISTINCT FROM j.state
    UNION ALL SELECT format('order %%s: %%s, not %%s', order_ref, s.made, e.made) FROM t.expected_orders(%1$L) AS e FULL JOIN t.stored_orders() AS s USING (order_ref) WHERE s.made IS DISTINCT FROM e.made
    LIMIT 10) AS d $q$, judged) INTO answer;
  RETURN answer;
END $$;
SELECT ok(count(*) FILTER (WHERE state IS NULL) > 3000 AND count(DISTINCT state) = 7 AND bool_or(state = '22003'), 'the lines have good ones and every fault') FROM t.judged;
-- By INSERT and by COPY, with the fast path and without, row by row and order by order.
COPY (TABLE t.inserted) TO :'file' (FORMAT csv);
SELECT format($q$BEGIN; SET LOCAL order_proc.fast_path = %s; SET LOCAL order_proc.import_on_error = %s; SET LOCAL work_mem = %L; %s; SELECT is(t.difference(%L), NULL, 'as plain SQL: %s, fast_path %s, %s'); ROLLBACK$q$,
  path, mode, CASE path WHEN 'on' THEN '64kB' ELSE '4MB' END, CASE how WHEN 'COPY' THEN format('COPY order_proc.order_import FROM %L (FORMAT csv)', :'file') ELSE 'INSERT INTO order_proc.order_import TABLE t.inserted' END, judged, how, path, mode)
FROM unnest(ARRAY['on', 'off']) AS path, (VALUES ('skip_row', 't.judged'), ('skip_order', 't.judged_by_order')) AS m (mode, judged), unnest(ARRAY['COPY', 'INSERT']) AS how ORDER BY 1 \gexec
BEGIN;
COPY order_proc.order_import FROM :'file' (FORMAT csv);
SELECT is((SELECT count(*) FROM t.orphans()), 0::bigint, 'no orphans');
SELECT is(count(*), 0::bigint, 'each reject has its line of the file') FROM t.rejects() AS r JOIN t.lines AS l ON l.n = r.line
  WHERE replace(r.raw, '""', '') <> concat_ws(',', COALESCE(order_ref, ''), COALESCE(customer_id, ''), COALESCE(product_id, ''), COALESCE(quantity, ''), CASE WHEN price = '1,5' THEN '"1,5"' ELSE COALESCE(price, '') END, COALESCE(created_at, ''), COALESCE(status, ''));
COPY order_proc.order_import FROM :'file' (FORMAT csv);
SELECT is(format('%s %s', orders, known = (SELECT count(*) FROM order_store.orders)), '0 t', 'the second run adds nothing') FROM order_proc.last_import();
ROLLBACK;

-- Altered tables: what the user's own constraints and triggers refuse takes its order along, and no other.
CREATE TABLE t.altered (n int GENERATED ALWAYS AS IDENTITY, kind text, ddl text, refused text, state text);
INSERT INTO t.altered (kind, ddl, refused, state) VALUES
('a CHECK on items', 'ALTER TABLE order_store.order_items ADD CHECK (quantity <> 500)', 'quantity::int = 500', '23514'),
('a CHECK on orders', 'ALTER TABLE order_store.orders ADD CHECK (total_amount <> 0 OR status <> ''paid'')', NULL, '23514'),
('a trigger on items', 'CREATE FUNCTION t.refuse() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN IF NEW.product_id = 42 THEN RAISE ''no 42''; END IF; RETURN NEW; END $f$; CREATE TRIGGER refuse BEFORE INSERT ON order_store.order_items FOR EACH ROW EXECUTE FUNCTION t.refuse()', 'product_id::bigint = 42', 'P0001'),
('a trigger after items', 'CREATE FUNCTION t.refuse() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN IF NEW.product_id = -7 THEN RAISE ''no -7''; END IF; RETURN NULL; END $f$; CREATE TRIGGER refuse AFTER INSERT ON order_store.order_items FOR EACH ROW EXECUTE FUNCTION t.refuse()', 'product_id::bigint = -7', 'P0001'),
('a unique index on items', 'CREATE UNIQUE INDEX ON order_store.order_items (order_id, product_id)', NULL, '23505'),
('an index that divides', 'CREATE INDEX ON order_store.order_items ((1 / (quantity - 500)))', 'quantity::int = 500', '22012'),
('extra columns', 'ALTER TABLE order_store.orders ADD extra text DEFAULT ''x'' NOT NULL; ALTER TABLE order_store.order_items ADD extra int DEFAULT 7, ADD another text', 'false', NULL),
('an index on items', 'CREATE INDEX ON order_store.order_items (product_id)', 'false', NULL),
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
  ALTER TABLE order_store.orders OWNER TO regress_import_owner;
  ALTER TABLE order_store.order_items ADD CONSTRAINT order_items_order_id_fkey FOREIGN KEY (order_id) REFERENCES order_store.orders ON DELETE CASCADE$$, 'false', NULL),
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
  ALTER TABLE order_store.customers OWNER TO regress_import_owner;
  ALTER TABLE order_store.orders ADD CONSTRAINT orders_customer_id_fkey FOREIGN KEY (customer_id) REFERENCES order_store.customers$$, 'false', NULL);
UPDATE t.altered SET refused = 'order_ref IN (SELECT order_ref FROM (SELECT order_ref, sum(quantity::int * price::numeric(10,2)) AS total, (array_agg(status ORDER BY n))[1] AS status FROM t.altered_judged WHERE state IS NULL GROUP BY 1) AS o WHERE total = 0 AND status = ''paid'')' WHERE kind = 'a CHECK on orders';
UPDATE t.altered SET refused = 'order_ref IN (SELECT order_ref FROM t.altered_judged WHERE state IS NULL GROUP BY order_ref, product_id::bigint HAVING count(*) > 1)' WHERE kind = 'a unique index on items';
SELECT format($q$BEGIN; %s; CREATE TABLE t.altered_judged AS TABLE t.judged;
UPDATE t.altered_judged SET state = %L WHERE state IS NULL AND order_ref IN (SELECT order_ref FROM t.altered_judged WHERE state IS NULL AND %s);
INSERT INTO order_proc.order_import TABLE t.inserted;
SELECT is(t.difference('t.altered_judged'), NULL, 'altered: %s');
SELECT is((SELECT count(*) FROM t.orphans()), 0::bigint, 'altered: %s, no orphans');
INSERT INTO order_proc.order_import TABLE t.inserted;
SELECT is(orders, 0::bigint, 'altered: %s, the second run adds nothing') FROM order_proc.last_import(); ROLLBACK$q$, ddl, state, refused, kind, kind, kind) FROM t.altered ORDER BY n \gexec
BEGIN;
ALTER TABLE order_store.order_items ALTER price TYPE numeric(12,4);
SELECT matches(t.error('INSERT INTO order_proc.order_import VALUES (''n'', ''1'', ''1'', ''1'', ''1'')'), '^OP002 ', 'price numeric(12,4): OP002');
ROLLBACK;
BEGIN;
DROP TABLE order_store.import_rejects;
SELECT matches(t.error('INSERT INTO order_proc.order_import VALUES (''n'', ''1'', ''1'', ''1'', ''1'')'), '^OP002 ', 'no import_rejects: OP002');
ROLLBACK;
BEGIN;
CREATE FUNCTION t.drop_rejects() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DROP TABLE IF EXISTS order_store.import_rejects; RETURN NEW; END $$;
CREATE TRIGGER drop_rejects BEFORE INSERT ON order_store.orders FOR EACH STATEMENT EXECUTE FUNCTION t.drop_rejects();
SELECT matches(t.error('INSERT INTO order_proc.order_import VALUES (''n'', ''1'', ''1'', ''1'', ''1''), (''n'', ''x'', ''1'', ''1'', ''1'')'), '^OP002 ', 'import_rejects dropped by a trigger: OP002');
ROLLBACK;
BEGIN;
DROP SEQUENCE order_store.import_id_seq;
SELECT matches(t.error('INSERT INTO order_proc.order_import VALUES (''n'', ''1'', ''1'', ''1'', ''1'')'), '^OP002 ', 'no import_id_seq: OP002');
ROLLBACK;
BEGIN;
DROP SCHEMA order_store CASCADE;
SELECT matches(t.error('INSERT INTO order_proc.order_import VALUES (''n'', ''1'', ''1'', ''1'', ''1'')'), '^OP001 ', 'no store: OP001');
ROLLBACK;

------------------------------------------------------------------------------------------------------------ giant orders
CREATE FUNCTION t.giant(lines int, change text DEFAULT '1') RETURNS text LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO order_proc.order_import SELECT CASE n % 1000 WHEN 0 THEN 'small' || n ELSE 'giant' END, '1', n, CASE n WHEN 5 THEN change ELSE '1' END, '1.25', '2020-01-01', 'paid' FROM generate_series(1, lines) AS n;
  RETURN t.summary();
END $$;
SELECT format($q$BEGIN; SET LOCAL order_proc.fast_path = %1$s;
SELECT is(t.giant(67000), 'lines 67000 rejected 0 orders 68 items 67000 known 0 customers 0', 'an order of 66,933 lines, fast_path %1$s');
SELECT is(t.giant(67000), 'lines 67000 rejected 0 orders 0 items 0 known 68 customers 0', 'again');
SELECT is(t.giant(67000, '2'), 'lines 67000 rejected 66933 orders 0 items 0 known 67 customers 0', 'again, one line changed');
SELECT is(count(*), 66933::bigint, 'OP302 for each line') FROM t.rejects() WHERE state = 'OP302' AND line %% 1000 <> 0;
SELECT is(format('%%s %%s %%s', count(*), count(DISTINCT product_id), sum(quantity * price)), '66933 66933 83666.25', 'all of its items') FROM order_store.order_items JOIN order_store.idempotency_keys USING (order_id) WHERE key = 'giant';
SELECT is(total_amount, 83666.25, 'its total') FROM order_store.orders AS o JOIN order_store.idempotency_keys AS k ON k.order_id = o.id WHERE key = 'giant';
SELECT is(array_agg(product_id ORDER BY id), array_agg(product_id ORDER BY product_id), 'items in file order') FROM order_store.order_items JOIN order_store.idempotency_keys USING (order_id) WHERE key = 'giant';
ROLLBACK$q$, path) FROM unnest(ARRAY['on', 'off']) AS path \gexec
BEGIN;
SELECT is(t.giant(150000, '0'), 'lines 150000 rejected 1 orders 151 items 149999 known 0 customers 0', 'skip_row: an order of 149,850 lines, one of them bad');
ROLLBACK;
BEGIN;
SET LOCAL order_proc.import_on_error = skip_order;
SELECT is(t.giant(70000, '0'), 'lines 70000 rejected 69930 orders 70 items 70 known 0 customers 0', 'skip_order: one of 69,930 lines is bad');
ROLLBACK;
BEGIN;
SET LOCAL order_proc.import_on_error = skip_order;
SELECT is(t.giant(150000, '0'), 'lines 150000 rejected 149850 orders 150 items 150 known 0 customers 0', 'skip_order: one of 149,850 lines is bad');
ROLLBACK;
BEGIN;
SELECT is(t.giant(150000), 'lines 150000 rejected 0 orders 151 items 150000 known 0 customers 0', 'an order of 149,850 lines');
SELECT is(t.giant(150000, '7'), 'lines 150000 rejected 149850 orders 0 items 0 known 150 customers 0', 'again, one line changed');
ROLLBACK;
BEGIN;
INSERT INTO order_proc.order_import SELECT 'beyond', '1', n, '99999999', '99999999' FROM generate_series(1, 150000) AS n;
SELECT is(t.summary(), 'lines 150000 rejected 150000 orders 0 items 0 known 0 customers 0', 'a giant order with a total beyond its type');
ROLLBACK;
BEGIN;
ALTER TABLE order_store.order_items ADD CHECK (product_id <> 149999);
SELECT is(t.giant(150000), 'lines 150000 rejected 149850 orders 150 items 150 known 0 customers 0', 'a giant order that a CHECK refuses');
ROLLBACK;
-- A view of the user's own whose columns are no texts.
BEGIN;
CREATE VIEW t.numbers AS SELECT 1 AS a, 2 AS b WHERE false;
CREATE TRIGGER a BEFORE INSERT ON t.numbers FOR EACH STATEMENT EXECUTE FUNCTION order_proc.begin_import();
CREATE TRIGGER b INSTEAD OF INSERT ON t.numbers FOR EACH ROW EXECUTE FUNCTION order_proc.import_line();
CREATE TRIGGER c AFTER INSERT ON t.numbers FOR EACH STATEMENT EXECUTE FUNCTION order_proc.end_import();
SELECT matches(t.error('INSERT INTO t.numbers VALUES (1, 2)'), '^39P01 ', 'a view with columns of other types');
ROLLBACK;
SELECT is((SELECT count(*) FROM order_store.orders), 0::bigint, 'nothing is left of all that');

SELECT * FROM finish();
DROP EXTENSION order_proc CASCADE;
DROP SCHEMA order_store CASCADE;
DROP SCHEMA t CASCADE;
DROP ROLE regress_import_owner, regress_import_app, regress_import_other, regress_import_reader, regress_import_nobody;
