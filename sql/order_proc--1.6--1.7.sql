\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.7'" to load this file. \quit

-- 1.7: shards.

-- TEMPORARY, until fan_out with connections takes its place.
CREATE FUNCTION order_proc.fan_out(query text, args text[] DEFAULT NULL, on_failure text DEFAULT 'error') RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'order_proc_fan_out';
COMMENT ON FUNCTION order_proc.fan_out(text, text[], text) IS 'Runs a query on all shards.';
REVOKE ALL ON FUNCTION order_proc.fan_out(text, text[], text) FROM PUBLIC;

-- {{{ fan_out_aggregate
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
-- }}} fan_out_aggregate

CREATE FUNCTION order_proc.layout_1_7_up() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_7_up$
SELECT 0, '', '', '', true, NULL::pg_catalog.int8 WHERE false
$layout_1_7_up$;
COMMENT ON FUNCTION order_proc.layout_1_7_up() IS 'The step from layout 1.6 to 1.7: nothing changes.';

CREATE FUNCTION order_proc.layout_1_7_down() RETURNS SETOF order_proc.migration_step
LANGUAGE sql STABLE PARALLEL SAFE AS $layout_1_7_down$
SELECT 0, '', '', '', true, NULL::pg_catalog.int8 WHERE false
$layout_1_7_down$;
COMMENT ON FUNCTION order_proc.layout_1_7_down() IS 'The step from layout 1.7 back to 1.6: nothing changes.';

SELECT order_proc.apply_migration('1.6'::pg_catalog.text, '1.7'::pg_catalog.text);
