-- 2,000 orders for each size and placement of their items. Their ids are (n << 12) | slot of customer 1, so that pgbench
-- can draw them.

SET client_min_messages = warning;
DROP SCHEMA IF EXISTS bench_get CASCADE;
CREATE SCHEMA bench_get;
CREATE TABLE bench_get.place (placement text, items int, first bigint, PRIMARY KEY (placement, items));

CREATE FUNCTION bench_get.slot() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT hashint8extended(1, 0) & 4095';

CREATE PROCEDURE bench_get.fill() LANGUAGE plpgsql AS $$
DECLARE
  place record;
BEGIN
  CALL bench.empty_store();
  SET LOCAL session_replication_role = replica;
  INSERT INTO bench_get.place
  SELECT placement, items, 1000000 * row_number() OVER () FROM unnest('{contiguous,scattered}'::text[]) AS placement, unnest('{1,5,20,100}'::int[]) AS items
  WHERE placement = 'contiguous' OR items IN (5, 20);
  FOR place IN TABLE bench_get.place LOOP
    INSERT INTO order_store.orders (id, customer_id, status, total_amount, customer_name, customer_email)
    SELECT ((place.first + n) << 12) | bench_get.slot(), 1, 'pending', 10.00 * place.items, 'First1 Last1', 'customer1@example.com'
    FROM generate_series(1, 2000) AS n;
    -- Scattered: the first items of all orders, then the second items, ...
    INSERT INTO order_store.order_items (order_id, product_id, quantity, price)
    SELECT ((place.first + n) << 12) | bench_get.slot(), 1 + i * 37 % 5000, 1 + i % 7, ((i * 173 % 9900 + 99) / 100.0)::numeric(10,2)
    FROM generate_series(1, 2000) AS n, generate_series(1, place.items) AS i
    ORDER BY CASE WHEN place.placement = 'scattered' THEN i END, n, i;
  END LOOP;
END
$$;
CALL bench_get.fill();
VACUUM ANALYZE order_store.orders, order_store.order_items;
