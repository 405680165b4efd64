-- A session is cancelled or ended at a chosen moment, see cluster/Strikes.pm: by the tests, and for the figures of bench/run.
CREATE FUNCTION public.processor_time(pid int, before double precision) RETURNS double precision LANGUAGE plpgsql AS $$
DECLARE
  fields text[];
BEGIN
  fields := string_to_array(split_part(pg_read_file('/proc/' || pid || '/stat', 0, 4096, true), ') ', 2), ' ');
  -- utime and stime; a process that has just ended has none.
  RETURN coalesce(nullif(fields[12]::double precision + fields[13]::double precision, 0) * 10, before);
EXCEPTION WHEN internal_error OR undefined_file THEN
  -- It ended when its file was open already (ESRCH, for which the server has no SQLSTATE of its own).
  RETURN before;
END
$$;
COMMENT ON FUNCTION public.processor_time IS 'Milliseconds of a processor that a process has used, in steps of 10; `before` when it is gone.';
CREATE FUNCTION public.strike(application text, statement text, how text, from_lines bigint, to_lines bigint, age double precision,
  OUT elapsed double precision, OUT processor double precision) LANGUAGE plpgsql AS $$
DECLARE
  seen boolean := false;
  victim int;
  lines bigint;
  milliseconds double precision;
  struck timestamptz;
  before double precision;
BEGIN
  FOR i IN 1..60000 LOOP
    PERFORM pg_stat_clear_snapshot();
    SELECT a.pid, p.tuples_processed, extract(epoch FROM clock_timestamp() - a.query_start) * 1000 INTO victim, lines, milliseconds
    FROM pg_stat_activity AS a LEFT JOIN pg_stat_progress_copy AS p USING (pid)
    WHERE a.application_name = application AND a.state = 'active' AND a.query ~ statement;
    IF lines > to_lines OR seen AND victim IS NULL THEN RETURN; END IF;
    seen := victim IS NOT NULL;
    IF lines >= from_lines OR milliseconds >= age THEN
      struck := clock_timestamp();
      before := public.processor_time(victim, NULL);
      processor := before;
      IF how <> 'statement_timeout' THEN EXECUTE format('SELECT %I($1)', how) USING victim; END IF;
      LOOP
        processor := public.processor_time(victim, processor);
        PERFORM pg_stat_clear_snapshot();
        EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = victim AND state = 'active');
        PERFORM pg_sleep(0.001);
      END LOOP;
      processor := processor - before;
      elapsed := extract(epoch FROM clock_timestamp() - struck) * 1000;
      RETURN;
    END IF;
    PERFORM pg_sleep(0.001);
  END LOOP;
END
$$;
