# A streaming, synchronous standby for each shard; servers name both hosts. Reads may go to the standbys. Then the
# primaries die under load and the standbys are promoted: writes go on, errors in between are ones to try again, and
# every order that was acknowledged is there.
use strict;
use warnings;

use FindBin;
use IPC::Run ();
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Psql;
use Test::More;
use Time::HiRes qw(sleep time);

my $dir = PostgreSQL::Test::Utils::tempdir;
my @retryable = qw(08001 08006 40001 40003 40P01 57P01 57P02 57P03 25006 55P03);

sub make_node {
	my ($name, @settings) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(allows_streaming => 1, extra => [ '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync' ]);
	$node->append_conf('postgresql.conf', join "\n", 'max_prepared_transactions = 20', 'fsync = off', 'autovacuum = off', 'log_statement = none', "log_line_prefix = '%n [%p] %e '", 'client_min_messages = warning', @settings);
	$node->start;
	return $node;
}
my $coordinator = make_node('coordinator');
my $store = "CREATE EXTENSION order_proc; SELECT order_proc.create_store(placement => 'modulo');";
my (@primaries, @standbys);
for my $shard (0, 1) {
	my $primary = make_node("primary$shard");
	$primary->safe_psql('postgres', $store);
	$primary->backup('base');
	my $standby = PostgreSQL::Test::Cluster->new("standby$shard");
	$standby->init_from_backup($primary, 'base', has_streaming => 1);
	$standby->start;
	$primary->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = '*'");
	$primary->reload;
	$primary->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')") or BAIL_OUT('no synchronous standby');
	push @primaries, $primary;
	push @standbys, $standby;
}
$coordinator->safe_psql('postgres', "$store CREATE EXTENSION postgres_fdw;");
for my $shard (0, 1) {
	$coordinator->safe_psql('postgres', sprintf "CREATE SERVER s%d FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '%s,%s', port '%s,%s', dbname 'postgres'); CREATE USER MAPPING FOR CURRENT_USER SERVER s%d; SELECT order_proc.add_shard('s%d')",
		$shard, $primaries[$shard]->host, $standbys[$shard]->host, $primaries[$shard]->port, $standbys[$shard]->port, $shard, $shard);
}
$coordinator->safe_psql('postgres', "SELECT order_proc.create_customer('C', n::text, NULL, n) FROM generate_series(1, 100) AS n");

sub gives { my ($sql, $wanted, $name) = @_; my ($output, $errors); $coordinator->psql('postgres', $sql, stdout => \$output, stderr => \$errors); is($output, $wanted, $name) or diag $errors; }

# --- reads of the standbys -----------------------------------------------------------------------------------------------

my $prefer = "SET order_proc.read_preference = 'prefer_standby';";
my $where = "SELECT string_agg(x, ',' ORDER BY x) FROM order_proc.fan_out('SELECT pg_is_in_recovery()::text') AS t(x text);";
$_->wait_for_catchup($standbys[ $_ == $primaries[0] ? 0 : 1 ]) for @primaries;
gives($where, 'false,false', 'reads go to the primaries');
gives("$prefer $where", 'true,true', 'or, when told so, to the standbys');
gives("$prefer SELECT order_proc.create_order_with_items(1, NULL, NULL, '{1}', '{1}', '{1}') > 0; $where", "t\ntrue,true", 'writes still to the primaries');
gives("$prefer BEGIN; SELECT order_proc.create_order_with_items(1, NULL, NULL, '{1}', '{1}', '{2}') AS o \\gset\nSELECT total_amount FROM order_proc.get_order(:o); SELECT count(*) FROM order_proc.list_orders(); ROLLBACK;", "2.00\n2", 'a transaction that wrote reads what it wrote');
# A standby cannot begin what may write or is serializable.
for my $level ('ISOLATION LEVEL REPEATABLE READ', 'ISOLATION LEVEL SERIALIZABLE', 'ISOLATION LEVEL SERIALIZABLE READ ONLY') {
	gives("$prefer BEGIN $level; SELECT count(*) FROM order_proc.list_orders(); $where COMMIT", "1\nfalse,false", "$level reads on the primaries");
}
gives("$prefer BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT count(*) FROM order_proc.list_orders(); $where COMMIT", "1\ntrue,true", 'a snapshot that only reads is one of the standbys');
gives("$prefer SELECT order_proc.new_order_id(1) > 0", 't', 'ids come from the primaries');
$standbys[1]->stop;
gives("$prefer $where", 'false,true', 'the primary where no standby answers');
$standbys[1]->start;
$primaries[1]->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')");

# --- promotion under load ---------------------------------------------------------------------------------------------------

# Each writer makes orders under keys of its own, one or two in a statement, and notes what was acknowledged and what failed.
my $writer = "$dir/writer.pl";
append_to_file($writer, <<'PERL');
use strict; use warnings; use IPC::Open2; use Time::HiRes qw(sleep time);
my ($connection, $number, $log) = @ARGV;
open my $out, '>>', $log or die; select((select($out), $| = 1)[0]);
my ($in, $to, $pid, $n) = (undef, undef, undef, 0);
until (-e "$log.stop") {
	$pid //= open2($in, $to, 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=0', '-d', $connection);
	$n++;
	my ($one, $other) = (1 + int rand 100, 1 + int rand 100);
	my $make = sub { "order_proc.create_order_with_items($_[0], NULL, NULL, '{1}', '{1}', '{1}', NULL, 'w$number-$n-$_[1]')" };
	my $sql = 'SELECT ' . join ', ', $make->($one, 'a'), $n % 2 ? () : $make->($other, 'b');
	print $to "$sql;\n\\if :ERROR\n\\echo ENDED :LAST_ERROR_SQLSTATE\n\\else\n\\echo ENDED 00000\n\\endif\n"; $to->flush;
	my $state = '08006';
	while (my $line = <$in>) { if ($line =~ /^ENDED (\S+)/) { $state = $1; last; } }
	printf $out "%.3f %s %s %s\n", time, $state, "w$number-$n-a $one", $n % 2 ? '' : "w$number-$n-b $other";
	sleep 0.05 if $state ne '00000';
}
PERL
my @writers = map { my ($in, $out) = ('', ''); IPC::Run::start([ $^X, $writer, $coordinator->connstr('postgres'), $_, "$dir/log$_" ], '<', \$in, '>', \$out, '2>&1') } 1 .. 3;
sub acknowledged { my $n = 0; for my $w (1 .. 3) { $n += () = (-e "$dir/log$w" ? slurp_file("$dir/log$w") : '') =~ /^\S+ 00000 /mg; } return $n; }
sub wait_for_more { my ($more) = @_; my $now = acknowledged(); for (1 .. 600) { return 1 if acknowledged() >= $now + $more; sleep 0.1; } return 0; }
ok(wait_for_more(60), 'orders are made');
for my $shard (0, 1) {
	# The coordinator's own commits end with those of the shard: nothing is lost whatever dies first.
	$primaries[$shard]->stop('immediate');
	sleep 0.5;
	$standbys[$shard]->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = ''");
	$standbys[$shard]->promote;
	ok(wait_for_more(60), "writes go on after the promotion of shard $shard\'s standby");
}
append_to_file("$dir/log$_.stop", 'x') for 1 .. 3;
IPC::Run::finish($_) for @writers;

my (%states, @made, @unknown);
for my $w (1 .. 3) {
	for my $line (split /\n/, slurp_file("$dir/log$w")) {
		my (undef, $state, @keys) = split ' ', $line;
		$states{$state}++;
		my $list = $state eq '00000' ? \@made : \@unknown;
		while (my ($key, $customer) = splice @keys, 0, 2) { push @$list, [ $key, $customer ]; }
	}
}
note('SQLSTATEs: ' . join ', ', map { "$_ $states{$_}" } sort keys %states);
my %allowed = map { $_ => 1 } '00000', @retryable;
is(join(' ', grep { !$allowed{$_} } sort keys %states), '', 'errors in between are ones to try again');
cmp_ok(scalar(keys %states), '>', 1, 'there were some');
$coordinator->safe_psql('postgres', 'SELECT * FROM order_proc.recover()');
my %there = map { $_ => 1 } split /\n/, $coordinator->safe_psql('postgres', "SELECT x FROM order_proc.fan_out('SELECT customer_id || '' '' || key FROM order_store.idempotency_keys') AS t(x text)");
is(scalar(grep { !$there{"$_->[1] $_->[0]"} } @made), 0, scalar(@made) . ' acknowledged orders are there');
# Pairs of one transaction: both or none.
my %half;
$half{ $_->[0] =~ s/-[ab]$//r } += $there{"$_->[1] $_->[0]"} ? 1 : 0 for grep { (split /-/, $_->[0])[1] % 2 == 0 } @made, @unknown;
is(scalar(grep { $_ == 1 } values %half), 0, 'of two orders of a transaction both or none');
gives("SELECT sum(n) FROM order_proc.fan_out('SELECT count(*) FROM pg_prepared_xacts') AS t(n bigint)", 0, 'nothing is in doubt');

$_->stop for $coordinator, @standbys;
for my $node ($coordinator, @primaries, @standbys) {
	is(join("\n", grep { / XX\d{3} (?:ERROR|FATAL|PANIC)|PANIC:|terminated by signal/ } split /\n/, slurp_file($node->logfile)), '', 'no crash and no internal error in the log of ' . $node->name);
}

done_testing();
