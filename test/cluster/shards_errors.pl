# One session, errors on its shards by the thousand, of every kind: what it holds at the end is what it held before, and so
# do its sessions on the shards. Descriptors, and memory of the process beside what it shares.
#
#   ORDER_PROC_ERRORS  how many (2,000)
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Calls;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $errors = $ENV{ORDER_PROC_ERRORS} // 2_000;

sub make_node {
	my ($name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => [ '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync' ]);
	$node->append_conf('postgresql.conf', "max_prepared_transactions = 20\nfsync = off\nautovacuum = off\nlog_min_messages = fatal\nlog_min_error_statement = panic\nclient_min_messages = error\norder_proc.recovery_worker = off");
	$node->start;
	$node->safe_psql('postgres', "CREATE EXTENSION order_proc; SELECT order_proc.create_store(placement => 'modulo');");
	return $node;
}
my $coordinator = make_node('coordinator');
$Calls::node = $coordinator;
my @shards = map { make_node("shard$_") } 0 .. 1;
$coordinator->safe_psql('postgres', 'CREATE EXTENSION postgres_fdw');
for my $n (0 .. 1) {
	$coordinator->safe_psql('postgres', sprintf "CREATE SERVER s$n FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '%s', port '%s', dbname 'postgres'); CREATE USER MAPPING FOR CURRENT_USER SERVER s$n; SELECT order_proc.add_shard('s$n')",
		$shards[$n]->host, $shards[$n]->port);
}
$coordinator->safe_psql('postgres', "SELECT order_proc.create_customer('A', 'B', id => n) FROM generate_series(1, 10) AS n");
$_->safe_psql('postgres', 'CREATE TABLE public.late (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)') for @shards;

sub create { my ($customer, $items) = @_; $items //= "'{1}', '{1}', '{1}'"; return "order_proc.create_order_with_items($customer, NULL, NULL, $items)"; }
# What fails, its SQLSTATE, and how often beside the others. Each is a transaction of its own, or ends one.
my @kinds = (
	[ '22012', 20, q{SELECT * FROM order_proc.fan_out('SELECT 1/0') AS t(x int);} ],
	[ '22012', 20, q{SELECT * FROM order_proc.fan_out(format('SELECT %s/0', random())) AS t(x float);} ],
	[ '42804', 10, q{SELECT * FROM order_proc.fan_out('SELECT 1, 2') AS t(x int);} ],
	[ '42P01', 10, q{SELECT * FROM order_proc.fan_out_exec('DELETE FROM public.nowhere');} ],
	[ '22012', 10, q{SELECT * FROM order_proc.fan_out_aggregate('SELECT sum(1 / (id - id)) FROM order_store.customers') AS t(s numeric);} ],
	[ '23503', 20, 'SELECT ' . create(11) . ';' ],
	[ '23514', 20, 'SELECT ' . create(1, "'{1}', '{0}', '{1}'") . ';' ],
	[ '22012', 20, 'SELECT ' . create(1) . ', ' . create(2) . ', 1 / (random() * 0)::int;' ],
	[ '22012', 20, 'BEGIN; SAVEPOINT a; SELECT ' . create(1) . '; SELECT ' . create(2) . ', 1 / (random() * 0)::int; ROLLBACK TO a; ROLLBACK;' ],
	[ '', 20, 'DO $$ BEGIN FOR n IN 1 .. 5 LOOP BEGIN PERFORM ' . create(1) . '; PERFORM ' . create(11) . '; EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$;' ],
	[ '23505', 5, q{BEGIN; SELECT * FROM order_proc.fan_out_exec('INSERT INTO public.late VALUES (1), (1)'); COMMIT;} ],
	[ '23503', 5, q{SELECT order_proc.batch_create_order_items('{4096,4097}', '{1,1}', '{1,1}', '{1,1}');} ],
	[ '57014', 2, q{SET statement_timeout = 5; SELECT * FROM order_proc.fan_out('SELECT pg_sleep(10)::text') AS t(x text); RESET statement_timeout;} ],
	[ '08006', 2, q{SELECT * FROM order_proc.fan_out('SELECT pg_terminate_backend(pg_backend_pid())') AS t(x bool);} ],
);
for my $kind (@kinds) {
	my ($code, undef, $sql) = @$kind;
	is(run($sql, stop => 0)->{state}, $code, $sql);
}

# Descriptors and private memory of this session, and of those that it has on the shards; connections of the session.
my $held = q{(SELECT count(*) FROM pg_ls_dir('/proc/self/fd')), (SELECT substring(pg_read_file('/proc/self/status') FROM 'RssAnon:\s*(\d+)')::int)};
my $tell = "SELECT 'here', $held; SELECT 'shard', * FROM order_proc.fan_out(\$q\$SELECT $held\$q\$) AS t(descriptors bigint, memory int);";
my $all = join "\n", map { my ($code, $times, $sql) = @$_; ($sql) x $times } @kinds;
my $round = () = $all =~ /\n/g;
my $rounds = int($errors / $round) + 1;
# The statement in the file, so that psql does not keep a script of that size.
my $script = PostgreSQL::Test::Utils::tempdir() . '/errors.sql';
append_to_file($script, "$all\n");
my $part = int($rounds / 4) + 1;
my $it = run(join("\n", '\set ON_ERROR_STOP 0', '\set VERBOSITY terse', '\o /dev/null', ("\\i $script") x $part, '\o', $tell, '\o /dev/null', ("\\i $script") x ($rounds - $part), '\o', $tell,
	"SELECT 'left', count(*) FROM order_proc.fan_out('SELECT 1 FROM pg_catalog.pg_stat_activity WHERE application_name = ''order_proc''') AS t(n int);"), stop => 0);
my $failed = () = $it->{errors} =~ /ERROR:/g;
cmp_ok($failed, '>=', $errors * 0.85, "$failed errors, beside those that were caught");
my @figures = map { [ split /\|/ ] } grep { /^(?:here|shard|left)\|/ } split /\n/, $it->{output};
is(scalar @figures, 7, 'the session is still there') or diag $it->{output};
my ($before, $after) = ($figures[0], $figures[3]);
# Files of tables are kept open as well, a few more or less.
cmp_ok($$after[1] - $$before[1], '<=', 5, "descriptors: $$before[1] after a quarter, $$after[1] at the end");
cmp_ok($$after[2] - $$before[2], '<=', 1024, "memory of the session: $$before[2] kB after a quarter, $$after[2] kB at the end");
# The last errors closed the sessions on the shards, so those at the end are young.
cmp_ok($$_[2], '<=', 32 * 1024, "memory of a session on a shard: $$_[2] kB") for @figures[ 4, 5 ];
is($figures[6][1], 2, 'one session on each shard');
is($_->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), '0', 'nothing is prepared') for @shards;

$_->stop('fast') for $coordinator, @shards;
done_testing();
