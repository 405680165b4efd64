-- Queries with aggregates over the store, by the hundred and always the same ones; read by test/sql/fan_out_aggregate.sql and
-- by what runs them over real shards. Schema aggregates must exist and is where everything goes:
--   fill_store()           customers, orders, items, history and keys, with NULLs, of the store in this database
--   queries                number, query, columns; where a query is ordered, it is so totally
--   describe_queries()     fills in the columns, after more queries were inserted as well
--   directly(number)       the result of a query as text, run as it is, floats rounded
--   by_fan_out(number)     the same by fan_out_aggregate
CREATE TYPE aggregates.mood AS ENUM ('sad', 'ok', 'happy');

CREATE PROCEDURE aggregates.fill_store() LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO order_store.customers (id, first_name, email, created_at)
  SELECT i, 'c' || i % 7, CASE WHEN i % 3 > 0 THEN i || '@example.org' END, timestamptz '2024-01-01 UTC' + i * interval '1 day' FROM generate_series(1, 60) AS i;
  -- Customers 41 to 60 have no orders.
  INSERT INTO order_store.orders (id, customer_id, status, total_amount, notes, created_at, updated_at)
  SELECT order_proc.new_order_id(c), c, (ARRAY['pending', 'paid', 'shipped', 'cancelled'])[1 + i * i % 4], i * 7919 % 10007 / 100.0, CASE WHEN i % 4 = 0 THEN 'note ' || i % 5 END,
         timestamptz '2024-02-01 UTC' + i * interval '7 hours', timestamptz '2024-03-01 UTC' + i * interval '11 hours'
  FROM (SELECT i, 1 + i * i % 41 % 40 AS c FROM generate_series(1, 400) AS i) AS s;
  INSERT INTO order_store.order_items (order_id, product_id, quantity, price)
  SELECT o.id, 1 + (o.id >> 12) * n % 17, 1 + (o.id >> 12) % 9 + n, ((o.id >> 12) * 31 + n * 97) % 5003 / 100.0
  FROM order_store.orders AS o, generate_series(1, 4) AS n WHERE n <= (o.id >> 12) % 5;
  INSERT INTO order_store.order_status_history (order_id, id, from_status, to_status, changed_at, changed_by)
  SELECT o.id, n, 'pending', o.status, o.updated_at + n * interval '1 hour', 'someone' FROM order_store.orders AS o, generate_series(1, 2) AS n WHERE n <= (o.id >> 12) % 3;
  INSERT INTO order_store.idempotency_keys (customer_id, key, order_id, request_hash)
  SELECT customer_id, 'k' || id, id, '' FROM order_store.orders WHERE (id >> 12) % 3 = 0;
END $$;

-- What aggregates of the catalog are given: a value of each type, over orders o and items i. Every seventh is NULL.
CREATE TABLE aggregates.inputs (type regtype, expression text);
INSERT INTO aggregates.inputs
SELECT t::regtype, format('CASE WHEN i.product_id %% 7 <> 0 THEN %s END', e) FROM (VALUES
  ('"any"', 'i.price'), ('smallint', 'i.quantity::smallint'), ('integer', 'i.quantity'), ('bigint', 'i.product_id * 1000000007'), ('real', 'i.quantity::real'), ('double precision', 'i.price::double precision'),
  ('numeric', 'i.price'), ('money', 'i.price::money'), ('interval', 'i.quantity * interval ''25 hours'''), ('text', 'o.status || i.quantity'), ('character', 'o.status::character(12)'), ('boolean', 'i.quantity > 3'),
  ('date', 'o.created_at::date'), ('time without time zone', 'o.created_at::time'), ('time with time zone', 'o.created_at::timetz'), ('timestamp with time zone', 'o.created_at'), ('timestamp without time zone', 'o.created_at::timestamp'),
  ('inet', '(''10.0.0.'' || i.quantity)::inet'), ('bit', 'i.quantity::bit(16)'), ('oid', 'i.quantity::oid'), ('pg_lsn', '(''0/'' || i.quantity)::pg_lsn'), ('tid', '(''('' || i.quantity || '',1)'')::tid'), ('xid8', '(i.quantity::text)::xid8'),
  ('anyarray', 'ARRAY[o.status, NULL, i.quantity::text]'), ('anyenum', '(CASE WHEN i.quantity > 5 THEN ''happy'' ELSE ''sad'' END)::aggregates.mood'), ('anyrange', 'int4range(i.quantity - 9, i.quantity + 9)'),
  ('anymultirange', 'int4multirange(int4range(i.quantity - 9, i.quantity + 9), int4range(50, 60))')) AS t (t, e);

-- Every aggregate that can be computed in parts, with inputs; NULL where there is none.
CREATE VIEW aggregates.calls AS
SELECT a.aggfnoid::regprocedure AS aggregate, p.proname,
       CASE WHEN p.pronargs = 0 THEN p.proname || '(*)'
            WHEN p.pronargs = 2 THEN format('%I(%s, i.quantity * 2.5::double precision)', p.proname, (SELECT expression FROM aggregates.inputs WHERE type = p.proargtypes[0]))
            ELSE format('%I(%s)', p.proname, (SELECT expression FROM aggregates.inputs WHERE type = p.proargtypes[0])) END AS call
FROM pg_aggregate AS a JOIN pg_proc AS p ON p.oid = a.aggfnoid
WHERE a.aggcombinefn <> 0 AND a.aggkind = 'n' AND p.pronamespace = 'pg_catalog'::regnamespace;

CREATE TABLE aggregates.shapes (id int, source text, groups text[], calls text[], conditions text[]);
INSERT INTO aggregates.shapes VALUES
(1, 'order_store.orders o', ARRAY['o.status', 'o.customer_id', 'date_trunc(''month'', o.created_at)', 'o.notes', 'o.total_amount > 50', 'o.id % 5', 'length(o.status COLLATE "C")', 'o.created_at::date'],
 ARRAY['count(*)', 'sum(o.total_amount)', 'avg(o.total_amount)', 'max(o.created_at)', 'min(o.notes)', 'count(o.notes)', 'stddev(o.total_amount)', 'max(o.status COLLATE "C")', 'bool_and(o.notes IS NULL)', 'sum(o.id % 100)'],
 ARRAY['o.total_amount > 20', 'o.notes IS NULL', 'o.created_at < now()', 'o.status <> ALL (ARRAY[''paid'', ''x''])', 'false', 'o.created_at::date <= current_date', 'o.customer_id = 3', 'o.status = ANY (''{paid,shipped}'')']),
(2, 'order_store.order_items i', ARRAY['i.product_id', 'i.quantity % 3', 'round(i.price)', 'NULLIF(i.product_id, 3)'],
 ARRAY['count(*)', 'sum(i.quantity)', 'sum(i.quantity * i.price)', 'avg(i.price)', 'var_pop(i.quantity)', 'corr(i.quantity, i.product_id)', 'max(ARRAY[i.product_id, i.quantity])', 'bit_xor(i.quantity)'],
 ARRAY['i.price BETWEEN 3 AND 40', 'i.product_id IN (1, 2, 3, 5, 8)', 'i.quantity IS DISTINCT FROM 4', 'i.price < 0']),
(3, 'order_store.orders o JOIN order_store.order_items i ON i.order_id = o.id', ARRAY['o.status', 'i.product_id', 'o.id', 'o.customer_id % 4'],
 ARRAY['count(*)', 'sum(i.quantity)', 'sum(i.price * i.quantity)', 'max(o.total_amount - i.price)', 'avg(i.quantity)', 'every(i.price > 1)', 'min(i.price)'], ARRAY['o.total_amount > i.price', 'o.status <> ''cancelled''', 'i.product_id < 9']),
(4, 'order_store.customers c LEFT JOIN order_store.orders o ON o.customer_id = c.id', ARRAY['c.first_name', 'c.email IS NULL', 'o.status', 'c.id'],
 ARRAY['count(*)', 'count(o.id)', 'sum(o.total_amount)', 'max(c.email)', 'avg(o.total_amount)', 'count(c)'], ARRAY['o.id IS NULL', 'c.id > 20', 'c.first_name < ''c5''']),
(5, 'order_store.customers c JOIN order_store.orders o ON c.id = o.customer_id LEFT JOIN order_store.order_items i ON o.id = i.order_id', ARRAY['c.first_name', 'o.status', 'i.product_id'],
 ARRAY['count(*)', 'count(i)', 'sum(i.quantity)', 'regr_slope(i.price, i.quantity)', 'avg(o.total_amount)'], ARRAY['c.email IS NOT NULL', 'o.notes LIKE ''note%''', 'COALESCE(i.quantity, 0) < 5']),
(6, 'order_store.order_status_history h, order_store.orders o', ARRAY['h.to_status', 'o.status', 'h.changed_at::date'], ARRAY['count(*)', 'max(h.changed_at)', 'avg(h.changed_at - o.created_at)', 'sum(o.total_amount)'], ARRAY['h.order_id = o.id']),
(7, '(SELECT customer_id, count(*) AS n, sum(total_amount) AS s, count(DISTINCT status) AS d, max(notes) AS notes FROM order_store.orders GROUP BY customer_id HAVING count(*) > 2) x', ARRAY['x.n', 'x.d', 'x.notes'],
 ARRAY['count(*)', 'sum(x.n)', 'avg(x.s)', 'max(x.d)', 'stddev_pop(x.n)'], ARRAY['x.s > 100', 'x.n > 3']),
(8, 'order_store.customers c LEFT JOIN (SELECT o.customer_id, sum(i.quantity) AS q, percentile_cont(0.5) WITHIN GROUP (ORDER BY i.price) AS median FROM order_store.orders o JOIN order_store.order_items i ON i.order_id = o.id GROUP BY o.customer_id) x ON x.customer_id = c.id',
 ARRAY['c.first_name', 'x.q > 20'], ARRAY['count(*)', 'count(x.q)', 'sum(x.q)', 'max(x.median)'], ARRAY['c.id % 2 = 0', 'x.q IS NOT NULL']),
(9, 'order_store.orders o FULL JOIN order_store.idempotency_keys k ON k.order_id = o.id', ARRAY['o.status', 'k.key IS NULL'], ARRAY['count(*)', 'count(k.key)', 'max(k.key)', 'sum(o.total_amount)'], ARRAY['o.total_amount < 60']),
(10, 'order_store.orders a JOIN order_store.orders b USING (customer_id)', ARRAY['customer_id', 'a.status', 'b.status'], ARRAY['count(*)', 'sum(a.total_amount - b.total_amount)', 'max(b.created_at - a.created_at)'], ARRAY['a.id < b.id', 'a.status = b.status']),
(11, '(SELECT DISTINCT order_id, product_id FROM order_store.order_items) i JOIN (SELECT id, status, total_amount FROM order_store.orders) o ON o.id = i.order_id', ARRAY['i.product_id', 'o.status'], ARRAY['count(*)', 'avg(o.total_amount)'], ARRAY['i.product_id > 2']);

-- Element of an array by a number; the numbers repeat late.
CREATE FUNCTION aggregates.pick(choices text[], seed int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT choices[1 + (hashint4(seed)::bigint & 2147483647) % cardinality(choices)] $$;
CREATE FUNCTION aggregates.chance(seed int, percent int) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT (hashint4(seed)::bigint & 2147483647) % 100 < percent $$;

CREATE FUNCTION aggregates.made_query(shape aggregates.shapes, n int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  seed constant int := shape.id * 1000000 + n * 1000;
  groups text[];
  columns text[];
  named text[];
  call text;
  grouped int;
  q text;
  ordering text;
BEGIN
  grouped := CASE WHEN aggregates.chance(seed, 25) THEN 0 WHEN aggregates.chance(seed + 1, 60) THEN 1 ELSE 2 END;
  SELECT array_agg(DISTINCT aggregates.pick(shape.groups, seed + 10 + i)) INTO groups FROM generate_series(1, grouped) AS i;
  columns := COALESCE(groups, '{}');
  FOR i IN 1 .. 1 + n % 3 LOOP
    call := aggregates.pick(shape.calls, seed + 20 + i);
    IF aggregates.chance(seed + 30 + i, 30) THEN
      call := format('%s FILTER (WHERE %s)', call, aggregates.pick(shape.conditions, seed + 40 + i));
    END IF;
    -- The last digits of a float depend on the order of the rows.
    IF call !~ '^(corr|regr)' AND aggregates.chance(seed + 50 + i, 15) THEN
      call := format('COALESCE((%s)::text, ''none'') || '' '' || count(*)', call);
    END IF;
    columns := columns || call;
  END LOOP;
  SELECT array_agg(column_ || ' AS c' || i) INTO named FROM unnest(columns) WITH ORDINALITY AS u (column_, i);
  q := format('SELECT %s%s FROM %s', CASE WHEN groups IS NOT NULL AND aggregates.chance(seed + 60, 10) THEN 'DISTINCT ' ELSE '' END, array_to_string(named, ', '), shape.source);
  -- Shape 6 is joined by its condition.
  IF shape.id = 6 OR aggregates.chance(seed + 70, 50) THEN
    q := q || ' WHERE ' || aggregates.pick(shape.conditions, seed + 71);
  END IF;
  IF groups IS NOT NULL THEN
    q := q || ' GROUP BY ' || array_to_string(groups, ', ');
  END IF;
  IF aggregates.chance(seed + 80, 30) THEN
    q := q || ' HAVING ' || aggregates.pick(ARRAY['count(*) > 2', 'count(*) % 2 = 0', 'count(*) BETWEEN 1 AND 30', 'max(1) = 1'], seed + 81);
  END IF;
  IF groups IS NOT NULL AND aggregates.chance(seed + 90, 50) THEN
    SELECT string_agg(format('%s%s', i, aggregates.pick(ARRAY['', ' DESC', ' NULLS FIRST', ' DESC NULLS LAST'], seed + 91 + i)), ', ') INTO ordering FROM generate_series(1, cardinality(columns)) AS i;
    q := q || ' ORDER BY ' || ordering || aggregates.pick(ARRAY['', ' LIMIT 3', ' LIMIT 2 OFFSET 1', ' OFFSET 2', ' FETCH FIRST 2 ROWS WITH TIES'], seed + 99);
  END IF;
  RETURN q;
END $$;

CREATE TABLE aggregates.queries (
  number int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  query text NOT NULL,
  columns text,  -- the column definition list
  shown text,    -- the columns as expressions to compare
  ordered boolean GENERATED ALWAYS AS (query ~ ' ORDER BY 1') STORED
);
INSERT INTO aggregates.queries (query) SELECT q FROM aggregates.shapes AS s, generate_series(1, 42) AS n, LATERAL aggregates.made_query(s, n) AS q GROUP BY q ORDER BY q COLLATE "C";
INSERT INTO aggregates.queries (query)
SELECT format(shape, call) FROM aggregates.calls, (VALUES
  (1, 'SELECT %s AS c1 FROM order_store.orders o JOIN order_store.order_items i ON i.order_id = o.id'),
  (2, 'SELECT o.status AS c1, %s FILTER (WHERE i.quantity > 2) AS c2 FROM order_store.orders o LEFT JOIN order_store.order_items i ON i.order_id = o.id GROUP BY o.status'),
  (3, 'SELECT i.order_id AS c1, i.id AS c2, %s AS c3 FROM order_store.orders o JOIN order_store.order_items i ON i.order_id = o.id GROUP BY i.order_id, i.id'),
  (4, 'SELECT %s AS c1 FROM order_store.orders o JOIN order_store.order_items i ON i.order_id = o.id WHERE false')) AS s (n, shape)
WHERE call IS NOT NULL ORDER BY aggregate::text COLLATE "C", n;

CREATE PROCEDURE aggregates.describe_queries() LANGUAGE plpgsql AS $$
DECLARE
  q record;
BEGIN
  FOR q IN SELECT * FROM aggregates.queries WHERE columns IS NULL LOOP
    EXECUTE 'CREATE VIEW aggregates.probe AS ' || q.query;
    UPDATE aggregates.queries AS u SET (columns, shown) =
      (SELECT string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum),
              -- Floats are added in another order, as in a parallel plan.
              string_agg(format(CASE WHEN atttypid IN ('float4'::regtype, 'float8'::regtype) THEN 'round(%I::numeric, CASE WHEN abs(%1$I) > 1000 THEN 2 ELSE 6 END)' ELSE '%I' END, attname), ', ' ORDER BY attnum)
       FROM pg_attribute WHERE attrelid = 'aggregates.probe'::regclass AND attnum > 0) WHERE u.number = q.number;
    DROP VIEW aggregates.probe;
    -- A thousand views in one transaction would make the catalog slow.
    COMMIT;
  END LOOP;
END $$;

-- The rows of a FROM item with the columns of query n, as text.
CREATE FUNCTION aggregates.answer(n int, source text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  q aggregates.queries;
  r text;
BEGIN
  SELECT * INTO q FROM aggregates.queries WHERE number = n;
  EXECUTE format('SELECT count(*) || E''\n'' || string_agg(t, E''\n'' %s) FROM (SELECT ROW(%s)::text AS t FROM %s) AS s', CASE WHEN q.ordered THEN '' ELSE 'ORDER BY t COLLATE "C"' END, q.shown, source) INTO r;
  RETURN COALESCE(r, 'no row');
EXCEPTION WHEN OTHERS THEN
  RETURN SQLSTATE || ' ' || SQLERRM;
END $$;

CREATE FUNCTION aggregates.directly(n int) RETURNS text LANGUAGE sql AS $$ SELECT aggregates.answer(n, format('(%s) AS t', query)) FROM aggregates.queries WHERE number = n $$;
CREATE FUNCTION aggregates.by_fan_out(n int) RETURNS text LANGUAGE sql AS $$ SELECT aggregates.answer(n, format('order_proc.fan_out_aggregate(%L) AS t (%s)', query, columns)) FROM aggregates.queries WHERE number = n $$;
