# Steps and the backfill beside those who hold what they need: an autovacuum is sent home, rows that are held are passed over,
# and what cannot be had is told with advice. Sessions that come while a step is about to be committed wait and go on.
use strict;
use warnings;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $rows = 5000;
my $node = PostgreSQL::Test::Cluster->new('locks');
$node->init(extra => [ '-E', 'UTF8', '--locale=C.UTF-8' ]);
$node->append_conf('postgresql.conf', <<'CONF');
autovacuum_naptime = 1s
max_prepared_transactions = 5
log_line_prefix = '%m [%p] %e '
CONF
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }

# SQLSTATE ('' when it went through), and all that was said.
sub try_sql
{
	my ($command) = @_;
	my ($out, $err) = ('', '');
	$node->psql('postgres', $command, stdout => \$out, stderr => \$err, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	return ($err =~ /ERROR:  (\w{5})/ ? $1 : '', $err);
}

sql(<<"SQL");
CREATE EXTENSION order_proc VERSION '1.2';
SELECT order_proc.create_store();
INSERT INTO order_store.customers (name) SELECT 'Ana Cruz' || n FROM generate_series(1, $rows) AS n;
SQL

# An autovacuum that takes for ever, and each statement that needs a lock which it holds.
sub with_autovacuum
{
	my ($what, $command) = @_;
	sql('ALTER TABLE order_store.customers SET (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0)');
	sql(q{UPDATE order_store.customers SET email = 'x'});
	$node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_locks JOIN pg_stat_activity USING (pid)
		WHERE backend_type = 'autovacuum worker' AND relation = 'order_store.customers'::regclass AND mode = 'ShareUpdateExclusiveLock' AND granted}) or die 'no autovacuum';
	my $log = -s $node->logfile;
	my ($state, $said) = try_sql($command);
	is($state, '', "$what goes through while an autovacuum holds the table") or diag($said);
	like(slurp_file($node->logfile, $log), qr/canceling autovacuum task/, 'which is cancelled for it');
	sql('ALTER TABLE order_store.customers RESET (autovacuum_vacuum_cost_delay, autovacuum_vacuum_cost_limit, autovacuum_vacuum_threshold, autovacuum_vacuum_scale_factor)');
}
with_autovacuum('a step', q{ALTER EXTENSION order_proc UPDATE TO '1.3'});

# A row that somebody holds, in the middle.
my $left = 'SELECT count(*) FROM order_store.customers WHERE first_name IS NULL';
is(sql($left), $rows, 'nobody is filled in');
sql(q{BEGIN; SELECT FROM order_store.customers WHERE id = 2500 FOR NO KEY UPDATE; PREPARE TRANSACTION 'holder'});
my $scans = q{SELECT seq_scan FROM pg_stat_user_tables WHERE relid = 'order_store.customers'::regclass};
my $scans_before = sql($scans);
my ($state, $said) = try_sql('CALL order_proc.backfill_customer_names(100)');
is($state, '55P03', 'the backfill gives up when a row stays held');
like($said, qr/HINT:  CALL order_proc\.backfill_customer_names\(\); again/, 'with advice');
cmp_ok(sql($scans) - $scans_before, '<=', 2, 'batches go along the primary key: all of the table is read to count and to look for the rest');
is(sql($left), '1', 'and has filled in all others');
sql(q{ROLLBACK PREPARED 'holder'});
with_autovacuum('the validation that ends the backfill', 'CALL order_proc.backfill_customer_names(100)');
is(sql($left), '0', 'nobody is left');
is(sql(q{SELECT convalidated FROM pg_constraint WHERE conname = 'customers_names_backfilled'}), 't', 'and the CHECK is validated');

# A reader that stays, and each step up and down: 55P03 with a hint, nothing is changed; then it goes through.
my @steps = map { [ split /\|/ ] } split /\n/, sql(<<'SQL');
SELECT source, target FROM pg_extension_update_paths('order_proc')
WHERE path = source || '--' || target AND string_to_array(source, '.')::int[] < string_to_array(target, '.')::int[]
ORDER BY string_to_array(source, '.')::int[]
SQL
sql(q{ALTER EXTENSION order_proc UPDATE TO '1.0'});
sub state_of_things { return sql(q{SELECT order_proc.schema_version(), extversion, (SELECT count(*) FROM order_proc.migration_history) FROM pg_extension WHERE extname = 'order_proc'}); }
my $met = 0;
foreach my $step (@steps, map { [ reverse @$_ ] } reverse @steps)
{
	my ($from, $to) = @$step;
	sql('CALL order_proc.backfill_customer_names()') if $to eq '1.4';
	sql(q{SELECT string_agg(format('LOCK TABLE %s IN ACCESS SHARE MODE', oid::regclass), '; ') FROM pg_class WHERE relnamespace = 'order_store'::regnamespace AND relkind = 'r'}) =~ /(.*)/s;
	sql("BEGIN; $1; PREPARE TRANSACTION 'reader'");
	my $before = state_of_things();
	my ($step_state, $step_said) = try_sql("ALTER EXTENSION order_proc UPDATE TO '$to'");
	if ($step_state ne '')
	{
		++$met;
		is($step_state, '55P03', "$from to $to beside a reader fails at once");
		like($step_said, qr/HINT:  Nothing was changed\. .*migration_plan\('\Q$to\E'\)/, 'with advice');
		is(state_of_things(), $before, 'and changes nothing');
	}
	sql(q{ROLLBACK PREPARED 'reader'});
	sql("ALTER EXTENSION order_proc UPDATE TO '$to'") if $step_state ne '';
	like(state_of_things(), qr/^\Q$to|$to|\E/, "$from to $to goes through");
}
cmp_ok($met, '>=', 5, 'steps met the reader');

# Each step held before its commit, and sessions that begin meanwhile: some have read the old layout and wait for a table.
my @calls = (
	[ customer => q{SELECT order_proc.create_customer('Eva', 'Gil', NULL)} ],
	[ order => q{SELECT order_proc.create_order_with_items(1, NULL, NULL, ARRAY[7], ARRAY[1], ARRAY[1.50])} ],
	[ status => q{SELECT order_proc.update_order_status(min(id), 'paid') FROM order_store.orders WHERE status = 'pending'} ],
	[ get => q{SELECT order_proc.get_order_with_items(min(id)) FROM order_store.orders} ],
	[ version => q{SELECT order_proc.schema_version()} ]);
sql(q{SELECT order_proc.create_order_with_items(1, NULL, NULL, ARRAY[7], ARRAY[1], ARRAY[1.50])});
my $waited = 0;
foreach my $step (@steps, map { [ reverse @$_ ] } reverse @steps)
{
	my ($from, $to) = @$step;
	sql('CALL order_proc.backfill_customer_names()') if $to eq '1.4';
	sql("BEGIN; ALTER EXTENSION order_proc UPDATE TO '$to'; PREPARE TRANSACTION 'step'");
	my @sessions;
	foreach my $call (@calls)
	{
		my $session = { what => $call->[0], out => '', err => '' };
		$session->{run} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres') . " application_name='$call->[0]'", '-c', $call->[1] ],
			'<', \undef, '>', \$session->{out}, '2>', \$session->{err});
		push @sessions, $session;
	}
	# Each waits for the step, or is over without.
	foreach my $session (@sessions)
	{
		until (sql(qq{SELECT count(*) FROM pg_stat_activity WHERE application_name = '$session->{what}' AND wait_event_type = 'Lock'}))
		{
			$session->{run}->pump_nb;
			last unless $session->{run}->pumpable;
			sleep 0.02;
		}
		++$waited if $session->{run}->pumpable;
	}
	sql(q{COMMIT PREPARED 'step'});
	foreach my $session (@sessions)
	{
		IPC::Run::finish($session->{run});
		is($session->{err}, '', "$from to $to: $session->{what} of a new session goes on");
	}
}
cmp_ok($waited, '>=', 30, 'sessions waited for steps');
$node->stop;
done_testing();
