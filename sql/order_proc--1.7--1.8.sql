\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.8'" to load this file. \quit

-- 1.8: a cluster that heals itself; orders on many shards in one call; reads and restore points that are true over all of them.

------------------------------------------------------------------------------------------------------------
-- Imports over shards
------------------------------------------------------------------------------------------------------------

CREATE TYPE order_proc.found_customers AS (known boolean[], made bigint);
COMMENT ON TYPE order_proc.found_customers IS
'What order_proc.import_customers found: for each id whether there is such a customer (now), and how many were made.';

CREATE TYPE order_proc.import_outcome AS (order_number int, known boolean, sqlstate text, message text);
COMMENT ON TYPE order_proc.import_outcome IS
'An order of a chunk that order_proc.import_orders did not make: its place in the chunk, from 0; known: it was there already, with the same lines; else why it was left out.';

CREATE FUNCTION order_proc.customer_ids_in_use(first bigint, count int) RETURNS bytea
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_customer_ids_in_use';
COMMENT ON FUNCTION order_proc.customer_ids_in_use(bigint, int) IS
'For coordinators: which of count ids (65536 at most) from first on customers have here, as bits, the lowest of a byte first. Asks for INSERT on customers. Errors: 22004, 22023, 42501, OP001, OP002.';

CREATE FUNCTION order_proc.import_statuses() RETURNS text[]
LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_import_statuses';
COMMENT ON FUNCTION order_proc.import_statuses() IS 'For coordinators: the statuses that orders may have here. Errors: OP001, OP002.';

CREATE FUNCTION order_proc.import_customers(customer_ids bigint[], make boolean) RETURNS order_proc.found_customers
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_import_customers';
COMMENT ON FUNCTION order_proc.import_customers(bigint[], boolean) IS
'For coordinators: which of the customers exist, in the sequence of the ids; these are locked FOR KEY SHARE. With make the others are made, without a name. Asks for the rights of an import. Errors: 22004, 22023, 42501, OP001, OP002, OP402 the slot of one is elsewhere.';

CREATE FUNCTION order_proc.import_orders(chunk bytea, statuses text[], on_error text) RETURNS SETOF order_proc.import_outcome
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'order_proc_import_orders';
COMMENT ON FUNCTION order_proc.import_orders(bytea, text[], text) IS
'For coordinators: makes the orders of a chunk of sorted import lines as COPY into order_proc.order_import does, and returns those that were not made. statuses: those that the lines name by their place; on_error: as order_proc.import_on_error. Asks for the rights of an import. Errors: 22P03 not a chunk, 22004, 22023, 42501, OP001, OP002, OP402 the slot of an order is elsewhere; with abort also what a constraint or trigger raises.';

------------------------------------------------------------------------------------------------------------
-- Recovery
------------------------------------------------------------------------------------------------------------

CREATE FUNCTION order_proc.outcome(customer_id bigint, idempotency_key text) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_outcome';
COMMENT ON FUNCTION order_proc.outcome(bigint, text) IS
'What became of create_order_with_items under an idempotency key: the id of the order, or NULL when there is none that the caller may see. Waits for a transaction that has yet to end, also one that is prepared on a shard: lock_timeout and statement_timeout count. Keys that were purged are gone. Errors: 22004, 22023 key too long, 55P03, 42501 no SELECT on order_store.orders, OP001, OP002.';

CREATE TYPE order_proc.in_doubt_transaction AS (
  gid text,
  shard_id int,
  since timestamptz,
  age interval,
  decision text
);
COMMENT ON TYPE order_proc.in_doubt_transaction IS
'A transaction over several shards that is prepared on one of them: its identifier there, since when, and what is to become of it: running (its session is at it), commit, rollback, unknown (another server of the coordinator may know). Or one that a shard has lost: damaged, with the identifier that its shards share.';

CREATE FUNCTION order_proc.in_doubt_transactions() RETURNS SETOF order_proc.in_doubt_transaction
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'order_proc_in_doubt_transactions';
COMMENT ON FUNCTION order_proc.in_doubt_transactions() IS
'The rows of order_proc.in_doubt: asks all shards at once. For the owner of the store and pg_monitor. Errors: 42501, OP001, OP002, OP503.';

CREATE VIEW order_proc.in_doubt AS SELECT * FROM order_proc.in_doubt_transactions();
COMMENT ON VIEW order_proc.in_doubt IS
'Transactions over several shards that are prepared on one of them and not ended, and those that a shard has lost.';
GRANT SELECT ON order_proc.in_doubt TO PUBLIC;

CREATE FUNCTION order_proc.adopt_cluster() RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_adopt_cluster';
COMMENT ON FUNCTION order_proc.adopt_cluster() IS
'Makes a copy of a coordinator (a dump that was restored, a clone, a copy of the files) the coordinator of its shards, under a new id, which it returns. The original is shut out from then on: OP503. What the original left prepared is committed where a decision or a receipt says so, and else stays in order_proc.in_doubt, unknown. For the owner of the store. Errors: 08001 a shard is missing, 55000 no coordinator, or a shard of another cluster, 25001, 42501, OP001, OP002.';
REVOKE ALL ON FUNCTION order_proc.adopt_cluster() FROM PUBLIC;

CREATE FUNCTION order_proc.join_cluster(coordinator_id bigint, shard_id int, timeline int, instance bigint) RETURNS int
LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_join_cluster_fenced';
COMMENT ON FUNCTION order_proc.join_cluster(bigint, int, int, bigint) IS
'For coordinators: checks that this database is that shard of that cluster and that the coordinator''s server is the newest it knows. Returns the id of the server process, NULL when the server must be registered first. Errors: 55000 it is not that shard, OP503 another server is the coordinator, OP001, OP002.';

CREATE FUNCTION order_proc.register_coordinator(coordinator_id bigint, shard_id int, timeline int, instance bigint, former_id bigint DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_register_coordinator';
COMMENT ON FUNCTION order_proc.register_coordinator(bigint, int, int, bigint, bigint) IS
'For coordinators: makes a server the one that commits on this shard, and shuts out the one before. With former_id the shard changes over from that coordinator. For the owner of the store. Errors: OP503 a newer one is known, 55000 another cluster, 42501, OP001, OP002.';

CREATE FUNCTION order_proc.write_receipt(gid text, receipt_key bigint, carried_out text, carried_out_key bigint) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_write_receipt';
COMMENT ON FUNCTION order_proc.write_receipt(text, bigint, text, bigint) IS
'For coordinators: leaves a receipt in the transaction that is about to be prepared as gid, and removes that of one that all shards have carried out. Errors: 22004, 22023 no transaction of this shard''s coordinator, OP001, OP002.';

------------------------------------------------------------------------------------------------------------
-- Atomic orders, reads and restore points
------------------------------------------------------------------------------------------------------------

CREATE FUNCTION order_proc.create_orders(orders jsonb) RETURNS bigint[]
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_create_orders';
COMMENT ON FUNCTION order_proc.create_orders(jsonb) IS
'Makes all orders of a JSON array or none, over shards too; their ids in the order of the array. Each is an object with the arguments of create_order_with_items: customer_id, status, total_amount, product_ids, quantities, prices, notes, idempotency_key; what is not required there may be missing or null. Numbers are taken exactly. Errors name the element as orders[n], from 0: 22023 no array of objects, unknown field, another JSON type, not a whole number; 22004 a value is missing, 22003 out of range, and those of create_order_with_items.';
CREATE FUNCTION order_proc.create_orders_of_shard(orders text, numbers bigint[]) RETURNS bigint[]
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_create_orders_of_shard';
COMMENT ON FUNCTION order_proc.create_orders_of_shard(text, bigint[]) IS
'The part of create_orders that runs on a shard: numbers are the places of its orders in the whole array, for messages. Errors: as create_orders; 22023 another length, 22P02 no JSON.';

CREATE TYPE order_proc.restore_point AS (shard_id int, lsn pg_lsn);
COMMENT ON TYPE order_proc.restore_point IS 'Where a restore point is in the log of a shard, or of the coordinator (shard_id NULL).';
CREATE FUNCTION order_proc.create_restore_point(name text) RETURNS SETOF order_proc.restore_point
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'order_proc_create_restore_point';
COMMENT ON FUNCTION order_proc.create_restore_point(text) IS
'Writes a point of that name (1 to 63 bytes, once only) into the logs of all shards and of this server, with no transaction over shards half before it: servers recovered to recovery_target_name fit together. Commits over shards wait meanwhile. The caller needs EXECUTE on pg_create_restore_point here and on the shards. Errors: OP502 while a transaction is in doubt, 22004, 22023 name, 42501, 55000 on a shard or with wal_level minimal, 08001, 08006, OP001, OP002.';
REVOKE ALL ON FUNCTION order_proc.create_restore_point(text) FROM PUBLIC;

------------------------------------------------------------------------------------------------------------
-- Sagas
------------------------------------------------------------------------------------------------------------

CREATE PROCEDURE order_proc.create_order_with_compensation(
  INOUT order_id bigint, customer_id bigint, status text, total_amount numeric, product_ids bigint[], quantities int[], prices numeric[], follow_up regprocedure)
LANGUAGE c AS 'MODULE_PATHNAME', 'order_proc_create_order_with_compensation';
COMMENT ON PROCEDURE order_proc.create_order_with_compensation(bigint, bigint, text, numeric, bigint[], int[], numeric[], regprocedure) IS
'Makes and commits an order as create_order_with_items does, then calls follow_up(order_id), a function of the caller''s choice, in a transaction of its own, with search_path = pg_catalog, pg_temp. When that fails the order is deleted and the error raised, its HINT tells so. After a crash in between recover() deletes the order. order_id is given back; what is passed does not count. Errors: 2D000 in a transaction block, 42501 without EXECUTE on follow_up or DELETE on orders, 22004, 42883, 42809, 22023 follow_up is no function of one bigint, those of create_order_with_items and of follow_up.';

------------------------------------------------------------------------------------------------------------
-- The layout
------------------------------------------------------------------------------------------------------------

CREATE FUNCTION order_proc.layout_1_8_up() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_8_up$
VALUES
-- Recovery
(1, 'change', $sql$
CREATE TABLE order_store.receipts (
  gid text COLLATE "C" PRIMARY KEY,
  receipt_key bigint NOT NULL,
  written_at timestamptz NOT NULL DEFAULT now()
)$sql$, 'none', true, NULL::pg_catalog.int8),
(2, 'change', $sql$
ALTER TABLE order_store.cluster
  ADD COLUMN system_identifier bigint,
  ADD COLUMN database_oid oid,
  ADD COLUMN secret bytea,
  ADD COLUMN timeline int,
  ADD COLUMN instance bigint,
  ADD COLUMN former_id bigint;
ALTER TABLE order_store.commit_log ADD COLUMN damaged int[];
UPDATE order_store.cluster AS c SET
  system_identifier = (SELECT i.system_identifier FROM pg_catalog.pg_control_system() AS i),
  database_oid = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()),
  secret = pg_catalog.uuid_send(pg_catalog.gen_random_uuid()) OPERATOR(pg_catalog.||) pg_catalog.uuid_send(pg_catalog.gen_random_uuid())
WHERE c.shard_id IS NULL$sql$, 'AccessExclusiveLock', true, NULL)
-- Atomic orders, reads and restore points
-- Sagas
,(3, 'change', $sql$
CREATE TABLE order_store.sagas (
  id bigint PRIMARY KEY,
  order_id bigint NOT NULL,
  step text NOT NULL,
  compensation text NOT NULL,
  recorded_by text NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT now(),
  attempts int NOT NULL DEFAULT 0,
  attempted_at timestamptz,
  last_error text
);
CREATE SEQUENCE order_store.sagas_id_seq OWNED BY order_store.sagas.id;
ALTER TABLE order_store.sagas ALTER COLUMN id SET DEFAULT nextval('order_store.sagas_id_seq')$sql$, 'none', true, NULL)
$layout_1_8_up$;
COMMENT ON FUNCTION order_proc.layout_1_8_up() IS 'The step from layout 1.7 to 1.8: receipts of transactions over several shards, who the coordinator is.';

CREATE FUNCTION order_proc.layout_1_8_down() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_8_down$
VALUES
-- Recovery
(1, 'change', $sql$
DO $in_doubt$
BEGIN
  IF EXISTS (SELECT FROM order_store.commit_log)
    OR EXISTS (SELECT FROM pg_catalog.pg_prepared_xacts AS p
               WHERE p.database OPERATOR(pg_catalog.=) pg_catalog.current_database() AND p.gid OPERATOR(pg_catalog.~~) 'opc_\_%') THEN
    RAISE EXCEPTION USING
      ERRCODE = '55000',
      MESSAGE = 'transactions over several shards are in doubt',
      HINT = 'SELECT * FROM order_proc.recover(); on the coordinator.';
  END IF;
END
$in_doubt$$sql$, 'AccessShareLock', true, NULL::pg_catalog.int8),
(2, 'change', $sql$
DROP TABLE order_store.receipts;
ALTER TABLE order_store.commit_log DROP COLUMN damaged;
ALTER TABLE order_store.cluster
  DROP COLUMN system_identifier,
  DROP COLUMN database_oid,
  DROP COLUMN secret,
  DROP COLUMN timeline,
  DROP COLUMN instance,
  DROP COLUMN former_id$sql$, 'AccessExclusiveLock', true, NULL)
-- Atomic orders, reads and restore points
-- Sagas
,(3, 'change', $sql$
DO $open$
BEGIN
  IF EXISTS (SELECT FROM order_store.sagas) THEN
    RAISE EXCEPTION USING
      ERRCODE = '55000',
      MESSAGE = 'sagas are open, which versions before 1.8 do not know',
      HINT = 'SELECT * FROM order_proc.recover(); TABLE order_store.sagas;';
  END IF;
END
$open$$sql$, 'AccessShareLock', true, NULL),
(4, 'change', 'DROP TABLE order_store.sagas', 'AccessExclusiveLock', true, NULL)
$layout_1_8_down$;
COMMENT ON FUNCTION order_proc.layout_1_8_down() IS 'The step from layout 1.8 back to 1.7: refuses while transactions are in doubt.';

SELECT order_proc.apply_migration('1.7'::pg_catalog.text, '1.8'::pg_catalog.text);
