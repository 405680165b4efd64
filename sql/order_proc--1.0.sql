\echo Use "CREATE EXTENSION order_proc" to load this file. \quit

-- The extension is code; the store (schema order_store) is data and belongs to its owner. Nothing below
-- holds a row of the user's. Signatures and composite types have their final shape from 1.0 on, so that
-- views of the users never block an upgrade.

-- Somebody who owned this schema could plant functions beside ours.
DO $guard$
DECLARE
  schema_owner pg_catalog.name := (
    SELECT pg_catalog.pg_get_userbyid(n.nspowner) FROM pg_catalog.pg_namespace AS n
    WHERE n.nspname OPERATOR(pg_catalog.=) 'order_proc'
      AND NOT (SELECT r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.oid OPERATOR(pg_catalog.=) n.nspowner));
BEGIN
  IF schema_owner IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = '42501',
      MESSAGE = pg_catalog.format('schema "order_proc" belongs to "%s", who is not a superuser', schema_owner),
      HINT = 'DROP SCHEMA order_proc; CREATE EXTENSION order_proc;';
  END IF;
END
$guard$;

REVOKE CREATE ON SCHEMA order_proc FROM PUBLIC;
GRANT USAGE ON SCHEMA order_proc TO PUBLIC;

------------------------------------------------------------------------------------------------------------
-- Types
------------------------------------------------------------------------------------------------------------

CREATE TYPE order_proc.order_record AS (
  id bigint,
  customer_id bigint,
  status text,
  total_amount numeric(12,2),
  notes text,
  customer_name text,
  customer_email text,
  created_at timestamptz,
  updated_at timestamptz
);
COMMENT ON TYPE order_proc.order_record IS
'An order without its items. total_amount is in the currency of the shop, two decimals; notes is NULL before layout 1.2; customer_name and customer_email are what they were when the order was made.';

CREATE TYPE order_proc.order_with_items AS (
  id bigint,
  customer_id bigint,
  status text,
  total_amount numeric(12,2),
  notes text,
  customer_name text,
  customer_email text,
  created_at timestamptz,
  updated_at timestamptz,
  items json
);
COMMENT ON TYPE order_proc.order_with_items IS
'An order_record plus items: a JSON array of {"id","product_id","quantity","price"} ordered by id, [] when there are none.';

CREATE TYPE order_proc.order_count AS (status text, orders bigint);
COMMENT ON TYPE order_proc.order_count IS 'How many orders have a status.';

CREATE TYPE order_proc.migration_step AS (
  step int,
  phase text,
  statement text,
  lock_level text,
  online boolean,
  estimated_rows bigint
);
COMMENT ON TYPE order_proc.migration_step IS
'One statement of a migration. phase: prepare (worth running beforehand by hand, never run by a script), change, attach (idempotent, run again by migrate_store when missing). lock_level: the strongest lock on a table of the store. online: readers and writers go on while it runs. estimated_rows: rows read or written, from pg_class.reltuples; NULL when none.';

CREATE TYPE order_proc.applied_migration AS (
  id bigint,
  version text,
  direction text,
  applied_at timestamptz,
  applied_by text,
  duration interval
);
COMMENT ON TYPE order_proc.applied_migration IS 'A row of order_proc.migration_history.';

CREATE TYPE order_proc.fast_path_status AS (operation text, path text, reason text);
COMMENT ON TYPE order_proc.fast_path_status IS
'For an operation: path fast (direct table access) or executor (plain SQL through the executor), and why.';

------------------------------------------------------------------------------------------------------------
-- Store and migrations
------------------------------------------------------------------------------------------------------------

CREATE FUNCTION order_proc.create_store(owner regrole DEFAULT NULL, placement text DEFAULT 'hash') RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_create_store';
COMMENT ON FUNCTION order_proc.create_store(regrole, text) IS
'Creates schema order_store and its tables, owned by owner (default: the caller), at the layout of the installed version. placement: hash (slot = hashint8extended(customer_id, 0) & 4095) or modulo (slot = customer_id & 4095). Errors: 42710 there is a store already, 22023 unknown placement, 42501 the caller may not create schemas for owner.';

CREATE FUNCTION order_proc.grant_store(role regrole, privilege text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_grant_store';
COMMENT ON FUNCTION order_proc.grant_store(regrole, text) IS
'Grants role what its calls need. privilege: read (look at customers, orders and items), write (also make, change and delete them), admin (also edit statuses and transitions, read the history, purge idempotency keys, and, when the caller may grant it, EXECUTE on the administration functions). Errors: 22004, 22023 unknown privilege, 42501 the caller is not the owner of the store, OP001.';

CREATE FUNCTION order_proc.schema_version() RETURNS text
LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'order_proc_schema_version';
COMMENT ON FUNCTION order_proc.schema_version() IS 'The layout of the store, such as 1.4. Errors: OP001 no store.';

CREATE FUNCTION order_proc.require_version(minimum text) RETURNS void
LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'order_proc_require_version';
COMMENT ON FUNCTION order_proc.require_version(text) IS
'Raises OP003 when the layout of the store is older than minimum. Errors: 22004, 22023 not a version, OP001 no store.';

CREATE FUNCTION order_proc.migrate_store(target text DEFAULT NULL) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_migrate_store';
COMMENT ON FUNCTION order_proc.migrate_store(text) IS
'Brings a store that lags behind the extension (an old dump restored under a newer version) to target (default: the installed version), all or nothing, in the transaction of the caller; fills in split names on the way; puts back triggers of ours that DROP EXTENSION ... CASCADE took. Returns the layout reached. Errors: 22023 unknown target or one below the layout, 55000 the extension is older than the store or than target, 42501 not the owner, 55P03 a lock was not to be had within 200 ms, OP001.';

CREATE FUNCTION order_proc.migration_plan(target text) RETURNS SETOF order_proc.migration_step
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 20 AS 'MODULE_PATHNAME', 'order_proc_migration_plan';
COMMENT ON FUNCTION order_proc.migration_plan(text) IS
'What a migration of the store to layout target (up or down) would run, in order. Rows of phase prepare are worth running beforehand (psql: \gexec); then ALTER EXTENSION order_proc UPDATE TO target takes short locks only. Errors: 22004, 22023 unknown target, OP001.';

CREATE FUNCTION order_proc.apply_migration(from_version text, to_version text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_apply_migration';
COMMENT ON FUNCTION order_proc.apply_migration(text, text) IS
'For upgrade and downgrade scripts: applies the step between two neighbouring layouts to a store whose layout is exactly from_version, as the owner of the store. Without such a store it does nothing.';

CREATE FUNCTION order_proc.applied_migrations() RETURNS SETOF order_proc.applied_migration
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 20 AS 'MODULE_PATHNAME', 'order_proc_applied_migrations';
COMMENT ON FUNCTION order_proc.applied_migrations() IS 'The rows of order_proc.migration_history, oldest first. Errors: OP001.';

CREATE VIEW order_proc.migration_history AS SELECT * FROM order_proc.applied_migrations();
COMMENT ON VIEW order_proc.migration_history IS
'Migrations applied to the store: layout reached, direction (up or down), when, by whom (role), how long.';
GRANT SELECT ON order_proc.migration_history TO PUBLIC;

CREATE FUNCTION order_proc.estimated_rows(table_name text) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT GREATEST(c.reltuples, 0)::pg_catalog.int8 FROM pg_catalog.pg_class AS c
  WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(table_name)
$$;
COMMENT ON FUNCTION order_proc.estimated_rows(text) IS 'Rows of a table as the planner knows them (pg_class.reltuples); NULL for an unknown table.';

------------------------------------------------------------------------------------------------------------
-- Slots and ids
------------------------------------------------------------------------------------------------------------

CREATE FUNCTION order_proc.new_order_id(customer_id bigint) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_new_order_id';
COMMENT ON FUNCTION order_proc.new_order_id(bigint) IS
'A new order id for direct SQL: (nextval(order_store.orders_id_seq) << 12) | slot of the customer. Errors: 22004, 42501 no USAGE on the sequence, OP001, OP002.';

------------------------------------------------------------------------------------------------------------
-- Customers
------------------------------------------------------------------------------------------------------------

CREATE FUNCTION order_proc.create_customer(first_name text, last_name text, email text DEFAULT NULL, id bigint DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_create_customer';
COMMENT ON FUNCTION order_proc.create_customer(text, text, text, bigint) IS
'Makes a customer and returns the id; without id the next one of the sequence that is not in use. Errors: 23505 id in use, 42501, OP001, OP002.';

CREATE FUNCTION order_proc.first_name(name text) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE STRICT AS 'MODULE_PATHNAME', 'order_proc_first_name';
COMMENT ON FUNCTION order_proc.first_name(text) IS 'The first part of a name: up to the first blank after a non-blank.';

CREATE FUNCTION order_proc.last_name(name text) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE STRICT AS 'MODULE_PATHNAME', 'order_proc_last_name';
COMMENT ON FUNCTION order_proc.last_name(text) IS 'All of a name behind the blank that ends its first part; NULL when there is none.';

CREATE FUNCTION order_proc.full_name(first_name text, last_name text) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'order_proc_full_name';
COMMENT ON FUNCTION order_proc.full_name(text, text) IS 'Both parts joined by one blank, or the one that is not NULL; NULL when both are.';

------------------------------------------------------------------------------------------------------------
-- Orders
------------------------------------------------------------------------------------------------------------

CREATE FUNCTION order_proc.create_order_with_items(
  customer_id bigint, status text, total_amount numeric,
  product_ids bigint[], quantities int[], prices numeric[],
  notes text DEFAULT NULL, idempotency_key text DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_create_order_with_items';
COMMENT ON FUNCTION order_proc.create_order_with_items(bigint, text, numeric, bigint[], int[], numeric[], text, text) IS
'Makes an order and its items, all or nothing, and returns the id of the order. Item n is product_ids[n], quantities[n] (> 0), prices[n] (>= 0, rounded to the column''s two decimals). status NULL: the initial one. total_amount NULL: sum(quantity * price) of the stored prices; given: stored as is. idempotency_key (at most 255 bytes, per customer): the same key and request again returns the first order''s id and writes nothing. Errors: 22004 NULL argument or element, 22023 lengths differ, no items, more than one dimension, unknown status, key too long, 22003 beyond the column''s range, 23503 unknown customer, 23514 quantity, price or total out of bounds, 0A000 notes before layout 1.2, 42501, OP302 key used for another request, OP001, OP002.';

CREATE FUNCTION order_proc.get_order(order_id bigint) RETURNS order_proc.order_record
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'order_proc_get_order';
COMMENT ON FUNCTION order_proc.get_order(bigint) IS 'The order, or NULL when it is unknown. Errors: 22004, 42501, OP001, OP002.';

CREATE FUNCTION order_proc.get_order_with_items(order_id bigint) RETURNS order_proc.order_with_items
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'order_proc_get_order_with_items';
COMMENT ON FUNCTION order_proc.get_order_with_items(bigint) IS
'The order and its items as JSON, read with one snapshot, or NULL when it is unknown. Errors: 22004, 42501, OP001, OP002.';

CREATE FUNCTION order_proc.get_orders(order_ids bigint[]) RETURNS SETOF order_proc.order_with_items
LANGUAGE c STABLE PARALLEL SAFE ROWS 20 AS 'MODULE_PATHNAME', 'order_proc_get_orders';
COMMENT ON FUNCTION order_proc.get_orders(bigint[]) IS
'The orders in the sequence asked for, unknown ids left out. Errors: 22004 NULL argument or element, 22023 more than one dimension, 42501, OP001, OP002.';

CREATE FUNCTION order_proc.refresh_order_totals(order_ids bigint[]) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_refresh_order_totals';
COMMENT ON FUNCTION order_proc.refresh_order_totals(bigint[]) IS
'Sets total_amount of each order to the sum of its items (0 without items) and returns how many orders were set; unknown ids are left out. Errors: 22004, 22023 more than one dimension, 22003 a sum beyond the type, 42501, OP001, OP002.';

CREATE FUNCTION order_proc.update_order_status(order_id bigint, new_status text, expected_status text DEFAULT NULL) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_update_order_status';
COMMENT ON FUNCTION order_proc.update_order_status(bigint, text, text) IS
'Moves an order to new_status and returns the previous one; writes history and updated_at. Errors: P0002 unknown order, 22023 unknown status, OP201 not among order_store.status_transitions (DETAIL: present status and allowed next ones), OP202 the present status is not expected_status, 22004, 42501, OP001, OP002.';

CREATE FUNCTION order_proc.delete_order(order_id bigint) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_delete_order';
COMMENT ON FUNCTION order_proc.delete_order(bigint) IS
'Deletes an order with its items, history and idempotency key; false when it is unknown. Errors: 22004, 42501, OP001, OP002.';

CREATE FUNCTION order_proc.list_orders_paginated(page_limit int DEFAULT 50, page_offset int DEFAULT 0) RETURNS SETOF order_proc.order_record
LANGUAGE c STABLE PARALLEL SAFE ROWS 50 AS 'MODULE_PATHNAME', 'order_proc_list_orders_paginated';
COMMENT ON FUNCTION order_proc.list_orders_paginated(int, int) IS
'A page of orders, newest first: (created_at, id) DESC. The cost grows with page_offset: list_orders_after does not. Errors: 22004, 22023 negative limit or offset, 42501, OP001, OP002.';

CREATE FUNCTION order_proc.list_orders_after(
  page_limit int DEFAULT 50, after_created_at timestamptz DEFAULT NULL, after_id bigint DEFAULT NULL,
  customer_id bigint DEFAULT NULL, status text DEFAULT NULL) RETURNS SETOF order_proc.order_record
LANGUAGE c STABLE PARALLEL SAFE ROWS 50 AS 'MODULE_PATHNAME', 'order_proc_list_orders_after';
COMMENT ON FUNCTION order_proc.list_orders_after(int, timestamptz, bigint, bigint, text) IS
'Keyset pagination, newest first: the page behind the order (after_created_at, after_id), the last row of the page before; both NULL: the first page. customer_id and status filter when given. Constant cost at any depth. Errors: 22004 page_limit NULL or one half of the key, 22023 negative limit, 42501, OP001, OP002.';

CREATE FUNCTION order_proc.list_orders() RETURNS SETOF order_proc.order_record
LANGUAGE c STABLE PARALLEL SAFE ROWS 100000 AS 'MODULE_PATHNAME', 'order_proc_list_orders';
COMMENT ON FUNCTION order_proc.list_orders() IS 'All orders, newest first, in at most work_mem of memory. Errors: 42501, OP001, OP002.';

CREATE FUNCTION order_proc.order_counts() RETURNS SETOF order_proc.order_count
LANGUAGE c STABLE PARALLEL SAFE ROWS 7 AS 'MODULE_PATHNAME', 'order_proc_order_counts';
COMMENT ON FUNCTION order_proc.order_counts() IS 'Orders by status, ordered by status. Errors: 42501, OP001, OP002.';

CREATE FUNCTION order_proc.purge_idempotency_keys(older_than interval) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_purge_idempotency_keys';
COMMENT ON FUNCTION order_proc.purge_idempotency_keys(interval) IS
'Deletes the idempotency keys made more than older_than ago and returns how many. For the owner of the store and roles with admin. Errors: 22004, 22023 negative interval, 42501, OP001, OP002.';

CREATE FUNCTION order_proc.explain_fast_path() RETURNS SETOF order_proc.fast_path_status
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 4 AS 'MODULE_PATHNAME', 'order_proc_explain_fast_path';
COMMENT ON FUNCTION order_proc.explain_fast_path() IS
'Which path each operation takes for the calling role now (fast: direct table access; executor: plain SQL), and why. The result of an operation is the same on both. Errors: OP001, OP002.';

------------------------------------------------------------------------------------------------------------
-- Trigger functions of the store's tables. An old dump needs them: no later script drops them.
------------------------------------------------------------------------------------------------------------

CREATE FUNCTION order_proc.record_status_change() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'order_proc_record_status_change';
COMMENT ON FUNCTION order_proc.record_status_change() IS
'AFTER UPDATE OF status, each row, on order_store.orders: writes order_store.order_status_history as that table''s owner.';

CREATE FUNCTION order_proc.statuses_changed() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'order_proc_statuses_changed';
COMMENT ON FUNCTION order_proc.statuses_changed() IS
'AFTER any change of order_store.order_statuses, each statement: sessions read the statuses anew after the commit.';

------------------------------------------------------------------------------------------------------------
-- Layout 1.0
------------------------------------------------------------------------------------------------------------

CREATE FUNCTION order_proc.layout_1_0_up() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_0_up$
VALUES
(1, 'change', $sql$
CREATE TABLE order_store.store (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  layout text NOT NULL,
  placement text NOT NULL CHECK (placement IN ('hash', 'modulo')),
  created_at timestamptz NOT NULL DEFAULT now()
)$sql$, 'none', true, NULL::pg_catalog.int8),
(2, 'change', $sql$
CREATE TABLE order_store.migrations (
  id bigint PRIMARY KEY,
  version text NOT NULL,
  direction text NOT NULL CHECK (direction IN ('up', 'down')),
  applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  applied_by text NOT NULL,
  duration interval NOT NULL
);
CREATE SEQUENCE order_store.migrations_id_seq OWNED BY order_store.migrations.id;
ALTER TABLE order_store.migrations ALTER COLUMN id SET DEFAULT nextval('order_store.migrations_id_seq')$sql$,
'none', true, NULL),
(3, 'change', $sql$
CREATE TABLE order_store.order_statuses (
  status text PRIMARY KEY,
  is_initial boolean NOT NULL DEFAULT false,
  is_terminal boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX order_statuses_is_initial_idx ON order_store.order_statuses (is_initial) WHERE is_initial;
CREATE TABLE order_store.status_transitions (
  from_status text NOT NULL REFERENCES order_store.order_statuses ON UPDATE CASCADE ON DELETE CASCADE,
  to_status text NOT NULL REFERENCES order_store.order_statuses ON UPDATE CASCADE ON DELETE CASCADE,
  PRIMARY KEY (from_status, to_status)
)$sql$, 'none', true, NULL),
(4, 'change', $sql$
INSERT INTO order_store.order_statuses (status, is_initial, is_terminal) VALUES
  ('pending', true, false), ('paid', false, false), ('processing', false, false), ('shipped', false, false),
  ('delivered', false, false), ('returned', false, true), ('cancelled', false, true);
INSERT INTO order_store.status_transitions (from_status, to_status) VALUES
  ('pending', 'paid'), ('paid', 'processing'), ('processing', 'shipped'), ('shipped', 'delivered'), ('delivered', 'returned'),
  ('pending', 'cancelled'), ('paid', 'cancelled'), ('processing', 'cancelled'), ('shipped', 'cancelled')$sql$,
'none', true, NULL),
(5, 'change', $sql$
CREATE TABLE order_store.customers (
  id bigint PRIMARY KEY,
  name text,
  email text,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE SEQUENCE order_store.customers_id_seq OWNED BY order_store.customers.id;
ALTER TABLE order_store.customers ALTER COLUMN id SET DEFAULT nextval('order_store.customers_id_seq')$sql$,
'none', true, NULL),
(6, 'change', $sql$
CREATE TABLE order_store.orders (
  id bigint PRIMARY KEY,
  customer_id bigint NOT NULL REFERENCES order_store.customers,
  status text NOT NULL,
  total_amount numeric(12,2) NOT NULL CHECK (total_amount >= 0 AND total_amount <> 'NaN'),
  customer_name text,
  customer_email text,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE SEQUENCE order_store.orders_id_seq MAXVALUE 2251799813685247 OWNED BY order_store.orders.id$sql$,
'none', true, NULL),
(7, 'change', $sql$
CREATE TABLE order_store.order_items (
  order_id bigint NOT NULL REFERENCES order_store.orders ON DELETE CASCADE,
  id bigint NOT NULL,
  product_id bigint NOT NULL,
  quantity integer NOT NULL CHECK (quantity > 0),
  price numeric(10,2) NOT NULL CHECK (price >= 0 AND price <> 'NaN'),
  PRIMARY KEY (order_id, id)
);
CREATE SEQUENCE order_store.order_items_id_seq OWNED BY order_store.order_items.id;
ALTER TABLE order_store.order_items ALTER COLUMN id SET DEFAULT nextval('order_store.order_items_id_seq')$sql$,
'none', true, NULL),
(8, 'change', $sql$
CREATE TABLE order_store.order_status_history (
  order_id bigint NOT NULL REFERENCES order_store.orders ON DELETE CASCADE,
  id bigint NOT NULL,
  from_status text NOT NULL,
  to_status text NOT NULL,
  changed_at timestamptz NOT NULL DEFAULT now(),
  changed_by text NOT NULL,
  PRIMARY KEY (order_id, id)
);
CREATE SEQUENCE order_store.order_status_history_id_seq OWNED BY order_store.order_status_history.id;
ALTER TABLE order_store.order_status_history ALTER COLUMN id SET DEFAULT nextval('order_store.order_status_history_id_seq')$sql$,
'none', true, NULL),
(9, 'change', $sql$
CREATE TABLE order_store.idempotency_keys (
  customer_id bigint NOT NULL,
  key text COLLATE "C" NOT NULL CHECK (octet_length(key) <= 255),
  order_id bigint NOT NULL REFERENCES order_store.orders ON DELETE CASCADE,
  request_hash bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (customer_id, key)
);
CREATE INDEX idempotency_keys_order_id_idx ON order_store.idempotency_keys (order_id)$sql$,
'none', true, NULL),
(10, 'attach', $sql$
CREATE OR REPLACE TRIGGER record_status_change AFTER UPDATE OF status ON order_store.orders
FOR EACH ROW EXECUTE FUNCTION order_proc.record_status_change()$sql$,
'ShareRowExclusiveLock', false, NULL),
(11, 'attach', $sql$
CREATE OR REPLACE TRIGGER statuses_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON order_store.order_statuses
FOR EACH STATEMENT EXECUTE FUNCTION order_proc.statuses_changed();
ALTER TABLE order_store.order_statuses ENABLE ALWAYS TRIGGER statuses_changed$sql$,
'ShareRowExclusiveLock', false, NULL)
$layout_1_0_up$;
COMMENT ON FUNCTION order_proc.layout_1_0_up() IS 'The tables of layout 1.0; the CHECK that ties an order''s id to the slot of its customer is added by create_store, for its placement.';

REVOKE ALL ON FUNCTION order_proc.create_store(regrole, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION order_proc.migrate_store(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION order_proc.apply_migration(text, text) FROM PUBLIC;
