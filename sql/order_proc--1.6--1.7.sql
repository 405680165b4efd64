\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.7'" to load this file. \quit

-- 1.7: shards. The calls of a coordinator run where the customer is; transactions over several shards commit in two phases.

------------------------------------------------------------------------------------------------------------
-- The cluster
------------------------------------------------------------------------------------------------------------

CREATE TYPE order_proc.shard_state AS (
  id int,
  server name,
  reachable boolean,
  version text,
  layout text,
  latency interval,
  orders bigint,
  in_doubt bigint
);
COMMENT ON TYPE order_proc.shard_state IS
'A shard as it answers now: its id and foreign server, whether it can be reached, version of its extension and layout of its store, how long it took to answer, how many orders it holds, and how many transactions prepared for a commit in two phases wait there. All but id, server and reachable are NULL when it cannot be reached.';

CREATE TYPE order_proc.shard_command AS (shard_id int, command_tag text);
COMMENT ON TYPE order_proc.shard_command IS 'What a command did on a shard, as the server tells it: "UPDATE 3".';

CREATE TYPE order_proc.recovery_action AS (gid text, shard_id int, action text);
COMMENT ON TYPE order_proc.recovery_action IS
'A prepared transaction that was settled: its identifier, the shard, and whether it was committed or rolled back.';

CREATE FUNCTION order_proc.check_slot() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'order_proc_check_slot';
COMMENT ON FUNCTION order_proc.check_slot() IS
'BEFORE a change, each row, on customers, orders and order_items of a cluster''s databases: raises OP402 when the slot of the row is not here.';

CREATE FUNCTION order_proc.cluster_changed() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'order_proc_cluster_changed';
COMMENT ON FUNCTION order_proc.cluster_changed() IS
'AFTER any change of order_store.cluster, shards and slot_map, each statement: sessions read the map anew after the commit.';

CREATE FUNCTION order_proc.add_shard(server name) RETURNS int
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_add_shard';
COMMENT ON FUNCTION order_proc.add_shard(name) IS
'Makes the database behind a foreign server of postgres_fdw the next shard of this coordinator and returns its id (0, 1, 2 ...). It must have the same versions of extension and layout, the same placement and encoding, max_prepared_transactions above 0, a clock within 5 s, and belong to no cluster; the first shard may hold customers, later ones must be empty. While no shard holds a customer, all slots are dealt anew. Connects as the caller''s user mapping, which must be the owner of the shard''s store. Errors: 42704 unknown server, 42710 a shard already, 55000 what does not fit, 08001 unreachable, 42501, OP001, OP002.';

CREATE FUNCTION order_proc.join_cluster(coordinator_id bigint, shard_id int) RETURNS int
LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_join_cluster';
COMMENT ON FUNCTION order_proc.join_cluster(bigint, int) IS
'For coordinators: checks that this database is that shard of that cluster and returns the id of the server process. Errors: 55000 it is not, OP001, OP002.';

CREATE FUNCTION order_proc.set_membership(coordinator_id bigint, shard_id int, owned_slots bytea) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_set_membership';
COMMENT ON FUNCTION order_proc.set_membership(bigint, int, bytea) IS
'For coordinators: makes this database a shard (shard_id NULL: the coordinator) of a cluster, with the slots whose bits are set among 4096. For the owner of the store. Errors: 22023 not 512 bytes, 55000 it belongs to another cluster, 42501, OP001, OP002.';

CREATE FUNCTION order_proc.shard_id() RETURNS int
LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'order_proc_shard_id';
COMMENT ON FUNCTION order_proc.shard_id() IS 'On a shard: its id; elsewhere NULL. Errors: OP001, OP002.';

CREATE FUNCTION order_proc.slot_for_customer(customer_id bigint) RETURNS int
LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'order_proc_slot_for_customer';
COMMENT ON FUNCTION order_proc.slot_for_customer(bigint) IS
'The slot of a customer, 0 to 4095, for ever: by the placement of the store. Errors: 22004, OP001, OP002.';

CREATE FUNCTION order_proc.slot_for_order(order_id bigint) RETURNS int
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'order_proc_slot_for_order';
COMMENT ON FUNCTION order_proc.slot_for_order(bigint) IS 'The slot that an order id carries: its low 12 bits. Errors: 22004.';

CREATE FUNCTION order_proc.shard_for_customer(customer_id bigint) RETURNS int
LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'order_proc_shard_for_customer';
COMMENT ON FUNCTION order_proc.shard_for_customer(bigint) IS
'The id of the shard that has the customer, by the map; 0 on a database without shards. Errors: 22004, OP001, OP002, OP403 no shard has the slot.';

CREATE FUNCTION order_proc.shard_for_customer(customer_id bigint, num_shards int, method text DEFAULT 'hash') RETURNS int
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'order_proc_shard_for_customer_of';
COMMENT ON FUNCTION order_proc.shard_for_customer(bigint, int, text) IS
'Where a customer would be among num_shards, without a map. method: hash (slot % num_shards), modulo (customer_id % num_shards, never negative), jump (jump consistent hash: growing from n to n + 1 moves 1/(n + 1) of the customers). Errors: 22004, 22023 num_shards not positive or unknown method.';

CREATE FUNCTION order_proc.shard_for_order(order_id bigint) RETURNS int
LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'order_proc_shard_for_order';
COMMENT ON FUNCTION order_proc.shard_for_order(bigint) IS
'The id of the shard that has the order, by its id alone; 0 on a database without shards. Errors: 22004, OP001, OP002, OP403.';

CREATE FUNCTION order_proc.shard_states() RETURNS SETOF order_proc.shard_state
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 4 AS 'MODULE_PATHNAME', 'order_proc_shard_states';
COMMENT ON FUNCTION order_proc.shard_states() IS 'The rows of order_proc.shard_status: asks all shards at once. Errors: 42501, OP001, OP002.';

CREATE VIEW order_proc.shard_status AS SELECT * FROM order_proc.shard_states();
COMMENT ON VIEW order_proc.shard_status IS
'The shards as they answer now: reachable, version, layout, latency, orders, prepared transactions in doubt.';
GRANT SELECT ON order_proc.shard_status TO PUBLIC;

------------------------------------------------------------------------------------------------------------
-- All shards at once
------------------------------------------------------------------------------------------------------------

CREATE FUNCTION order_proc.fan_out(query text, args text[] DEFAULT NULL, on_failure text DEFAULT 'error') RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_fan_out';
COMMENT ON FUNCTION order_proc.fan_out(text, text[], text) IS
'Runs one query on all shards at once, read-only, and returns their rows as they come; without shards it runs here. args: values of $1, $2 ... on_failure: error, or warn (an unreachable shard is a WARNING). Names in the query must be qualified: search_path is pg_catalog. Errors: 42804 columns do not fit the column definition list, 0A000 not a query, 42601 more than one statement, 25006 it writes, 22004, 22023, 08001, 08006, 42501, OP001, OP002.';

CREATE FUNCTION order_proc.fan_out_exec(command text) RETURNS SETOF order_proc.shard_command
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 4 AS 'MODULE_PATHNAME', 'order_proc_fan_out_exec';
COMMENT ON FUNCTION order_proc.fan_out_exec(text) IS
'Runs one command on all shards at once, atomically with the transaction of the caller; without shards it runs here. Errors: 0A000 transaction control, SET, LISTEN, COPY and the like, 42601 more than one statement, 22004, 08001, 08006, 42501, and what the command raises; OP001, OP002.';

------------------------------------------------------------------------------------------------------------
-- Aggregates over all shards: states computed there, combined here
------------------------------------------------------------------------------------------------------------

CREATE TYPE order_proc.split_query AS (
  shard_query text,
  coordinator_query text
);
COMMENT ON TYPE order_proc.split_query IS
'How a query with aggregates is computed over shards: what each of them runs, and what runs on the coordinator over their rows.';

CREATE FUNCTION order_proc.partial_step(internal, aggregate regprocedure) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'order_proc_partial_step';
COMMENT ON FUNCTION order_proc.partial_step(internal, regprocedure) IS 'Transition function of the aggregate partial.';
CREATE FUNCTION order_proc.partial_step(internal, aggregate regprocedure, VARIADIC arguments "any") RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'order_proc_partial_step';
COMMENT ON FUNCTION order_proc.partial_step(internal, regprocedure, "any") IS 'Transition function of the aggregate partial.';
CREATE FUNCTION order_proc.partial_final(internal) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'order_proc_partial_final';
COMMENT ON FUNCTION order_proc.partial_final(internal) IS 'Final function of the aggregate partial: writes the state.';

-- SSPACE: our state with one of an aggregate over numeric behind it.
CREATE AGGREGATE order_proc.partial(aggregate regprocedure) (
  SFUNC = order_proc.partial_step, STYPE = internal, SSPACE = 192,
  FINALFUNC = order_proc.partial_final, FINALFUNC_MODIFY = READ_ONLY, PARALLEL = RESTRICTED);
COMMENT ON AGGREGATE order_proc.partial(regprocedure) IS
'The state of an aggregate without arguments, count(*), after the rows: bytes for order_proc.combine. NULL for the state of no rows. Errors: 22004 NULL, 42809 no aggregate, 0A000 one that cannot be computed in parts, 42501.';
CREATE AGGREGATE order_proc.partial(aggregate regprocedure, VARIADIC arguments "any") (
  SFUNC = order_proc.partial_step, STYPE = internal, SSPACE = 192,
  FINALFUNC = order_proc.partial_final, FINALFUNC_MODIFY = READ_ONLY, PARALLEL = RESTRICTED);
COMMENT ON AGGREGATE order_proc.partial(regprocedure, "any") IS
'The state of an aggregate after the rows, instead of its result: bytes for order_proc.combine. The aggregate is a constant, the arguments are of the types it declares. NULL for the state of no rows. Errors: 22004 NULL aggregate, 42809 no aggregate, 42804 other argument types, 0A000 one that cannot be computed in parts, 42501.';

CREATE FUNCTION order_proc.combine_step(internal, aggregate regprocedure, argument_types regtype[], state bytea, result anyelement) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'order_proc_combine_step';
COMMENT ON FUNCTION order_proc.combine_step(internal, regprocedure, regtype[], bytea, anyelement) IS 'Transition function of the aggregate combine.';
CREATE FUNCTION order_proc.combine_final(internal, aggregate regprocedure, argument_types regtype[], state bytea, result anyelement) RETURNS anyelement
LANGUAGE c IMMUTABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'order_proc_combine_final';
COMMENT ON FUNCTION order_proc.combine_final(internal, regprocedure, regtype[], bytea, anyelement) IS 'Final function of the aggregate combine.';
CREATE AGGREGATE order_proc.combine(aggregate regprocedure, argument_types regtype[], state bytea, result anyelement) (
  SFUNC = order_proc.combine_step, STYPE = internal, SSPACE = 192,
  FINALFUNC = order_proc.combine_final, FINALFUNC_EXTRA, FINALFUNC_MODIFY = READ_WRITE, PARALLEL = RESTRICTED);
COMMENT ON AGGREGATE order_proc.combine(regprocedure, regtype[], bytea, anyelement) IS
'The result of an aggregate from states that order_proc.partial made. argument_types are those of the aggregate''s call, result is NULL::type of its result (COLLATE of its argument). States are trusted, third-party ones with the server''s life: not for everybody. Errors: 22P03 not a state of the aggregate, 0A000 a state of another major version, 42804, 42809, 42501.';
REVOKE ALL ON FUNCTION order_proc.combine_step(internal, regprocedure, regtype[], bytea, anyelement) FROM PUBLIC;
REVOKE ALL ON FUNCTION order_proc.combine_final(internal, regprocedure, regtype[], bytea, anyelement) FROM PUBLIC;
REVOKE ALL ON FUNCTION order_proc.combine(regprocedure, regtype[], bytea, anyelement) FROM PUBLIC;

-- Nobody can make the argument of type internal in SQL: fan_out_aggregate alone calls these.
CREATE FUNCTION order_proc.combine_step(internal, shard internal, aggregate int, state bytea, result anyelement) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'order_proc_combine_numbered_step';
COMMENT ON FUNCTION order_proc.combine_step(internal, internal, int, bytea, anyelement) IS 'Transition function of the aggregate combine.';
CREATE FUNCTION order_proc.combine_final(internal, shard internal, aggregate int, state bytea, result anyelement) RETURNS anyelement
LANGUAGE c IMMUTABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'order_proc_combine_final';
COMMENT ON FUNCTION order_proc.combine_final(internal, internal, int, bytea, anyelement) IS 'Final function of the aggregate combine.';
CREATE AGGREGATE order_proc.combine(shard internal, aggregate int, state bytea, result anyelement) (
  SFUNC = order_proc.combine_step, STYPE = internal, SSPACE = 192,
  FINALFUNC = order_proc.combine_final, FINALFUNC_EXTRA, FINALFUNC_MODIFY = READ_WRITE, PARALLEL = RESTRICTED);
COMMENT ON AGGREGATE order_proc.combine(internal, int, bytea, anyelement) IS 'combine as fan_out_aggregate calls it.';
CREATE FUNCTION order_proc.partial_rows(shard internal) RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_partial_rows';
COMMENT ON FUNCTION order_proc.partial_rows(internal) IS 'The rows of the shards, for the query that fan_out_aggregate runs.';

CREATE FUNCTION order_proc.fan_out_aggregate(query text) RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_fan_out_aggregate';
COMMENT ON FUNCTION order_proc.fan_out_aggregate(text) IS
'The result of one SELECT with aggregates or GROUP BY over the tables of all shards: each computes partial states, the coordinator combines them. The column definition list must have the query''s types. Errors: 0A000 what cannot be split, by name; 42804 another column definition list, 42601 not one statement, 42501, OP001, OP002.';
CREATE FUNCTION order_proc.explain_fan_out_aggregate(query text) RETURNS order_proc.split_query
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_explain_fan_out_aggregate';
COMMENT ON FUNCTION order_proc.explain_fan_out_aggregate(text) IS
'How fan_out_aggregate computes the query: the text that each shard runs and the one that the coordinator runs. Errors as there.';
REVOKE ALL ON FUNCTION order_proc.fan_out_aggregate(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION order_proc.explain_fan_out_aggregate(text) FROM PUBLIC;

------------------------------------------------------------------------------------------------------------
-- Commit in two phases
------------------------------------------------------------------------------------------------------------

CREATE FUNCTION order_proc.recover() RETURNS SETOF order_proc.recovery_action
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'order_proc_recover';
COMMENT ON FUNCTION order_proc.recover() IS
'Settles transactions that a crash left prepared on the shards: commits those that this coordinator decided to commit, rolls the others back. Those still running are left alone. For the owner of the store. Errors: 08001, 42501, 25001 with a snapshot that may be old (REPEATABLE READ and above), OP001, OP002.';

CREATE FUNCTION order_proc.layout_1_7_up() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_7_up$
VALUES
(1, 'change', $sql$
CREATE TABLE order_store.cluster (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  coordinator_id bigint NOT NULL,
  shard_id int CHECK (shard_id >= 0),
  owned_slots bytea NOT NULL CHECK (octet_length(owned_slots) = 512)
);
CREATE TABLE order_store.shards (
  id int PRIMARY KEY CHECK (id >= 0),
  server name NOT NULL UNIQUE,
  added_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE order_store.slot_map (
  slot int PRIMARY KEY CHECK (slot >= 0 AND slot < 4096),
  shard_id int NOT NULL REFERENCES order_store.shards
);
CREATE TABLE order_store.commit_log (
  gid text COLLATE "C" PRIMARY KEY,
  shard_ids int[] NOT NULL,
  decided_at timestamptz NOT NULL DEFAULT now()
)$sql$, 'none', true, NULL::pg_catalog.int8),
(2, 'attach', $sql$
CREATE OR REPLACE TRIGGER cluster_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON order_store.cluster
FOR EACH STATEMENT EXECUTE FUNCTION order_proc.cluster_changed();
ALTER TABLE order_store.cluster ENABLE ALWAYS TRIGGER cluster_changed;
CREATE OR REPLACE TRIGGER cluster_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON order_store.shards
FOR EACH STATEMENT EXECUTE FUNCTION order_proc.cluster_changed();
ALTER TABLE order_store.shards ENABLE ALWAYS TRIGGER cluster_changed;
CREATE OR REPLACE TRIGGER cluster_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON order_store.slot_map
FOR EACH STATEMENT EXECUTE FUNCTION order_proc.cluster_changed();
ALTER TABLE order_store.slot_map ENABLE ALWAYS TRIGGER cluster_changed$sql$,
'ShareRowExclusiveLock', true, NULL),
(3, 'attach', $sql$
DO $fence$
BEGIN
  -- Only in a cluster: see order_proc.set_membership.
  IF EXISTS (SELECT FROM order_store.cluster) THEN
    CREATE OR REPLACE TRIGGER check_slot BEFORE INSERT OR UPDATE OR DELETE ON order_store.customers
    FOR EACH ROW EXECUTE FUNCTION order_proc.check_slot();
    CREATE OR REPLACE TRIGGER check_slot BEFORE INSERT OR UPDATE OR DELETE ON order_store.orders
    FOR EACH ROW EXECUTE FUNCTION order_proc.check_slot();
    CREATE OR REPLACE TRIGGER check_slot BEFORE INSERT OR UPDATE OR DELETE ON order_store.order_items
    FOR EACH ROW EXECUTE FUNCTION order_proc.check_slot();
  END IF;
END
$fence$$sql$, 'ShareRowExclusiveLock', true, NULL)
$layout_1_7_up$;
COMMENT ON FUNCTION order_proc.layout_1_7_up() IS 'The step from layout 1.6 to 1.7: the tables of a cluster, empty.';

CREATE FUNCTION order_proc.layout_1_7_down() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_7_down$
VALUES
(1, 'change', $sql$
DO $cluster$
BEGIN
  IF EXISTS (SELECT FROM order_store.cluster) THEN
    RAISE EXCEPTION USING
      ERRCODE = '55000',
      MESSAGE = 'this database belongs to a cluster, which versions before 1.7 do not know',
      HINT = 'TABLE order_store.cluster; TABLE order_store.shards;';
  END IF;
END
$cluster$$sql$, 'AccessShareLock', true, NULL::pg_catalog.int8),
(2, 'change', $sql$
DO $fence$
DECLARE
  fenced record;
BEGIN
  -- Of a cluster that was given up.
  FOR fenced IN
    SELECT t.tgrelid::pg_catalog.regclass AS relation FROM pg_catalog.pg_trigger AS t
    WHERE t.tgfoid OPERATOR(pg_catalog.=) 'order_proc.check_slot'::pg_catalog.regproc AND t.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
  LOOP
    EXECUTE pg_catalog.format('DROP TRIGGER check_slot ON %s', fenced.relation);
  END LOOP;
END
$fence$$sql$, 'AccessExclusiveLock', true, NULL),
(3, 'change', 'DROP TABLE order_store.commit_log, order_store.slot_map, order_store.shards, order_store.cluster',
 'AccessExclusiveLock', true, NULL)
$layout_1_7_down$;
COMMENT ON FUNCTION order_proc.layout_1_7_down() IS 'The step from layout 1.7 back to 1.6: refuses in a cluster.';

REVOKE ALL ON FUNCTION order_proc.add_shard(name) FROM PUBLIC;
REVOKE ALL ON FUNCTION order_proc.set_membership(bigint, int, bytea) FROM PUBLIC;
REVOKE ALL ON FUNCTION order_proc.fan_out(text, text[], text) FROM PUBLIC;
REVOKE ALL ON FUNCTION order_proc.fan_out_exec(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION order_proc.recover() FROM PUBLIC;

SELECT order_proc.apply_migration('1.6'::pg_catalog.text, '1.7'::pg_catalog.text);
