-- A file of order lines into orders: the import by COPY into the view, against what a careful person does today, a
-- staging table of texts and set-based SQL. Both in one transaction, into the same tables, from the same file.
-- import.sql prepares; run_import, run_import_dirty and bench/run (import-scale) measure.

-- us: the whole of it, commit included. resident: the most anonymous memory that the backend had.
CREATE TABLE bench.import_sample (
  section text NOT NULL, variant text NOT NULL, pair int NOT NULL, lines bigint NOT NULL,
  us double precision NOT NULL, cpu_us double precision, resident bigint,
  PRIMARY KEY (section, variant, pair)
);
-- ratio: of what is compared with the baseline. 'faster' is baseline / variant, 'dearer' is variant / baseline.
CREATE TABLE bench.import_comparison (
  section text NOT NULL, position int NOT NULL, variant text NOT NULL, label text NOT NULL,
  baseline text, ratio text CHECK (ratio IN ('faster', 'dearer')), wanted text,
  PRIMARY KEY (section, variant)
);

-- The careful person's. Bad lines go to order_store.import_rejects, too; an order whose order_ref is known is left alone.
CREATE FUNCTION bench.timestamptz_or_null(value text) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN value::timestamptz;
EXCEPTION WHEN data_exception THEN
  RETURN NULL;
END
$$;
CREATE PROCEDURE bench.import_by_staging(file text) LANGUAGE plpgsql AS $$
DECLARE
  this_import constant bigint := nextval('order_store.import_id_seq');
BEGIN
  CREATE UNLOGGED TABLE bench.staging (
    line bigint GENERATED ALWAYS AS IDENTITY (START 2 CACHE 1000),
    order_ref text, customer_id text, product_id text, quantity text, price text, created_at text, status text
  );
  EXECUTE format('COPY bench.staging (order_ref, customer_id, product_id, quantity, price, created_at, status) FROM %L WITH (FORMAT csv, HEADER)', file);

  -- Casting a text that is no timestamp raises an error, so each distinct one is tried once.
  CREATE TEMPORARY TABLE instant ON COMMIT DROP AS
  SELECT created_at, bench.timestamptz_or_null(created_at) AS value FROM (SELECT DISTINCT created_at FROM bench.staging WHERE created_at <> '') AS d;
  ANALYZE instant;

  -- The first thing that is wrong with a line, in the order of the columns. CASE does not evaluate what it does not reach.
  CREATE TEMPORARY TABLE checked ON COMMIT DROP AS
  SELECT f.line, f.order_ref, f.created_at, f.status, f.fault,
         CASE WHEN f.fault IS NULL THEN f.customer_id::bigint END AS customer_id,
         CASE WHEN f.fault IS NULL THEN f.product_id::bigint END AS product_id,
         CASE WHEN f.fault IS NULL THEN f.quantity::int END AS quantity,
         CASE WHEN f.fault IS NULL THEN f.price::numeric(10,2) END AS price,
         CASE WHEN f.fault IS NOT NULL THEN concat_ws(',', f.order_ref, f.customer_id, f.product_id, f.quantity, f.price, f.created_at_text, f.status) END AS raw_line
  FROM (
    SELECT s.line, s.order_ref, s.customer_id, s.product_id, s.quantity, s.price, s.created_at AS created_at_text, i.value AS created_at, s.status,
           CASE
             WHEN coalesce(s.order_ref, '') = '' THEN '22004'
             WHEN octet_length(s.order_ref) > 255 THEN '22023'
             WHEN coalesce(s.customer_id, '') = '' THEN '22004'
             WHEN s.customer_id !~ '^[+-]?[0-9]+$' OR length(s.customer_id) > 18 THEN '22P02'
             WHEN coalesce(s.product_id, '') = '' THEN '22004'
             WHEN s.product_id !~ '^[+-]?[0-9]+$' OR length(s.product_id) > 18 THEN '22P02'
             WHEN coalesce(s.quantity, '') = '' THEN '22004'
             WHEN s.quantity !~ '^[+-]?[0-9]+$' OR length(s.quantity) > 9 THEN '22P02'
             WHEN s.quantity::int <= 0 THEN '23514'
             WHEN coalesce(s.price, '') = '' THEN '22004'
             WHEN s.price !~ '^[+-]?[0-9]+([.][0-9]*)?$' OR length(s.price) > 11 THEN '22P02'
             WHEN s.price::numeric < 0 THEN '23514'
             WHEN s.created_at <> '' AND i.value IS NULL THEN '22007'
             WHEN s.status <> '' AND t.status IS NULL THEN '22023'
             WHEN c.id IS NULL THEN '23503'
           END AS fault
    FROM bench.staging AS s
    LEFT JOIN instant AS i ON i.created_at = s.created_at
    LEFT JOIN order_store.order_statuses AS t ON t.status = s.status
    LEFT JOIN order_store.customers AS c ON c.id = CASE WHEN s.customer_id ~ '^[+-]?[0-9]+$' AND length(s.customer_id) <= 18 THEN s.customer_id::bigint END
    OFFSET 0  -- or the CASE would be evaluated for each place that asks for fault
  ) AS f;
  ANALYZE checked;

  CREATE TEMPORARY TABLE made ON COMMIT DROP AS
  SELECT o.*, (nextval('order_store.orders_id_seq') << 12) | (hashint8extended(o.customer_id, 0) & 4095) AS id
  FROM (
    SELECT g.order_ref, l.customer_id, l.created_at, nullif(l.status, '') AS status, g.first_customer <> g.last_customer AS mixed, g.total, g.lines
    FROM (
      SELECT order_ref, min(line) AS first_line, min(customer_id) AS first_customer, max(customer_id) AS last_customer, sum(quantity * price) AS total, count(*) AS lines
      FROM checked WHERE fault IS NULL GROUP BY order_ref
    ) AS g
    JOIN checked AS l ON l.line = g.first_line
    WHERE NOT EXISTS (SELECT FROM order_store.idempotency_keys AS k WHERE k.customer_id = l.customer_id AND k.key = g.order_ref)
  ) AS o;
  ANALYZE made;
  -- Lines that disagree with the first one of their order.
  IF EXISTS (SELECT FROM made WHERE mixed) THEN
    UPDATE checked AS l SET fault = '22023' FROM made AS m WHERE m.mixed AND m.order_ref = l.order_ref AND l.fault IS NULL AND l.customer_id <> m.customer_id;
    UPDATE made AS m SET total = g.total, lines = g.lines
    FROM (SELECT order_ref, sum(quantity * price) AS total, count(*) AS lines FROM checked WHERE fault IS NULL GROUP BY order_ref) AS g
    WHERE m.mixed AND g.order_ref = m.order_ref;
  END IF;
  IF EXISTS (SELECT FROM made WHERE total >= 10000000000) THEN
    UPDATE checked AS l SET fault = '22003' FROM made AS m WHERE m.total >= 10000000000 AND m.order_ref = l.order_ref AND l.fault IS NULL;
    DELETE FROM made WHERE total >= 10000000000;
  END IF;

  INSERT INTO order_store.orders (id, customer_id, status, total_amount, customer_name, customer_email, created_at)
  SELECT m.id, m.customer_id, coalesce(m.status, (SELECT status FROM order_store.order_statuses WHERE is_initial)), m.total,
         concat_ws(' ', c.first_name, c.last_name), c.email, coalesce(m.created_at, now())
  FROM made AS m JOIN order_store.customers AS c ON c.id = m.customer_id;
  INSERT INTO order_store.order_items (order_id, product_id, quantity, price)
  SELECT m.id, l.product_id, l.quantity, l.price FROM checked AS l JOIN made AS m ON m.order_ref = l.order_ref WHERE l.fault IS NULL;
  -- In place of a hash of the lines, what costs nothing: their number and sum.
  INSERT INTO order_store.idempotency_keys (customer_id, key, order_id, request_hash)
  SELECT m.customer_id, m.order_ref, m.id, int8send(m.lines) || int8send((m.total * 100)::bigint) FROM made AS m;
  INSERT INTO order_store.import_rejects (import_id, line_number, raw_line, sqlstate, message, imported_by)
  SELECT this_import, l.line, l.raw_line, l.fault,
         CASE l.fault WHEN '22004' THEN 'a value is missing' WHEN '22P02' THEN 'not a number' WHEN '23514' THEN 'quantity or price is negative' WHEN '22007' THEN 'not a timestamp'
           WHEN '23503' THEN 'the customer does not exist' WHEN '22003' THEN 'the total is out of range' ELSE 'not as the others' END, current_user
  FROM checked AS l WHERE l.fault IS NOT NULL;
  DROP TABLE bench.staging;
END
$$;

CREATE PROCEDURE bench.import_by_view(file text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('COPY order_proc.order_import FROM %L WITH (FORMAT csv, HEADER)', file);
END
$$;

CREATE PROCEDURE bench.empty_imports() LANGUAGE sql AS $$
  TRUNCATE order_store.orders, order_store.order_items, order_store.order_status_history, order_store.idempotency_keys, order_store.import_rejects;
$$;

-- What an import left, without ids.
CREATE VIEW bench.imported_orders AS
SELECT k.key AS order_ref, o.customer_id, o.status, o.total_amount, o.customer_name, o.customer_email, o.created_at
FROM order_store.orders AS o JOIN order_store.idempotency_keys AS k ON k.order_id = o.id;
CREATE VIEW bench.imported_items AS
SELECT k.key AS order_ref, i.product_id, i.quantity, i.price
FROM order_store.order_items AS i JOIN order_store.idempotency_keys AS k USING (order_id);
CREATE VIEW bench.imported_rejects AS SELECT line_number, sqlstate FROM order_store.import_rejects;
-- Compares with what the first one left.
CREATE PROCEDURE bench.require_same_import() LANGUAGE plpgsql AS $$
DECLARE
  part text;
  differ bigint;
BEGIN
  FOREACH part IN ARRAY '{orders,items,rejects}'::text[] LOOP
    IF to_regclass(format('bench.%I', 'first_' || part)) IS NULL THEN
      EXECUTE format('CREATE UNLOGGED TABLE bench.%I AS SELECT * FROM bench.%I', 'first_' || part, 'imported_' || part);
    ELSE
      EXECUTE format('SELECT count(*) FROM ((TABLE bench.%1$I EXCEPT ALL TABLE bench.%2$I) UNION ALL (TABLE bench.%2$I EXCEPT ALL TABLE bench.%1$I)) AS d',
        'first_' || part, 'imported_' || part) INTO differ;
      IF differ > 0 THEN RAISE EXCEPTION 'both ways to import must leave the same %: % rows differ', part, differ; END IF;
    END IF;
  END LOOP;
END
$$;


-- Lines of orders of five lines each, which lie apart: line n and line n + a fifth of them. bad_every: each so-many-th line
-- is bad, in one of six ways, none of them in an order that has another; 0 for none.
CREATE PROCEDURE bench.write_lines(file text, lines bigint, bad_every int) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format($sql$
    COPY (
      SELECT 'R' || o AS order_ref,
             CASE kind WHEN 1 THEN '99999999' ELSE (1 + (hashint8extended(o, 1) & 1073741823) %% 10000)::text END AS customer_id,
             CASE kind WHEN 2 THEN 'none' ELSE (1 + n * 37 %% 5000)::text END AS product_id,
             CASE kind WHEN 3 THEN '0' WHEN 4 THEN '' ELSE (1 + n %% 7)::text END AS quantity,
             CASE kind WHEN 5 THEN '-1' ELSE round((n * 173 %% 9900 + 99) / 100.0, 2)::text END AS price,
             CASE kind WHEN 6 THEN '2026-02-30' ELSE to_char('2026-01-01'::timestamp + make_interval(secs => o), 'YYYY-MM-DD HH24:MI:SS') END AS created_at,
             'paid' AS status
      FROM (
        SELECT n, n * 7919 %% %2$s AS o, CASE WHEN %3$s > 0 AND (n + 7 * ((n - 1) / %2$s)) %% %3$s = 0 THEN 1 + n / %3$s %% 6 END AS kind
        FROM generate_series(1::bigint, %1$s) AS n
        OFFSET 0
      ) AS l
    ) TO %4$L WITH (FORMAT csv, HEADER)$sql$, lines, lines / 5, bad_every, file);
END
$$;

CREATE PROCEDURE bench.take_import(section text, variant text, pair int, began timestamptz, began_cpu double precision) LANGUAGE plpgsql AS $$
DECLARE
  took constant double precision := extract(epoch FROM clock_timestamp() - began) * 1000000;
  took_cpu constant double precision := bench.cpu_us() - began_cpu;
BEGIN
  IF pair > 0 THEN
    INSERT INTO bench.import_sample (section, variant, pair, lines, us, cpu_us)
    SELECT section, variant, pair, CASE section WHEN 'import' THEN (SELECT count(*) FROM order_store.order_items) + (SELECT count(*) FROM order_store.import_rejects) ELSE 1000000 END, took, took_cpu;
  END IF;
END
$$;

-- One import of each variant in turn, in the opposite order every other time; the first pair is a warm-up.
CREATE PROCEDURE bench.run_import(file text, pairs int) LANGUAGE plpgsql AS $$
DECLARE
  variants constant text[] := '{staging,view}';
  variant text;
  began timestamptz;
  began_cpu double precision;
BEGIN
  FOR pair IN 0..pairs LOOP
    FOR i IN 1..2 LOOP
      variant := variants[CASE WHEN pair % 2 = 1 THEN i ELSE 3 - i END];
      CALL bench.empty_imports();
      COMMIT;
      CHECKPOINT;
      began_cpu := bench.cpu_us();
      began := clock_timestamp();
      EXECUTE format('CALL bench.%I($1)', 'import_by_' || variant) USING file;
      COMMIT;
      CALL bench.take_import('import', variant, pair, began, began_cpu);
      CALL bench.require_same_import();
      COMMIT;
    END LOOP;
  END LOOP;
END
$$;

-- The same number of lines, clean and with 2 % of them bad: through the view, and as items of orders by batch_create_order_items.
CREATE PROCEDURE bench.run_import_dirty(clean_file text, dirty_file text, pairs int) LANGUAGE plpgsql AS $$
DECLARE
  variants constant text[] := '{view clean,view dirty,batch clean,batch dirty}';
  variant text;
  began timestamptz;
  began_cpu double precision;
  order_ids bigint[];
  products bigint[];
  quantities int[];
  prices numeric[];
  bad_every int;
BEGIN
  FOR pair IN 0..pairs LOOP
    FOR i IN 1..4 LOOP
      variant := variants[CASE WHEN pair % 2 = 1 THEN i ELSE 5 - i END];
      bad_every := CASE WHEN variant LIKE '% dirty' THEN 50 ELSE 2000000000 END;
      CALL bench.empty_imports();
      IF variant LIKE 'batch%' THEN
        CALL bench.fill_orders(100000, 0);
        SELECT array_agg(id) INTO order_ids FROM order_store.orders;
        SELECT array_agg(CASE WHEN n % bad_every = 0 AND n / bad_every % 4 = 0 THEN -1 ELSE order_ids[1 + (hashint8extended(n, 2) & 1073741823) % 100000] END ORDER BY n),
               array_agg(CASE WHEN n % bad_every = 0 AND n / bad_every % 4 = 1 THEN NULL ELSE 1 + n * 37 % 5000 END ORDER BY n),
               array_agg(CASE WHEN n % bad_every = 0 AND n / bad_every % 4 = 2 THEN 0 ELSE 1 + n % 7 END ORDER BY n),
               array_agg(CASE WHEN n % bad_every = 0 AND n / bad_every % 4 = 3 THEN -1 ELSE round((n * 173 % 9900 + 99) / 100.0, 2) END ORDER BY n)
        INTO order_ids, products, quantities, prices FROM generate_series(1, 1000000) AS n;
      END IF;
      COMMIT;
      CHECKPOINT;
      began_cpu := bench.cpu_us();
      began := clock_timestamp();
      CASE variant
        WHEN 'view clean' THEN CALL bench.import_by_view(clean_file);
        WHEN 'view dirty' THEN CALL bench.import_by_view(dirty_file);
        WHEN 'batch clean' THEN PERFORM FROM order_proc.batch_create_order_items(order_ids, products, quantities, prices);
        ELSE PERFORM FROM order_proc.batch_create_order_items(order_ids, products, quantities, prices, on_error => 'skip_row');
      END CASE;
      COMMIT;
      CALL bench.take_import('import-dirty', variant, pair, began, began_cpu);
      IF (SELECT count(*) FROM order_store.order_items) <> (CASE WHEN variant LIKE '% dirty' THEN 980000 ELSE 1000000 END) THEN
        RAISE EXCEPTION '%: % items', variant, (SELECT count(*) FROM order_store.order_items);
      END IF;
      COMMIT;
    END LOOP;
  END LOOP;
END
$$;

CREATE FUNCTION bench.report_import(of_section text) RETURNS SETOF text LANGUAGE sql STABLE AS $$
  VALUES ('| variant                                                    |    lines | seconds | us/line |   ratio       | min .. max     | by CPU | pairs | wanted       |'),
         ('|------------------------------------------------------------|---------:|--------:|--------:|--------------:|----------------|-------:|------:|--------------|')
  UNION ALL
  (SELECT format('| %s | %s | %s | %s | %s | %s | %s | %s | %s |', rpad(label, 58), lpad(lines::text, 8), lpad(round((us / 1000000)::numeric, 2)::text, 7), lpad(round((us / lines)::numeric, 2)::text, 7),
     lpad(CASE WHEN baseline IS NULL THEN '' ELSE concat(round(median::numeric, 2), ' x ', ratio) END, 13),
     rpad(CASE WHEN baseline IS NULL THEN '' ELSE format('%s .. %s', round(least::numeric, 2), round(most::numeric, 2)) END, 14),
     lpad(coalesce(round(by_cpu::numeric, 2)::text, ''), 6), lpad(pairs::text, 5), rpad(coalesce(wanted, ''), 12))
   FROM (
     SELECT c.position, c.label, c.baseline, c.ratio, c.wanted, max(s.lines) AS lines, count(*) AS pairs,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY s.us) AS us, min(r.wall) AS least, max(r.wall) AS most,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY r.wall) AS median, percentile_cont(0.5) WITHIN GROUP (ORDER BY r.cpu) AS by_cpu
     FROM bench.import_comparison AS c
     JOIN bench.import_sample AS s USING (section, variant)
     LEFT JOIN bench.import_sample AS b ON (b.section, b.variant, b.pair) = (c.section, c.baseline, s.pair)
     CROSS JOIN LATERAL (SELECT CASE c.ratio WHEN 'faster' THEN b.us / s.us ELSE s.us / b.us END AS wall,
                                CASE c.ratio WHEN 'faster' THEN b.cpu_us / s.cpu_us ELSE s.cpu_us / b.cpu_us END AS cpu) AS r
     WHERE c.section = of_section GROUP BY c.position, c.label, c.baseline, c.ratio, c.wanted
   ) AS t ORDER BY position)
$$;

CREATE FUNCTION bench.report_import_scale() RETURNS SETOF text LANGUAGE sql STABLE AS $$
  VALUES ('| import, work_mem 64 MB |    lines | seconds | us/line | of the first | at most | private memory MiB | at most |'),
         ('|------------------------|---------:|--------:|--------:|-------------:|--------:|-------------------:|--------:|')
  UNION ALL
  (SELECT format('| %s | %s | %s | %s | %s |     1.3 | %s |     128 |', rpad(variant, 22), lpad(lines::text, 8), lpad(round((us / 1000000)::numeric, 1)::text, 7), lpad(round((us / lines)::numeric, 2)::text, 7),
     lpad(round((us / lines / first_value(us / lines) OVER (ORDER BY lines))::numeric, 2)::text, 12), lpad(round(resident / 1048576.0, 1)::text, 18))
   FROM bench.import_sample WHERE section = 'import-scale' ORDER BY lines)
$$;

INSERT INTO bench.import_comparison VALUES
  ('import', 1, 'staging', 'staging table, set-based SQL (baseline)', NULL, NULL, NULL),
  ('import', 2, 'view', 'COPY order_proc.order_import', 'staging', 'faster', 'at least 3'),
  ('import-dirty', 1, 'view clean', 'COPY order_proc.order_import, clean (baseline)', NULL, NULL, NULL),
  ('import-dirty', 2, 'view dirty', 'COPY order_proc.order_import, 2 % bad', 'view clean', 'dearer', 'at most 1.3'),
  ('import-dirty', 3, 'batch clean', 'batch_create_order_items, clean (baseline)', NULL, NULL, NULL),
  ('import-dirty', 4, 'batch dirty', 'batch_create_order_items, skip_row, 2 % bad', 'batch clean', 'dearer', 'at most 1.3');
