# Every point of a commit over two shards, times what may break there: the process, the server, a shard, the network. What the
# client was told is what is there; both orders or none; and nothing stays prepared.
#
#   FAILURES_FREEZE=10   seconds that a frozen server or a silent network stays so where the client has to wait for it (3)
#   FAILURES_ALL=1       everything at every point, not only at the most telling ones
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Failures;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $freeze = $ENV{FAILURES_FREEZE} // 3;
my $cluster = Failures->new(shards => 3);
my $coordinator = $cluster->{coordinator};
my @shards = @{ $cluster->{shards} };
# An order for each of two shards.
my @customers = map { $coordinator->safe_psql('postgres', "SELECT min(n) FROM generate_series(1, 200) AS n WHERE order_proc.shard_for_customer(n) = $_") } 0, 1;
plan(skip_all => 'the library was built without ORDER_PROC_FAILPOINTS') if $coordinator->psql('postgres', "SET order_proc.failpoint = ''") != 0;

my $serial = 0;
sub orders_of { my ($key) = @_; return map { "SELECT order_proc.create_order_with_items($customers[$_], 'pending', NULL, '{1,2}', '{1,2}', '{1.25,2.50}', NULL, '$key$_')" } 0, 1; }

my %breaks = (
	'nothing' => sub { },
	'the session is cancelled' => sub { my ($pid) = @_; $coordinator->safe_psql('postgres', "SELECT pg_cancel_backend($pid)"); },
	'the session is terminated' => sub { my ($pid) = @_; $coordinator->safe_psql('postgres', "SELECT pg_terminate_backend($pid)"); },
	'kill -9 of the session' => sub { my ($pid) = @_; kill 'KILL', $pid; },
	'kill -9 of the coordinator' => sub { my ($pid) = @_; $cluster->kill_node($coordinator); kill 'KILL', $pid; },
	'kill -9 of the first shard' => sub { $cluster->kill_node($shards[0]); },
	'kill -9 of the second shard' => sub { $cluster->kill_node($shards[1]); },
	'kill -9 of both shards' => sub { $cluster->kill_node($_) for @shards[ 0, 1 ]; },
	'sessions of the second shard are terminated' => sub { $shards[1]->safe_psql('postgres', "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"); },
	'the first shard freezes' => sub { $cluster->freeze($shards[0]); },
	'the network to the first shard is cut' => sub { $cluster->cut(0); },
	'the second shard freezes' => sub { $cluster->freeze($shards[1]); },
	'the network to the second shard is cut' => sub { $cluster->cut(1); },
	'the network to both shards is cut' => sub { $cluster->cut($_) for 0, 1; },
	'the network to the second shard is silent' => sub { $cluster->swallow(1); });

# Who decides: the coordinator, the shards, or the shards prepared in the message of the call; and the points of the commit, with whether
# an error may be raised there by us.
my @points = ((map { [ $_, 1 ] } 'f3_decision_written', 'f4_prepare_sent', 'f6_prepared_first', 'f8_prepared'), (map { [ $_, 0 ] } 'f13_before_commit_prepared', 'f14_commit_prepared_first'));
my %points = (
	coordinator => [ [ 'f1_before_begin', 1 ], @points ],
	shards => \@points,
	'shards, with the call' => \@points);
# Where everything is broken: one has been asked, one has prepared, all have, and it is decided.
my %telling = (
	coordinator => [ 'f8_prepared', 'f13_before_commit_prepared' ],
	shards => [ 'f6_prepared_first', 'f8_prepared', 'f13_before_commit_prepared' ],
	# Behind that it is as without.
	'shards, with the call' => [ 'f4_prepare_sent', 'f6_prepared_first' ]);
my $decides = 'shards';

sub document { my ($key) = @_; return '[' . join(',', map { qq({"customer_id": $customers[$_], "product_ids": [1,2], "quantities": [1,2], "prices": [1.25,2.50], "idempotency_key": "$key$_"}) } 0, 1) . ']'; }
# What a session is told to do: orders of one transaction.
sub commands {
	my ($key, @orders) = @_;
	my $setting = 'SET order_proc.shards_decide = ' . ($decides eq 'coordinator' ? 'off' : 'on');
	my @calls = orders_of($key);
	return ($setting, @orders > 1 ? "SELECT order_proc.create_orders('" . document($key) . "')" : @calls[@orders]) if $decides =~ /call/;
	return ($setting, 'BEGIN', @calls[@orders], 'COMMIT');
}

# Lets the session reach the point, breaks something there, lets it go, makes everything whole and looks.
sub check {
	my ($point, $break, @orders) = @_;
	my $key = 'k' . ++$serial . '-';
	my $what = (@orders > 1 ? "by the $decides: " : 'one shard: ') . "$point, $break";
	my $session = $cluster->start_session("SET order_proc.failpoint = '$point=pause'", commands($key, @orders));
	my $pid = $cluster->reached($session);
	unless ($pid) { fail("$what: the point is reached"); diag $session->{messages}; $cluster->end_session($session); return; }
	$breaks{$break}->($pid);
	my $released = time;
	$cluster->release;
	my $frozen = $break =~ /freezes|silent/;
	# The client is answered while the shard still hangs, or when it comes back, whatever is sooner.
	my $bounded = $frozen && $point !~ /f1_before_begin|one_sent_with_call/;
	my $lasts = $bounded ? 20 : $freeze;
	while ($frozen && time - $released < $lasts) { sleep 0.02; IPC::Run::pump_nb($session->{run}); last unless IPC::Run::pumpable($session->{run}); }
	my $answered = time - $released;
	# A run with a freeze of its own is a measurement.
	cmp_ok($answered, '<=', $ENV{FAILURES_FREEZE} ? 2.5 : $lasts - 0.5, sprintf('%s: the commit is answered after %.2f s', $what, $answered)) if $bounded;
	$cluster->heal if $frozen;
	my $told = $cluster->end_session($session);
	$cluster->heal;
	my $took = eval { $cluster->settle };
	if (!defined $took) { fail("$what: settled"); diag $@; BAIL_OUT('what follows would mean nothing'); }
	my @there = map { $coordinator->safe_psql('postgres', "SELECT order_proc.outcome($customers[$_], '$key$_') IS NOT NULL") } @orders;
	my $there = join '', @there;
	my $wanted = $told eq 'ok' ? qr/^t+$/ : $told eq 'failed' ? qr/^f+$/ : qr/^(?:t+|f+)$/;
	like($there, $wanted, "$what: told $told $session->{state}, there $there") or diag $session->{messages};
	return $told;
}

sub check_error {
	my ($name) = @_;
	my $key = 'e' . ++$serial . '-';
	my $session = $cluster->start_session("SET order_proc.failpoint = '$name=error'", commands($key, 1, 0));
	is($cluster->end_session($session), 'failed', "by the $decides: $name, an error: the transaction fails");
	is($session->{state}, '58030', '  with that error');
	ok(eval { $cluster->settle; 1 }, '  nothing stays prepared') or diag $@;
	is($coordinator->safe_psql('postgres', "SELECT order_proc.outcome($customers[0], '${key}0') IS NULL AND order_proc.outcome($customers[1], '${key}1') IS NULL"), 't', '  and nothing is there');
}
for (sort keys %points) {
	$decides = $_;
	for my $point (@{ $points{$decides} }) {
		my ($name, $may_fail) = @$point;
		my $all = $ENV{FAILURES_ALL} || grep { $_ eq $name } @{ $telling{$decides} };
		# The shard that is used last is the first to be asked, and heads the list of those that decide.
		for my $break (sort keys %breaks) { check($name, $break, 1, 0) if $all || $break =~ /nothing|kill -9 of the coord/; }
		check_error($name) if $may_fail;
	}
}
# One shard, no local write: its commit decides.
$decides = 'shards';
for my $point ('one_before_commit', 'one_commit_sent') {
	for my $break (sort keys %breaks) {
		next if $break =~ /second|both/;
		check($point, $break, 0);
	}
}
# The same in the message of the call.
$decides = 'shards, with the call';
for my $break (sort keys %breaks) {
	check('one_sent_with_call', $break, 1) unless $break =~ /first|both/;
}
# What fails between the shard's commit and the end here cannot take it back, and says so.
{
	my $session = $cluster->start_session("SET order_proc.failpoint = 'one_committed_with_call=error'", commands('told', 1));
	$cluster->end_session($session);
	is($session->{state}, '58030', 'an error behind the commit in the message of the call');
	like($session->{messages}, qr/WARNING:.*the call was committed on its shard before the error/, '  comes with a warning');
	is($coordinator->safe_psql('postgres', "SELECT order_proc.outcome($customers[1], 'told1') IS NOT NULL"), 't', '  and the order is there');
}

# Receipts are forgotten in steps: what breaks in between leaves nothing that looks lost, and all is forgotten in the end.
sub logged_receipts { return join ' ', map { $_->safe_psql('postgres', "SELECT count(*) FROM order_store.receipts WHERE gid LIKE 'opc3%' AND receipt_key <> 0") } @shards; }
$coordinator->append_conf('postgresql.conf', 'order_proc.recovery_worker = off');
$coordinator->reload;
$coordinator->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'order_proc recovery worker')");
$decides = 'shards';
for my $point ('forget_first_closed', 'forget_others_removed') {
	for my $break (sort keys %breaks) {
		next unless $ENV{FAILURES_ALL} || $break =~ /kill -9 of the (?:coord|first)/;
		my $what = "receipts are forgotten: $point, $break";
		$coordinator->safe_psql('postgres', 'SELECT order_proc.recover()');
		is($cluster->end_session($cluster->start_session(commands('r' . ++$serial . '-', 1, 0))), 'ok', "$what: an order");
		is(logged_receipts(), '1 1 0', '  with receipts');
		my $session = $cluster->start_session("SET order_proc.failpoint = '$point=pause'", 'SELECT action FROM order_proc.recover()');
		my $pid = $cluster->reached($session);
		ok($pid, '  the point is reached') or diag $session->{messages};
		my $restore_point = ($coordinator->psql('postgres', "SET lock_timeout = 100; SELECT order_proc.create_restore_point('between')"))[2];
		like($restore_point, qr/lock timeout/, '  no restore point comes in between');
		$breaks{$break}->($pid);
		$cluster->release;
		if ($break =~ /freezes|silent/) { sleep $freeze; $cluster->heal; }
		$cluster->end_session($session);
		$cluster->heal;
		unlike($session->{output}, qr/damaged/, '  nothing is taken for lost');
		is($coordinator->safe_psql('postgres', 'SELECT action FROM order_proc.recover(); SELECT action FROM order_proc.recover()'), '', '  nor later');
		is(logged_receipts(), '0 0 0', '  all is forgotten');
	}
}

my ($violations) = eval { $cluster->orders; [] } // [$@];
is("@$violations", '', 'every order is whole and on its shard');
is($coordinator->safe_psql('postgres', 'SELECT count(*) FROM order_proc.in_doubt'), '0', 'nothing is in doubt');
done_testing();
