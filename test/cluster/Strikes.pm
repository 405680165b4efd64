# Sessions that are cancelled, ended or timed out at a chosen moment, and how soon they stop. On a busy machine that is a matter of its
# other processes, so what counts is the work that a session still does: its time of a processor, and that it stops at all.
package Strikes;

use strict;
use warnings;

use Exporter qw(import);
use File::Basename qw(dirname);
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

our @EXPORT = qw(make_strike strike stops_soon);

# Milliseconds of a processor, and of the clock; the latter is for a session that would wait for ever.
my ($work, $patience) = (250, 30_000);

# Makes the function that strike() calls, in a database of the victim's server.
sub make_strike {
	my ($node, $database) = @_;
	$node->safe_psql($database // 'postgres', slurp_file(dirname(__FILE__) . '/../strike.sql'));
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
