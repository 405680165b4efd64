# fan_out_aggregate over four real shards against one database with all rows: the queries of
# test/sql/include/aggregate_queries.sql. One shard has most of the customers, one a single order, one nothing.
use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

sub make_node {
	my ($name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => [ '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync' ]);
	$node->append_conf('postgresql.conf', "max_prepared_transactions = 20\nfsync = off\nclient_min_messages = warning\ntimezone = 'Asia/Tokyo'\n");
	$node->start;
	return $node;
}

# Their own settings differ from the coordinator's.
my $coordinator = make_node('coordinator');
my $server = make_node('shards');
$server->append_conf('postgresql.conf', "datestyle = 'SQL, DMY'\nintervalstyle = 'iso_8601'\nextra_float_digits = 0\nlc_monetary = 'C'\n");
$server->restart;

my $third_party = 1;
for my $extension (qw(tdigest hll)) {
	$third_party = 0 unless $coordinator->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = '$extension'");
}
my $types = 'CREATE SCHEMA aggregates;';
my $extensions = $third_party ? 'CREATE EXTENSION tdigest SCHEMA aggregates; CREATE EXTENSION hll SCHEMA aggregates;' : '';
my $store = "CREATE EXTENSION order_proc; SELECT order_proc.create_store(placement => 'modulo'); $types $extensions";
$coordinator->safe_psql('postgres', 'CREATE DATABASE whole; CREATE EXTENSION postgres_fdw');
$coordinator->safe_psql($_, $store) for qw(postgres whole);
for my $n (0 .. 3) {
	$server->safe_psql('postgres', "CREATE DATABASE shard$n");
	$server->safe_psql("shard$n", "$store CREATE TYPE aggregates.mood AS ENUM ('sad', 'ok', 'happy');");
	$coordinator->safe_psql('postgres', "CREATE SERVER s$n FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '" . $server->host . "', port '" . $server->port . "', dbname 'shard$n');"
		. "CREATE USER MAPPING FOR CURRENT_USER SERVER s$n; SELECT order_proc.add_shard('s$n');");
}

# --- rows ------------------------------------------------------------------------------------------------------

my $include = "$FindBin::Bin/../sql/include/aggregate_queries.sql";
$coordinator->safe_psql($_, "\\i $include\nCALL aggregates.describe_queries();") for qw(postgres whole);
$coordinator->safe_psql('whole', 'CALL aggregates.fill_store(); DELETE FROM order_store.orders WHERE customer_id % 4 = 3 OR customer_id % 4 = 2 AND (customer_id > 2 OR id <> (SELECT min(id) FROM order_store.orders WHERE customer_id = 2));'
	. "DELETE FROM order_store.customers WHERE id % 4 = 3 OR id % 4 = 2 AND id > 2; UPDATE order_store.orders SET notes = 'Grüße €' WHERE notes IS NOT NULL AND customer_id % 8 = 1;");
my %customer = (customers => 'id', orders => 'customer_id', order_items => '(SELECT customer_id FROM order_store.orders AS o WHERE o.id = order_id)',
	order_status_history => '(SELECT customer_id FROM order_store.orders AS o WHERE o.id = order_id)', idempotency_keys => 'customer_id');
for my $n (0 .. 3) {
	for my $table (qw(customers orders order_items order_status_history idempotency_keys)) {
		my $rows = $coordinator->safe_psql('whole', "COPY (SELECT t.* FROM order_store.$table AS t WHERE mod($customer{$table}, 4) = $n) TO STDOUT");
		next if $rows eq '';
		$server->safe_psql("shard$n", "COPY order_store.$table FROM STDIN;\n$rows\n\\.\n");
	}
}
is($coordinator->safe_psql('postgres', "SELECT string_agg(n::text, ' ' ORDER BY n) FROM order_proc.fan_out('SELECT count(*) FROM order_store.orders') AS t (n bigint)"),
	join(' ', sort { $a <=> $b } map { $coordinator->safe_psql('whole', "SELECT count(*) FROM order_store.orders WHERE mod(customer_id, 4) = $_") } 0 .. 3), 'orders of the shards');
is($server->safe_psql('shard2', 'SELECT count(*) FROM order_store.orders'), 1, 'a shard with one order');
is($server->safe_psql('shard3', 'SELECT count(*) FROM order_store.customers'), 0, 'a shard without rows');

# --- the same answers -------------------------------------------------------------------------------------------

my $own = $third_party ? "INSERT INTO aggregates.queries (query) SELECT format(shape, call) FROM (VALUES ('aggregates.tdigest_count(aggregates.tdigest(i.price::double precision, 100))'),
	('round(aggregates.tdigest_percentile(i.price::double precision, 2000, 0.5)::numeric, 0)'), ('aggregates.hll_cardinality(aggregates.hll_add_agg(aggregates.hll_hash_bigint(i.product_id)))')) AS c (call),
	(VALUES ('SELECT %s AS c1 FROM order_store.order_items i'), ('SELECT o.status AS c1, %s AS c2 FROM order_store.orders o JOIN order_store.order_items i ON i.order_id = o.id GROUP BY o.status')) AS s (shape);" : '';
$coordinator->safe_psql($_, "$own CALL aggregates.describe_queries();") for qw(postgres whole);

sub answers {
	my ($database, $how, $settings) = @_;
	my %answer;
	for (split /\x1e/, $coordinator->safe_psql($database, "$settings SELECT string_agg(number || E'\\x1f' || query || E'\\x1f' || aggregates.$how(number), E'\\x1e' ORDER BY number) FROM aggregates.queries")) {
		my ($number, $query, $answer) = split /\x1f/;
		$answer{$number} = [ $query, $answer ];
	}
	return \%answer;
}

my %settings = ('default settings' => '', 'other settings' => "SET client_encoding = 'WIN1252'; SET datestyle = 'German'; SET intervalstyle = 'sql_standard'; SET timezone = 'America/Caracas'; SET extra_float_digits = -5;");
for my $setting (sort keys %settings) {
	my $direct = answers('whole', 'directly', $settings{$setting});
	my $fanned = answers('postgres', 'by_fan_out', $settings{$setting});
	cmp_ok(scalar keys %$direct, '>=', 900, "$setting: queries");
	my @failed = grep { $direct->{$_}[1] =~ /^[0-9A-Z]{5} / } keys %$direct;
	is(scalar @failed, 0, "$setting: each can be run") or diag join("\n", map { join "\n", @{ $direct->{$_} } } @failed[0 .. $#failed]);
	my @others = grep { $direct->{$_}[1] ne ($fanned->{$_}[1] // 'nothing') } sort { $a <=> $b } keys %$direct;
	is(scalar @others, 0, "$setting: the same over four shards") or diag join("\n", map { substr(join("\n", $direct->{$_}[0], $direct->{$_}[1], $fanned->{$_}[1] // 'nothing'), 0, 900) } @others[0 .. ($#others > 5 ? 5 : $#others)]);
}
done_testing();
