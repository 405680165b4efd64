-- Items into orders that exist: batch_create_order_items, 100,000 a call and all at once, against COPY from a binary file
-- into the same table with its foreign key, and without it (the floor). Inside the server, each run in a transaction of
-- its own whose commit counts, into an empty table, in turn, every other time in the opposite order. After each run all
-- rows are compared, without their ids. The arrays and the file are ready beforehand.
-- items: how many; orders: over how many orders; pairs: how many runs are kept of each; folder: for the files.

CALL bench.empty_store();
CALL bench.fill_orders(:orders, 0);
VACUUM ANALYZE order_store.orders;

CREATE TABLE bench.batch_source AS
SELECT 'grouped' AS arrangement, n AS row, o.ids[1 + (n - 1) * :orders / :items] AS order_id, n AS product_id, (1 + n % 9)::int AS quantity, ((n * 173 % 9900 + 99) / 100.0)::numeric(10,2) AS price
FROM generate_series(1::bigint, :items) AS n, (SELECT array_agg(id ORDER BY id) AS ids FROM order_store.orders) AS o;
-- The same rows, shuffled.
INSERT INTO bench.batch_source
SELECT 'random', row_number() OVER (ORDER BY hashint8extended(row, 3), row), order_id, product_id, quantity, price FROM bench.batch_source;
SELECT format('COPY (SELECT order_id, product_id, quantity, price FROM bench.batch_source WHERE arrangement = %L ORDER BY row) TO %L WITH (FORMAT binary)', a, :'folder' || '/' || a || '.copy')
FROM unnest(ARRAY['grouped', 'random']) AS a \gexec

CREATE TABLE bench.batch_sample (
  arrangement text NOT NULL, variant text NOT NULL, pair int NOT NULL, us double precision NOT NULL, cpu_us double precision NOT NULL,
  PRIMARY KEY (arrangement, variant, pair)
);

CREATE FUNCTION bench.batch_rows() RETURNS text LANGUAGE sql AS $$
  SELECT concat_ws(' ', count(*), md5(string_agg(concat_ws(' ', order_id, product_id, quantity, price), E'\n' ORDER BY product_id))) FROM order_store.order_items
$$;

-- One run. The foreign key is taken away and put back outside of what is measured.
CREATE PROCEDURE bench.batch_run(arrangement text, variant text, pair int, folder text, INOUT stored text) LANGUAGE plpgsql AS $$
DECLARE
  -- Read out of their table before the clock starts.
  o bigint[]; p bigint[]; q int[]; r numeric[];
  size constant int := CASE variant WHEN 'calls' THEN 100000 ELSE 2147483647 END;
  began timestamptz;
  began_cpu double precision;
  us double precision;
BEGIN
  TRUNCATE order_store.order_items;
  IF variant = 'copy_bare' THEN
    ALTER TABLE order_store.order_items DROP CONSTRAINT order_items_order_id_fkey;
  ELSIF variant <> 'copy' THEN
    SELECT array_agg(s.order_id ORDER BY s.row), array_agg(s.product_id ORDER BY s.row), array_agg(s.quantity ORDER BY s.row), array_agg(s.price ORDER BY s.row)
    INTO o, p, q, r FROM bench.batch_source AS s WHERE s.arrangement = batch_run.arrangement;
  END IF;
  COMMIT;
  began_cpu := bench.cpu_us();
  began := clock_timestamp();
  IF variant LIKE 'copy%' THEN
    EXECUTE format('COPY order_store.order_items (order_id, product_id, quantity, price) FROM %L WITH (FORMAT binary)', folder || '/' || arrangement || '.copy');
  ELSIF variant = 'once' THEN
    PERFORM order_proc.batch_create_order_items(o, p, q, r, size);
  ELSE
    -- As a client would: a call for each 100,000 items, all in one transaction.
    FOR start IN 1..cardinality(o) BY size LOOP
      PERFORM order_proc.batch_create_order_items(o[start:start + size - 1], p[start:start + size - 1], q[start:start + size - 1], r[start:start + size - 1]);
    END LOOP;
  END IF;
  COMMIT;
  us := extract(epoch FROM clock_timestamp() - began) * 1000000;
  INSERT INTO bench.batch_sample VALUES (arrangement, variant, pair, us, bench.cpu_us() - began_cpu);
  stored := bench.batch_rows();
  IF variant = 'copy_bare' THEN
    TRUNCATE order_store.order_items;
    ALTER TABLE order_store.order_items ADD CONSTRAINT order_items_order_id_fkey FOREIGN KEY (order_id) REFERENCES order_store.orders ON DELETE CASCADE;
  END IF;
  COMMIT;
END
$$;

CREATE PROCEDURE bench.batch_measure(pairs int, folder text) LANGUAGE plpgsql AS $$
DECLARE
  variants constant text[] := ARRAY['copy', 'calls', 'copy_bare', 'once'];
  arrangement text;
  wanted constant text := (SELECT concat_ws(' ', count(*), md5(string_agg(concat_ws(' ', order_id, product_id, quantity, price), E'\n' ORDER BY product_id))) FROM bench.batch_source AS s WHERE s.arrangement = 'grouped');
  stored text;
BEGIN
  FOREACH arrangement IN ARRAY ARRAY['random', 'grouped'] LOOP
    -- The first pair is a warm-up.
    FOR pair IN 0..pairs LOOP
      FOR i IN 1..cardinality(variants) LOOP
        CALL bench.batch_run(arrangement, variants[CASE WHEN pair % 2 = 1 THEN i ELSE cardinality(variants) + 1 - i END], pair, folder, stored);
        IF stored IS DISTINCT FROM wanted THEN RAISE EXCEPTION 'every way must leave the same rows: % and %', wanted, stored; END IF;
      END LOOP;
    END LOOP;
  END LOOP;
  DELETE FROM bench.batch_sample WHERE pair = 0;
END
$$;

CREATE FUNCTION bench.report_batch() RETURNS SETOF text LANGUAGE sql STABLE AS $$
  WITH labels (variant, position, label) AS (VALUES
    ('copy', 1, 'COPY FROM (FORMAT binary)'),
    ('copy_bare', 2, 'the same without the foreign key'),
    ('calls', 3, 'batch_create_order_items, 100,000 a call'),
    ('once', 4, 'batch_create_order_items, one call')
  ), targets (arrangement, variant, least) AS (VALUES ('random', 'calls', 3.5), ('random', 'once', 4.5), ('grouped', 'calls', 3.5)),
  ratio AS (
    SELECT s.arrangement, s.variant, count(*) AS pairs,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY s.us) AS us,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY c.us / s.us) AS faster, min(c.us / s.us) AS least, max(c.us / s.us) AS most,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY c.cpu_us / s.cpu_us) AS by_cpu,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY b.us / s.us) AS floor
    FROM bench.batch_sample AS s
    JOIN bench.batch_sample AS c ON (c.arrangement, c.pair, c.variant) = (s.arrangement, s.pair, 'copy')
    JOIN bench.batch_sample AS b ON (b.arrangement, b.pair, b.variant) = (s.arrangement, s.pair, 'copy_bare')
    GROUP BY s.arrangement, s.variant
  )
  SELECT '| order   | variant                                  |      ms | faster than COPY | min .. max   | by CPU | than without FK | pairs | least |'
  UNION ALL SELECT '|---------|------------------------------------------|--------:|-----------------:|--------------|-------:|----------------:|------:|------:|'
  UNION ALL (
    SELECT format('| %s | %s | %s | %s | %s | %s | %s | %s | %s |', rpad(arrangement, 7), rpad(label, 40), lpad(round(us::numeric / 1000)::text, 7), lpad(round(faster::numeric, 2)::text, 16),
             rpad(format('%s .. %s', round(least::numeric, 2), round(most::numeric, 2)), 12), lpad(round(by_cpu::numeric, 2)::text, 6), lpad(round(floor::numeric, 2)::text, 15), lpad(pairs::text, 5),
             lpad(coalesce((SELECT t.least::text FROM targets AS t WHERE (t.arrangement, t.variant) = (r.arrangement, r.variant)), ''), 5))
    FROM ratio AS r JOIN labels USING (variant) ORDER BY arrangement DESC, position)
$$;

CALL bench.batch_measure(:pairs, :'folder');
DROP TABLE bench.batch_source;
TRUNCATE order_store.order_items;
