# Sessions that are cancelled or ended at a chosen moment, and how soon they stop.
package Strikes;

use strict;
use warnings;

use Exporter qw(import);

our @EXPORT = qw(make_strike strike);

# Makes the function that strike() calls, in a database of the victim's server.
sub make_strike {
	my ($node, $database) = @_;
	$node->safe_psql($database // 'postgres', <<'SQL');
CREATE FUNCTION public.strike(application text, statement text, how text, from_lines bigint, to_lines bigint, age double precision) RETURNS double precision LANGUAGE plpgsql AS $$
DECLARE
  seen boolean := false;
  victim int;
  lines bigint;
  milliseconds double precision;
  struck timestamptz;
BEGIN
  FOR i IN 1..60000 LOOP
    PERFORM pg_stat_clear_snapshot();
    SELECT a.pid, p.tuples_processed, extract(epoch FROM clock_timestamp() - a.query_start) * 1000 INTO victim, lines, milliseconds
    FROM pg_stat_activity AS a LEFT JOIN pg_stat_progress_copy AS p USING (pid)
    WHERE a.application_name = application AND a.state = 'active' AND a.query ~ statement;
    IF lines > to_lines OR seen AND victim IS NULL THEN RETURN NULL; END IF;
    seen := victim IS NOT NULL;
    IF lines >= from_lines OR milliseconds >= age THEN
      struck := clock_timestamp();
      EXECUTE format('SELECT %I($1)', how) USING victim;
      LOOP
        PERFORM pg_stat_clear_snapshot();
        EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = victim AND state = 'active');
        PERFORM pg_sleep(0.001);
      END LOOP;
      RETURN extract(epoch FROM clock_timestamp() - struck) * 1000;
    END IF;
    PERFORM pg_sleep(0.001);
  END LOOP;
  RETURN NULL;
END
$$;
SQL
}

# Calls `how` (pg_cancel_backend, pg_terminate_backend) for the backend named `application` while it runs a statement that matches
# `statement`: once that has read and loaded as many lines as the first of `lines`, as pg_stat_progress_copy counts them, but
# not more than the second; or is `age` milliseconds old. After how many milliseconds it had stopped; '' when it was not met there.
sub strike {
	my ($node, %it) = @_;
	my ($from, $to) = map { defined ? sprintf '%d', $_ : 'NULL' } ($it{lines} // [ undef, undef ])->@*;
	my $age = $it{age} // 'NULL';
	return $node->safe_psql($it{database} // 'postgres', "SELECT round(public.strike('$it{application}', '$it{statement}', '$it{how}', $from, $to, $age))");
}

1;
