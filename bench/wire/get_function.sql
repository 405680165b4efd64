\set n random(1, 2000)
\set id (:first + :n) * 4096 + :slot
SELECT * FROM order_proc.get_order_with_items(:id);
