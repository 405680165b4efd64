# Sessions that are cancelled, ended or timed out at a chosen moment, and how soon they stop. On a busy machine that is a matter of its
# other processes, so what counts is the work that a session still does: its time of a processor, and that it stops at all.
package Strikes;

use strict;
use warnings;

use Exporter qw(import);
use Test::More;

our @EXPORT = qw(make_strike strike stops_soon);

# Milliseconds of a processor, and of the clock; the latter is for a session that would wait for ever.
my ($work, $patience) = (250, 30_000);

# Makes the function that strike() calls, in a database of the victim's server.
sub make_strike {
	my ($node, $database) = @_;
	$node->safe_psql($database // 'postgres', <<'SQL');
CREATE FUNCTION public.processor_time(pid int, before double precision) RETURNS double precision LANGUAGE plpgsql AS $$
DECLARE
  fields text[] := string_to_array(split_part(pg_read_file('/proc/' || pid || '/stat', 0, 4096, true), ') ', 2), ' ');
BEGIN
  -- utime and stime; a process that ends just now has none.
  RETURN coalesce(nullif(fields[12]::double precision + fields[13]::double precision, 0) * 10, before);
EXCEPTION WHEN OTHERS THEN
  RETURN before;
END
$$;
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
SQL
}

# Calls `how` (pg_cancel_backend, pg_terminate_backend, or statement_timeout for a session that has one of `age`) for the backend named
# `application` while it runs a statement that matches `statement`: once that has read and loaded as many lines as the first of
# `lines`, as pg_stat_progress_copy counts them, but not more than the second; or is `age` milliseconds old. How many milliseconds
# later it had stopped, and how many of a processor it took for that; undef when it was not met there.
sub strike {
	my ($node, %it) = @_;
	my ($from, $to) = map { defined ? sprintf '%d', $_ : 'NULL' } ($it{lines} // [ undef, undef ])->@*;
	my $age = $it{age} // 'NULL';
	my $took = $node->safe_psql($it{database} // 'postgres', "SELECT round(elapsed), round(processor) FROM public.strike('$it{application}', '$it{statement}', '$it{how}', $from, $to, $age)");
	return $took =~ /^(\d+)\|(\d+)$/ ? { elapsed => $1, processor => $2 } : undef;
}

# A test of what strike() returned.
sub stops_soon {
	my ($took) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($took->{processor} <= $work && $took->{elapsed} <= $patience, "  stops after $took->{processor} ms of a processor, $took->{elapsed} ms by the clock");
}

1;
