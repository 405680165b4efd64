# Orders and transfers by several clients while servers are killed, frozen and cut off at random. At the end all that was
# acknowledged is there, once and whole, nothing else is, no money was made or lost, and nothing is in doubt.
#
#   FAILURES_SEED          the seed of clients and nemesis; otherwise the time, and it is told
#   FAILURES_TRANSACTIONS  of all clients together (4000)
#   FAILURES_CRASHES       at least so many; the clients go on until then (12)
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Failures;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $seed = $ENV{FAILURES_SEED} // time % 1_000_000;
$seed = int $seed;
my $transactions = $ENV{FAILURES_TRANSACTIONS} // 4000;
my $crashes_wanted = $ENV{FAILURES_CRASHES} // 12;
my ($clerks, $bankers) = (4, 2);
note("FAILURES_SEED=$seed");
srand $seed;

my $program = Failures::program('workload') or plan(skip_all => 'no C++ compiler');
my $cluster = Failures->new(shards => 3, customers => 200, settings => "lock_timeout = '2s'\n");
my $coordinator = $cluster->{coordinator};
my @shards = @{ $cluster->{shards} };

$coordinator->safe_psql('postgres', q{SELECT count(*) FROM order_proc.fan_out_exec('CREATE SCHEMA bank');
SELECT count(*) FROM order_proc.fan_out_exec('CREATE TABLE bank.account (id int PRIMARY KEY, balance bigint NOT NULL)')});
$shards[$_]->safe_psql('postgres', "INSERT INTO bank.account SELECT n, 1000 FROM generate_series(1, 60) AS n WHERE n % 3 = $_") for 0 .. 2;
sub total {
	my $sum = 0;
	$sum += $_->safe_psql('postgres', 'SELECT sum(balance) FROM bank.account') for @shards;
	return $sum;
}
is(total(), 60_000, 'the bank opens');

# --- the clients ---------------------------------------------------------------------------------------------------

my $folder = PostgreSQL::Test::Utils::tempdir();
my (@clients, @logs);
my $share = int($transactions / ($clerks + $bankers)) + 1;
for my $client (0 .. $clerks + $bankers - 1) {
	my $kind = $client < $clerks ? 'ledger' : 'bank';
	my $log = "$folder/$kind$client.log";
	push @logs, $log;
	my $pid = fork // die "cannot fork: $!";
	# They go on until the nemesis has had its crashes, so the number is a bound far away.
	if ($pid == 0) { exec $program, $kind, $cluster->address, $seed, $client, $share * 50, $log or POSIX::_exit(1); }
	push @clients, $pid;
}
sub done_so_far { my $lines = 0; for (@logs[ 0 .. $clerks - 1 ]) { $lines += () = slurp_file($_) =~ /\n/g if -e $_; } return $lines * ($clerks + $bankers) / $clerks; }

# --- the nemesis ---------------------------------------------------------------------------------------------------

sub any { return $_[ int rand @_ ]; }
my $crashes = 0;
my %counts;
my @nemeses = (
	[ 'kill -9 of a session', sub {
			my $pid = $coordinator->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1");
			kill 'KILL', $pid if $pid; } ],
	[ 'kill -9 of the coordinator', sub { $cluster->kill_node($coordinator); sleep rand 0.5; } ],
	[ 'kill -9 of a shard', sub { $cluster->kill_node(any(@shards)); sleep rand 0.5; } ],
	[ 'kill -9 of two servers', sub { my $one = any(@shards); $cluster->kill_node($_) for $one, any(grep { $_ != $one } $cluster->nodes); sleep rand 0.5; } ],
	[ 'kill -9 of a session of a shard', sub {
			my $pid = any(@shards)->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1");
			kill 'KILL', $pid if $pid; } ],
	[ 'a shard freezes', sub { $cluster->freeze(any(@shards)); sleep 0.2 + rand 3; } ],
	[ 'a network is cut', sub { $cluster->cut(int rand 3); sleep rand 1; } ],
	[ 'a network is silent', sub { $cluster->swallow(int rand 3); sleep 0.2 + rand 3; } ],
	[ 'cancels', sub {
			for (1 .. 20) { $coordinator->psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND random() < 0.5"); sleep 0.02; } } ],
	[ 'terminations', sub { $coordinator->psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"); } ],
	[ 'recover()', sub { $coordinator->psql('postgres', 'SELECT * FROM order_proc.recover()', timeout => 30); } ]);

my $began = time;
while ($crashes < $crashes_wanted || done_so_far() < $transactions) {
	sleep 0.3 + rand 0.7;
	my $nemesis = any(@nemeses);
	$counts{ $nemesis->[0] }++;
	$crashes++ if $nemesis->[0] =~ /^kill/;
	eval { $nemesis->[1]->(); };
	$cluster->heal;
}
append_to_file("$_.stop", 'now') for @logs;
waitpid $_, 0 for @clients;
$cluster->heal;
note(sprintf '%d transactions of ledger and bank, %d crashes in %.0f s: %s', done_so_far(), $crashes, time - $began, join ', ', map { "$_ $counts{$_}" } sort keys %counts);

# --- the reckoning -------------------------------------------------------------------------------------------------

my $settled = eval { $cluster->settle };
ok(defined $settled, 'nothing stays prepared') or diag $@;
note(sprintf 'settled after %.2f s', $settled // -1);
my ($violations, $outcomes) = eval { $cluster->violations(@logs[ 0 .. $clerks - 1 ]) };
if ($violations) {
	is(join("\n", @$violations), '', "the ledger of FAILURES_SEED=$seed has no violation");
	note(join ', ', map { "$_ $outcomes->{$_}" } sort keys %$outcomes);
}
else { fail('the ledger can be read'); diag $@; }
is(total(), 60_000, 'no money was made or lost');
is($coordinator->safe_psql('postgres', 'SELECT count(*) FROM order_proc.in_doubt'), '0', 'nothing is in doubt');
done_testing();
