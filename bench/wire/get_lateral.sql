\set n random(1, 2000)
\set id (:first + :n) * 4096 + :slot
SELECT o.id, o.customer_id, o.status, o.total_amount, o.notes, o.customer_name, o.customer_email, o.created_at, o.updated_at, (SELECT coalesce(json_agg(json_build_object('id', i.id, 'product_id', i.product_id, 'quantity', i.quantity, 'price', i.price) ORDER BY i.id), '[]') FROM order_store.order_items AS i WHERE i.order_id = o.id) AS items FROM order_store.orders AS o WHERE o.id = :id;
