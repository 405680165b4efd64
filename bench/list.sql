-- 1,000,000 orders: a page of 50 at the top and at position 499,950, by key and by offset.
CALL bench.empty_store();
CALL bench.fill_orders(1000000, 0);
VACUUM ANALYZE order_store.orders;

-- The last order of the page before the one wanted.
SELECT created_at, id FROM order_store.orders ORDER BY created_at DESC, id DESC OFFSET 499949 LIMIT 1 \gset deep_

CREATE FUNCTION bench.list_top(calls int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1..calls LOOP PERFORM FROM order_proc.list_orders_after(50); END LOOP;
END
$$;
CREATE FUNCTION bench.list_deep(calls int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  at constant timestamptz := current_setting('bench.created_at');
  after constant bigint := current_setting('bench.id');
BEGIN
  FOR i IN 1..calls LOOP PERFORM FROM order_proc.list_orders_after(50, at, after); END LOOP;
END
$$;
CREATE FUNCTION bench.list_offset_top(calls int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1..calls LOOP PERFORM FROM order_proc.list_orders_paginated(50, 0); END LOOP;
END
$$;
CREATE FUNCTION bench.list_offset_deep(calls int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1..calls LOOP PERFORM FROM order_proc.list_orders_paginated(50, 499950); END LOOP;
END
$$;
CREATE FUNCTION bench.list_key_deep(calls int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  at constant timestamptz := current_setting('bench.created_at');
  after constant bigint := current_setting('bench.id');
BEGIN
  FOR i IN 1..calls LOOP
    PERFORM id, customer_id, status, total_amount, notes, customer_name, customer_email, created_at, updated_at
    FROM order_store.orders WHERE (created_at, id) < (at, after) ORDER BY created_at DESC, id DESC LIMIT 50;
  END LOOP;
END
$$;
SELECT set_config('bench.created_at', :'deep_created_at', false), set_config('bench.id', :'deep_id', false);

DO $$
BEGIN
  IF EXISTS (
    (SELECT id FROM order_proc.list_orders_after(50, current_setting('bench.created_at')::timestamptz, current_setting('bench.id')::bigint)
     EXCEPT SELECT id FROM order_proc.list_orders_paginated(50, 499950))) THEN
    RAISE EXCEPTION 'list_orders_after and list_orders_paginated differ at position 499,950';
  END IF;
END
$$;

CREATE PROCEDURE bench.run_list(pairs int) LANGUAGE plpgsql AS $$
DECLARE
  variants constant text[] := '{top,deep,key_deep,offset_top}';
  variant text;
  began timestamptz;
BEGIN
  FOR pair IN 0..pairs LOOP
    FOR i IN 1..cardinality(variants) LOOP
      variant := variants[CASE WHEN pair % 2 = 1 THEN i ELSE cardinality(variants) + 1 - i END];
      began := clock_timestamp();
      EXECUTE format('SELECT bench.%I(20)', 'list_' || variant);
      IF pair > 0 THEN
        INSERT INTO bench.sample (section, setting, items, variant, pair, us) VALUES ('list', '', 50, variant, pair, extract(epoch FROM clock_timestamp() - began) * 1000000 / 20);
      END IF;
      COMMIT;
    END LOOP;
    IF pair <= 5 THEN
      began := clock_timestamp();
      PERFORM bench.list_offset_deep(1);
      IF pair > 0 THEN
        INSERT INTO bench.sample (section, setting, items, variant, pair, us) VALUES ('list', '', 50, 'offset_deep', pair, extract(epoch FROM clock_timestamp() - began) * 1000000);
      END IF;
      COMMIT;
    END IF;
  END LOOP;
END
$$;
CALL bench.run_list(:pairs);
INSERT INTO bench.comparison VALUES
  ('list', '', 10, 'top', 'list_orders_after, page 1', NULL),
  ('list', '', 11, 'deep', 'list_orders_after, page 10,000 (against page 1)', 'top'),
  ('list', '', 12, 'key_deep', 'plain SQL by key, page 10,000 (against page 1)', 'top'),
  ('list', '', 13, 'offset_top', 'list_orders_paginated, page 1 (against page 1)', 'top'),
  ('list', '', 14, 'offset_deep', 'list_orders_paginated, page 10,000 (against page 1)', 'top');
INSERT INTO bench.target VALUES ('list', '', 'deep', 50, 0.67, NULL);
