\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.6'" to load this file. \quit

-- 1.6: streaming imports. COPY into a view; lines that are bad go to order_store.import_rejects.

CREATE TYPE order_proc.import_summary AS (
  import_id bigint,
  lines bigint,
  rejected bigint,
  orders bigint,
  items bigint,
  known bigint,
  customers bigint,
  started_at timestamptz,
  duration interval
);
COMMENT ON TYPE order_proc.import_summary IS
'What an import did: lines read, lines rejected, orders and items made, orders known before with the same lines, customers made, when it began and how long it took.';

CREATE FUNCTION order_proc.begin_import() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'order_proc_begin_import';
COMMENT ON FUNCTION order_proc.begin_import() IS 'BEFORE INSERT, each statement, on the views for imports.';
CREATE FUNCTION order_proc.import_line() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'order_proc_import_line';
COMMENT ON FUNCTION order_proc.import_line() IS 'INSTEAD OF INSERT, each row, on the views for imports.';
CREATE FUNCTION order_proc.end_import() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'order_proc_end_import';
COMMENT ON FUNCTION order_proc.end_import() IS 'AFTER INSERT, each statement, on the views for imports: makes the orders.';

CREATE VIEW order_proc.order_import AS
SELECT NULL::pg_catalog.text AS order_ref, NULL::pg_catalog.text AS customer_id, NULL::pg_catalog.text AS product_id,
       NULL::pg_catalog.text AS quantity, NULL::pg_catalog.text AS price, NULL::pg_catalog.text AS created_at,
       NULL::pg_catalog.text AS status
WHERE false;
COMMENT ON VIEW order_proc.order_import IS
'COPY into it (or INSERT): a line per item, lines of an order anywhere in the file. order_ref is the order''s idempotency key, so the same file again adds nothing. Bad lines go to order_store.import_rejects, or fail the import (order_proc.import_on_error). Empty created_at and status take the defaults.';

CREATE VIEW order_proc.order_import_lines AS SELECT NULL::pg_catalog.text AS line WHERE false;
COMMENT ON VIEW order_proc.order_import_lines IS
'As order_import, a line of comma-separated values in one column, split by our parser: ragged or badly quoted lines are rejected like others. COPY ... WITH (FORMAT csv, DELIMITER E''\x01'', QUOTE E''\x02'').';

CREATE TRIGGER begin_import BEFORE INSERT ON order_proc.order_import FOR EACH STATEMENT EXECUTE FUNCTION order_proc.begin_import();
CREATE TRIGGER import_line INSTEAD OF INSERT ON order_proc.order_import FOR EACH ROW EXECUTE FUNCTION order_proc.import_line();
CREATE TRIGGER end_import AFTER INSERT ON order_proc.order_import FOR EACH STATEMENT EXECUTE FUNCTION order_proc.end_import();
CREATE TRIGGER begin_import BEFORE INSERT ON order_proc.order_import_lines FOR EACH STATEMENT EXECUTE FUNCTION order_proc.begin_import();
CREATE TRIGGER import_line INSTEAD OF INSERT ON order_proc.order_import_lines FOR EACH ROW EXECUTE FUNCTION order_proc.import_line();
CREATE TRIGGER end_import AFTER INSERT ON order_proc.order_import_lines FOR EACH STATEMENT EXECUTE FUNCTION order_proc.end_import();
-- Rights on the store's tables decide who may import.
GRANT SELECT, INSERT ON order_proc.order_import, order_proc.order_import_lines TO PUBLIC;

CREATE FUNCTION order_proc.last_import() RETURNS order_proc.import_summary
LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'order_proc_last_import';
COMMENT ON FUNCTION order_proc.last_import() IS 'What the last import of this session did; NULL before the first one. An import that was rolled back does not count.';

CREATE FUNCTION order_proc.layout_1_6_up() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_6_up$
VALUES
(1, 'change', $sql$
CREATE SEQUENCE order_store.import_id_seq;
CREATE TABLE order_store.import_rejects (
  import_id bigint NOT NULL,
  line_number bigint NOT NULL,
  raw_line text,
  sqlstate text NOT NULL,
  message text NOT NULL,
  imported_by text NOT NULL,
  rejected_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (import_id, line_number)
)$sql$, 'none', true, NULL::pg_catalog.int8),
(2, 'change', $sql$
ALTER TABLE order_store.import_rejects ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rejects ON order_store.import_rejects FOR SELECT USING (imported_by = CURRENT_USER);
GRANT SELECT ON order_store.import_rejects TO PUBLIC$sql$, 'none', true, NULL)
$layout_1_6_up$;
COMMENT ON FUNCTION order_proc.layout_1_6_up() IS 'The step from layout 1.5 to 1.6: import_rejects, of which a role sees its own rows.';

CREATE FUNCTION order_proc.layout_1_6_down() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_6_down$
VALUES
(1, 'change', $sql$
DROP TABLE order_store.import_rejects;
DROP SEQUENCE order_store.import_id_seq$sql$, 'AccessExclusiveLock', true, NULL::pg_catalog.int8)
$layout_1_6_down$;
COMMENT ON FUNCTION order_proc.layout_1_6_down() IS 'The step from layout 1.6 back to 1.5: the rejects are lost.';

SELECT order_proc.apply_migration('1.5'::pg_catalog.text, '1.6'::pg_catalog.text);
