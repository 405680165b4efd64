-- Aggregates over 1,000,000 rows in 100 and in 200,000 groups: as PostgreSQL computes them, as `partial` computes their
-- states, and states of four parts combined. All states are formed, none is sent anywhere.
CREATE UNLOGGED TABLE bench.measured AS
SELECT i % 100 AS g100, (i::bigint * 7919 % 200000)::int AS g200000, i % 4 AS part, (i::bigint * 104729 % 1000003) / 100.0 AS price, i % 50 AS quantity FROM generate_series(1, 1000000) AS i;
VACUUM ANALYZE bench.measured;

CREATE TABLE bench.aggregate (name text, call text, types text);
INSERT INTO bench.aggregate VALUES ('count(*)', 'count()', NULL), ('sum(integer)', 'sum(integer)', 'quantity'), ('sum(numeric)', 'sum(numeric)', 'price'), ('avg(numeric)', 'avg(numeric)', 'price'), ('max(text)', 'max(text)', 'quantity::text');

-- Statements of one aggregate and number of groups. What they return is counted, so that all of it is formed.
CREATE FUNCTION bench.aggregate_statement(variant text, a bench.aggregate, groups int) RETURNS text LANGUAGE sql AS $$
SELECT CASE variant
  WHEN 'native' THEN format('SELECT count(r) FROM (SELECT g%s, %s AS r FROM bench.measured GROUP BY 1 OFFSET 0) AS s', groups, replace(a.name, '(' || COALESCE(split_part(split_part(a.name, '(', 2), ')', 1), '*') || ')', '(' || COALESCE(a.types, '*') || ')'))
  WHEN 'partial' THEN format('SELECT count(r) FROM (SELECT g%s, order_proc.partial(%L%s) AS r FROM bench.measured GROUP BY 1 OFFSET 0) AS s', groups, a.call, ', ' || a.types)
  WHEN 'combine' THEN format('SELECT count(r) FROM (SELECT g%s, order_proc.combine(%L, %L, state, NULL::%s) AS r FROM bench.states GROUP BY 1 OFFSET 0) AS s', groups, a.call,
    CASE WHEN a.types IS NULL THEN '{}' ELSE format('{%s}', split_part(split_part(a.name, '(', 2), ')', 1)) END,
    (SELECT prorettype::regtype FROM pg_proc WHERE oid = a.call::regprocedure))
  END $$;

DO $$
DECLARE
  a bench.aggregate;
  differ bigint;
BEGIN
  FOR a IN SELECT * FROM bench.aggregate LOOP
    EXECUTE format('SELECT count(*) FROM (%s) AS n JOIN (SELECT g100, order_proc.combine(%L, %L, state, NULL::%s) AS r FROM (SELECT g100, part, order_proc.partial(%2$L%5$s) AS state FROM bench.measured GROUP BY 1, 2) AS p GROUP BY 1) AS c USING (g100) WHERE n.r IS DISTINCT FROM c.r',
      substring(bench.aggregate_statement('native', a, 100) FROM '\((SELECT .*) OFFSET'), a.call, CASE WHEN a.types IS NULL THEN '{}' ELSE format('{%s}', split_part(split_part(a.name, '(', 2), ')', 1)) END,
      (SELECT prorettype::regtype FROM pg_proc WHERE oid = a.call::regprocedure), ', ' || a.types) INTO differ;
    IF differ > 0 THEN RAISE EXCEPTION '% differs in % groups', a.name, differ; END IF;
  END LOOP;
END
$$;

CREATE PROCEDURE bench.run_partial(pairs int) LANGUAGE plpgsql AS $$
DECLARE
  variants constant text[] := '{native,partial,combine}';
  a bench.aggregate;
  groups int;
  variant text;
  began timestamptz;
BEGIN
  PERFORM set_config('work_mem', '1GB', false), set_config('jit', 'off', false);
  FOR a IN SELECT * FROM bench.aggregate LOOP
    FOREACH groups IN ARRAY ARRAY[100, 200000] LOOP
      EXECUTE format('CREATE UNLOGGED TABLE bench.states AS SELECT g%s, order_proc.partial(%L%s) AS state FROM bench.measured GROUP BY 1, part', groups, a.call, ', ' || a.types);
      ANALYZE bench.states;
      COMMIT;
      FOR pair IN 0..pairs LOOP
        FOR i IN 1..cardinality(variants) LOOP
          variant := variants[CASE WHEN pair % 2 = 1 THEN i ELSE cardinality(variants) + 1 - i END];
          began := clock_timestamp();
          EXECUTE bench.aggregate_statement(variant, a, groups);
          IF pair > 0 THEN
            INSERT INTO bench.sample (section, setting, items, variant, pair, us) VALUES ('partial', a.name, groups, variant, pair, extract(epoch FROM clock_timestamp() - began) * 1000000);
          END IF;
          COMMIT;
        END LOOP;
      END LOOP;
      DROP TABLE bench.states;
    END LOOP;
  END LOOP;
END
$$;
CALL bench.run_partial(:pairs);
INSERT INTO bench.comparison
SELECT 'partial', name, n, variant, label, base FROM bench.aggregate, (VALUES (10, 'native', 'as PostgreSQL does', NULL), (11, 'partial', 'partial', 'native'), (12, 'combine', 'combine, four states a group', 'native')) AS v (n, variant, label, base);
INSERT INTO bench.target SELECT 'partial', name, 'partial', items, required, NULL FROM bench.aggregate, (VALUES (100, 0.91), (200000, 0.67)) AS v (items, required);
