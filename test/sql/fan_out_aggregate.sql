\set ECHO none
-- fan_out_aggregate: its results are those of the same query run directly, here and over parts of the rows; whatever would
-- not be is refused by name; and so are garbage, foreign statements and callers without rights.
\pset format unaligned
\pset tuples_only on
\pset pager off
SET client_min_messages = warning;
SET timezone = 'Europe/Berlin';
DROP EXTENSION IF EXISTS order_proc CASCADE;
DROP SCHEMA IF EXISTS order_store CASCADE;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION order_proc;
SELECT order_proc.create_store() \g /dev/null
CREATE SCHEMA aggregates;
\getenv folder PG_ABS_SRCDIR
\set queries :folder '/sql/include/aggregate_queries.sql'
\i :queries
CALL aggregates.fill_store();
CALL aggregates.describe_queries();
SET search_path = aggregates, public;
SELECT no_plan();

------------------------------------------------------------------------------------------------------------
-- The same results
------------------------------------------------------------------------------------------------------------

-- Five shards: one with most of the customers, one with one order, one with customers alone, one without a row, the others.
CREATE TABLE shard_of AS
SELECT id AS customer_id, CASE WHEN id <= 25 THEN 0 WHEN id = 26 THEN 1 WHEN id > 40 THEN 2 ELSE 4 END AS shard FROM order_store.customers;
DELETE FROM order_store.orders AS o USING (SELECT min(id) AS id FROM order_store.orders WHERE customer_id = 26) AS m WHERE customer_id = 26 AND o.id <> m.id;
-- GROUP BY of a primary key implies the other columns only where there is one.
SELECT format('CREATE SCHEMA shard_%s', n),
       format('CREATE TABLE shard_%s.customers AS SELECT c.* FROM order_store.customers AS c JOIN shard_of ON customer_id = id WHERE shard = %1$s', n),
       format('ALTER TABLE shard_%s.customers ADD PRIMARY KEY (id)', n),
       format('CREATE TABLE shard_%s.orders AS SELECT o.* FROM order_store.orders AS o JOIN shard_of USING (customer_id) WHERE shard = %1$s', n),
       format('ALTER TABLE shard_%s.orders ADD PRIMARY KEY (id)', n)
FROM generate_series(0, 4) AS n \gexec
SELECT format('CREATE TABLE shard_%s.%I AS SELECT t.* FROM order_store.%2$I AS t JOIN shard_%1$s.orders AS o ON o.id = t.order_id', n, t)
FROM generate_series(0, 4) AS n, unnest(ARRAY['order_items', 'order_status_history', 'idempotency_keys']) AS t \gexec
SELECT format('ALTER TABLE shard_%s.order_items ADD PRIMARY KEY (order_id, id)', n) FROM generate_series(0, 4) AS n \gexec
ANALYZE;
SELECT is((SELECT array_agg((SELECT count(*) FROM shard_of WHERE shard = n) ORDER BY n) FROM generate_series(0, 4) AS n), '{25,1,20,0,14}', 'customers of the shards');
SELECT is((SELECT count(*) FROM shard_1.orders), 1::bigint, 'a shard with one order');

-- In place of order_proc.fan_out: the query over the tables of the shards that are up.
CREATE TABLE up (shard int);
INSERT INTO up SELECT generate_series(0, 4);
CREATE FUNCTION fan_out(query text, args text[], on_failure text) RETURNS SETOF record LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
  n int;
BEGIN
  FOR n IN SELECT shard FROM aggregates.up ORDER BY shard LOOP
    RETURN QUERY EXECUTE replace(query, 'order_store.', format('shard_%s.', n));
  END LOOP;
END $$;
CREATE FUNCTION over_shards(n int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  split order_proc.split_query;
BEGIN
  SELECT e.* INTO split FROM queries, order_proc.explain_fan_out_aggregate(query) AS e WHERE number = n;
  RETURN answer(n, format('(%s) AS t', replace(split.coordinator_query, 'order_proc.fan_out(', 'aggregates.fan_out(')));
EXCEPTION WHEN OTHERS THEN
  RETURN SQLSTATE || ' ' || SQLERRM;
END $$;

CREATE TABLE answers AS SELECT number, query, directly(number), by_fan_out(number), over_shards(number) FROM queries;
SELECT cmp_ok(count(*), '>=', 900::bigint, 'queries') FROM answers;
SELECT cmp_ok(count(*), '>=', 400::bigint, 'queries of many shapes') FROM answers WHERE number <= (SELECT max(number) FROM queries) - 4 * (SELECT count(*) FROM calls);
SELECT is((SELECT string_agg(format('%s: %s', number, directly), E'\n') FROM answers WHERE directly ~ '^[0-9A-Z]{5} '), NULL, 'each can be run');
SELECT cmp_ok(count(*), '>', 600::bigint, 'and returns rows') FROM answers WHERE directly ~ '^[1-9]';
SELECT is((SELECT string_agg(format(E'%s: %s\n%s\n%s', number, query, left(directly, 400), left(by_fan_out, 400)), E'\n') FROM answers WHERE by_fan_out IS DISTINCT FROM directly), NULL, 'the same by fan_out_aggregate');
SELECT is((SELECT string_agg(format(E'%s: %s\n%s\n%s', number, query, left(directly, 400), left(over_shards, 400)), E'\n') FROM answers WHERE over_shards IS DISTINCT FROM directly), NULL, 'the same over five shards');
DELETE FROM up WHERE shard = 1;
SELECT cmp_ok(count(*), '>', 50::bigint, 'without the shard with one order many answers are others') FROM answers WHERE number <= 300 AND directly <> over_shards(number);
INSERT INTO up VALUES (1);
SELECT is((SELECT string_agg(aggregate::text, ', ') FROM calls WHERE call IS NULL), NULL, 'every aggregate of the catalog is given something');
SELECT is((SELECT count(DISTINCT aggregate) FROM calls), (SELECT count(*) FROM pg_aggregate JOIN pg_proc AS p ON p.oid = aggfnoid WHERE aggcombinefn <> 0 AND pronamespace = 'pg_catalog'::regnamespace), 'and none is forgotten');

-- Aggregates and types of others: a row, a domain, an array as state; initial values, functions that see NULL, a state that
-- becomes NULL, polymorphic and variadic ones, FINALFUNC_EXTRA.
CREATE TYPE pair AS (n bigint, s text, at timestamptz, d double precision, i interval);
CREATE FUNCTION add_pair(p pair, v numeric, t timestamptz) RETURNS pair LANGUAGE sql IMMUTABLE AS
  $$ SELECT ROW(COALESCE((p).n, 0) + 1, COALESCE((p).s, '') || '"ä,\', GREATEST((p).at, t), COALESCE((p).d, 0) + 0.1, GREATEST((p).i, t - '2024-01-01 00:00+00'::timestamptz))::aggregates.pair $$;
CREATE FUNCTION join_pairs(a pair, b pair) RETURNS pair LANGUAGE sql IMMUTABLE AS
  $$ SELECT CASE WHEN b IS NULL THEN a WHEN a IS NULL THEN b ELSE ROW((a).n + (b).n, (a).s || (b).s, GREATEST((a).at, (b).at), (a).d + (b).d, GREATEST((a).i, (b).i))::aggregates.pair END $$;
CREATE FUNCTION end_pair(p pair) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT format('%s %s %s %s %s', (p).n, length((p).s), date_part('epoch', (p).at), round((p).d::numeric, 6), date_part('epoch', (p).i)) $$;
CREATE AGGREGATE pairs(numeric, timestamptz) (SFUNC = add_pair, STYPE = pair, COMBINEFUNC = join_pairs, FINALFUNC = end_pair);
CREATE FUNCTION smaller(a anyarray, b anyarray) RETURNS anyarray LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT LEAST(a, b) $$;
CREATE AGGREGATE smallest(anyarray) (SFUNC = smaller, STYPE = anyarray, COMBINEFUNC = smaller);
CREATE FUNCTION add_text(a text[], b text) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$ SELECT (SELECT array_agg(DISTINCT e ORDER BY e) FROM unnest(a || b) AS e) $$;
CREATE FUNCTION join_texts(a text[], b text[]) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$ SELECT (SELECT array_agg(DISTINCT e ORDER BY e) FROM unnest(a || b) AS e) $$;
CREATE AGGREGATE texts(text) (SFUNC = add_text, STYPE = text[], INITCOND = '{start}', COMBINEFUNC = join_texts);
CREATE FUNCTION plus(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT a + b $$;
CREATE FUNCTION end_null(s int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT COALESCE(s::text, 'null') $$;
CREATE AGGREGATE all_or_null(int) (SFUNC = plus, STYPE = int, INITCOND = '0', COMBINEFUNC = plus, FINALFUNC = end_null);
CREATE AGGREGATE sum_or_zero(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0', COMBINEFUNC = int4pl, FINALFUNC = end_null);
CREATE FUNCTION end_extra(s numeric, a numeric, b int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT format('%s %s %s', s, a, b) $$;
CREATE FUNCTION add_product(s numeric, a numeric, b int) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$ SELECT COALESCE(s, 0) + COALESCE(a, 0) * COALESCE(b, 0) $$;
CREATE FUNCTION add_both(a numeric, b numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$ SELECT COALESCE(a + b, a, b) $$;
CREATE AGGREGATE products(numeric, int) (SFUNC = add_product, STYPE = numeric, COMBINEFUNC = add_both, FINALFUNC = end_extra, FINALFUNC_EXTRA);
CREATE FUNCTION add_many(s bigint, VARIADIC v int[]) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT COALESCE(s, 0) + COALESCE((SELECT sum(e) FROM unnest(v) AS e), 0) $$;
CREATE AGGREGATE many(VARIADIC int[]) (SFUNC = add_many, STYPE = bigint, COMBINEFUNC = int8pl);
CREATE DOMAIN positive AS numeric CHECK (VALUE >= 0);
CREATE FUNCTION add_positive(s positive, v numeric) RETURNS positive LANGUAGE sql IMMUTABLE AS $$ SELECT COALESCE(s + v, s, v)::aggregates.positive $$;
CREATE FUNCTION join_positive(a positive, b positive) RETURNS positive LANGUAGE sql IMMUTABLE AS $$ SELECT COALESCE(a + b, a, b)::aggregates.positive $$;
CREATE AGGREGATE positives(numeric) (SFUNC = add_positive, STYPE = positive, COMBINEFUNC = join_positive);
CREATE TABLE own (call text);
INSERT INTO own VALUES ('aggregates.pairs(i.price, o.created_at)'), ('aggregates.smallest(ARRAY[i.product_id, i.quantity])'), ('aggregates.smallest(ARRAY[o.status, NULL])'), ('aggregates.texts(o.status || i.quantity % 3)'),
  ('aggregates.texts(o.notes)'), ('aggregates.all_or_null(i.quantity)'), ('aggregates.all_or_null(NULLIF(i.quantity, 3))'), ('aggregates.sum_or_zero(NULLIF(i.quantity, 3))'), ('aggregates.sum_or_zero(NULL::int)'),
  ('aggregates.products(i.price, i.quantity)'), ('aggregates.many(i.quantity, 5, i.quantity)'), ('aggregates.many(VARIADIC ARRAY[i.quantity, 2])'), ('aggregates.positives(i.price)'),
  ('max((CASE WHEN i.quantity > 3 THEN ''happy'' END)::aggregates.mood)'), ('max(i.price::aggregates.positive)'), ('max(ARRAY[(CASE WHEN i.quantity > 3 THEN ''happy'' END)::aggregates.mood])');
-- Third-party ones, where Debian's packages are installed. tdigest is exact as long as nothing was compressed.
SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'tdigest') AS tdigest, EXISTS (SELECT FROM pg_available_extensions WHERE name = 'hll') AS hll \gset
\if :tdigest
CREATE EXTENSION tdigest SCHEMA aggregates;
INSERT INTO own VALUES ('aggregates.tdigest_count(aggregates.tdigest(i.price::double precision, 100))'), ('round(aggregates.tdigest_percentile(i.price::double precision, 2000, 0.5)::numeric, 0)');
\endif
\if :hll
CREATE EXTENSION hll SCHEMA aggregates;
INSERT INTO own VALUES ('aggregates.hll_cardinality(aggregates.hll_add_agg(aggregates.hll_hash_bigint(i.product_id)))'), ('aggregates.hll_cardinality(aggregates.hll_union_agg(aggregates.hll_add(aggregates.hll_empty(), aggregates.hll_hash_bigint(i.product_id))))');
\endif
SELECT 1 + max(number) AS first_own FROM queries \gset
INSERT INTO queries (query) SELECT format(shape, call) FROM own, (VALUES
  ('SELECT %s AS c1 FROM order_store.orders o JOIN order_store.order_items i ON i.order_id = o.id'),
  ('SELECT o.status AS c1, %s AS c2 FROM order_store.orders o LEFT JOIN order_store.order_items i ON i.order_id = o.id GROUP BY o.status'),
  ('SELECT o.id AS c1, %s AS c2 FROM order_store.orders o LEFT JOIN order_store.order_items i ON i.order_id = o.id GROUP BY o.id'),
  ('SELECT %s AS c1 FROM order_store.orders o JOIN order_store.order_items i ON i.order_id = o.id WHERE false')) AS s (shape);
CALL describe_queries();
CREATE FUNCTION differences_from(n int) RETURNS text LANGUAGE sql AS $$
  SELECT string_agg(format(E'%s\n%s\n%s\n%s', query, left(d, 300), left(f, 300), left(s, 300)), E'\n')
  FROM (SELECT query, directly(number) AS d, by_fan_out(number) AS f, over_shards(number) AS s FROM queries WHERE number >= n OFFSET 0) AS a WHERE d IS DISTINCT FROM f OR d IS DISTINCT FROM s $$;
SELECT is((SELECT string_agg(directly(number), E'\n') FROM queries WHERE number >= :first_own AND directly(number) ~ '^[0-9A-Z]{5} '), NULL, 'aggregates and types of others');
SELECT is(differences_from(:first_own), NULL, 'the same');
SET datestyle = 'SQL, DMY';
SET intervalstyle = 'sql_standard';
SET extra_float_digits = -10;
SET bytea_output = 'escape';
SELECT is(differences_from(:first_own), NULL, 'the same under other settings');
SELECT is((SELECT string_agg(query, E'\n') FROM queries WHERE number <= 300 AND number % 5 = 0 AND directly(number) IS DISTINCT FROM over_shards(number)), NULL, 'so with every fifth of the queries above');
RESET datestyle;
RESET intervalstyle;
RESET extra_float_digits;
RESET bytea_output;

-- A state in text reads the same under whatever settings it was written.
CREATE TABLE written (state bytea);
SET datestyle = 'SQL, DMY';
SET intervalstyle = 'sql_standard';
SET extra_float_digits = -10;
SET timezone = 'Asia/Kolkata';
INSERT INTO written SELECT order_proc.partial('pairs(numeric, timestamptz)', 1.5, '2024-02-01 10:00+00'::timestamptz) FROM generate_series(1, 1000);
SET datestyle = 'ISO, MDY';
SET intervalstyle = 'iso_8601';
RESET extra_float_digits;
SET timezone = 'Europe/Berlin';
SELECT is((SELECT order_proc.combine('pairs(numeric, timestamptz)', '{numeric,timestamptz}', state, NULL::text) FROM written), '1000 4000 1706781600 100.000000 2714400', 'a state written under other settings');
RESET datestyle;
RESET intervalstyle;

-- Stable functions: a constant for all shards, unless it depends on the row and on settings alone.
SET order_proc_test.word = 'paid';
CREATE FUNCTION counted(n int DEFAULT 3) RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN n + (SELECT count(*) FROM order_store.customers); END $$;
SELECT is((SELECT n FROM order_proc.fan_out_aggregate($$SELECT count(*) FROM order_store.orders WHERE status = current_setting('order_proc_test.word')$$) AS t (n bigint)), (SELECT count(*) FROM order_store.orders WHERE status = 'paid'), 'current_setting');
SELECT matches(shard_query, expected, condition) FROM (VALUES
  ('created_at::date >= current_date', format('\(created_at\)::date >= ''%s''::date', to_char(current_date, 'YYYY-MM-DD'))), ('created_at <= now()', '<= ''\d{4}-[-0-9:. +]+''::timestamp with time zone'), ('customer_name = current_user', 'name = ''\w+''::name'),
  ('id > aggregates.counted()', 'id > 63\)'), ('id > aggregates.counted(n => 4)', 'id > 64\)'), ('to_char(created_at, ''YYYY'') = to_char(now(), ''YYYY'')', 'to_char\(created_at, ''YYYY''::text\) = to_char\(''')) AS v (condition, expected),
  order_proc.explain_fan_out_aggregate('SELECT count(*) FROM order_store.orders o WHERE ' || condition);
SELECT is((SELECT n FROM order_proc.fan_out_aggregate('SELECT aggregates.counted(count(*)::int) FROM order_store.customers') AS t (n int)), 120, 'a stable function of a result runs here');

------------------------------------------------------------------------------------------------------------
-- What is refused
------------------------------------------------------------------------------------------------------------

CREATE FUNCTION outcome(sql text, who text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  hint text;
BEGIN
  IF who IS NOT NULL THEN EXECUTE format('SET LOCAL ROLE %I', who); END IF;
  EXECUTE sql;
  RESET ROLE;
  RETURN 'ok';
EXCEPTION WHEN query_canceled THEN
  RETURN SQLSTATE;
WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
  RETURN SQLSTATE || ' ' || SQLERRM || CASE WHEN hint = '' AND SQLERRM LIKE 'fan_out_aggregate %' THEN ' WITHOUT HINT' ELSE '' END;
END $$;
CREATE VIEW a_view AS SELECT * FROM order_store.orders;
CREATE TABLE a_table (order_id bigint);
CREATE FUNCTION stable_one(t text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT t || (SELECT count(*) FROM order_store.orders) $$;
CREATE FUNCTION volatile_one() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1; END $$;
CREATE AGGREGATE no_parts(int) (SFUNC = int4pl, STYPE = int);
CREATE TABLE refusals (id int GENERATED ALWAYS AS IDENTITY, query text, expected text);
INSERT INTO refusals (query, expected) SELECT query, '0A000 fan_out_aggregate cannot split ' || expected FROM (VALUES
('SELECT id FROM order_store.orders', 'a query without aggregates'),
('SELECT 1', 'a query that reads no table'),
('SELECT count(*)', 'a query that reads no table'),
('SELECT DISTINCT status FROM order_store.orders', 'a query without aggregates'),
('TABLE order_store.orders', 'a query without aggregates'),
('SELECT count(DISTINCT status) FROM order_store.orders', 'DISTINCT in count\("any"\)'),
('SELECT sum(total_amount ORDER BY id) FROM order_store.orders', 'ORDER BY in sum\(numeric\)'),
('SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY total_amount) FROM order_store.orders', 'percentile_cont'),
('SELECT mode() WITHIN GROUP (ORDER BY status) FROM order_store.orders', 'mode'),
('SELECT rank(5) WITHIN GROUP (ORDER BY total_amount) FROM order_store.orders', 'rank'),
('SELECT json_agg(id) FROM order_store.orders', 'json_agg'),
('SELECT jsonb_object_agg(id, status) FROM order_store.orders', 'jsonb_object_agg'),
('SELECT aggregates.no_parts(id::int) FROM order_store.orders', 'no_parts\(integer\)'),
('SELECT status, count(*) OVER (PARTITION BY status) FROM order_store.orders', 'window function count'),
('SELECT status, rank() OVER (ORDER BY count(*)) FROM order_store.orders GROUP BY status', 'window function rank'),
('SELECT status, count(*) FROM order_store.orders GROUP BY ROLLUP (status)', 'GROUPING SETS, ROLLUP or CUBE'),
('SELECT status, count(*) FROM order_store.orders GROUP BY GROUPING SETS ((status), ())', 'GROUPING SETS, ROLLUP or CUBE'),
('SELECT GROUPING(status), count(*) FROM order_store.orders GROUP BY status', 'GROUPING'),
('SELECT count(*) FROM order_store.orders UNION ALL SELECT count(*) FROM order_store.customers', 'UNION, INTERSECT or EXCEPT'),
('SELECT count(*) FROM (SELECT id FROM order_store.orders UNION SELECT id FROM order_store.customers) x', 'UNION, INTERSECT or EXCEPT'),
('WITH x AS (SELECT * FROM order_store.orders) SELECT count(*) FROM x', 'WITH'),
('WITH x AS (DELETE FROM order_store.orders RETURNING *) SELECT count(*) FROM x', 'WITH'),
('SELECT count(*) FROM order_store.orders WHERE total_amount > (SELECT avg(total_amount) FROM order_store.orders)', 'a subquery in an expression'),
('SELECT count(*) FROM order_store.orders WHERE id IN (SELECT order_id FROM order_store.order_items)', 'a subquery in an expression'),
('SELECT (SELECT 1), count(*) FROM order_store.orders', 'a subquery in an expression'),
('SELECT count(*) FROM order_store.orders LIMIT (SELECT 1)', 'a subquery in an expression'),
('SELECT count(*) FROM (SELECT * FROM order_store.orders LIMIT 10) x', 'LIMIT in subquery x'),
('SELECT count(*) FROM (SELECT * FROM order_store.orders OFFSET 10) x', 'LIMIT in subquery x'),
('SELECT sum(n) FROM (SELECT status, count(*) AS n FROM order_store.orders GROUP BY status) x', 'subquery x'),
('SELECT sum(n) FROM (SELECT count(*) AS n FROM order_store.orders) x', 'subquery x'),
('SELECT count(*) FROM (SELECT DISTINCT status FROM order_store.orders) x', 'DISTINCT in subquery x'),
('SELECT count(*) FROM (SELECT 1 FROM order_store.orders HAVING true) x', 'subquery x'),
-- The group of no order holds customers of all shards.
('SELECT count(*) FROM (SELECT o.id, count(*) FROM order_store.customers c LEFT JOIN order_store.orders o ON o.customer_id = c.id GROUP BY o.id) x', 'subquery x'),
('SELECT count(*) FROM (SELECT y.id FROM (SELECT o.id FROM order_store.customers c LEFT JOIN order_store.orders o ON o.customer_id = c.id) y GROUP BY y.id) x', 'subquery x'),
('SELECT count(*) FROM (SELECT k.order_id FROM order_store.orders o FULL JOIN order_store.idempotency_keys k ON k.order_id = o.id GROUP BY k.order_id) x', 'subquery x'),
('SELECT count(*) FROM (SELECT id, row_number() OVER () FROM order_store.orders) x', 'window function row_number'),
('SELECT count(*) FROM order_store.orders o, LATERAL (SELECT * FROM order_store.order_items i WHERE i.order_id = o.id) x', 'LATERAL x'),
('SELECT count(*) FROM (SELECT * FROM order_store.orders FOR SHARE) x', 'FOR UPDATE or FOR SHARE'),
('SELECT count(*), generate_series(1, 2) FROM order_store.orders', 'a set-returning function'),
('SELECT count(*) FROM order_store.orders TABLESAMPLE SYSTEM (50)', 'TABLESAMPLE'),
('SELECT count(*) FROM order_store.orders a, order_store.orders b', 'the join of a and b'),
('SELECT count(*) FROM order_store.orders a JOIN order_store.orders b ON a.status = b.status', 'the join of a and b'),
('SELECT count(*) FROM order_store.orders a JOIN order_store.customers b ON a.id = b.id', 'the join of a and b'),
('SELECT count(*) FROM order_store.orders a JOIN order_store.order_items b ON a.id = b.id', 'the join of a and b'),
('SELECT count(*) FROM order_store.orders a JOIN order_store.order_items b ON a.id = b.order_id OR a.id = 3', 'the join of a and b'),
('SELECT count(*) FROM order_store.orders a JOIN order_store.order_items b ON a.id <= b.order_id', 'the join of a and b'),
('SELECT count(*) FROM order_store.orders a JOIN order_store.order_items b ON a.id = b.order_id + 1', 'the join of a and b'),
('SELECT count(*) FROM order_store.orders a LEFT JOIN order_store.order_items b ON true WHERE a.id = b.order_id', 'the join of a and b'),
('SELECT count(*) FROM (order_store.orders a CROSS JOIN order_store.customers c) LEFT JOIN order_store.orders b ON a.customer_id = c.id AND a.customer_id = b.customer_id', 'the join of a and c'),
('SELECT count(*) FROM (order_store.orders a CROSS JOIN order_store.customers c) LEFT JOIN order_store.orders b ON b.customer_id = c.id AND a.customer_id = b.customer_id', 'the join of a and c'),
('SELECT count(*) FROM order_store.orders a FULL JOIN order_store.orders b ON a.total_amount = b.total_amount', 'the join of a and b'),
('SELECT count(*) FROM order_store.customers c JOIN (SELECT customer_id, max(id) AS m FROM order_store.orders GROUP BY customer_id) x ON x.m = c.id', 'the join of c and x'),
('SELECT count(*) FROM order_store.order_statuses', 'a query that reads order_statuses'),
('SELECT count(*) FROM order_store.orders JOIN order_store.order_statuses USING (status)', 'a query that reads order_statuses'),
('SELECT count(*) FROM order_store.import_rejects', 'a query that reads import_rejects'),
('SELECT count(*) FROM aggregates.a_view', 'a query that reads a_view'),
('SELECT count(*) FROM order_store.orders JOIN aggregates.a_table ON order_id = id', 'a query that reads a_table'),
('SELECT count(*) FROM pg_class', 'a query that reads pg_class'),
('SELECT count(*) FROM order_store.orders, (VALUES (1), (2)) v', 'VALUES in FROM'),
('SELECT count(*) FROM order_store.orders, generate_series(1, 2) g', 'function g in FROM'),
('SELECT count(*) FROM order_store.orders WHERE random() < 0.5', 'volatile function random\(\)'),
('SELECT count(*) + random() FROM order_store.orders', 'volatile function random\(\)'),
('SELECT count(*) FROM order_store.orders LIMIT random()', 'volatile function random\(\)'),
('SELECT count(*) FROM order_store.orders WHERE created_at < clock_timestamp()', 'volatile function clock_timestamp\(\)'),
('SELECT aggregates.volatile_one(), count(*) FROM order_store.orders', 'volatile function volatile_one\(\)'),
('SELECT count(nextval(''order_store.orders_id_seq'')) FROM order_store.orders', 'volatile function nextval\(regclass\)'),
('SELECT sum(n) FROM (SELECT customer_id, count(*) AS n FROM order_store.orders WHERE random() > 0 GROUP BY customer_id) x', 'volatile function random\(\)'),
('SELECT max(aggregates.stable_one(status)) FROM order_store.orders', 'stable function stable_one\(text\)'),
('SELECT count(to_regclass(status)) FROM order_store.orders', 'stable function to_regclass\(text\)'),
('SELECT count(status::regclass) FROM order_store.orders', 'stable function regclass'),
('SELECT count(pg_typeof(id)) FROM order_store.orders', 'stable function pg_typeof'),
('SELECT count(age(created_at)) FROM order_store.orders', 'stable function age'),
('SELECT max(tableoid) FROM order_store.orders', 'a system column'),
('SELECT count(*) FROM order_store.orders WHERE ctid = ''(0,1)''', 'a system column'),
('SELECT o, count(*) FROM order_store.orders o GROUP BY o.id', 'a whole row in the result'),
('SELECT ROW(status, id), count(*) FROM order_store.orders GROUP BY ROW(status, id)', 'GROUP BY a value of type record'),
('DROP TABLE order_store.orders', 'DROP TABLE'), ('CREATE TABLE x AS SELECT count(*) FROM order_store.orders', 'CREATE TABLE AS'), ('SELECT count(*) INTO x FROM order_store.orders', 'SELECT INTO'),
('DELETE FROM order_store.orders', 'DELETE'), ('UPDATE order_store.orders SET notes = NULL', 'UPDATE'), ('INSERT INTO order_store.orders DEFAULT VALUES', 'INSERT'), ('TRUNCATE order_store.orders', 'TRUNCATE'),
('EXPLAIN SELECT count(*) FROM order_store.orders', 'EXPLAIN'), ('COMMIT', 'COMMIT'), ('SET work_mem = 1', 'SET'), ('COPY order_store.orders TO STDOUT', 'COPY'), ('DO $x$ BEGIN END $x$', 'DO'), ('VALUES (1)', '')) AS v (query, expected);
SELECT current_setting('server_version_num')::int < 160000 AS before_16 \gset
\if :before_16
INSERT INTO refusals (query, expected) VALUES ('SELECT array_agg(id) FROM order_store.orders', '0A000 fan_out_aggregate cannot split array_agg'), ('SELECT string_agg(status, '','') FROM order_store.orders', '0A000 fan_out_aggregate cannot split string_agg');
\else
INSERT INTO refusals (query, expected) SELECT 'SELECT cardinality(array_agg(id))::bigint FROM order_store.orders', 'ok' FROM generate_series(1, 2);
\endif
INSERT INTO refusals (query, expected) VALUES
('SELECT count(*) FROM order_store.orders FOR UPDATE', '0A000 FOR UPDATE is not allowed with aggregate functions'),
('SELECT 1; SELECT 2', '42601 query must be one statement, not 2'), ('', '42601 query must be one statement, not 0'), (';', '42601 query must be one statement, not 0'), ('-- nothing', '42601 query must be one statement, not 0'),
('SELECT count(*) FROM order_store.orders; DROP TABLE order_store.orders', '42601 query must be one statement, not 2'),
('SELECT count(*) FROM order_store.orders WHERE id = $1', '42P02 '), ('SELECT count(*) FROM no_such', '42P01 '), ('SELECT no_such(count(*)) FROM order_store.orders', '42883 '), ('SELEC', '42601 '), ('SELECT count(*) FROM order_store.orders WHERE status = 1', '42883 '),
(repeat('(', 100000), '(54001|42601) '), ('SELECT count(*) FROM order_store.orders WHERE ' || repeat('NOT ', 5000) || 'true', '(54001|42601) '),
('SELECT count(*) FROM order_store.orders WHERE id IN (' || (SELECT string_agg(i::text, ', ') FROM generate_series(1, 20000) AS i) || ')', 'ok'),
('SELECT ' || (SELECT string_agg('sum(total_amount + ' || i || ')::bigint', ' + ') FROM generate_series(1, 300) AS i) || ' FROM order_store.orders', 'ok'),
('SELECT ' || (SELECT string_agg('sum(total_amount + ' || i || ')::bigint', ' + ') FROM generate_series(1, 1700) AS i) || ' FROM order_store.orders', '54011 ');
CREATE TABLE refused AS SELECT id, query, expected, outcome(format('SELECT * FROM order_proc.fan_out_aggregate(%L) AS t (n bigint)', query)) AS answer FROM refusals;
SELECT matches(answer, '^(' || expected || ')', left(query, 160)) FROM refused ORDER BY id;
SELECT is((SELECT string_agg(left(query, 100), E'\n') FROM refused WHERE answer ~ 'WITHOUT HINT'), NULL, 'each refusal tells what to do');

-- Column definition lists.
\set sums 'SELECT status, count(*), sum(total_amount)::numeric(20,2) AS "Sum" FROM order_store.orders GROUP BY status'
SELECT is(outcome(format('SELECT * FROM order_proc.fan_out_aggregate(%L) AS t (%s)', :'sums', list)), CASE WHEN fits THEN 'ok' ELSE '42804 the column definition list does not match the query' END, list) FROM (VALUES
  ('a text, b bigint, c numeric(20,2)', true), ('a text, b bigint, c numeric', true), ('a text, b bigint, c numeric(20,3)', false), ('a text, b int, c numeric', false), ('a text, b bigint', false),
  ('a text, b bigint, c numeric, d int', false), ('a varchar, b bigint, c numeric', false), ('a text, b bigint, c record', false)) AS v (list, fits);
SELECT throws_ok('SELECT order_proc.fan_out_aggregate(''SELECT count(*) FROM order_store.orders'')', '0A000', 'fan_out_aggregate needs a column definition list', 'without a list');
SELECT throws_ok('SELECT * FROM order_proc.fan_out_aggregate(NULL) AS t (n bigint)', '22004', 'query must not be NULL', 'NULL');
-- What has the same states is computed once; an average is a sum and a count.
SELECT is(regexp_count((order_proc.explain_fan_out_aggregate(query)).shard_query, ' AS a[0-9]'), states, query) FROM (VALUES
  ('SELECT sum(total_amount), avg(total_amount), avg(total_amount) + 1 FROM order_store.orders', 2),
  ('SELECT stddev(id), variance(id), var_pop(id), count(id), count(*) FROM order_store.orders', 3),
  ('SELECT sum(total_amount), avg(total_amount) FILTER (WHERE id > 1), avg(total_amount + 1), count(total_amount) FROM order_store.orders', 6),
  ('SELECT avg(id), sum(id), count(id), avg(id::numeric), avg(id::float8), stddev(id::float8) FROM order_store.orders', 5),
  ('SELECT min(status), max(status), max(status COLLATE "C"), bool_and(id > 1), every(id > 1) FROM order_store.orders', 4)) AS v(query, states);
SELECT throws_ok('SELECT order_proc.explain_fan_out_aggregate(NULL)', '22004', 'query must not be NULL', 'NULL to explain');
CREATE FUNCTION detail_and_hint(sql text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
  detail text;
  hint text;
BEGIN
  EXECUTE sql;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  RETURN ARRAY[detail, hint];
END $$;
SELECT is(detail_and_hint(format('SELECT * FROM order_proc.fan_out_aggregate(%L) AS t (a text, b int, c numeric)', :'sums')),
  ARRAY['Column 2 is integer in the list and bigint in the query.', 'SELECT * FROM order_proc.fan_out_aggregate(...) AS t (status text, count bigint, "Sum" numeric(20,2));'], 'the difference, and the list as it should be');

------------------------------------------------------------------------------------------------------------
-- partial and combine by hand
------------------------------------------------------------------------------------------------------------

SELECT is(outcome('SELECT ' || call), expected, call) FROM (VALUES
  ('order_proc.partial(NULL)', '22004 aggregate must not be NULL'), ('order_proc.partial(NULL, 1)', '22004 aggregate must not be NULL'),
  ('order_proc.partial(''now()'')', '42809 now() is not an aggregate'), ('order_proc.partial(0)', '42809 0 is not an aggregate'), ('order_proc.partial(4294967295::oid)', '42809 4294967295 is not an aggregate'),
  ('order_proc.partial(''sum(numeric)'')', '42804 sum(numeric) has 1 arguments, not 0'), ('order_proc.partial(''sum(numeric)'', 1)', '42804 argument 1 of sum(numeric) is numeric, not integer'),
  ('order_proc.partial(''sum(numeric)'', ''x''::text)', '42804 argument 1 of sum(numeric) is numeric, not text'), ('order_proc.partial(''max(text)'', ''x'')', '42804 argument 1 of max(text) is text, not unknown'),
  ('order_proc.partial(''max(anyarray)'', 1)', '42804 argument declared anyarray is not an array but type integer'), ('order_proc.partial(''count()'', 1)', '42804 count() has 0 arguments, not 1'),
  ('order_proc.partial(''json_agg(anyelement)'', 1)', '0A000 json_agg(anyelement) cannot be computed in parts'), ('order_proc.partial(''mode(anyelement)'', 1)', '0A000 mode(anyelement) cannot be computed in parts'),
  ('order_proc.partial(''count("any")'', VARIADIC ARRAY[1])', '0A000 partial does not take VARIADIC arguments'),
  ('order_proc.partial(a, x) FROM (VALUES (''sum(integer)''::regprocedure, 1), (''max(integer)'', 2)) AS v (a, x)', '22023 the aggregate is sum(integer) in one row and max(integer) in another'),
  ('order_proc.partial(''max(text)'', x ORDER BY x DESC) FROM unnest(ARRAY[''a'', ''b'']) AS x', 'ok'), ('order_proc.partial(''sum(integer)'', x) OVER (ORDER BY x) FROM generate_series(1, 3) AS x', 'ok'),
  ('order_proc.combine(NULL, ''{}'', NULL, NULL::bigint)', '22004 aggregate must not be NULL'), ('order_proc.combine(''count()'', NULL, NULL, NULL::bigint)', '22004 argument_types must not be NULL'),
  ('order_proc.combine(''count()'', ''{}'', NULL, NULL::bigint)', 'ok'), ('order_proc.combine(''count()'', ''{integer}'', NULL, NULL::bigint)', '42804 count() has 0 arguments, not 1'),
  ('order_proc.combine(''count()'', ''{}'', NULL, NULL::int)', '42804 count() returns bigint, not integer'), ('order_proc.combine(''sum(numeric)'', ''{{numeric}}'', NULL, NULL::numeric)', '22023 argument_types must be a one-dimensional array without NULL'),
  ('order_proc.combine(''sum(numeric)'', ''{NULL}'', NULL, NULL::numeric)', '22023 argument_types must be a one-dimensional array without NULL'), ('order_proc.combine(''sum(numeric)'', ''{0}'', NULL, NULL::numeric)', '42704 type with OID 0 does not exist'),
  ('order_proc.combine(''sum(numeric)'', ''{text}'', NULL, NULL::numeric)', '42804 argument 1 of sum(numeric) is numeric, not text'), ('order_proc.combine(''abs(integer)'', ''{integer}'', NULL, NULL::int)', '42809 abs(integer) is not an aggregate'),
  ('order_proc.combine(''max(anyarray)'', ''{integer}'', NULL, NULL::int)', '42804 argument declared anyarray is not an array but type integer'),
  ('order_proc.partial_result(NULL, ''{}'', 1)', '22004 aggregate must not be NULL'), ('order_proc.partial_result(''count()'', NULL, 1)', '22004 argument_types must not be NULL'),
  ('order_proc.partial_result(''avg(integer)'', ''{integer}'', 1::numeric)', '0A000 the result of avg(integer) is not its state'), ('order_proc.partial_result(''now()'', ''{}'', now())', '42809 now() is not an aggregate'),
  ('order_proc.partial_result(''sum(bigint)'', ''{bigint}'', 1::numeric)', '0A000 the result of sum(bigint) is not its state'), ('order_proc.partial_result(''json_agg(anyelement)'', ''{integer}'', ''[]''::json)', '0A000 json_agg(anyelement) cannot be computed in parts'),
  ('order_proc.partial_result(''count()'', ''{}'', 1)', '42804 count() returns bigint, not integer'), ('order_proc.partial_result(''count()'', ''{integer}'', 1::bigint)', '42804 count() has 0 arguments, not 1'),
  ('order_proc.partial_result(''max(anyarray)'', ''{integer[]}'', ''{1}''::bigint[])', '42804 max(anyarray) returns integer[], not bigint[]'), ('order_proc.partial_result(''max(integer)'', ''{NULL}'', 1)', '22023 argument_types must be a one-dimensional array without NULL'),
  ('order_proc.partial_result(a, ''{integer}'', 1) FROM unnest(''{max(integer),min(integer)}''::regprocedure[]) AS a', '22023 the aggregate is max(integer) in one row and min(integer) in another'),
  ('order_proc.partial_result(''max(integer)'', ''{integer}'', NULL::integer)', 'ok'), ('order_proc.partial_result(''max(text)'', ''{text}'', repeat(''x'', 1000000))', 'ok'),
  -- Nobody makes a value of type internal.
  ('order_proc.partial_step(NULL, ''count()''::regprocedure)', '42883 function order_proc.partial_step(unknown, regprocedure) does not exist'), ('order_proc.combine(NULL::internal, 0, NULL, NULL::int)', '42846 cannot cast type unknown to internal'),
  ('order_proc.combine(''x''::internal, 0, NULL, NULL::int)', '42846 cannot cast type unknown to internal'), ('order_proc.combine(1::internal, 0, NULL, NULL::int)', '42846 cannot cast type integer to internal'),
  ('* FROM order_proc.partial_rows(NULL) AS t (n int)', '42883 function order_proc.partial_rows(unknown) does not exist')) AS v (call, expected);

SELECT is(order_proc.partial_result('count()', '{}', count(*)), order_proc.partial('count()'), 'partial_result of count') FROM order_store.orders;
SELECT is(order_proc.partial_result('max(text)', '{text}', max(status)), order_proc.partial('max(text)', status), 'partial_result of max(text)') FROM order_store.orders;
SELECT is(order_proc.partial_result('max(bigint)', '{bigint}', max(id)), order_proc.partial('max(bigint)', id), 'partial_result of no rows') FROM order_store.orders WHERE false;
SELECT is((SELECT shard_query FROM order_proc.explain_fan_out_aggregate('SELECT max(id), avg(id) FROM order_store.orders')), E'SELECT order_proc.partial_result(''max(bigint)''::regprocedure, ''{bigint}''::regtype[], max(id)) AS a1,\n    sum(id) AS a2,\n    order_proc.partial_result(''count("any")''::regprocedure, ''{bigint}''::regtype[], count(id)) AS a3\n   FROM order_store.orders', 'where the result is the state the aggregate itself runs');
CREATE FUNCTION plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) ' || query; END $$;
SELECT ok((SELECT bool_or(line ~ 'Index Only Scan.*orders_pkey') FROM order_proc.explain_fan_out_aggregate('SELECT max(id) FROM order_store.orders') AS e, plan_of(e.shard_query) AS line), 'max takes an index');
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
SELECT ok((SELECT bool_or(line ~ 'Partial .*Aggregate') FROM order_proc.explain_fan_out_aggregate('SELECT status, count(*) FROM order_store.orders GROUP BY status') AS e, plan_of(e.shard_query) AS line), 'count runs in parallel');
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
RESET max_parallel_workers_per_gather;

-- Bytes that are no state, and states of another aggregate: an error from each aggregate there is.
CREATE TABLE garbage AS
SELECT '\x'::bytea AS bytes UNION ALL SELECT '\x00' UNION ALL SELECT '\xdeadbeef' UNION ALL SELECT decode(repeat('00', 7), 'hex') UNION ALL SELECT decode(repeat('ff', 100), 'hex')
UNION ALL SELECT substr(s, 1, n) FROM (SELECT order_proc.partial('sum(numeric)', x::numeric) AS s FROM generate_series(1, 3) AS x) AS p, generate_series(1, 30, 3) AS n WHERE n < length(s)
UNION ALL SELECT set_byte(s, n, get_byte(s, n) # 5) FROM (SELECT order_proc.partial('avg(bigint)', x::bigint) AS s FROM generate_series(1, 3) AS x) AS p, generate_series(0, 50, 3) AS n WHERE n < length(s)
UNION ALL SELECT order_proc.partial('max(text)', 'x'::text) UNION ALL SELECT order_proc.partial('count()') UNION ALL SELECT order_proc.partial('max(anyarray)', ARRAY['x']);
CREATE FUNCTION concrete(type oid) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT CASE type::regtype::text WHEN 'anyarray' THEN 'integer[]' WHEN 'anyenum' THEN 'aggregates.mood' WHEN 'anyrange' THEN 'int4range' WHEN 'anymultirange' THEN 'int4multirange' WHEN '"any"' THEN 'integer' ELSE type::regtype::text END $$;
CREATE TABLE received AS
SELECT aggregate, bytes, outcome(format('SELECT order_proc.combine(%L, %L, %L::bytea, NULL::%s)', aggregate, types, bytes, returns)) AS answer
FROM (SELECT aggregate, ARRAY(SELECT concrete(t) FROM unnest(p.proargtypes) WITH ORDINALITY AS u (t, n) ORDER BY n) AS types, concrete(prorettype) AS returns FROM calls JOIN pg_proc AS p ON p.oid = aggregate) AS a, garbage;
SELECT cmp_ok(count(*), '>', 3000::bigint, 'garbage received') FROM received;
SELECT is((SELECT string_agg(format('%s %s: %s', aggregate, bytes, answer), E'\n') FROM received WHERE answer !~ '^(22P03 not a state of|0A000 a state of)' AND answer <> 'ok'), NULL, 'an error each time');
SELECT is((SELECT string_agg(aggregate::text, ' ' ORDER BY aggregate::text COLLATE "C") FROM received WHERE answer = 'ok'), 'count() max(text)', 'but for their own states');
SELECT is(outcome(format('SELECT order_proc.combine(''count()'', ''{}'', %L::bytea, NULL::bigint)', set_byte(state, 1, 14))), '0A000 a state of count() has format 2 of PostgreSQL 14', 'a state of another major version') FROM (SELECT order_proc.partial('count()') AS state) AS s;

------------------------------------------------------------------------------------------------------------
-- Whose rights
------------------------------------------------------------------------------------------------------------

CREATE ROLE regress_aggregate_reader;
GRANT USAGE ON SCHEMA aggregates TO regress_aggregate_reader;
\set count_them 'SELECT * FROM order_proc.fan_out_aggregate(''SELECT count(*) FROM order_store.orders'') AS t (n bigint)'
SELECT is(outcome(:'count_them', 'regress_aggregate_reader'), '42501 permission denied for function fan_out_aggregate', 'EXECUTE is the gate');
GRANT EXECUTE ON FUNCTION order_proc.fan_out_aggregate(text) TO regress_aggregate_reader;
SELECT is(outcome(:'count_them', 'regress_aggregate_reader'), '42501 permission denied for schema order_store', 'no right on the schema');
GRANT USAGE ON SCHEMA order_store TO regress_aggregate_reader;
SELECT is(outcome(:'count_them', 'regress_aggregate_reader'), '42501 permission denied for table orders', 'no right on the table');
GRANT SELECT (id, status) ON order_store.orders TO regress_aggregate_reader;
SELECT is(outcome(format('SELECT * FROM order_proc.fan_out_aggregate(%L) AS t (n bigint)', query), 'regress_aggregate_reader'), expected, query) FROM (VALUES
  ('SELECT count(total_amount) FROM order_store.orders', '42501 permission denied for table orders'), ('SELECT count(n) FROM (SELECT customer_id, count(*) AS n FROM order_store.orders GROUP BY customer_id) x', '42501 permission denied for table orders'),
  -- No right on fan_out, partial_rows or combine is needed.
  ('SELECT count(id) FROM order_store.orders WHERE status = ''paid''', 'ok')) AS v (query, expected);
SELECT matches(outcome(call, 'regress_aggregate_reader'), '^42501 permission denied for (function|aggregate)', call)
FROM unnest(ARRAY['SELECT order_proc.combine(''count()'', ''{}'', NULL, NULL::bigint)', 'SELECT * FROM order_proc.fan_out(''SELECT 1'') AS t (n int)', 'SELECT order_proc.explain_fan_out_aggregate(''SELECT count(*) FROM order_store.orders'')']) AS call;
REVOKE EXECUTE ON FUNCTION sum_or_zero(int) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION avg(numeric) FROM PUBLIC;
GRANT SELECT (total_amount) ON order_store.orders TO regress_aggregate_reader;
SELECT is(outcome($$SELECT * FROM order_proc.fan_out_aggregate('SELECT avg(total_amount) FROM order_store.orders') AS t (n numeric)$$, 'regress_aggregate_reader'), '42501 permission denied for aggregate avg', 'also on avg, which others do the work for');
GRANT EXECUTE ON FUNCTION avg(numeric) TO PUBLIC;
REVOKE SELECT (total_amount) ON order_store.orders FROM regress_aggregate_reader;
SELECT is(outcome('SELECT order_proc.partial(''aggregates.sum_or_zero(int)'', 1)', 'regress_aggregate_reader'), '42501 permission denied for aggregate sum_or_zero', 'EXECUTE on the aggregate is asked for');
GRANT EXECUTE ON FUNCTION sum_or_zero(int) TO regress_aggregate_reader;
SELECT is(outcome('SELECT order_proc.partial(''aggregates.sum_or_zero(int)'', 1)', 'regress_aggregate_reader'), 'ok', 'and found');
GRANT CREATE ON SCHEMA aggregates TO regress_aggregate_reader;
ALTER AGGREGATE positives(numeric) OWNER TO regress_aggregate_reader;
REVOKE EXECUTE ON FUNCTION add_positive(positive, numeric) FROM PUBLIC;
SELECT is(outcome('SELECT order_proc.partial(''aggregates.positives(numeric)'', 1.0)'), '42501 permission denied for function add_positive', 'its owner must have EXECUTE on its functions');
ALTER TABLE order_store.orders ENABLE ROW LEVEL SECURITY;
\set count_ids 'SELECT * FROM order_proc.fan_out_aggregate(''SELECT count(id) FROM order_store.orders'') AS t (n bigint)'
SELECT is(outcome(:'count_ids', 'regress_aggregate_reader'), '0A000 fan_out_aggregate cannot split a query under the row security of orders', 'row security');
SET row_security = off;
SELECT is(outcome(:'count_ids', 'regress_aggregate_reader'), '0A000 fan_out_aggregate cannot split a query under the row security of orders', 'row_security = off');
RESET row_security;
SELECT is(outcome(:'count_ids'), 'ok', 'not for those it does not apply to');
ALTER TABLE order_store.orders DISABLE ROW LEVEL SECURITY;

-- A read-only transaction, errors on both sides, a timeout.
SELECT is(outcome('SET LOCAL transaction_read_only = on; ' || :'count_them'), 'ok', 'in a read-only transaction');
SELECT is(outcome('SELECT * FROM order_proc.fan_out_aggregate(''SELECT sum(1 / (id - id)) FROM order_store.orders'') AS t (n numeric)'), '22012 division by zero', 'an error on a shard');
SELECT is(outcome('SELECT * FROM order_proc.fan_out_aggregate(''SELECT 1 / (count(*) - count(*)) FROM order_store.orders'') AS t (n bigint)'), '22012 division by zero', 'an error here');
SET statement_timeout = 1500;
SELECT is(outcome('SELECT * FROM order_proc.fan_out_aggregate(''SELECT count(*) FROM order_store.orders a' || (SELECT string_agg(format(' JOIN order_store.orders b%s USING (customer_id)', i), '') FROM generate_series(1, 12) AS i) || ''') AS t (n bigint)'), '57014', 'a timeout');
RESET statement_timeout;

-- Names are those of the caller's search_path; a hostile one picks up nothing of ours.
SET search_path = order_store, aggregates, public;
SELECT is((SELECT n FROM order_proc.fan_out_aggregate('SELECT count(*) FROM orders JOIN order_items ON order_id = orders.id') AS t (n bigint)), (SELECT count(*) FROM order_items), 'unqualified names');
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.equal(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'hostile'; END $$;
CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.equal);
CREATE FUNCTION hostile.sum_step(numeric, numeric) RETURNS numeric LANGUAGE plpgsql AS $$ BEGIN RAISE 'hostile'; END $$;
CREATE AGGREGATE hostile.sum(numeric) (SFUNC = hostile.sum_step, STYPE = numeric, INITCOND = '0', COMBINEFUNC = hostile.sum_step);
CREATE FUNCTION hostile.partial(regprocedure, numeric) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN RAISE 'hostile'; END $$;
CREATE FUNCTION aggregates.hostile_sum(query text) RETURNS text LANGUAGE sql AS
  $$ SELECT aggregates.outcome(format('SET LOCAL search_path = hostile, pg_catalog, order_store; SELECT * FROM order_proc.fan_out_aggregate(%L) AS t (n numeric)', query)) $$;
SELECT aggregates.hostile_sum('SELECT pg_catalog.sum(total_amount) FROM orders WHERE status OPERATOR(pg_catalog.=) ''paid''') AS ours \gset
SELECT aggregates.hostile_sum('SELECT sum(total_amount) FROM orders') AS chosen \gset
SET search_path = aggregates, public;
SELECT is(:'ours'::text, 'ok', 'under a hostile search_path');
SELECT is(:'chosen'::text, 'P0001 hostile', 'an aggregate of the caller''s choice');
SELECT is(left(outcome('DROP SCHEMA order_store CASCADE; ' || :'count_them'), 5), 'OP001', 'without a store');

SELECT * FROM finish();
DROP EXTENSION order_proc CASCADE;
DROP SCHEMA order_store, aggregates, hostile, shard_0, shard_1, shard_2, shard_3, shard_4 CASCADE;
DROP ROLE regress_aggregate_reader;
