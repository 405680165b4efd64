\echo Use "ALTER EXTENSION order_proc UPDATE TO '1.6'" to load this file. \quit

SELECT order_proc.apply_migration('1.7'::pg_catalog.text, '1.6'::pg_catalog.text);
DROP FUNCTION order_proc.layout_1_7_up();
DROP FUNCTION order_proc.layout_1_7_down();
-- {{{ fan_out_aggregate
DROP FUNCTION order_proc.explain_fan_out_aggregate(text);
DROP FUNCTION order_proc.fan_out_aggregate(text);
DROP FUNCTION order_proc.partial_rows(internal);
DROP AGGREGATE order_proc.combine(internal, int, bytea, anyelement);
DROP FUNCTION order_proc.combine_final(internal, internal, int, bytea, anyelement);
DROP FUNCTION order_proc.combine_step(internal, internal, int, bytea, anyelement);
DROP AGGREGATE order_proc.combine(regprocedure, regtype[], bytea, anyelement);
DROP FUNCTION order_proc.combine_final(internal, regprocedure, regtype[], bytea, anyelement);
DROP FUNCTION order_proc.combine_step(internal, regprocedure, regtype[], bytea, anyelement);
DROP AGGREGATE order_proc.partial(regprocedure, VARIADIC "any");
DROP AGGREGATE order_proc.partial(regprocedure);
DROP FUNCTION order_proc.partial_final(internal);
DROP FUNCTION order_proc.partial_step(internal, regprocedure, VARIADIC "any");
DROP FUNCTION order_proc.partial_step(internal, regprocedure);
DROP TYPE order_proc.split_query;
-- }}} fan_out_aggregate
DROP FUNCTION order_proc.fan_out(text, text[], text);
