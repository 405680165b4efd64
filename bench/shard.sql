-- The data of one shard of `shards`: its part of 10,000 customers, and orders of five items for them in turn.
-- Variables: orders.
INSERT INTO order_store.customers (id, first_name, last_name, email)
SELECT n, 'First' || n, 'Last' || n, 'customer' || n || '@example.com' FROM generate_series(1::bigint, 10000) AS n
WHERE pg_catalog.get_bit((SELECT owned_slots FROM order_store.cluster), order_proc.slot_for_customer(n)) = 1;
SET session_replication_role = replica;
INSERT INTO order_store.orders (id, customer_id, status, total_amount, customer_name, customer_email, created_at, updated_at)
SELECT nextval('order_store.orders_id_seq') << 12 | order_proc.slot_for_customer(c.id), c.id,
       (ARRAY['pending', 'paid', 'processing', 'shipped', 'delivered'])[1 + n % 5], n % 1000 + 0.25, concat_ws(' ', c.first_name, c.last_name), c.email,
       now() - n * interval '30 s', now() - n * interval '30 s'
FROM generate_series(1, :orders) AS n
JOIN (SELECT *, row_number() OVER (ORDER BY id) - 1 AS place, count(*) OVER () AS places FROM order_store.customers) AS c ON c.place = n % c.places
ORDER BY n;
INSERT INTO order_store.order_items (order_id, product_id, quantity, price)
SELECT o.id, 1 + n * 37 % 5000, 2, 5.00 FROM order_store.orders AS o, generate_series(1, 5) AS n;
RESET session_replication_role;
VACUUM ANALYZE;
