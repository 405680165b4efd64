# Every step up and down while four clients write and read: no statement fails, none waits long for a lock,
# the backfill is killed three times and exact in the end; then, at rest, each step up, down and up again leaves the same
# data, and the catalog is that of a fresh installation.
#
# Small by default, and patient, as the machine may have other work. The full size, about a quarter of an hour:
#   ORDER_PROC_LOAD_CUSTOMERS=1000000 ORDER_PROC_LOAD_SECONDS=10 ORDER_PROC_LOAD_LOCK=250 make installcheck-cluster PROVE_TESTS=test/cluster/migrations_load.pl PROVE_FLAGS=-v
use strict;
use warnings;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $customers = $ENV{ORDER_PROC_LOAD_CUSTOMERS} // 10_000;
my $seconds = $ENV{ORDER_PROC_LOAD_SECONDS} // 0.3;    # of load before and after each step
my $rate = $ENV{ORDER_PROC_LOAD_RATE} // 50;           # transactions a second, of each client
my $limit = $ENV{ORDER_PROC_LOAD_LOCK} // 10_000;      # ms that a statement may wait for a lock
my $dir = PostgreSQL::Test::Utils::tempdir;

my $node = PostgreSQL::Test::Cluster->new('load');
$node->init(extra => [ '-E', 'UTF8', '--locale=C.UTF-8' ]);
$node->append_conf('postgresql.conf', <<'CONF');
fsync = on
shared_buffers = 512MB
max_wal_size = 8GB
maintenance_work_mem = 256MB
log_line_prefix = '%m [%p] %a '
log_lock_waits = on
deadlock_timeout = 20ms
log_statement = none
log_min_messages = warning
CONF
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }

# --- the store, at 1.0 -----------------------------------------------------------------------------------------------

my @steps = map { [ split /\|/ ] } split /\n/, sql(<<'SQL');
SELECT source, target FROM pg_extension_update_paths('order_proc')
WHERE path = source || '--' || target AND string_to_array(source, '.')::int[] < string_to_array(target, '.')::int[]
ORDER BY string_to_array(source, '.')::int[]
SQL
my $newest = $steps[-1][1];
sub older { my ($a, $b) = map { [ split /\./ ] } @_; return ($a->[0] <=> $b->[0] || $a->[1] <=> $b->[1]) < 0; }

sql(<<"SQL");
CREATE ROLE shop LOGIN;
CREATE ROLE app LOGIN;
CREATE EXTENSION order_proc VERSION '1.0';
SELECT order_proc.create_store('shop');
SELECT order_proc.grant_store('app', 'write');
SET session_replication_role = replica;
INSERT INTO order_store.customers (id, name, email)
  SELECT n, 'Ana' || n || CASE WHEN n % 7 > 0 THEN ' de la Cruz' || n ELSE '' END, 'untouched' FROM generate_series(1, $customers) AS n;
SELECT setval('order_store.customers_id_seq', $customers);
INSERT INTO order_store.orders (id, customer_id, status, total_amount)
  SELECT order_proc.new_order_id(n), n, 'pending', 15 FROM generate_series(1, $customers) AS n;
INSERT INTO order_store.order_items (order_id, product_id, quantity, price)
  SELECT id, p, 1, p FROM order_store.orders, generate_series(1, 5) AS p;
SQL
sql('VACUUM ANALYZE');

# What the clients may use: 1 the name, 2 both forms, 3 the parts. They read it first in each transaction.
sql('CREATE TABLE public.mode (names int NOT NULL); INSERT INTO public.mode VALUES (1); GRANT SELECT ON public.mode TO app');

# --- the clients -------------------------------------------------------------------------------------------------------

append_to_file("$dir/load.sql", <<"SQL");
\\set customer random(1, $customers)
\\set n random(1, 1000000000)
BEGIN;
SELECT names FROM public.mode \\gset
SELECT order_proc.create_order_with_items(:customer, NULL, NULL, ARRAY[7, 8]::bigint[], ARRAY[1, 2], ARRAY[1.50, 2.25]) AS made \\gset
SELECT 1 / (total_amount = 6 AND customer_id = :customer AND json_array_length(items) = 2)::int FROM order_proc.get_order_with_items(:made);
SELECT 1 / (order_proc.update_order_status(:made, 'paid') = 'pending')::int;
INSERT INTO order_store.orders (id, customer_id, status, total_amount) VALUES (order_proc.new_order_id(:customer), :customer, 'paid', 1);
SELECT order_proc.create_customer('Eva', 'Gil ' || :n::text, 'made') AS eva \\gset
\\if :names <> 3
UPDATE order_store.customers SET name = 'Old Name ' || :n::text, email = 'touched' WHERE id = :customer;
SELECT 1 / (name = 'Old Name ' || :n::text)::int FROM order_store.customers WHERE id = :customer;
SELECT 1 / (name = 'Eva Gil ' || :n::text)::int FROM order_store.customers WHERE id = :eva;
\\endif
\\if :names = 2
SELECT 1 / (first_name = 'Old' AND last_name = 'Name ' || :n::text)::int FROM order_store.customers WHERE id = :customer;
\\endif
\\if :names >= 2
UPDATE order_store.customers SET first_name = 'New Name', last_name = :n::text, email = 'touched' WHERE id = :customer;
SELECT 1 / (first_name = 'New Name' AND last_name = :n::text)::int FROM order_store.customers WHERE id = :customer;
SELECT 1 / (first_name = 'Eva' AND last_name = 'Gil ' || :n::text)::int FROM order_store.customers WHERE id = :eva;
\\endif
\\if :names = 2
SELECT 1 / (name = 'New Name ' || :n::text)::int FROM order_store.customers WHERE id = :customer;
\\endif
COMMIT;
SQL

# Two clients that prepare their statements and two that do not; new sessions every few seconds. A statement that waits
# too long for a lock fails, as any other failure does.
my @load;
foreach my $protocol ([ 'prepared', 3 ], [ 'simple', 2 ])
{
	my $total = 2 * $rate;
	my $command = "cd '$dir'; while [ ! -e stop ]; do pgbench -n -M $protocol->[0] -c 2 -j 1 -T $protocol->[1] --rate=$total"
	  . " --log --log-prefix=$protocol->[0] -f load.sql -U app -h '" . $node->host . "' -p " . $node->port
	  . " postgres >>$protocol->[0].out 2>>$protocol->[0].err || { echo failed >>$protocol->[0].err; break; }; done";
	local $ENV{PGOPTIONS} = "-c lock_timeout=$limit";
	local $ENV{PGAPPNAME} = 'load';
	push @load, IPC::Run::start([ 'sh', '-c', $command ], '<', \undef, '>', "$dir/null", '2>&1');
}

# Each makes two orders. What pgbench logs is in its files when a round is over.
sub transactions { return (sql('SELECT last_value FROM order_store.orders_id_seq') - $customers) / 2; }
sub logged_transactions
{
	my ($count, $longest) = (0, 0);
	foreach my $file (glob "$dir/prepared.[0-9]* $dir/simple.[0-9]*")
	{
		foreach my $line (split /\n/, slurp_file($file))
		{
			my @field = split / /, $line;
			next if @field < 7 || $field[2] eq 'failed';
			++$count;
			my $ms = ($field[2] - $field[6]) / 1000;
			$longest = $ms if $ms > $longest;
		}
	}
	return ($count, $longest);
}
sub complaints
{
	return join '', map { -e "$dir/$_.err" ? grep { /aborted|ERROR|FATAL|failed/ } map { "$_\n" } split /\n/, slurp_file("$dir/$_.err") : () } qw(prepared simple);
}

# From now on clients use these forms of the names, all of them.
sub use_names
{
	my ($mode) = @_;
	my $since = sql("UPDATE public.mode SET names = $mode; SELECT clock_timestamp()");
	$node->poll_query_until('postgres',
		"SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'load' AND xact_start < '$since'")
	  or die 'clients do not move on';
}

# --- steps ---------------------------------------------------------------------------------------------------------------

my @report;

# Runs a statement as often as it takes when a lock is not to be had; the number of tries, the ms of the last one.
sub run_with_retries
{
	my ($statement, %options) = @_;
	for my $try (1 .. 100)
	{
		my ($out, $err) = ('', '');
		my $began = time;
		my $status = $node->psql('postgres', $statement, stdout => \$out, stderr => \$err,
			extra_params => [ '-v', 'VERBOSITY=verbose', $options{user} ? ('-U', $options{user}) : () ]);
		return ($try, 1000 * (time - $began)) if $status == 0;
		die "$statement\n$err" unless $err =~ /ERROR:  55P03/ && $err =~ /HINT: /;
		sleep 0.1 + rand 0.2;
	}
	die "no lock for: $statement";
}

sub prepared_statements { return grep { $_ } split /\x01/, sql("SELECT string_agg(statement, chr(1) ORDER BY step) FROM order_proc.migration_plan('$_[0]') WHERE phase = 'prepare'"); }

sub lock_waits
{
	my ($from) = @_;
	my @waits = map { /\] load LOG:  process \d+ acquired .* after ([\d.]+) ms/ ? $1 : () } split /\n/, slurp_file($node->logfile, $from);
	my ($longest) = sort { $b <=> $a } @waits, 0;
	return (scalar @waits, $longest);
}

# Kills the backfill three times, each time with a share of its rows left: so much that it is not at its end when the machine stands still
# for seconds.
sub backfill_with_kills
{
	my $left = 'SELECT count(*) FROM order_store.customers WHERE name IS NOT NULL AND first_name IS NULL AND last_name IS NULL';
	my $all = sql($left);
	my $call = $customers < 200_000 ? "CALL order_proc.backfill_customer_names(200, '120 ms')" : 'CALL order_proc.backfill_customer_names()';
	foreach my $kill ([ 0.9, 'pg_terminate_backend' ], [ 0.8, 'pg_cancel_backend' ], [ 0.7, 'pg_terminate_backend' ])
	{
		my ($share, $how) = @$kill;
		my ($out, $err) = ('', '');
		my $run = IPC::Run::start([ 'psql', '-XAtq', '-U', 'shop', '-d', $node->connstr('postgres') . " application_name='backfill'", '-c', $call ], '<', \undef, '>', \$out, '2>', \$err);
		sleep 0.05 while sql($left) > $share * $all;
		my $hit = sql("SELECT count($how(pid)) FROM pg_stat_activity WHERE application_name = 'backfill'");
		IPC::Run::finish($run);
		my $rest = sql($left);
		ok($hit == 1 && $rest > 0 && $rest < $all, "the backfill is killed by $how with $rest of $all customers to go");
		note(grep { /customers done/ } map { "$_\n" } split /\n/, $err);
	}
	my ($tries) = run_with_retries($call, user => 'shop');
	is(sql($left), '0', 'called again it fills in the rest');
	is(sql(q{SELECT count(*) FROM order_store.customers WHERE name IS DISTINCT FROM order_proc.full_name(first_name, last_name)}), '0', 'names and parts are in step');
	is(sql(q{SELECT count(*) FROM order_store.customers WHERE email = 'untouched'
		AND (first_name, last_name) IS DISTINCT FROM ('Ana' || id, CASE WHEN id % 7 > 0 THEN 'de la Cruz' || id END)}), '0',
		'and exact where no client has been');
	is(sql(q{SELECT convalidated FROM pg_constraint WHERE conname = 'customers_names_backfilled'}), 't', 'the CHECK is validated');
	return $tries;
}

sub take
{
	my ($from, $to) = @_;
	my $log = -s $node->logfile;
	my $done = transactions();
	my $began = time;
	sleep $seconds;
	my $prepare = time;
	my $prepare_tries = 0;
	foreach my $statement (prepared_statements($to))
	{
		$prepare_tries += $statement =~ /backfill/ && $to eq '1.4' ? backfill_with_kills() : (run_with_retries($statement, user => 'shop'))[0];
	}
	$prepare = time - $prepare;
	use_names(3) if $to eq '1.4';
	use_names(1) if $from eq '1.3' && $to eq '1.2';
	my ($tries, $ms) = run_with_retries("ALTER EXTENSION order_proc UPDATE TO '$to'");
	use_names(2) if $to eq '1.3';
	sleep $seconds;
	my $now = transactions();
	my ($waits, $longest) = lock_waits($log);
	push @report, sprintf '%s to %s: plan %6.1f s, ALTER EXTENSION %5.0f ms (try %d), %5d transactions in %5.1f s, %2d waits for locks over 20 ms, the longest %3.0f ms',
	  $from, $to, $prepare, $ms, $tries, $now - $done, time - $began, $waits, $longest;
	note($report[-1]);
	is(sql('SELECT order_proc.schema_version()'), $to, "$from to $to under load");
	is(complaints(), '', 'no statement failed');
	cmp_ok($now, '>', $done, 'while clients were at work');
	cmp_ok($longest, '<=', $limit, "and none waited longer than $limit ms for a lock");
}

take(@$_) foreach @steps;
take(reverse @$_) foreach reverse @steps;
append_to_file("$dir/stop", '');
IPC::Run::finish($_) foreach @load;
is(complaints(), '', 'no statement of the clients failed, all the way up and down');
my ($done, $longest) = logged_transactions();
is($done, transactions(), 'each transaction is in the log of the clients and in the tables');
note(sprintf '%d transactions; the longest took %.0f ms', $done, $longest);
is(sql(q{SELECT count(*) FROM order_store.order_status_history}), sql(q{SELECT count(*) FROM order_store.orders WHERE status = 'paid' AND total_amount = 6}),
	'each change of status is in the history once');

# --- at rest -------------------------------------------------------------------------------------------------------------

# Sums over all rows of each table, columns by name: one that came back stands last. Without what says which layout it is.
sub checksums
{
	my $queries = sql(q{
		SELECT string_agg(format('SELECT %L, count(*), sum(hashtextextended(ROW(%s)::text, 0)::numeric) FROM order_store.%I', relname,
		  (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attname) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped), relname),
		  ' UNION ALL ' ORDER BY relname)
		FROM pg_class AS c WHERE relnamespace = 'order_store'::regnamespace AND relkind = 'r' AND relname NOT IN ('store', 'migrations')});
	return sql("$queries ORDER BY 1") . "\n" . sql(q{SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'order_store' AND sequencename <> 'migrations_id_seq' ORDER BY 1});
}
# Whether rows may have changed.
sub prepare
{
	my @statements = prepared_statements($_[0]);
	run_with_retries($_, user => 'shop') foreach @statements;
	return grep { /^CALL/ } @statements;
}
sub go
{
	my ($to) = @_;
	prepare($to);
	run_with_retries("ALTER EXTENSION order_proc UPDATE TO '$to'");
}
my $before = checksums();
foreach my $step (@steps)
{
	my ($from, $to) = @$step;
	# The backfill is the plan's, not the step's.
	if (prepare($to)) { $before = checksums(); }
	go($to);
	my $up = checksums();
	go($from);
	is(checksums(), $before, "$from to $to and back: the same rows");
	go($to);
	is(checksums(), $up, "and at $to again, too");
	$before = $up;
}

# --- the catalog ---------------------------------------------------------------------------------------------------------

sub catalog
{
	my ($database) = @_;
	my ($dump, $err) = run_command([ 'pg_dump', '-s', '-n', 'order_store', '-n', 'order_proc', '-d', $node->connstr($database) ]);
	return $dump . "\n" . $node->safe_psql($database, q{
		SELECT pg_describe_object(classid, objid, objsubid) AS o FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
		WHERE d.deptype = 'e' AND extname = 'order_proc' ORDER BY o;
		SELECT conname, convalidated FROM pg_constraint WHERE connamespace = 'order_store'::regnamespace ORDER BY conname;
		SELECT indexrelid::regclass, indisvalid FROM pg_index JOIN pg_class AS c ON c.oid = indrelid WHERE relnamespace = 'order_store'::regnamespace ORDER BY 1::text});
}
sub fresh
{
	my ($version) = @_;
	my $database = "fresh_$version" =~ tr/./_/r;
	sql("CREATE DATABASE $database");
	$node->safe_psql($database, "CREATE EXTENSION order_proc VERSION '$version'; SELECT order_proc.create_store('shop'); SELECT order_proc.grant_store('app', 'write')");
	return catalog($database);
}

# Lines that only one of them has; the order of columns does not count, nor what differs from one dump to the next.
sub differences
{
	my @lines = map { { map { s/,$//r => 1 } grep { !/^\\(un)?restrict / } split /\n/ } } @_;
	return join "\n", map { my ($a, $b) = @lines[ $_, 1 - $_ ]; my $mark = ('- ', '+ ')[$_]; map { "$mark$_" } sort grep { !$b->{$_} } keys %$a } 0, 1;
}
cmp_ok(split(/\n/, fresh('1.1')), '>', 300, 'the catalog has much to compare');
isnt(differences(catalog('fresh_1_1'), catalog('postgres')), '', 'and versions differ');
is(differences(catalog('postgres'), fresh($newest)), '', "the catalog at $newest is that of a fresh installation");
go($_->[0]) foreach reverse @steps;
is(differences(catalog('postgres'), fresh('1.0')), '', 'and so is the one at 1.0');
unlike(slurp_file($node->logfile), qr/PANIC|XX000|was terminated by signal/, 'no internal error in the log');

note("$customers customers and orders, " . 5 * $customers . " items at the start, 4 clients, $rate transactions a second each");
note($_) foreach @report;
$node->stop;
done_testing();
