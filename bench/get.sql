-- In the server: get_order_with_items against the statement that returns the same columns and one JSON.

CREATE FUNCTION bench.get_picks(calls int, pair int, items int) RETURNS bigint[] LANGUAGE sql AS $$
  SELECT array_agg(((p.first + d) << 12) | bench_get.slot() ORDER BY n)
  FROM unnest(bench.draw(calls, pair, 2000)) WITH ORDINALITY AS x(d, n), bench_get.place AS p
  WHERE p.items = get_picks.items AND p.placement = current_setting('bench.placement')
$$;

-- PREPARED is the text of a variant's statement; each variant is the same loop around it.
CREATE PROCEDURE bench.create_getter(variant text, prepared text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format($f$
    CREATE FUNCTION bench.%I(picks bigint[], items int) RETURNS void LANGUAGE plpgsql AS $body$
    DECLARE
      pick bigint;
      answer record;
    BEGIN
      FOREACH pick IN ARRAY picks LOOP
        %s;
      END LOOP;
    END
    $body$ $f$, 'get_' || variant, prepared);
END
$$;
CALL bench.create_getter('join', $$
  SELECT o.id, o.customer_id, o.status, o.total_amount, o.notes, o.customer_name, o.customer_email, o.created_at, o.updated_at,
         coalesce(json_agg(json_build_object('id', i.id, 'product_id', i.product_id, 'quantity', i.quantity, 'price', i.price) ORDER BY i.id)
                  FILTER (WHERE i.id IS NOT NULL), '[]') AS items
  INTO answer
  FROM order_store.orders AS o LEFT JOIN order_store.order_items AS i ON i.order_id = o.id
  WHERE o.id = pick GROUP BY o.id$$);
CALL bench.create_getter('lateral', $$
  SELECT o.id, o.customer_id, o.status, o.total_amount, o.notes, o.customer_name, o.customer_email, o.created_at, o.updated_at,
         (SELECT coalesce(json_agg(json_build_object('id', i.id, 'product_id', i.product_id, 'quantity', i.quantity, 'price', i.price) ORDER BY i.id), '[]')
          FROM order_store.order_items AS i WHERE i.order_id = o.id) AS items
  INTO answer
  FROM order_store.orders AS o WHERE o.id = pick$$);
CALL bench.create_getter('function', 'SELECT order_proc.get_order_with_items(pick) AS answer INTO answer');
CALL bench.create_getter('from', 'SELECT * INTO answer FROM order_proc.get_order_with_items(pick)');
CALL bench.create_getter('assigned', 'answer := order_proc.get_order_with_items(pick)');
CALL bench.create_getter('nothing', 'SELECT 1 AS one INTO answer');
CREATE FUNCTION bench.get_executor(picks bigint[], items int) RETURNS void LANGUAGE plpgsql SET order_proc.fast_path = off AS $$
DECLARE
  pick bigint;
  answer record;
BEGIN
  FOREACH pick IN ARRAY picks LOOP
    SELECT order_proc.get_order_with_items(pick) AS answer INTO answer;
  END LOOP;
END
$$;

SELECT path = 'fast' AS is_fast, reason FROM order_proc.explain_fast_path() WHERE operation = 'get_order_with_items' \gset
\if :is_fast
\else
  \warn get_order_with_items does not take the fast path: :reason
\endif

-- Equal answers, for all orders.
CREATE FUNCTION bench.require_same_answers() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  compared bigint;
  different bigint;
BEGIN
  SELECT count(*), count(*) FILTER (WHERE to_jsonb(a) IS DISTINCT FROM to_jsonb(b)) INTO compared, different
  FROM (
    SELECT o.id, o.customer_id, o.status, o.total_amount, o.notes, o.customer_name, o.customer_email, o.created_at, o.updated_at,
           coalesce(json_agg(json_build_object('id', i.id, 'product_id', i.product_id, 'quantity', i.quantity, 'price', i.price) ORDER BY i.id)
                    FILTER (WHERE i.id IS NOT NULL), '[]') AS items
    FROM order_store.orders AS o LEFT JOIN order_store.order_items AS i ON i.order_id = o.id GROUP BY o.id
  ) AS a
  LEFT JOIN LATERAL order_proc.get_order_with_items(a.id) AS b ON true;
  IF different > 0 OR compared = 0 THEN RAISE EXCEPTION '% of % answers differ', different, compared; END IF;
  RETURN compared;
END
$$;
SELECT bench.require_same_answers();

CREATE PROCEDURE bench.run_get(calls_of_one_item int, pairs int) LANGUAGE plpgsql AS $$
DECLARE
  place record;
BEGIN
  FOR place IN SELECT placement, items FROM bench_get.place ORDER BY placement, items LOOP
    PERFORM set_config('bench.placement', place.placement, false);
    CALL bench.measure('get', place.placement, place.items, '{nothing,executor,lateral,join,function,assigned,from}',
                       calls_of_one_item * 10 / (9 + place.items), pairs);
  END LOOP;
END
$$;
SET plan_cache_mode = force_generic_plan;
CALL bench.run_get(:calls, :pairs);

-- The baseline is the faster one of both statements, for all sizes together.
SELECT CASE WHEN sum(ln(us)) FILTER (WHERE variant = 'join') <= sum(ln(us)) FILTER (WHERE variant = 'lateral') THEN 'join' ELSE 'lateral' END AS baseline
FROM bench.sample WHERE section = 'get' \gset
INSERT INTO bench.comparison
SELECT 'get', placement, position, variant, label || CASE WHEN variant = :'baseline' THEN ' (baseline)' ELSE '' END, CASE WHEN compared AND variant <> :'baseline' THEN :'baseline' END
FROM unnest('{contiguous,scattered}'::text[]) AS placement, (VALUES
  (10, 'join', 'LEFT JOIN, GROUP BY, json_agg', true),
  (11, 'lateral', 'subselect with json_agg', true),
  (12, 'executor', 'function, order_proc.fast_path = off', true),
  (13, 'function', 'function, SELECT f() INTO', true),
  (14, 'from', 'function, SELECT * INTO FROM f()', true),
  (15, 'assigned', 'function, x := f()', true),
  (16, 'nothing', 'floor: SELECT 1 INTO', false)) AS v(position, variant, label, compared);
INSERT INTO bench.target
SELECT 'get', 'contiguous', 'function', items, required, goal
FROM (VALUES (1, 2.0, 2.4), (5, 2.4, 2.8), (20, 3.3, 4), (100, 4.5, 5.5)) AS v(items, required, goal);
