-- What a backend holds after a million calls: its memory contexts and its anonymous resident memory.
CALL bench.empty_store();
CREATE TABLE bench.memory (task text, calls bigint, contexts bigint, resident bigint, position int GENERATED ALWAYS AS IDENTITY);
CREATE FUNCTION bench.contexts() RETURNS bigint LANGUAGE sql AS 'SELECT sum(total_bytes)::bigint FROM pg_backend_memory_contexts';
CREATE FUNCTION bench.resident() RETURNS bigint LANGUAGE sql AS $$
  SELECT 1024 * substring(pg_read_file('/proc/self/status') FROM 'RssAnon:\s*(\d+) kB')::bigint
$$;

CREATE FUNCTION bench.memory_create(calls int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  made bigint;
BEGIN
  FOR i IN 1..calls LOOP
    made := order_proc.create_order_with_items(1 + i * 7 % 10000, 'pending', NULL, '{1,2}', '{3,4}', '{5.00,6.50}');
  END LOOP;
END
$$;
CREATE FUNCTION bench.memory_get(calls int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  answer record;
  ids constant bigint[] := (SELECT array_agg(id) FROM (SELECT id FROM order_store.orders LIMIT 1000) AS o);
BEGIN
  FOR i IN 1..calls LOOP
    answer := order_proc.get_order_with_items(ids[1 + i % 1000]);
  END LOOP;
END
$$;
CREATE FUNCTION bench.memory_error(calls int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  made bigint;
BEGIN
  FOR i IN 1..calls LOOP
    BEGIN
      made := order_proc.create_order_with_items(1 + i * 7 % 10000, 'pending', NULL, '{1,2}', '{3,-4}', '{5.00,6.50}');
      RAISE EXCEPTION 'a negative quantity was taken';
    EXCEPTION WHEN check_violation THEN
      made := NULL;
    END;
  END LOOP;
END
$$;
-- After the order and its rows were written: an unknown customer.
CREATE FUNCTION bench.memory_unknown(calls int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  made bigint;
BEGIN
  FOR i IN 1..calls LOOP
    BEGIN
      made := order_proc.create_order_with_items(-i, 'pending', NULL, '{1,2}', '{3,4}', '{5.00,6.50}');
      RAISE EXCEPTION 'an unknown customer was taken';
    EXCEPTION WHEN foreign_key_violation THEN
      made := NULL;
    END;
  END LOOP;
END
$$;

CREATE PROCEDURE bench.run_memory(task text, calls int) LANGUAGE plpgsql AS $$
DECLARE
  batch constant int := 1000;  -- calls of one transaction
  measures int := 0;
BEGIN
  FOR done IN 0..calls / batch LOOP
    -- The first batch, and measuring itself, are the warm-up.
    EXECUTE format('SELECT bench.%I($1)', 'memory_' || task) USING batch;
    COMMIT;
    IF done = 0 THEN
      PERFORM bench.contexts(), bench.resident();
      COMMIT;
    END IF;
    IF done IN (0, calls / batch / 2, calls / batch) THEN
      INSERT INTO bench.memory (task, calls, contexts, resident) VALUES (run_memory.task, done * batch, bench.contexts(), bench.resident());
      COMMIT;
    END IF;
  END LOOP;
END
$$;
CALL bench.run_memory('create', :calls);
CALL bench.run_memory('get', :calls);
CALL bench.run_memory('error', :calls / 5);
CALL bench.run_memory('unknown', :calls / 50);
SET order_proc.fast_path = off;
INSERT INTO bench.memory (task) VALUES ('-- order_proc.fast_path = off');
CALL bench.run_memory('create', :calls / 10);
CALL bench.run_memory('get', :calls / 10);

CREATE FUNCTION bench.report_memory() RETURNS SETOF text LANGUAGE sql AS $$
  VALUES ('| calls                          |   number | contexts KiB | growth KiB | resident KiB | growth KiB | at most |'),
         ('|--------------------------------|---------:|-------------:|-----------:|-------------:|-----------:|--------:|')
  UNION ALL
  (SELECT format('| %s | %s | %s | %s | %s | %s |    2048 |',
     rpad(label || path, 30), lpad(calls::text, 8), lpad((contexts / 1024)::text, 12), lpad(((contexts - contexts_before) / 1024)::text, 10),
     lpad((resident / 1024)::text, 12), lpad(((resident - resident_before) / 1024)::text, 10))
   FROM (
     SELECT m.*, first_value(contexts) OVER same AS contexts_before, first_value(resident) OVER same AS resident_before,
            CASE task WHEN 'create' THEN 'create_order_with_items' WHEN 'get' THEN 'get_order_with_items' WHEN 'error' THEN 'create, bad quantity' ELSE 'create, unknown customer' END AS label,
            CASE WHEN part > 0 THEN ', off' ELSE '' END AS path
     FROM (SELECT *, count(*) FILTER (WHERE task LIKE '--%') OVER (ORDER BY position) AS part FROM bench.memory) AS m
     WHERE task NOT LIKE '--%'
     WINDOW same AS (PARTITION BY part, task ORDER BY position)
   ) AS m ORDER BY position)
$$;
