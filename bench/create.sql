-- In the server: the function against the statement that a careful engineer prepares on the same tables.
-- Each variant is a PL/pgSQL loop; statements in it are prepared once and keep their generic plan.

CREATE FUNCTION bench.create_picks(calls int, pair int, items int) RETURNS bigint[] LANGUAGE sql AS $$
  SELECT bench.draw(calls, pair, 10000)
$$;
-- The baseline: id with its slot, name and email copied, total from the items, one statement.
CREATE FUNCTION bench.create_statement(picks bigint[], items int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  customer bigint;
  made bigint;
  given_status constant text := 'pending';
  given_notes constant text := NULL;
  products constant bigint[] := bench.products(items);
  quantities constant int[] := bench.quantities(items);
  prices constant numeric[] := bench.prices(items);
BEGIN
  FOREACH customer IN ARRAY picks LOOP
    WITH o AS (
      INSERT INTO order_store.orders (id, customer_id, status, total_amount, notes, customer_name, customer_email)
      SELECT (nextval('order_store.orders_id_seq') << 12) | (hashint8extended(c.id, 0) & 4095), c.id, given_status,
             (SELECT sum(t.quantity * t.price) FROM unnest(quantities, prices) AS t(quantity, price)),
             given_notes, concat_ws(' ', c.first_name, c.last_name), c.email
      FROM order_store.customers AS c WHERE c.id = customer
      RETURNING id
    ), i AS (
      INSERT INTO order_store.order_items (order_id, product_id, quantity, price)
      SELECT o.id, u.* FROM o, unnest(products, quantities, prices) AS u
    )
    SELECT o.id INTO made FROM o;
  END LOOP;
  RETURN made;
END
$$;

-- The weakest baseline: the client gives the total; name and email are not copied.
CREATE FUNCTION bench.create_less(picks bigint[], items int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  customer bigint;
  made bigint;
  given_status constant text := 'pending';
  total constant numeric := 1234.56;
  products constant bigint[] := bench.products(items);
  quantities constant int[] := bench.quantities(items);
  prices constant numeric[] := bench.prices(items);
BEGIN
  FOREACH customer IN ARRAY picks LOOP
    WITH o AS (
      INSERT INTO order_store.orders (id, customer_id, status, total_amount)
      VALUES ((nextval('order_store.orders_id_seq') << 12) | (hashint8extended(customer, 0) & 4095), customer, given_status, total)
      RETURNING id
    ), i AS (
      INSERT INTO order_store.order_items (order_id, product_id, quantity, price)
      SELECT o.id, u.* FROM o, unnest(products, quantities, prices) AS u
    )
    SELECT o.id INTO made FROM o;
  END LOOP;
  RETURN made;
END
$$;

-- The function as a statement, as the baseline is one.
CREATE FUNCTION bench.create_function(picks bigint[], items int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  customer bigint;
  made bigint;
  given_status constant text := 'pending';
  products constant bigint[] := bench.products(items);
  quantities constant int[] := bench.quantities(items);
  prices constant numeric[] := bench.prices(items);
BEGIN
  FOREACH customer IN ARRAY picks LOOP
    SELECT order_proc.create_order_with_items(customer, given_status, NULL, products, quantities, prices) INTO made;
  END LOOP;
  RETURN made;
END
$$;

-- The function in an assignment, which PL/pgSQL evaluates without the executor.
CREATE FUNCTION bench.create_assigned(picks bigint[], items int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  customer bigint;
  made bigint;
  given_status constant text := 'pending';
  products constant bigint[] := bench.products(items);
  quantities constant int[] := bench.quantities(items);
  prices constant numeric[] := bench.prices(items);
BEGIN
  FOREACH customer IN ARRAY picks LOOP
    made := order_proc.create_order_with_items(customer, given_status, NULL, products, quantities, prices);
  END LOOP;
  RETURN made;
END
$$;

CREATE FUNCTION bench.create_executor(picks bigint[], items int) RETURNS bigint LANGUAGE plpgsql SET order_proc.fast_path = off AS $$
DECLARE
  customer bigint;
  made bigint;
  given_status constant text := 'pending';
  products constant bigint[] := bench.products(items);
  quantities constant int[] := bench.quantities(items);
  prices constant numeric[] := bench.prices(items);
BEGIN
  FOREACH customer IN ARRAY picks LOOP
    SELECT order_proc.create_order_with_items(customer, given_status, NULL, products, quantities, prices) INTO made;
  END LOOP;
  RETURN made;
END
$$;

CREATE FUNCTION bench.create_id(picks bigint[], items int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  customer bigint;
  made bigint;
BEGIN
  FOREACH customer IN ARRAY picks LOOP
    SELECT order_proc.new_order_id(customer) INTO made;
  END LOOP;
  RETURN made;
END
$$;

CREATE FUNCTION bench.create_nothing(picks bigint[], items int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  customer bigint;
  made bigint;
BEGIN
  FOREACH customer IN ARRAY picks LOOP
    SELECT 1 INTO made;
  END LOOP;
  RETURN made;
END
$$;

INSERT INTO bench.comparison VALUES
  ('create', '', 10, 'statement', 'CTE statement, total from the items, name copied', NULL),
  ('create', '', 11, 'less', 'CTE statement, total given, no name', 'statement'),
  ('create', '', 12, 'executor', 'function, order_proc.fast_path = off', 'statement'),
  ('create', '', 13, 'function', 'function, SELECT f() INTO', 'statement'),
  ('create', '', 14, 'assigned', 'function, x := f()', 'statement'),
  ('create', '', 15, 'id', 'floor: SELECT new_order_id() INTO', NULL),
  ('create', '', 16, 'nothing', 'floor: SELECT 1 INTO', NULL);
INSERT INTO bench.target VALUES
  ('create', '', 'function', 1, 2.2, 3), ('create', '', 'function', 5, 2.5, 3),
  ('create', '', 'function', 20, 3.2, 4), ('create', '', 'function', 100, 3.2, 4);

SELECT path = 'fast' AS is_fast, reason FROM order_proc.explain_fast_path() WHERE operation = 'create_order_with_items' \gset
\if :is_fast
\else
  \warn create_order_with_items does not take the fast path: :reason
\endif

SELECT bench.require_same_order(bench.create_statement('{4711}', items), bench.create_function('{4711}', items)),
       bench.require_same_order(bench.create_statement('{4711}', items), bench.create_executor('{4711}', items))
FROM unnest('{1,5,20,100}'::int[]) AS items;

-- Every size starts with the same 100,000 orders of two items, and with no page of them dirty.
CREATE PROCEDURE bench.run_create(calls_of_one_item int, pairs int) LANGUAGE plpgsql AS $$
DECLARE
  items int;
  calls int;
BEGIN
  FOREACH items IN ARRAY '{1,5,20,100}'::int[] LOOP
    CALL bench.empty_store();
    COMMIT;
    CALL bench.fill_orders(100000, 2);
    COMMIT;
    ANALYZE order_store.orders, order_store.order_items;
    COMMIT;
    CHECKPOINT;
    calls := calls_of_one_item * 8 / (7 + items);
    CALL bench.measure('create', '', items, '{nothing,id,less,statement,function,assigned,executor}', calls, pairs);
  END LOOP;
END
$$;
SET plan_cache_mode = force_generic_plan;
CALL bench.run_create(:calls, :pairs);
