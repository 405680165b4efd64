\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.5'" to load this file. \quit

-- 1.5: batches of items. Code only: the tables stay as they are.

CREATE TYPE order_proc.batch_result AS (
  chunk int,
  first_row bigint,
  last_row bigint,
  inserted bigint,
  rejected_row bigint,
  sqlstate text,
  message text
);
COMMENT ON TYPE order_proc.batch_result IS
'A chunk of a batch (rejected_row NULL): its rows, counted from 1 over the batch, how many were inserted, and sqlstate and message when all of it was left out. Or a row that was left out (rejected_row, inserted 0), and why.';

CREATE FUNCTION order_proc.batch_create_order_items(
  order_ids bigint[], product_ids bigint[], quantities int[], prices numeric[],
  chunk_size int DEFAULT 100000, on_error text DEFAULT 'abort') RETURNS SETOF order_proc.batch_result
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'order_proc_batch_create_order_items';
COMMENT ON FUNCTION order_proc.batch_create_order_items(bigint[], bigint[], int[], numeric[], int, text) IS
'Inserts items into orders that exist: row n is order_ids[n], product_ids[n], quantities[n] (> 0), prices[n] (>= 0, rounded to two decimals). Totals are left alone: refresh_order_totals. on_error: abort (the first faulty row fails it all), skip_chunk (a chunk of chunk_size rows with a faulty row is left out), skip_row (only the faulty rows are left out, each reported). Errors: 22004 NULL argument, 22023 lengths differ, more than one dimension, unknown on_error, chunk_size not positive; with abort also 22004 NULL element, 23514 quantity or price out of bounds, 22003 price beyond numeric(10,2), 23503 unknown order; 42501, OP001, OP002.';

CREATE FUNCTION order_proc.layout_1_5_up() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_5_up$
SELECT 0, '', '', '', true, NULL::pg_catalog.int8 WHERE false
$layout_1_5_up$;
COMMENT ON FUNCTION order_proc.layout_1_5_up() IS 'The step from layout 1.4 to 1.5: nothing changes.';

CREATE FUNCTION order_proc.layout_1_5_down() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_5_down$
SELECT 0, '', '', '', true, NULL::pg_catalog.int8 WHERE false
$layout_1_5_down$;
COMMENT ON FUNCTION order_proc.layout_1_5_down() IS 'The step from layout 1.5 back to 1.4: nothing changes.';

SELECT order_proc.apply_migration('1.4'::pg_catalog.text, '1.5'::pg_catalog.text);
