\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.8'" to load this file. \quit

-- 1.8: a cluster that heals itself; orders on many shards in one call; reads and restore points that are true over all of them.

------------------------------------------------------------------------------------------------------------
-- Imports over shards
------------------------------------------------------------------------------------------------------------

------------------------------------------------------------------------------------------------------------
-- Recovery
------------------------------------------------------------------------------------------------------------

------------------------------------------------------------------------------------------------------------
-- Atomic orders, reads and restore points
------------------------------------------------------------------------------------------------------------

------------------------------------------------------------------------------------------------------------
-- Sagas
------------------------------------------------------------------------------------------------------------

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
  ADD COLUMN instance bigint;
ALTER TABLE order_store.commit_log ADD COLUMN damaged int[];
UPDATE order_store.cluster AS c SET
  system_identifier = (SELECT i.system_identifier FROM pg_catalog.pg_control_system() AS i),
  database_oid = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()),
  secret = pg_catalog.uuid_send(pg_catalog.gen_random_uuid()) OPERATOR(pg_catalog.||) pg_catalog.uuid_send(pg_catalog.gen_random_uuid())
WHERE c.shard_id IS NULL$sql$, 'AccessExclusiveLock', true, NULL)
-- Atomic orders, reads and restore points
-- Sagas
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
  DROP COLUMN instance$sql$, 'AccessExclusiveLock', true, NULL)
-- Atomic orders, reads and restore points
-- Sagas
$layout_1_8_down$;
COMMENT ON FUNCTION order_proc.layout_1_8_down() IS 'The step from layout 1.8 back to 1.7: refuses while transactions are in doubt.';

SELECT order_proc.apply_migration('1.7'::pg_catalog.text, '1.8'::pg_catalog.text);
