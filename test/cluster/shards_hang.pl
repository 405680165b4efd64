# fan_out(on_failure => 'warn') and shards that stop answering on connections that are open: each is a WARNING, within a bound,
# and the others' rows come. A query that takes long on a shard that lives is waited for.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Calls;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

sub make_node {
	my ($name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => [ '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync' ]);
	$node->append_conf('postgresql.conf', "max_prepared_transactions = 20\nfsync = off\nautovacuum = off\norder_proc.recovery_worker = off\nclient_min_messages = warning\nlog_line_prefix = '%n [%p] %e '");
	$node->start;
	$node->safe_psql('postgres', "CREATE EXTENSION order_proc; SELECT order_proc.create_store(placement => 'modulo');");
	return $node;
}
my ($coordinator, @shards) = map { make_node($_) } 'coordinator', map { "shard$_" } 0 .. 3;
$Calls::node = $coordinator;
$coordinator->safe_psql('postgres', 'CREATE EXTENSION postgres_fdw');
for my $n (0 .. 3) {
	$coordinator->safe_psql('postgres', sprintf "CREATE SERVER s$n FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '%s', port '%s', dbname 'postgres'); CREATE USER MAPPING FOR CURRENT_USER SERVER s$n; SELECT order_proc.add_shard('s$n')",
		$shards[$n]->host, $shards[$n]->port);
}
sub all_postgres { my ($node) = @_; my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0]; return "$postmaster \$(pgrep -P $postmaster)"; }
sub its_sessions { my ($node) = @_; return sprintf q{$(psql -XAtq -d '%s' -c "SELECT pid FROM pg_stat_activity WHERE application_name = 'order_proc'")}, $node->connstr('postgres'); }

# The server stands still, as it does on a machine that is frozen or cut off: it takes connections, and says nothing.
sub stop_all { return join "\n", '', (map { "\\! kill -STOP @{[ all_postgres($_) ]}" } @_), ''; }
sub go_on { return join "\n", '', (map { "\\! kill -CONT @{[ all_postgres($_) ]}" } @_), 'RESET order_proc.connect_timeout;'; }
# Its session looks as if it were there, until it is used; no other can be had.
sub dies_later {
	my ($node) = @_;
	my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
	return "\n\\! p=@{[ its_sessions($node) ]}; kill -STOP \$p; kill -KILL $postmaster; (sleep 0.4; kill -KILL \$p) >/dev/null 2>&1 </dev/null &\n";
}
sub revive { my ($node) = @_; $node->stop('immediate', fail_ok => 1); $node->start; return; }

sub fan_out { my ($query, $type) = @_; return sprintf 'SELECT x FROM order_proc.fan_out($q$%s$q$, NULL, \'warn\') AS t(x %s) ORDER BY x;', $query, $type // 'int'; }
my $ids = fan_out('SELECT order_proc.shard_id()');
my $all = "0\n1\n2\n3";
my $timed = sub { my ($sql) = @_; return "SELECT clock_timestamp() AS began \\gset\n$sql\nSELECT 'took', round(1000 * extract(epoch FROM clock_timestamp() - :'began'));"; };
my $quick = 'SET order_proc.connect_timeout = 1000;';
my $atomic = 'SET order_proc.read_consistency = atomic;';

# One test of the rows, one of the shards that are warned about, one of the time.
sub left_out {
	my ($sql, $output, $left_out, $milliseconds, $name) = @_;
	my $it = run($sql);
	my $took = $it->{output} =~ s/^took\|(\d+)$//m ? $1 : -1;
	is($it->{output} =~ s/\n+$//r =~ s/\n\n/\n/r, $output, $name) or diag $it->{errors};
	is(join(' ', $it->{errors} =~ /WARNING:\s+08\d{3}: .*?shard (\d+)/g), join(' ', @$left_out), '  each that is left out is a WARNING') or diag $it->{errors};
	cmp_ok($took, '<', $milliseconds, "  after $took ms");
	return $it->{errors};
}

# --- shards that hang ----------------------------------------------------------------------------------------------------------

like(left_out("$ids $quick" . stop_all($shards[2]) . $timed->($ids) . go_on($shards[2]) . $ids, "$all\n0\n1\n3\n$all", [2], 20_000, 'a shard that hangs on a connection that is open'),
	qr/did not answer within 1000 ms.*second connection/s, '  which tells why');
left_out("$ids $quick" . stop_all(@shards[ 1, 2 ]) . $timed->($ids . $ids) . go_on(@shards[ 1, 2 ]), "$all\n0\n3\n0\n3", [ 1, 2, 1, 2 ], 20_000, 'two of them, at once; then they are not connected to');
left_out("$ids $quick BEGIN; $ids" . stop_all($shards[2]) . $timed->("$ids COMMIT;") . go_on($shards[2]) . $ids, "$all\n$all\n0\n1\n3\n$all", [2], 20_000, 'in a READ COMMITTED transaction');
left_out("BEGIN ISOLATION LEVEL REPEATABLE READ; $ids $quick" . "COMMIT;\n" . stop_all($shards[2]) . $timed->($ids) . go_on($shards[2]) . $ids, "$all\n0\n1\n3\n$all", [2], 20_000, 'behind a transaction that read there');
{
	my $it = run("BEGIN ISOLATION LEVEL REPEATABLE READ; $ids $quick" . stop_all($shards[2]) . $ids, stop => 0);
	is($it->{state}, '08006', 'not in a transaction that keeps its snapshot there') or diag $it->{output};
	run(go_on($shards[2]));
	my $rows = fan_out(q{SELECT CASE WHEN n < 3 OR order_proc.shard_id() <> 2 THEN repeat('x', 20000) ELSE pg_sleep(30)::text END FROM generate_series(1, 3) AS n}, 'text');
	my $stop = sprintf q{\! (sleep 1.5; kill -STOP %s) >/dev/null 2>&1 </dev/null &}, all_postgres($shards[2]);
	$it = run("$ids $quick\n$stop\n$rows");
	is($it->{state}, '08006', 'nor one whose rows have come in part') or diag $it->{output};
	run(go_on($shards[2]));
}
{
	my $it = run("$ids $quick SET statement_timeout = 1500;" . stop_all($shards[2]) . $ids, stop => 0);
	is($it->{state}, '57014', 'interrupts are served while it is asked whether it lives') or diag $it->{errors};
	run(go_on($shards[2]));
}
my $patient = 'SET order_proc.connect_timeout = 1500;';
my $long = fan_out('SELECT order_proc.shard_id() FROM pg_sleep(4)');
left_out("$ids $patient" . $timed->($long), "$all\n$all", [], 60_000, 'a query that takes longer is waited for');
gives("$ids $patient" . fan_out('SELECT order_proc.shard_id() FROM pg_sleep(CASE WHEN order_proc.shard_id() = 1 THEN 4 ELSE 0 END)')
	. q{SELECT DISTINCT n FROM order_proc.fan_out($$SELECT count(*) FROM pg_stat_activity WHERE application_name = 'order_proc'$$) AS t(n bigint)}, "$all\n$all\n1", 'on one of them as well; the second connections are closed');
$shards[1]->append_conf('postgresql.conf', "max_connections = 8\nsuperuser_reserved_connections = 0\nmax_wal_senders = 0");
$shards[1]->restart;
{
	my @others = map { $shards[1]->background_psql('postgres', on_error_stop => 0) } 1 .. 7;
	left_out("$ids $patient" . $timed->($long), "$all\n$all", [], 60_000, 'and on one that has no connection to spare');
	$_->quit for @others;
	like(slurp_file($shards[1]->logfile), qr/ 53300 FATAL/, '  which said so');
}

# --- a cut: shards that hang or go down behind the look at the connections -----------------------------------------------------------

for my $level ('READ COMMITTED', 'REPEATABLE READ') {
	my $read = "BEGIN ISOLATION LEVEL $level; $ids COMMIT;";
	like(left_out("$atomic $ids $quick" . stop_all($shards[2]) . $timed->($read) . go_on($shards[2]) . $read, "$all\n0\n1\n3\n$all", [2], 20_000, "$level, atomic: a shard that hangs"), qr/did not answer within 2000 ms/, '  which tells why');
	left_out("$atomic $ids $quick" . dies_later($shards[3]) . $timed->($read), "$all\n0\n1\n2", [3], 20_000, "$level, atomic: a shard that goes down");
	revive($shards[3]);
	gives("$atomic $read", $all, '  and is up again');
}
my $suicide = sub { return fan_out("SELECT order_proc.shard_id() FROM pg_sleep(CASE WHEN order_proc.shard_id() = $_[0] AND pg_terminate_backend(pg_backend_pid()) THEN 60 ELSE 0 END)"); };
left_out("$atomic $ids" . $timed->($suicide->(1)) . $ids, "$all\n0\n2\n3\n$all", [1], 20_000, 'a session that ends with the snapshot of the cut');
left_out("$atomic BEGIN ISOLATION LEVEL REPEATABLE READ;\n" . $timed->($suicide->(1)) . "COMMIT; $ids", "0\n2\n3\n$all", [1], 20_000, 'at the first read of a REPEATABLE READ transaction as well');
refused("$atomic BEGIN ISOLATION LEVEL REPEATABLE READ; $ids @{[ $suicide->(1) ]}", '08006', 'not at a later one');
refused("$atomic " . $suicide->(1) =~ s/'warn'/'error'/r, '08006', "nor with on_failure => 'error'");

$_->stop for $coordinator, @shards;
for my $node ($coordinator, @shards) {
	is(join("\n", grep { / XX\d{3} (?:ERROR|FATAL|PANIC)|PANIC:/ } split /\n/, slurp_file($node->logfile)), '', 'no internal error in the log of ' . $node->name);
}
done_testing();
