\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.8'" to load this file. \quit

SELECT order_proc.apply_migration('1.9'::pg_catalog.text, '1.8'::pg_catalog.text);
DROP FUNCTION order_proc.layout_1_9_up();
DROP FUNCTION order_proc.layout_1_9_down();
DROP FUNCTION order_proc.write_deciding_receipt(text, bigint);
DROP FUNCTION order_proc.partial_result(regprocedure, regtype[], anyelement);
COMMENT ON FUNCTION order_proc.recover() IS
'Settles transactions that a crash left prepared on the shards: commits those that this coordinator decided to commit, rolls the others back. Those still running are left alone. For the owner of the store. Errors: 08001, 42501, 25001 with a snapshot that may be old (REPEATABLE READ and above), OP001, OP002.';
COMMENT ON TYPE order_proc.in_doubt_transaction IS
'A transaction over several shards that is prepared on one of them: its identifier there, since when, and what is to become of it: running (its session is at it), commit, rollback, unknown (another server of the coordinator may know). Or one that a shard has lost: damaged, with the identifier that its shards share.';
