\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.9'" to load this file. \quit

-- 1.9: the shards of a transaction may decide it; aggregates whose result is their state. The tables stay as they are.

CREATE FUNCTION order_proc.write_deciding_receipt(gid text, receipt_key bigint) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_write_deciding_receipt';
COMMENT ON FUNCTION order_proc.write_deciding_receipt(text, bigint) IS
'For coordinators: leaves a receipt in a transaction that this shard prepares, and decides with the other shards that gid lists. Errors: 22004, 22023 no transaction of this shard''s coordinator that this shard decides, 23505 it was settled already, OP001, OP002.';

CREATE FUNCTION order_proc.partial_result(aggregate regprocedure, argument_types regtype[], result anyelement) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'order_proc_partial_result';
COMMENT ON FUNCTION order_proc.partial_result(regprocedure, regtype[], anyelement) IS
'What order_proc.partial gives, made from the result of an aggregate whose result is its state, such as count, min, max: the aggregate itself reads the rows, in parallel or from an index. argument_types are those of its call. NULL for the state of no rows. Errors: 22004, 0A000 another state than the result, 42809 no aggregate, 42804 another result, 42501.';

COMMENT ON FUNCTION order_proc.recover() IS
'Settles transactions that a crash left prepared on the shards: commits those that this coordinator, or their shards, decided to commit, rolls the others back. Those still running, and those that are decided by shards which cannot be asked, are left alone. For the owner of the store. Errors: 08001, 42501, 25001 with a snapshot that may be old (REPEATABLE READ and above), OP001, OP002.';
COMMENT ON TYPE order_proc.in_doubt_transaction IS
'A transaction over several shards that is prepared on one of them: its identifier there, since when, and what is to become of it: running (its session is at it), commit, rollback, unknown (another server of the coordinator may know, or the shards that decide). Or one that a shard has lost: damaged, with the identifier that its shards share.';

CREATE FUNCTION order_proc.layout_1_9_up() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_9_up$
SELECT 0, '', '', '', true, NULL::pg_catalog.int8 WHERE false
$layout_1_9_up$;
COMMENT ON FUNCTION order_proc.layout_1_9_up() IS 'The step from layout 1.8 to 1.9: nothing changes.';

CREATE FUNCTION order_proc.layout_1_9_down() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_9_down$
VALUES
(1, 'change', $sql$
DO $in_doubt$
BEGIN
  IF EXISTS (SELECT FROM order_store.commit_log AS l WHERE l.gid OPERATOR(pg_catalog.~~) 'opc3\_%')
    OR EXISTS (SELECT FROM pg_catalog.pg_prepared_xacts AS p
               WHERE p.database OPERATOR(pg_catalog.=) pg_catalog.current_database() AND p.gid OPERATOR(pg_catalog.~~) 'opc3\_%') THEN
    RAISE EXCEPTION USING
      ERRCODE = '55000',
      MESSAGE = 'transactions over shards are in doubt',
      HINT = 'On the coordinator: SELECT * FROM order_proc.recover();';
  END IF;
END
$in_doubt$$sql$, 'AccessShareLock', true, NULL::pg_catalog.int8)
$layout_1_9_down$;
COMMENT ON FUNCTION order_proc.layout_1_9_down() IS 'The step from layout 1.9 back to 1.8: refuses while a transaction that the shards decided is in doubt.';

SELECT order_proc.apply_migration('1.8'::pg_catalog.text, '1.9'::pg_catalog.text);
