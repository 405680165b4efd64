# Imports over four shards against one database with the same files: orders, items, rejects, last_import(). Then imports
# that are disturbed: cancelled, timed out, a shard that dies; rights; chunks that no coordinator made.
use strict;
use warnings;

use FindBin;
use IPC::Run ();
use lib $FindBin::RealBin;
use Calls;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Strikes;
use Test::More;
use Time::HiRes qw(sleep time);

my $dir = PostgreSQL::Test::Utils::tempdir;
my $canary = 'cAnArY-1mp0rt';

# --- servers: the coordinator with the database to compare with, three shards, and a fourth that may die -----------------

sub make_node {
	my ($name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => [ '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync' ]);
	$node->append_conf('postgresql.conf', <<"CONF");
max_prepared_transactions = 20
fsync = off
autovacuum = off
work_mem = 4MB
log_line_prefix = '%n [%p] %e '
log_statement = none
client_min_messages = warning
CONF
	unlink $node->data_dir . '/pg_hba.conf';
	$node->append_conf('pg_hba.conf', "local all clerk scram-sha-256\nlocal all all trust\n");
	$node->start;
	return $node;
}

my $coordinator = make_node('coordinator');
$Calls::node = $coordinator;
$Calls::database = 'cluster';
my $shards = make_node('shards');
my $last = make_node('last');
$_->safe_psql('postgres', "CREATE ROLE clerk LOGIN PASSWORD '$canary'") for $coordinator, $shards, $last;
my @shards = ([ $shards, 's0' ], [ $shards, 's1' ], [ $shards, 's2' ], [ $last, 's3' ]);
sub on_shard { my ($shard, $sql) = @_; return $shards[$shard][0]->safe_psql($shards[$shard][1], $sql); }
my $store = 'CREATE EXTENSION order_proc; SELECT order_proc.create_store();';
for my $place (@shards, [ $coordinator, 'cluster' ], [ $coordinator, 'single' ]) {
	$place->[0]->safe_psql('postgres', "CREATE DATABASE $place->[1]");
	$place->[0]->safe_psql($place->[1], $store);
}
$coordinator->safe_psql('cluster', 'CREATE EXTENSION postgres_fdw');
for my $shard (0 .. 3) {
	my ($node, $database) = @{ $shards[$shard] };
	$coordinator->safe_psql('cluster', sprintf "CREATE SERVER s%d FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '%s', port '%s', dbname '%s'); CREATE USER MAPPING FOR CURRENT_USER SERVER s%d; SELECT order_proc.add_shard('s%d')",
		$shard, $node->host, $node->port, $database, $shard, $shard);
}

# All orders with their items, without ids.
my $orders = q{SELECT o.customer_id, o.status, o.total_amount, o.customer_name, o.customer_email, CASE WHEN o.created_at < '2026-01-02' THEN o.created_at END,
  (SELECT string_agg(format('%s %s %s', i.product_id, i.quantity, i.price), ',' ORDER BY i.id) FROM order_store.order_items AS i WHERE i.order_id = o.id),
  (SELECT string_agg(k.key, ',') FROM order_store.idempotency_keys AS k WHERE k.order_id = o.id) FROM order_store.orders AS o};
sub all_orders {
	my ($database) = @_;
	my $query = $database eq 'single' ? $orders : "SELECT * FROM order_proc.fan_out(\$q\$$orders\$q\$) AS t(a bigint, b text, c numeric, d text, e text, f timestamptz, g text, h text)";
	return [ sort split /\n/, $coordinator->safe_psql($database, "SET TimeZone = 'UTC'; $query") ];
}
sub everywhere { my ($sql) = @_; $coordinator->safe_psql('single', $sql); on_shard($_, $sql) for 0 .. 3; }
sub empty {
	everywhere('TRUNCATE order_store.orders, order_store.order_items, order_store.order_status_history, order_store.idempotency_keys, order_store.import_rejects');
	$coordinator->safe_psql('cluster', 'TRUNCATE order_store.import_rejects');
}

# --- the same files in both -------------------------------------------------------------------------------------------------

my $customers = 300;
$coordinator->safe_psql($_, "SELECT count(order_proc.create_customer('First ' || n, CASE WHEN n % 3 > 0 THEN 'Last' END, n || '\@example.invalid', n)) FROM generate_series(1, $customers) AS n") for 'cluster', 'single';

srand 20261125;
sub pick { return $_[ int rand @_ ]; }
sub dirty_file {
	my ($file, $lines, $order_count) = @_;
	my @content = ('order_ref,customer_id,product_id,quantity,price,created_at,status');
	for my $n (1 .. $lines) {
		my $order = int rand $order_count;
		my @line = ("web-$order", 1 + $order * 7 % $customers, 1 + int rand 1000, 1 + int rand 9, sprintf('%d.%02d', rand 90, rand 100), pick('', '', "2026-01-01 10:00:00", '2026-01-01 09:30:00+02'), pick('', '', 'paid', 'shipped'));
		if (rand() < 0.06) {
			my $kind = int rand 14;
			$line[1] = pick('', 'x', 99999999, 1 + int rand $customers, 9223372036854775808) if $kind < 3;
			$line[2] = pick('', '1.5', '-9223372036854775809') if $kind == 3;
			$line[3] = pick('', '0', '-1', 'two', '99999999999') if $kind == 4;
			$line[4] = pick('', '-1', 'free', 'NaN', '100000000', '1e1', '0.005', ' 7 ') if $kind == 5;
			$line[5] = pick('yesterday or so', '2026-02-30', 'infinity') if $kind == 6;
			$line[6] = pick('nonsense', 'PAID') if $kind == 7;
			$line[0] = pick('', 'x' x 256, 'x' x 255, '"a ""quoted"", größer ref"') if $kind == 8;
			@line[ 3, 4 ] = (2147483647, '99999999.99') if $kind == 9;
			$line[0] = "web-$order, again" if $kind == 10;
			$line[0] = qq("$line[0]") if $kind == 10;
		}
		push @content, join ',', @line;
	}
	append_to_file($file, join "\n", @content, '');
}
dirty_file("$dir/dirty.csv", 20000, 4000);
dirty_file("$dir/more.csv", 6000, 5000);
append_to_file("$dir/ragged.csv", join "\n", "r1,1,1,1,1.00,,", "r1,1,2,1,1.00", 'r2,2,"3,1,1.00,,', '"r2",2,3,1,"1.00",,', ',,,,,,', '', 'r3,3,3,3,3,3,3,3', 'r4,999999,1,1,1,,', '');
# Large orders, in pieces; one of them is spoilt at its end, one belongs to nobody.
append_to_file("$dir/large.csv", join "\n", (map { my $o = $_ % 3; "large-$o," . (5 + $o) . ",$_," . (1 + $_ % 5) . ",1.25,," } 1 .. 120_000), 'large-1,6,1,none,1,,', 'large-2,8,7,1,1,,', 'small,9,1,1,1,,', '');

sub compare {
	my ($name, $copy, @settings) = @_;
	my $session = join "\n", "SET TimeZone = 'UTC';", (map { "SET $_;" } @settings), $copy,
		'SELECT lines, rejected, orders, items, known, customers FROM order_proc.last_import();',
		'SELECT line_number, sqlstate, message, raw_line FROM order_store.import_rejects ORDER BY import_id, line_number, sqlstate, message;';
	my %found = map { $_ => run($session, database => $_) } 'cluster', 'single';
	is($found{cluster}{state}, $found{single}{state}, "$name: SQLSTATE") or diag $found{cluster}{errors};
	my @single = split /\n/, $found{single}{output};
	my @here = split /\n/, $found{cluster}{output};
	is($here[0] // '', $single[0] // '', "$name: last_import()");
	my @differ = grep { ($here[$_] // '') ne ($single[$_] // '') } 0 .. ($#single > $#here ? $#single : $#here);
	is(join("\n", map { ($single[$_] // '-') . ' -> ' . ($here[$_] // '-') } splice @differ, 0, 5), '', "$name: rejects");
	my ($here, $single) = (all_orders('cluster'), all_orders('single'));
	is_deeply($here, $single, "$name: orders and items");
	if ($found{single}{state} ne '') {
		my ($wanted) = $found{single}{errors} =~ /(DETAIL:.*)/;
		like($found{cluster}{errors}, qr/\Q$wanted\E/, "$name: the same line") if $wanted;
	}
	return scalar @$single;
}
my $csv = sub { "\\copy order_proc.order_import FROM '$dir/$_[0].csv' WITH (FORMAT csv, HEADER)" };
for my $mode ('skip_row', 'skip_order', 'abort') {
	my @how = ("order_proc.import_on_error = $mode");
	my $made = compare("$mode, dirty", $csv->('dirty'), @how);
	cmp_ok($made, $mode eq 'abort' ? '==' : '>', $mode eq 'abort' ? 0 : 2000, "$mode makes orders, or none");
	compare("$mode, the same again", $csv->('dirty'), @how);
	compare("$mode, other lines for known orders", $csv->('more'), @how);
	compare("$mode, ragged lines", "\\copy order_proc.order_import_lines FROM '$dir/ragged.csv' WITH (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02')", @how);
	compare("$mode, large orders", $csv->('large'), @how);
	compare("$mode, large orders again", $csv->('large'), @how);
	empty();
}
compare('work_mem 64kB', $csv->('dirty'), 'work_mem = 64');
compare('rows of a statement', "INSERT INTO order_proc.order_import SELECT 'row ' || g % 500, (1 + g % 400)::text, g::text, '1', '1.10', NULL, NULL FROM generate_series(1, 3000) AS g");
compare('unknown customers are made', $csv->('more'), 'order_proc.import_create_customers = on');
is($coordinator->safe_psql('cluster', "SELECT sum(n) FROM order_proc.fan_out('SELECT count(*) FROM order_store.customers') AS t(n bigint)"), $coordinator->safe_psql('single', 'SELECT count(*) FROM order_store.customers'), 'as many customers');
cmp_ok($coordinator->safe_psql('cluster', "SELECT min(n) FROM order_proc.fan_out('SELECT count(*) FROM order_store.orders') AS t(n bigint)"), '>', 0, 'every shard has orders');
gives('SELECT count(*) FROM order_store.orders', '0', 'the coordinator has none');
empty();

# What the shards refuse: a constraint, a trigger. Each order by itself, as in one database.
everywhere(<<'SQL');
ALTER TABLE order_store.order_items ADD CONSTRAINT not_13 CHECK (product_id <> 13);
CREATE FUNCTION public.no_seven() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.customer_id % 7 = 0 THEN RAISE EXCEPTION 'customer % orders nothing', NEW.customer_id USING ERRCODE = '23514'; END IF; RETURN NEW; END $$;
CREATE TRIGGER no_seven BEFORE INSERT ON order_store.orders FOR EACH ROW EXECUTE FUNCTION public.no_seven();
SQL
compare('a constraint and a trigger', $csv->('dirty'));
empty();
refused("SET order_proc.import_on_error = abort; INSERT INTO order_proc.order_import VALUES ('a', '1', '13', '1', '1')", '23514', 'the constraint with abort');
everywhere('DROP TRIGGER no_seven ON order_store.orders; ALTER TABLE order_store.order_items DROP CONSTRAINT not_13');

# The statuses are those of the shards, not the coordinator's.
everywhere("INSERT INTO order_store.order_statuses (status) VALUES ('parked')");
compare('a status that the shards know', "INSERT INTO order_proc.order_import VALUES ('p', '1', '1', '1', '1', NULL, 'parked')");
on_shard($_, "DELETE FROM order_store.order_statuses WHERE status = 'parked'") for 1 .. 3;
gives(<<'SQL', '2|22023|unknown status "parked"', 'one that a shard lacks');
INSERT INTO order_proc.order_import SELECT 'q' || n, c::text, '1', '1', '1', NULL, 'parked'
FROM (SELECT row_number() OVER () AS n, c FROM (SELECT min(c) AS c FROM generate_series(1, 300) AS c WHERE order_proc.shard_for_customer(c) IN (0, 1) GROUP BY order_proc.shard_for_customer(c) ORDER BY order_proc.shard_for_customer(c)) AS s) AS t;
SELECT line_number, sqlstate, message FROM order_store.import_rejects WHERE import_id = (SELECT import_id FROM order_proc.last_import());
SQL
empty();

# --- with the transaction ------------------------------------------------------------------------------------------------------

my $few = "INSERT INTO order_proc.order_import SELECT 'few ' || g, (1 + g % 40)::text, '1', '1', CASE WHEN g = 5 THEN 'x' ELSE '1' END FROM generate_series(1, 100) AS g;";
my $left = q{SELECT (SELECT sum(n) FROM order_proc.fan_out('SELECT (SELECT count(*) FROM order_store.orders) + (SELECT count(*) FROM order_store.order_items) + (SELECT count(*) FROM order_store.idempotency_keys) + (SELECT count(*) FROM order_store.import_rejects) + (SELECT count(*) FROM pg_prepared_xacts)') AS t(n bigint)), (SELECT count(*) FROM order_store.import_rejects)};
gives("BEGIN; $few ROLLBACK; $left", '0|0', 'rolled back: nothing is left');
gives("BEGIN; SAVEPOINT a; $few ROLLBACK TO a; COMMIT; $left", '0|0', 'rolled back to a savepoint');
gives("BEGIN; SAVEPOINT a; $few ROLLBACK TO a; $few COMMIT; $left", '297|1', 'and again');
gives("BEGIN; $few SELECT orders, known FROM order_proc.last_import(); COMMIT; $left", "0|99\n297|2", 'known in another transaction');
empty();
# Two at once: each order once.
{
	my @runs = map { my $input = ''; IPC::Run::start([ 'psql', '-XAtq', '-d', $coordinator->connstr('cluster'), '-c', $csv->('dirty'), '-c', 'SELECT orders + known FROM order_proc.last_import()' ], '<', \$input, '>', "$dir/both.$_", '2>', \my $errors) } 1 .. 3;
	IPC::Run::finish($_) for @runs;
	$coordinator->psql('single', $csv->('dirty'));
	is(slurp_file("$dir/both.$_"), slurp_file("$dir/both.1"), "of three imports of a file at once, number $_ has all orders") for 1 .. 3;
	is_deeply(all_orders('cluster'), all_orders('single'), 'each order is there once');
}
empty();

# --- disturbed ------------------------------------------------------------------------------------------------------------------

my $lines = 300_000;
$coordinator->safe_psql('single', "COPY (SELECT 'R' || o, 1 + o % $customers, n % 1000, CASE WHEN n % 7 = 0 THEN 'none' ELSE (1 + n % 9)::text END, n % 7 + 0.25, '2026-01-01 12:00:00', 'paid' FROM (SELECT n, n * 7919 % 60000 AS o FROM generate_series(1::bigint, $lines) AS n) AS l) TO '$dir/lines.csv' (FORMAT csv)");
my $good = $lines - int($lines / 7);
my $copy = "COPY order_proc.order_import FROM '$dir/lines.csv' (FORMAT csv)";
sub nothing_left {
	my ($name) = @_;
	my $found = '';
	for my $try (1 .. 600) {
		$found = run($left)->{output};
		last if $found eq '0|0';
		sleep 0.1;
	}
	is($found, '0|0', "$name: nothing is left");
}
sub start_copy {
	my ($settings, $sql) = @_;
	my $it = { input => '', output => '', errors => '' };
	local $ENV{PGAPPNAME} = 'victim';
	$it->{run} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $coordinator->connstr('cluster'), (map { ('-c', "SET $_") } @$settings), '-c', $sql // $copy ], '<', \$it->{input}, '>', \$it->{output}, '2>', \$it->{errors});
	return $it;
}
sub end_copy {
	my ($it) = @_;
	eval { IPC::Run::finish($it->{run}) };
	return $it->{errors} =~ /(?:ERROR|FATAL):\s+([0-9A-Z]{5}):/ ? $1 : '';
}
make_strike($coordinator, 'single');
my $began = time;
is(end_copy(start_copy([])), '', 'an undisturbed import');
my $duration = time - $began;
is($coordinator->safe_psql('cluster', "SELECT sum(n) FROM order_proc.fan_out('SELECT count(*) FROM order_store.order_items') AS t(n bigint)"), $good, 'has all good lines');
empty();
for my $phase ([ 'reading', $lines / 10, $lines - 1 ], [ 'the sort', $lines, $lines ], [ 'loading', $lines + 10_000, $lines + $good - 1 ], [ 'at the end of loading', $lines + int($good * 0.8), $lines + $good - 1 ]) {
	my ($name, $from, $to) = @$phase;
	for my $how ([ 'pg_cancel_backend', '57014' ], [ 'pg_terminate_backend', '57P01' ]) {
		my ($took, $state);
		for my $try (1 .. 3) {
			my $it = start_copy([]);
			$took = strike($coordinator, database => 'single', application => 'victim', statement => '^COPY', lines => [ $from, $to ], how => $how->[0]);
			$state = end_copy($it);
			empty() if $state eq '';
			last if $took;
		}
		SKIP: {
			skip "$how->[0], $name: was over too soon to be met", 2 unless $took;
			is($state, $how->[1], "$how->[0], $name");
			stops_soon($took);
		}
		nothing_left("$how->[0], $name");
	}
}
for my $part (0.2, 0.5, 0.8) {
	my $timeout = int($duration * 1000 * $part);
	my $state = end_copy(start_copy([ "statement_timeout = $timeout" ]));
	if ($state eq '') { empty(); next; }
	is($state, '57014', "statement_timeout after $timeout ms");
	nothing_left("statement_timeout after $timeout ms");
}

# A shard dies while lines are read, and while orders are written.
for my $phase ([ 'reading', $lines / 10, $lines - 1 ], [ 'loading', $lines + 1024, $lines + $good - 1 ]) {
	my ($name, $from, $to) = @$phase;
	my $it = start_copy([]);
	my $met = $coordinator->poll_query_until('single', "SELECT EXISTS (SELECT FROM pg_stat_progress_copy WHERE tuples_processed >= $from)");
	$last->stop('immediate');
	my $state = end_copy($it);
	$last->start;
	SKIP: {
		if ($state eq '') { empty(); skip "a shard dies, $name: was over too soon to be met", 1; }
		is($state, '08006', "a shard dies, $name");
	}
	nothing_left("a shard dies, $name");
}

# --- memory -----------------------------------------------------------------------------------------------------------------------

SKIP: {
	skip 'no /proc', 2 unless -r '/proc/self/status';
	# The most that a backend had in memory, shared memory left out, during a session.
	my $peak = sub {
		my ($sql) = @_;
		my $it = run("SELECT pg_backend_pid() AS pid \\gset\n\\setenv PID :pid\n$sql\n\\! sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\).*/\\1/p; s/^RssShmem:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/\$PID/status\n", stop => 1);
		my ($most, $shared) = $it->{output} =~ /(\d+)\n(\d+)\s*$/;
		return ($most - $shared) / 1024;
	};
	my $before = $peak->('SELECT count(*) FROM order_proc.list_orders_paginated(1);');
	my $used = $peak->("$copy;") - $before;
	cmp_ok($used, '<=', 4 + 64, sprintf 'an import takes %.0f MiB of the coordinator beyond work_mem and 64 MiB at most', $used);
	empty();
	$used = $peak->("COPY order_proc.order_import FROM PROGRAM 'seq 1 600000 | sed s/.*/ONE,7,\\&,1,0.25,,paid/' (FORMAT csv);") - $before;
	cmp_ok($used, '<=', 4 + 64, sprintf 'so does one order of 600,000 lines: %.0f MiB', $used);
	gives("SELECT sum(n) FROM order_proc.fan_out('SELECT count(*) FROM order_store.order_items') AS t(n bigint)", '600000', 'which is there');
	empty();
}

# --- rights, and what no coordinator sent -----------------------------------------------------------------------------------------

my $clerk = 'SET SESSION AUTHORIZATION clerk; ';
my $one = "INSERT INTO order_proc.order_import VALUES ('one', '1', '1', '1', '1');";
$coordinator->safe_psql('cluster', join ' ', map { "GRANT USAGE ON FOREIGN SERVER s$_ TO clerk; CREATE USER MAPPING FOR clerk SERVER s$_ OPTIONS (user 'clerk', password '$canary');" } 0 .. 3);
refused("$clerk $one", '42501', 'no rights on the coordinator');
$coordinator->safe_psql('cluster', "SELECT order_proc.grant_store('clerk', 'write')");
refused("$clerk $one", '42501', 'nor on the shards');
on_shard($_, "SELECT order_proc.grant_store('clerk', 'write')") for 0 .. 3;
gives("$clerk $one SELECT orders FROM order_proc.last_import(); SELECT count(*) FROM order_proc.list_orders()", "1\n1", 'with rights on both');
$coordinator->safe_psql('cluster', 'ALTER TABLE order_store.orders ENABLE ROW LEVEL SECURITY');
refused("$clerk $one", '0A000', "row security of the coordinator's table");
$coordinator->safe_psql('cluster', 'ALTER TABLE order_store.orders DISABLE ROW LEVEL SECURITY');
$coordinator->safe_psql('cluster', 'REVOKE USAGE ON FOREIGN SERVER s2 FROM clerk');
refused("$clerk $one", '42501', 'no USAGE on a server');
on_shard(0, "SELECT order_proc.grant_store('clerk', 'read')");
empty();

my $mine = on_shard(0, 'SELECT c.id FROM order_store.customers AS c ORDER BY 1 LIMIT 1');
my $theirs = on_shard(1, 'SELECT c.id FROM order_store.customers AS c ORDER BY 1 LIMIT 1');
sub number { my ($bytes, $n) = @_; return join '', map { sprintf '%02x', ($n >> (8 * $_)) & 255 } 0 .. $bytes - 1; }
sub chunk_order { my ($flags, $customer, $lines, $ref) = @_; return number(1, $flags) . number(8, $customer) . number(4, $lines) . number(2, length $ref) . unpack('H*', $ref); }
sub chunk_line { my %line = (product => 5, price => 125, at => 0, quantity => 2, status => -1, has => 0, @_); return number(8, $line{product}) . number(8, $line{price}) . number(8, $line{at}) . number(4, $line{quantity}) . number(2, $line{status}) . number(1, $line{has}); }
sub send_chunk { my ($hex, $statuses) = @_; return "SELECT * FROM order_proc.import_orders('\\x$hex', " . ($statuses // "'{paid}'") . ", 'skip_row');"; }
my %on_first = (node => $shards, database => 's0');
gives(send_chunk(''), '', 'an empty chunk', %on_first);
gives(send_chunk(chunk_order(0, $mine, 1, 'x') . chunk_line()) . send_chunk(chunk_order(0, $mine, 1, 'x') . chunk_line()), '0|t||', 'an order, and again', %on_first);
gives('SELECT total_amount FROM order_store.orders', '2.50', 'its total is the shard\'s sum', %on_first);
gives(send_chunk(chunk_order(0, $mine, 1, 'x') . chunk_line(price => 5)), '0|f|OP302|idempotency key "x" was used for another request', 'the same key for other lines', %on_first);
refused(send_chunk(chunk_order(0, $theirs, 1, 'x') . chunk_line()), 'OP402', 'a customer of another shard', %on_first);
refused("SELECT order_proc.import_customers(ARRAY[$theirs], true)", 'OP402', 'which cannot be made either', %on_first);
gives("SELECT * FROM order_proc.import_customers(ARRAY[$mine, $mine], false); SELECT * FROM order_proc.import_customers('{}', true)", "{t,t}|0\n{}|0", 'customers', %on_first);
my %bad = (
	'cut off' => '00', 'a line too few' => chunk_order(0, $mine, 2, 'x') . chunk_line(), 'bytes behind' => chunk_order(0, $mine, 1, 'x') . chunk_line() . '0000',
	'no order_ref' => chunk_order(0, $mine, 1, '') . chunk_line(), 'a long order_ref' => chunk_order(0, $mine, 1, 'x' x 256) . chunk_line(), 'other flags' => chunk_order(8, $mine, 1, 'x') . chunk_line(),
	'a line that continues nothing' => chunk_order(1, $mine, 1, '') . chunk_line(), 'quantity 0' => chunk_order(0, $mine, 1, 'x') . chunk_line(quantity => 0), 'a negative price' => chunk_order(0, $mine, 1, 'x') . chunk_line(price => -1),
	'a high price' => chunk_order(0, $mine, 1, 'x') . chunk_line(price => 10_000_000_000), 'a status beyond the list' => chunk_order(0, $mine, 1, 'x') . chunk_line(status => 1), 'a negative status' => chunk_order(0, $mine, 1, 'x') . chunk_line(status => -2),
	'a timestamp out of range' => chunk_order(0, $mine, 1, 'x') . chunk_line(at => 9223372036854775792, has => 1), 'something behind an unfinished order' => join('', (chunk_order(2, $mine, 1, 'x') . chunk_line()) x 2),
	'many lines of none' => chunk_order(0, $mine, 0xffffffff, 'x'));
refused(send_chunk($bad{$_}), '22P03', "a chunk with $_", %on_first) for sort keys %bad;
refused(send_chunk(chunk_order(0, $mine, 1, "\xff") . chunk_line()), '22021', 'a chunk with invalid UTF-8', %on_first);
refused(send_chunk('', 'ARRAY[NULL]::text[]'), '22P03', 'a NULL status', %on_first);
refused("SELECT order_proc.import_orders('', '{}', 'nonsense')", '22023', 'an unknown on_error', %on_first);
refused("SELECT order_proc.import_orders($_)", '22004', "NULL: $_", %on_first) for "NULL, '{}', 'abort'", "'', NULL, 'abort'", "'', '{}', NULL";
refused('SELECT order_proc.import_customers(NULL, true)', '22004', 'NULL customers', %on_first);
# Pieces of an order, with savepoints in between, and never ended.
my @piece = (chunk_order(2, $mine, 2, 'pieces') . chunk_line() x 2, chunk_order(3, $mine, 1, '') . chunk_line(), chunk_order(1, $mine, 0, ''));
gives('BEGIN; ' . join(' ', map { send_chunk($_) } @piece) . " COMMIT; SELECT total_amount FROM order_store.orders WHERE total_amount > 5", '7.50', 'an order in three pieces', %on_first);
gives('BEGIN; SAVEPOINT a; ' . send_chunk($piece[0]) . ' RELEASE a; ' . send_chunk($piece[1]) . send_chunk($piece[2]) . ' COMMIT;', '0|t||', 'the same over savepoints', %on_first);
refused('BEGIN; SAVEPOINT a; ' . send_chunk($piece[0]) . ' ROLLBACK TO a; ' . send_chunk($piece[2]), '22P03', 'a piece that is rolled back', %on_first);
refused('BEGIN; ' . send_chunk($piece[0]) . send_chunk(chunk_order(1, $theirs, 1, '') . chunk_line()), '22P03', 'an order that changes hands', %on_first);
gives('BEGIN; ' . send_chunk($piece[0]) . ' COMMIT; BEGIN; ' . send_chunk($piece[0] =~ s/706965636573/6f7468657273/r) . send_chunk(chunk_order(0, $mine, 1, 'z') . chunk_line()) . ' COMMIT; SELECT count(*) FROM order_store.orders', '3', 'an order that never ends is not made', %on_first);
gives('SELECT string_agg(s, \',\' ORDER BY s) FROM unnest(order_proc.import_statuses()) AS s', 'cancelled,delivered,paid,parked,pending,processing,returned,shipped', 'statuses', %on_first);
empty();

# --- real orders ----------------------------------------------------------------------------------------------------------------------

SKIP: {
	my $data = $ENV{ORDER_PROC_DATA} // '';
	skip 'no real orders: ORDER_PROC_DATA names no folder with order_lines.csv.xz', 4 unless $data ne '' && -r "$data/order_lines.csv.xz";
	my ($expected) = slurp_file("$data/expected.json");
	my $want = sub { my ($key) = @_; return $expected =~ /"$key":\s*"?([0-9.]+)/ ? $1 : ''; };
	system_or_bail('sh', '-c', "xzcat '$data/order_lines.csv.xz' > '$dir/real.csv'; xzcat '$data/customers.csv.xz' > '$dir/people.csv'");
	run("CREATE TEMP TABLE new (id bigint, name text, email text); \\copy new FROM '$dir/people.csv' WITH (FORMAT csv, HEADER)\nSELECT count(order_proc.create_customer(name, NULL, email, id)) FROM new");
	my $import = "\\copy order_proc.order_import FROM '$dir/real.csv' WITH (FORMAT csv, HEADER)\nSELECT lines - rejected, rejected, orders, known FROM order_proc.last_import();";
	my $total = "SELECT sum(t.n) FROM order_proc.fan_out('SELECT sum(total_amount) FROM order_store.orders') AS t(n numeric);";
	my $made = $want->('orders_loaded_skip_row');
	gives("$import $total", join("\n", join('|', $want->('accepted_lines'), $want->('rejected_lines'), $made, 0), $want->('total_amount_skip_row')), 'real orders');
	gives("$import $total", join("\n", join('|', $want->('accepted_lines'), $want->('rejected_lines'), 0, $made), $want->('total_amount_skip_row')), 'real orders again');
}

# --- the end ---------------------------------------------------------------------------------------------------------------------------

gives('SELECT count(*) FROM pg_prepared_xacts', '0', 'no prepared transaction is left', node => $_, database => 'postgres') for $shards, $last;
$_->stop for $coordinator, $shards, $last;
for my $node ($coordinator, $shards, $last) {
	my $log = slurp_file($node->logfile);
	is(join("\n", grep { / XX\d{3} (?:ERROR|FATAL|PANIC)|PANIC:|terminated by signal/ } split /\n/, $log), '', 'no crash and no internal error in the log of ' . $node->name);
	unlike($log, qr/$canary/, 'no password in it');
}

done_testing();
