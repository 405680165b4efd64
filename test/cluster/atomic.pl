# A coordinator and four shards: create_orders against single calls, reads that never see half of a transfer, restore points
# that fit together.
#
#   ORDER_PROC_READS=5000      atomic reads while transfers run
#   ORDER_PROC_RESTORES=2      restores of all five servers to a restore point
#   ORDER_PROC_WINDOWS=0       windows of 3 s of each kind in which the pace of the writers is measured: no reads, 10 a second, 10 atomic ones
use strict;
use warnings;

use FindBin;
use IPC::Run ();
use lib $FindBin::RealBin;
use Calls;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $reads = $ENV{ORDER_PROC_READS} // 5000;
my $restores = $ENV{ORDER_PROC_RESTORES} // 2;
my $windows = $ENV{ORDER_PROC_WINDOWS} // 0;

# --- servers ---------------------------------------------------------------------------------------------------

sub make_node {
	my ($name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(has_archiving => 1, allows_streaming => 1, extra => [ '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync' ]);
	$node->append_conf('postgresql.conf', "max_prepared_transactions = 30\norder_proc.recovery_worker = off\nfsync = off\nautovacuum = off\nclient_min_messages = warning\nlog_line_prefix = '%n [%p] %e '");
	$node->start;
	$node->safe_psql('postgres', "CREATE EXTENSION order_proc; SELECT order_proc.create_store(placement => 'modulo');");
	return $node;
}
my $coordinator = make_node('coordinator');
$Calls::node = $coordinator;
my @shards = map { make_node("shard$_") } 0 .. 3;
$coordinator->safe_psql('template1', 'CREATE DATABASE single TEMPLATE postgres');
sub address { my ($node, $action) = @_; return sprintf "OPTIONS (%shost '%s', %sport '%s')", $action, $node->host, $action, $node->port; }
$coordinator->safe_psql('postgres', 'CREATE EXTENSION postgres_fdw');
for my $n (0 .. 3) {
	(my $options = address($shards[$n], '')) =~ s/\)$/, dbname 'postgres')/;
	$coordinator->safe_psql('postgres', "CREATE SERVER s$n FOREIGN DATA WRAPPER postgres_fdw $options; CREATE USER MAPPING FOR CURRENT_USER SERVER s$n; SELECT order_proc.add_shard('s$n');");
}

# --- create_orders, over shards and in one database, and one by one ---------------------------------------------

srand 60_3;
sub pick { return $_[ int rand @_ ]; }
for my $database ('postgres', 'single') {
	$coordinator->safe_psql($database, "SELECT order_proc.create_customer('First ' || i, NULL, NULL, i) FROM generate_series(1, 24) AS i");
}
sub element {
	my ($fault) = @_;
	my $count = 1 + int rand 3;
	my $list = sub { my ($make) = @_; return '[' . join(',', map { $make->() } 1 .. $count) . ']'; };
	my %it = (customer_id => 1 + int rand 24, product_ids => $list->(sub { int rand 1000 }), quantities => $list->(sub { pick(1, 2, '3.0', '1e2') }),
		prices => $list->(sub { pick('0', '1.005', '9.99', '999999.99', '1e-3') }));
	$it{total_amount} = pick('null', '12.345', '0') if rand() < 0.5;
	$it{status} = pick('null', '"pending"', '"paid"') if rand() < 0.5;
	$it{notes} = pick('null', '"größer"', '""') if rand() < 0.5;
	$it{idempotency_key} = sprintf '"key %d"', int rand 8 if rand() < 0.3;
	%it = (%it, %$fault) if $fault;
	return \%it;
}
sub json { my (@elements) = @_; return '[' . join(', ', map { my $it = $_; ref $it ? '{' . join(', ', map { "\"$_\": $it->{$_}" } sort keys %$it) . '}' : $it } @elements) . ']'; }
sub single_call {
	my ($it) = @_;
	my $array = sub { my ($name, $type) = @_; my $value = $it->{$name}; return "ARRAY$value\::numeric[]::$type\[]"; };
	my $text = sub { my $value = $it->{ $_[0] } // 'null'; return $value eq 'null' ? 'NULL' : $value =~ s/^"|"$/'/gr; };
	return sprintf 'order_proc.create_order_with_items(%s, %s, %s, %s, %s, %s, %s, %s)', $it->{customer_id}, $text->('status'), $it->{total_amount} // 'NULL',
		$array->('product_ids', 'bigint'), $array->('quantities', 'int'), $array->('prices', 'numeric'), $text->('notes'), $text->('idempotency_key');
}
my $contents = q{SELECT o.customer_id, o.status, o.total_amount, o.notes, o.customer_name, (SELECT json_agg(json_build_array(i->'product_id', i->'quantity', i->'price')) FROM json_array_elements(o.items) AS i)
	FROM unnest(ARRAY[%s]::bigint[]) WITH ORDINALITY AS t(id, n), LATERAL order_proc.get_order_with_items(t.id) AS o ORDER BY t.n};
my $failures = 0;
for my $round (1 .. 40) {
	my @elements = map { element() } 1 .. 1 + int rand 12;
	my $document = json(@elements);
	my @got = map { run(qq{SELECT array_to_string(order_proc.create_orders(\$json\$$document\$json\$), ',')}, database => $_) } 'postgres', 'single';
	my $calls = join '; ', map { 'SELECT ' . single_call($_) } @elements;
	my $one_by_one = run("BEGIN; $calls; COMMIT;", database => 'single');
	my @rows = map { run(sprintf($contents, $got[$_]{output}), database => ('postgres', 'single')[$_])->{output} } 0, 1;
	my $ids = join ',', split /\n/, $one_by_one->{output};
	my $rows_one_by_one = $one_by_one->{state} ? '' : run(sprintf($contents, $ids), database => 'single')->{output};
	++$failures unless $got[0]{state} eq $got[1]{state} && $got[0]{state} eq $one_by_one->{state} && $rows[0] eq $rows[1] && $rows[1] eq $rows_one_by_one;
	diag explain $document, \@got, $one_by_one, \@rows, $rows_one_by_one if $failures == 1;
}
is($failures, 0, 'create_orders over shards, in one database, and single calls: the same orders in 40 documents');

my %faults = (
	'22023' => [ { status => '"nonsense"' }, { quantities => '[]', product_ids => '[]', prices => '[]' }, { product_ids => '[1,2,3,4]' }, { unknown => '1' }, { prices => '["1"]' }, { customer_id => '1.5' }, { notes => '5' }, { quantities => '{}' }, { idempotency_key => '"' . 'x' x 256 . '"' }, '5', '[]' ],
	'22004' => [ { customer_id => 'null' }, { prices => 'null' }, { quantities => '[null]' } ],
	'22003' => [ { total_amount => '1e12' }, { customer_id => '9223372036854775808' }, { quantities => '[2147483648]' }, { product_ids => '[-1e100000]' }, { prices => '[1e131000]', product_ids => '[1]', quantities => '[1]' } ],
	'23514' => [ { quantities => '[0]', product_ids => '[1]', prices => '[1]' }, { total_amount => '-1' } ],
	'23503' => [ { customer_id => '9999' } ]);
my $count_all = "SELECT sum(orders) FROM order_proc.order_counts()";
my @before = map { run($count_all, database => $_)->{output} } 'postgres', 'single';
for my $state (sort keys %faults) {
	for my $fault (@{ $faults{$state} }) {
		my $at = int rand 9;
		my @elements = map { my $it = element($_ == $at && ref $fault ? $fault : undef); delete $it->{idempotency_key} unless ref $fault && $fault->{idempotency_key}; $it } 0 .. 8;
		$elements[$at] = $fault unless ref $fault;
		my @got = map { run("SELECT order_proc.create_orders(\$json\$@{[ json(@elements) ]}\$json\$)", database => $_) } 'postgres', 'single';
		is(join(' ', map { $_->{state} } @got), "$state $state", "$state: " . substr(json($fault), 0, 60)) or diag explain \@got;
		like($_->{errors}, qr/orders\[$at\]/, '  names the element') for @got;
		is((split /\n/, $got[0]{errors})[0] =~ s/^.*?(ERROR)/$1/r, (split /\n/, $got[1]{errors})[0] =~ s/^.*?(ERROR)/$1/r, '  with the same message');
	}
}
refused("SELECT order_proc.create_orders($_)", $_ eq 'NULL' ? '22004' : '22023', "create_orders($_)") for 'NULL', "'{}'", "'1'", "'null'", "'\"x\"'";
gives("SELECT order_proc.create_orders('[]')", '{}', 'no orders');
is(join(' ', map { run($count_all, database => $_)->{output} } 'postgres', 'single'), "@before", 'nothing of them was written');
# The first error in input order, whichever shard finds it.
for my $round (1 .. 10) {
	my @elements = map { +{ customer_id => $_ + 1, product_ids => '[1]', quantities => '[1]', prices => '[1]' } } 0 .. 11;
	my ($first, $second) = sort { $a <=> $b } (int rand 6, 6 + int rand 6);
	$elements[$first]{status} = '"first"';
	$elements[$second]{status} = '"second"';
	like(refused("SELECT order_proc.create_orders('@{[ json(@elements) ]}')", '22023', "two faults, $round"), qr/"first"/, 'the first is told');
}
gives(q{SELECT cardinality(ids), (SELECT count(DISTINCT i) FROM unnest(ids) AS i), (SELECT array_agg(DISTINCT order_proc.shard_for_order(i)) FROM unnest(ids) AS i) FROM order_proc.create_orders((SELECT jsonb_agg(jsonb_build_object(
	'customer_id', 1 + i % 24, 'product_ids', ARRAY[1, 2], 'quantities', ARRAY[1, 2], 'prices', ARRAY[1.5, 2])) FROM generate_series(0, 99999) AS i)) AS ids}, '100000|100000|{0,1,2,3}', '100,000 orders in one call');
gives("SELECT count(*) FROM pg_prepared_xacts", 0, 'nothing is left prepared', node => $_) for @shards;

# --- reads while transfers run ------------------------------------------------------------------------------------

# Accounts are orders of 1000 each, two on each shard; a transfer takes from one shard and gives to another.
$coordinator->safe_psql('postgres', 'SELECT order_proc.fan_out_exec(\'DELETE FROM order_store.orders\')');
my $accounts = run(q{SELECT array_to_string(order_proc.create_orders((SELECT jsonb_agg(jsonb_build_object('customer_id', i, 'total_amount', 1000, 'product_ids', ARRAY[1], 'quantities', ARRAY[1], 'prices', ARRAY[1000])) FROM generate_series(1, 8) AS i)), ',')})->{output};
$coordinator->safe_psql('postgres', <<"SQL");
CREATE SEQUENCE transfers;
CREATE FUNCTION transfer(a int, b int, amount numeric) RETURNS void LANGUAGE sql AS \$\$
	SELECT order_proc.fan_out_exec(pg_catalog.format('UPDATE order_store.orders SET total_amount = total_amount + CASE id WHEN %1\$s THEN -%3\$s ELSE %3\$s END WHERE id IN (%1\$s, %2\$s)', i[a], i[b], amount))
	FROM (VALUES (ARRAY[$accounts]::bigint[])) AS v(i) WHERE a % 4 <> b % 4;
\$\$;
CREATE FUNCTION fractured(reads int) RETURNS int LANGUAGE plpgsql AS \$\$
DECLARE total numeric; bad int := 0;
BEGIN
	FOR i IN 1 .. reads LOOP
		IF i % 3 = 0 THEN SELECT sum(s) INTO total FROM order_proc.fan_out('SELECT sum(total_amount) FROM order_store.orders') AS t(s numeric);
		ELSIF i % 3 = 1 THEN SELECT s INTO total FROM order_proc.fan_out_aggregate('SELECT sum(total_amount) FROM order_store.orders') AS t(s numeric);
		ELSE SELECT sum(total_amount) INTO total FROM order_proc.list_orders(); END IF;
		bad := bad + (total <> 8000)::int;
	END LOOP;
	RETURN bad;
END \$\$;
SQL
# Each writer has two accounts of its own: the shards update side by side, and two transfers that met would wait for each other.
my @writers = map { { pair => $_, output => '' } } 0 .. 2;
sub start_writers {
	my ($seconds) = @_;
	for my $writer (@writers) {
		my $script = $coordinator->basedir . "/transfer$writer->{pair}.sql";
		append_to_file($script, "\\set a random(1, 2)\n\\set m random(1, 5)\nSELECT transfer(2 * $writer->{pair} + :a, 2 * $writer->{pair} + 3 - :a, :m);\nSELECT nextval('transfers');\n");
		$writer->{run} = IPC::Run::start([ 'pgbench', '-n', '-c', 1, '-T', $seconds, '-f', $script, $coordinator->connstr('postgres') ], '>', \$writer->{output}, '2>&1');
	}
}
sub transfers { return run('SELECT last_value FROM transfers')->{output}; }
sub stop_writers {
	for my $writer (@writers) {
		$writer->{run}->signal('INT');
		$writer->{run}->finish;
		unlike($writer->{output}, qr/error|aborted/, 'no transfer failed') or diag $writer->{output};
	}
}
start_writers(600);
my ($eventual, $bad, $began, $before) = (0, 0, time, transfers());
sub pace { my ($what, $count) = @_; note sprintf '%s: %.2f ms a read, %d transfers a second', $what, (time - $began) * 1000 / $count, (transfers() - $before) / (time - $began); ($began, $before) = (time, transfers()); }
do { $bad += run('SELECT fractured(1000)')->{output}; $eventual += 1000; } while ($bad == 0 && $eventual < 20000);
note "$bad of $eventual eventual reads saw half of a transfer";
pace('eventual', $eventual);
cmp_ok($bad, '>', 0, 'eventual reads see half of a transfer at times: the test can tell');
my $atomically = run("SET order_proc.read_consistency = atomic; SELECT fractured($reads)");
is($atomically->{output}, '0', "none of $reads atomic reads does");
is($atomically->{errors}, '', 'without a warning');
cmp_ok(transfers() - $before, '>', 20, 'while transfers went on');
pace('atomic', $reads);
is(run("SET order_proc.read_consistency = atomic; SET default_transaction_isolation = 'repeatable read'; SELECT fractured(1) FROM generate_series(1, 300)")->{output} =~ s/0\n?//gr, '', 'nor with REPEATABLE READ');
gives(<<"SQL", "t\nt", 'one cut for all of a REPEATABLE READ transaction');
SET order_proc.read_consistency = atomic;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT array_agg((id, total_amount)::text ORDER BY id) AS seen FROM order_proc.list_orders() \\gset
SELECT pg_sleep(0.2) \\g /dev/null
SELECT array_agg((id, total_amount)::text ORDER BY id) = :'seen' FROM order_proc.list_orders();
SELECT count(*) = 8 FROM order_proc.get_orders(ARRAY[$accounts]);
COMMIT;
SQL
gives("SET order_proc.read_consistency = atomic; SELECT sum(total_amount) FROM order_proc.get_orders(ARRAY[$accounts]); SELECT sum(orders) FROM order_proc.order_counts(); SELECT count(*) FROM order_proc.list_orders_paginated(3, 2); SELECT count(*) FROM order_proc.list_orders_after(5)", "8000.00\n8\n3\n5", 'the other lists');

if ($windows) {
	my %rates;
	for my $n (1 .. $windows) {
		for my $kind ($n % 2 ? qw(none eventual atomic) : qw(atomic eventual none)) {
			my $reader = $kind eq 'none' ? undef : IPC::Run::start([ 'psql', '-XAtq', '-d', $coordinator->connstr('postgres'), '-c', "SET order_proc.read_consistency = $kind", '-c', 'SELECT fractured(1), pg_sleep(0.1) FROM generate_series(1, 35)' ], '>', '/dev/null', '2>', \my $errors);
			sleep 0.3;
			my ($from, $start) = (transfers(), time);
			sleep 3;
			push @{ $rates{$kind} }, (transfers() - $from) / (time - $start);
			$reader->finish if $reader;
		}
	}
	my %median = map { my @sorted = sort { $a <=> $b } @{ $rates{$_} }; $_ => $sorted[ @sorted / 2 ] } keys %rates;
	note sprintf 'transfers a second, medians of %d windows: %.0f without reads, %.0f with 10 reads a second, %.0f with 10 atomic ones: %.3f of the former', $windows, @median{qw(none eventual atomic)}, $median{atomic} / $median{eventual};
}

# --- restore points ---------------------------------------------------------------------------------------------------

my @nodes = ($coordinator, @shards);
$_->backup('base') for @nodes;
my @points;
for my $n (1 .. $restores) {
	sleep 0.3;
	my $it = run("SELECT concat_ws(' ', coalesce(shard_id::text, '-'), lsn > '0/0') FROM order_proc.create_restore_point('point $n')");
	is($it->{output}, "0 t\n1 t\n2 t\n3 t\n- t", "restore point $n") or diag $it->{errors};
	push @points, "point $n";
}
sleep 0.3;
stop_writers();
for my $node (@nodes) {
	my $segment = $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_lsn())');
	$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
	$node->poll_query_until('postgres', "SELECT last_archived_wal >= '$segment' FROM pg_stat_archiver");
}
for my $n (1 .. $restores) {
	my @restored;
	for my $node (@nodes) {
		my $copy = PostgreSQL::Test::Cluster->new($node->name . "_restored$n");
		$copy->init_from_backup($node, 'base', has_restoring => 1, standby => 0);
		$copy->append_conf('postgresql.conf', "recovery_target_name = '$points[$n - 1]'\nrecovery_target_action = 'promote'\narchive_mode = off");
		$copy->start;
		$copy->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
		push @restored, $copy;
	}
	my ($first, @others) = @restored;
	$first->safe_psql('postgres', join ' ', map { "ALTER SERVER s$_ @{[ address($others[$_], 'SET ') ]};" } 0 .. 3);
	gives("SELECT count(*) FROM pg_prepared_xacts WHERE gid LIKE 'opc%'", 0, "restore $n: nothing is half done", node => $_) for @others;
	gives('SELECT count(*), sum(total_amount) FROM order_proc.list_orders()', '8|8000.00', "restore $n: the servers fit together", node => $first);
	my $it = run("SELECT * FROM order_proc.recover(); SELECT transfer(1, 2, 3); SELECT sum(total_amount) FROM order_proc.list_orders()", node => $first);
	like($it->{output}, qr/8000\.00$/, "restore $n: the cluster works on") or diag $it->{errors};
	$_->stop('immediate') for @restored;
	$_->clean_node for @restored;
}
refused("SELECT order_proc.create_restore_point($_)", $_ eq 'NULL' ? '22004' : '22023', "create_restore_point($_)") for 'NULL', "''", "repeat('x', 64)", "E'a\\nb'";
gives("SELECT count(*) FROM order_proc.create_restore_point(repeat('x', 63))", 5, 'a name of 63 bytes');
gives("SELECT count(*), count(shard_id) FROM order_proc.create_restore_point('alone')", '1|0', 'one database alone', database => 'single');
refused("SELECT order_proc.create_restore_point('x')", '55000', 'not on a shard', node => $shards[1]);
refused("BEGIN READ ONLY; SELECT order_proc.create_restore_point('x')", '25006', 'nor in a read-only transaction');

# --- what a transaction did before; what is in doubt --------------------------------------------------------------------------

my $atomic = 'SET order_proc.read_consistency = atomic;';
my ($id) = split /,/, $accounts;
my $list = 'SELECT count(*) FROM order_proc.list_orders();';
my $touch = 'SELECT transfer(1, 2, 5) IS NULL;';
gives("$atomic BEGIN; SELECT (order_proc.get_order($id)).id > 0; $list $list $touch COMMIT; $list", "t\n8\n8\nt\n8", 'READ COMMITTED: reads, then a write');
refused("$atomic BEGIN; $touch $list", '25001', 'a read behind a write');
gives("$atomic BEGIN; $touch SET LOCAL order_proc.read_consistency = eventual; $list COMMIT;", "t\n8", 'unless it is eventual');
gives("$atomic BEGIN; SAVEPOINT a; $touch ROLLBACK TO a; $list COMMIT;", "t\n8", 'a write that was rolled back does not count');
gives("$atomic BEGIN ISOLATION LEVEL REPEATABLE READ; $list $touch SELECT count(*), sum(total_amount) FROM order_proc.list_orders(); COMMIT;", "8\nt\n8|8000.00", 'REPEATABLE READ: a read of all, a write, a read that sees it');
refused("$atomic BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT (order_proc.get_order($id)).id > 0; $list", '25001', 'but not first one shard, then all');
gives("$atomic BEGIN; SELECT 1 FROM order_proc.fan_out('SELECT 1/0') AS t(x int); ROLLBACK; BEGIN; $list SAVEPOINT a; SELECT 1 FROM order_proc.fan_out('SELECT 1/0') AS t(x int); ROLLBACK TO a; $list COMMIT; $list", "8\n8\n8", 'errors leave the connections usable', stop => 0);
gives("$atomic SELECT x FROM order_proc.fan_out('SHOW transaction_isolation') AS t(x text); SELECT set_config FROM order_proc.fan_out('SELECT set_config(''work_mem'', ''77MB'', false)') AS t(set_config text); SELECT DISTINCT x FROM order_proc.fan_out('SHOW work_mem') AS t(x text)",
	join("\n", ('repeatable read') x 4, ('77MB') x 4, '4MB'), 'a query leaves no setting behind');
refused("$atomic SELECT x FROM order_proc.fan_out('SELECT nextval(''order_store.orders_id_seq'')') AS t(x bigint)", '25006', 'and writes nothing');

# Sessions on shards that end when they are first used, which no look at the connection before could tell: each is stopped, and
# goes on to its end once it has been asked.
sub hang_up { return join "\n", '', (map { sprintf q{\! for p in $(psql -XAtq -d '%s' -c "SELECT pid FROM pg_stat_activity WHERE application_name = 'order_proc'"); do kill -STOP $p; kill -TERM $p; (sleep 0.3; kill -CONT $p) >/dev/null 2>&1 </dev/null & done}, $_->connstr('postgres') } @_), ''; }
my $hang_up = hang_up(@shards[ 1, 3 ]);
gives("$list$hang_up$list", "8\n8", 'sessions that have ended are replaced, for eventual reads');
for my $read ($list, "SELECT * FROM order_proc.fan_out_aggregate('SELECT count(*) FROM order_store.orders') AS t(n bigint);", "SELECT sum(n) FROM order_proc.fan_out('SELECT count(*) FROM order_store.orders') AS t(n bigint);", 'SELECT sum(orders) FROM order_proc.order_counts();', "SELECT count(*) FROM order_proc.get_orders(ARRAY[$accounts]);") {
	gives("$atomic $read$hang_up$read$read", "8\n8\n8", "for atomic ones: $read");
}
gives("$atomic $list@{[ hang_up(@shards) ]}BEGIN ISOLATION LEVEL REPEATABLE READ; $list $touch $list COMMIT; $list", "8\n8\nt\n8\n8", 'all of them, at the first read of a REPEATABLE READ transaction');
refused("$atomic BEGIN ISOLATION LEVEL REPEATABLE READ; $list$hang_up$list COMMIT;", '08006', 'not at a later one');
refused("$list BEGIN; $touch${hang_up}SELECT count(*) FROM order_proc.create_restore_point('hung up'); COMMIT;", '08006', 'not when the transaction was there');
gives("$list${hang_up}SELECT count(*) FROM order_proc.create_restore_point('hung up'); $list", "8\n5\n8", 'for a restore point');

my $cluster = $coordinator->safe_psql('postgres', "SELECT lpad(to_hex(coordinator_id), 16, '0') FROM order_store.cluster");
$shards[2]->safe_psql('postgres', "BEGIN; UPDATE order_store.orders SET notes = 'in doubt'; PREPARE TRANSACTION 'opc1_${cluster}_0000000000000003_aaaaaaaaaaaaaaaa_0002'");
$began = time;
like(refused("$atomic $list", 'OP502', 'a transaction in doubt'), qr/shard 2.*DETAIL.*aaaaaaaaaaaaaaaa/s, 'is named');
cmp_ok(time - $began, '<', 20, 'a bounded wait');
refused("$atomic BEGIN ISOLATION LEVEL REPEATABLE READ; $list", 'OP502', 'with REPEATABLE READ as well');
refused("SELECT order_proc.create_restore_point('x')", 'OP502', 'no restore point then');
gives($list, 8, 'eventual reads go on');
run('SELECT * FROM order_proc.recover()');
gives("$atomic $list", 8, 'once it is settled, the atomic ones do, too');

# What other roles prepare there under names like ours is none of our business, unless it is a whole identifier of this cluster.
{
	$shards[2]->safe_psql('postgres', 'CREATE ROLE stranger LOGIN');
	my $prepare = sub { my ($gid) = @_; $shards[2]->safe_psql('postgres', "BEGIN; PREPARE TRANSACTION '$gid'", extra_params => [ '-U', 'stranger' ]); };
	my @strange = ('opc2_', 'opc_x', "opc2_${cluster}_0000000000000003_aaaaaaaaaaaaaaaa_0002", "opc1_@{[ 'f' x 16 ]}_0000000000000003_aaaaaaaaaaaaaaaa_0002", "opc1_${cluster}_0000000000000003_aaaaaaaaaaaaaaaa_0002_");
	$prepare->($_) for @strange;
	gives("$atomic $list", 8, 'prepared transactions of others hold no atomic read');
	gives("SELECT count(*) FROM order_proc.create_restore_point('strangers')", 5, 'nor a restore point');
	gives('SELECT sum(in_doubt) FROM order_proc.shard_status', 0, 'nor are they in doubt');
	$shards[2]->safe_psql('postgres', "ROLLBACK PREPARED '$_'") for @strange;
	my $forged = "opc2_${cluster}_00000001_0000000000000003_aaaaaaaaaaaaaaaa_0002";
	$prepare->($forged);
	gives('SELECT sum(in_doubt) FROM order_proc.shard_status', 1, 'a forged one is');
	like(refused("$atomic $list", 'OP502', 'and holds the reads'), qr/shard 2 .*DETAIL:[^\n]*$forged, by role stranger.*HINT:[^\n]*ROLLBACK PREPARED '$forged'; on shard 2/s, 'which say whose it is and how to end it');
	$shards[2]->safe_psql('postgres', "ROLLBACK PREPARED '$forged'");
	gives("$atomic $list", 8, 'that ends it');
}

# A commit that hangs: a bounded wait, and a lock_timeout of the caller's counts.
my $postmaster = (split /\n/, slurp_file($shards[1]->data_dir . '/postmaster.pid'))[0];
{
	my ($output, $errors) = ('', '');
	# The session on shard 1 is there; all of that server stops between the write and the commit.
	my $stuck = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $coordinator->connstr('postgres'), '-c', "SET order_proc.commit_timeout = '60s'", '-c', 'BEGIN', '-c', 'SELECT transfer(1, 2, 1)', '-c', "\\! for p in \$(pgrep -P $postmaster); do kill -STOP \$p; done", '-c', 'COMMIT' ], '>', \$output, '2>', \$errors);
	$coordinator->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 20311)");
	my $waits = time;
	my $it = run("$atomic SET lock_timeout = 200; SET order_proc.connect_timeout = 300; SELECT count(*) FROM order_proc.fan_out('SELECT 1', NULL, 'warn') AS t(x int)");
	is($it->{state}, '55P03', 'lock_timeout of a reader counts') or diag $it->{errors};
	$it = run("$atomic SET order_proc.connect_timeout = 300; SELECT count(*) FROM order_proc.fan_out('SELECT 1', NULL, 'warn') AS t(x int)");
	is($it->{state}, 'OP502', 'a commit that hangs: no cut') or diag $it->{errors};
	cmp_ok(time - $waits, '<', 30, 'told in time');
	kill 'CONT', split ' ', `pgrep -P $postmaster`;
	$stuck->finish;
}
run('SELECT * FROM order_proc.recover()');
gives("$atomic SELECT sum(total_amount) FROM order_proc.list_orders()", '8000.00', 'the sum is what it was');

$shards[3]->stop('immediate');
gives("SELECT cardinality(order_proc.create_orders('@{[ json(map { +{ customer_id => $_, product_ids => '[1]', quantities => '[1]', prices => '[1]' } } 1, 2, 4, 5) ]}'))", 4, 'create_orders needs the shards that it writes on');
refused("SELECT order_proc.create_orders('@{[ json(map { +{ customer_id => $_, product_ids => '[1]', quantities => '[1]', prices => '[1]' } } 1, 3) ]}')", '08001', 'and no other');
gives("$atomic SELECT count(*) FROM order_proc.fan_out('SELECT 1', NULL, 'warn') AS t(x int)", 3, 'a cut over those that are up');
$shards[3]->start;
run('SELECT * FROM order_proc.recover()');
gives('SELECT count(*) FROM pg_prepared_xacts', 0, 'nothing is left prepared', node => $_) for @shards;
$_->stop for @nodes;
for my $node (@nodes) {
	is(join("\n", grep { / XX\d{3} (?:ERROR|FATAL|PANIC)|PANIC:|terminated by signal/ } split /\n/, slurp_file($node->logfile)), '', 'no crash and no internal error in the log of ' . $node->name);
}

done_testing();
