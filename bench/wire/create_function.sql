\set customer random(1, 10000)
SELECT order_proc.create_order_with_items(:customer, :status, NULL, :products, :quantities, :prices);
