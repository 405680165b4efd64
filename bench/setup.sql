-- A store with 10,000 customers, and what all sections share: samples and the reports over them.
CREATE EXTENSION order_proc;
SELECT order_proc.create_store();
INSERT INTO order_store.customers (id, first_name, last_name, email)
SELECT n, 'First' || n, 'Last' || n, 'customer' || n || '@example.com' FROM generate_series(1, 10000) AS n;
VACUUM ANALYZE order_store.customers;

CREATE SCHEMA bench;

-- One timing of one variant. pair: what was measured next to each other, compared with each other.
CREATE TABLE bench.sample (
  section text NOT NULL, setting text NOT NULL, items int NOT NULL, variant text NOT NULL, pair int NOT NULL,
  us double precision NOT NULL,
  cpu_us double precision,
  PRIMARY KEY (section, setting, items, variant, pair)
);
-- What a section compares: baseline / variant. required and goal are the issue's, NULL when it names none.
CREATE TABLE bench.comparison (
  section text NOT NULL, setting text NOT NULL, position int NOT NULL, variant text NOT NULL, label text NOT NULL,
  baseline text,
  PRIMARY KEY (section, setting, variant)
);
CREATE TABLE bench.target (
  section text NOT NULL, setting text NOT NULL, variant text NOT NULL, items int NOT NULL, required numeric, goal numeric,
  PRIMARY KEY (section, setting, variant, items)
);

-- One line of a Markdown table for each size and variant.
CREATE FUNCTION bench.report(of_section text) RETURNS SETOF text LANGUAGE sql STABLE AS $$
  WITH middle AS (
    SELECT section, setting, items, variant, percentile_cont(0.5) WITHIN GROUP (ORDER BY us) AS us
    FROM bench.sample WHERE section = of_section GROUP BY section, setting, items, variant
  ), ratio AS (
    SELECT c.section, c.setting, s.items, c.variant, count(*) AS pairs, min(b.us / s.us) AS least,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY b.us / s.us) AS median, max(b.us / s.us) AS most,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY b.cpu_us / s.cpu_us) AS by_cpu
    FROM bench.comparison AS c
    JOIN bench.sample AS s USING (section, setting, variant)
    JOIN bench.sample AS b ON (b.section, b.setting, b.items, b.pair, b.variant) = (s.section, s.setting, s.items, s.pair, c.baseline)
    WHERE c.section = of_section GROUP BY c.section, c.setting, s.items, c.variant
  ), line AS (
    SELECT c.setting, m.items, c.position,
           format('| %s | %s | %s | %s | %s | %s | %s | %s | %s |',
             lpad(m.items::text, greatest(5, length(m.items::text))), rpad(c.label, 58), lpad(round(m.us::numeric, 2)::text, 9),
             lpad(coalesce(round(r.median::numeric, 2)::text, ''), 6),
             rpad(CASE WHEN r.median IS NULL THEN '' ELSE format('%s .. %s', round(r.least::numeric, 2), round(r.most::numeric, 2)) END, 14),
             lpad(coalesce(round(r.by_cpu::numeric, 2)::text, ''), 6),
             lpad(coalesce(r.pairs::text, ''), 5),
             lpad(coalesce(t.required::text, ''), 5),
             lpad(coalesce(t.goal::text, ''), 4)) AS text
    FROM bench.comparison AS c
    JOIN middle AS m USING (section, setting, variant)
    LEFT JOIN ratio AS r USING (section, setting, variant, items)
    LEFT JOIN bench.target AS t USING (section, setting, variant, items)
  ), headed AS (
    SELECT setting, 0 AS items, h.n AS position, h.text FROM (SELECT DISTINCT setting FROM line) AS s
    CROSS JOIN LATERAL (VALUES
      (0, CASE WHEN setting <> '' THEN E'\n' || setting || E'\n' END),
      (1, '| items | variant                                                    |   us/call | faster | min .. max     | by CPU | pairs | least | goal |'),
      (2, '|------:|------------------------------------------------------------|----------:|-------:|----------------|-------:|------:|------:|-----:|')) AS h(n, text)
    WHERE h.text IS NOT NULL
    UNION ALL SELECT setting, items, position, text FROM line
  )
  SELECT text FROM headed ORDER BY setting, items, position
$$;

-- Two rows of orders that differ in nothing but their ids, with items that differ in nothing but theirs.
CREATE FUNCTION bench.require_same_order(a bigint, b bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  order_a jsonb := (SELECT to_jsonb(o) - 'id' FROM order_store.orders AS o WHERE o.id = a);
  order_b jsonb := (SELECT to_jsonb(o) - 'id' FROM order_store.orders AS o WHERE o.id = b);
  items_a jsonb := (SELECT jsonb_agg(to_jsonb(i) - '{id,order_id}'::text[] ORDER BY i.id) FROM order_store.order_items AS i WHERE i.order_id = a);
  items_b jsonb := (SELECT jsonb_agg(to_jsonb(i) - '{id,order_id}'::text[] ORDER BY i.id) FROM order_store.order_items AS i WHERE i.order_id = b);
BEGIN
  IF order_a IS NULL OR items_a IS NULL OR order_a IS DISTINCT FROM order_b OR items_a IS DISTINCT FROM items_b THEN
    RAISE EXCEPTION 'both ways to make an order must leave the same rows: % % and % %', order_a, items_a, order_b, items_b;
  END IF;
END
$$;

-- Direct loading: no foreign key or trigger is evaluated. The planner's view of the tables is up to date afterwards.
CREATE PROCEDURE bench.fill_orders(count_of int, items_each int) LANGUAGE plpgsql AS $$
BEGIN
  SET LOCAL session_replication_role = replica;
  INSERT INTO order_store.orders (id, customer_id, status, total_amount, customer_name, customer_email, created_at, updated_at)
  SELECT (nextval('order_store.orders_id_seq') << 12) | (hashint8extended(c.id, 0) & 4095), c.id,
         (ARRAY['pending', 'paid', 'processing', 'shipped', 'delivered'])[1 + n % 5], 10.00 * items_each,
         concat_ws(' ', c.first_name, c.last_name), c.email, at, at
  FROM generate_series(1, count_of) AS n
  CROSS JOIN LATERAL (SELECT 1 + (hashint8extended(n, 1) & 1073741823) % 10000, now() - make_interval(secs => 30.0 * (count_of - n) + 60)) AS x(customer, at)
  JOIN order_store.customers AS c ON c.id = x.customer
  ORDER BY n;
  INSERT INTO order_store.order_items (order_id, product_id, quantity, price)
  SELECT o.id, 1 + n * 37 % 5000, 2, 5.00 FROM order_store.orders AS o, generate_series(1, items_each) AS n;
END
$$;

CREATE PROCEDURE bench.empty_store() LANGUAGE sql AS $$
  TRUNCATE order_store.orders, order_store.order_items, order_store.order_status_history, order_store.idempotency_keys;
$$;

-- n customers, drawn evenly, the same ones each time.
CREATE FUNCTION bench.draw(n int, salt bigint, of_how_many int) RETURNS bigint[] LANGUAGE sql IMMUTABLE AS $$
  SELECT array_agg(1 + (hashint8extended(i, salt) & 1073741823) % of_how_many ORDER BY i) FROM generate_series(1, n) AS i
$$;

-- The items of an order.
CREATE FUNCTION bench.products(items int) RETURNS bigint[] LANGUAGE sql IMMUTABLE AS $$
  SELECT array_agg(1 + n * 37 % 5000 ORDER BY n) FROM generate_series(1, items) AS n
$$;
CREATE FUNCTION bench.quantities(items int) RETURNS int[] LANGUAGE sql IMMUTABLE AS $$
  SELECT array_agg(1 + n % 7 ORDER BY n) FROM generate_series(1, items) AS n
$$;
CREATE FUNCTION bench.prices(items int) RETURNS numeric[] LANGUAGE sql IMMUTABLE AS $$
  SELECT array_agg(((n * 173 % 9900 + 99) / 100.0)::numeric(10,2) ORDER BY n) FROM generate_series(1, items) AS n
$$;

-- This backend's time on a processor, in microseconds: what others keep it waiting for is not in it. The kernel brings
-- schedstat up to date when somebody reads stat, otherwise only at the next tick or switch.
CREATE FUNCTION bench.cpu_us() RETURNS double precision LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_read_file('/proc/self/stat');
  RETURN split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::double precision / 1000;
END
$$;

-- Measures bench.<section>_<variant>(picks, items) for each variant, `pairs` times. What makes one pair is measured in
-- slices: a slice of each variant in turn, every other time in the opposite order, each in a transaction of its own.
-- So whatever else the machine does strikes all variants alike. The first pair is a warm-up and not kept.
CREATE PROCEDURE bench.measure(section text, setting text, items int, variants text[], calls int, pairs int) LANGUAGE plpgsql AS $$
DECLARE
  slices constant int := 8;
  n constant int := cardinality(variants);
  calls_each constant int := greatest(calls / slices, 1);
  position int;
  picks bigint[];
  began timestamptz;
  began_cpu double precision;
  took double precision[];
  took_cpu double precision[];
BEGIN
  FOR pair IN 0..pairs LOOP
    took := array_fill(0, ARRAY[n]);
    took_cpu := took;
    FOR part IN 1..slices LOOP
      EXECUTE format('SELECT bench.%I($1, $2, $3)', section || '_picks') INTO picks USING calls_each, pair * slices + part, items;
      FOR i IN 1..n LOOP
        position := CASE WHEN part % 2 = 1 THEN i ELSE n + 1 - i END;
        COMMIT;
        -- What the first statement of a transaction costs, and looking up the function, is not measured.
        EXECUTE format('SELECT bench.%I($1, $2)', section || '_' || variants[position]) USING picks[1:2], items;
        began_cpu := bench.cpu_us();
        began := clock_timestamp();
        EXECUTE format('SELECT bench.%I($1, $2)', section || '_' || variants[position]) USING picks, items;
        took[position] := took[position] + extract(epoch FROM clock_timestamp() - began) * 1000000;
        took_cpu[position] := took_cpu[position] + bench.cpu_us() - began_cpu;
      END LOOP;
    END LOOP;
    IF pair > 0 THEN
      INSERT INTO bench.sample
      SELECT section, setting, items, variants[i], pair, took[i] / (calls_each * slices), took_cpu[i] / (calls_each * slices) FROM generate_series(1, n) AS i;
    END IF;
    COMMIT;
  END LOOP;
END
$$;
