# What imports and batches write arrives: on a physical standby, at a logical subscriber, and after the crash of a
# server that had synced nothing but its log. Direct access writes the same log as the executor.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $lines = 40_000;
my $file = PostgreSQL::Test::Utils::tempdir . '/lines.csv';
my @tables = map { "order_store.$_" } qw(customers orders order_items order_status_history idempotency_keys import_rejects);

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 'logical', extra => [ '-E', 'UTF8', '--locale=C.UTF-8' ]);
$primary->append_conf('postgresql.conf', "autovacuum = off\nclient_min_messages = warning\nlog_line_prefix = '%m [%p] %e '\nmax_wal_size = 4GB\n");
$primary->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION order_proc; SELECT order_proc.create_store();');

$primary->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'copy', has_streaming => 1);
$standby->start;

my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init(extra => [ '-E', 'UTF8', '--locale=C.UTF-8' ]);
$subscriber->append_conf('postgresql.conf', "client_min_messages = warning\nlog_line_prefix = '%m [%p] %e '\n");
$subscriber->start;
$subscriber->safe_psql('postgres', 'CREATE EXTENSION order_proc; SELECT order_proc.create_store();');
$primary->safe_psql('postgres', 'CREATE PUBLICATION all_of_it FOR TABLE ' . join ', ', @tables);
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION all_of_it CONNECTION '" . $primary->connstr . " dbname=postgres' PUBLICATION all_of_it WITH (copy_data = false)");

# Every row of every table, in one number each.
my $rows = (join ' UNION ALL ', map { "SELECT '$_', count(*), sum(hashtextextended(t::text, 0)) FROM $_ AS t" } @tables) . ' ORDER BY 1';

sub same_everywhere {
	my ($name, $expected_items) = @_;
	my $written = $primary->safe_psql('postgres', $rows);
	like($written, qr/^order_store\.order_items\|$expected_items\|/m, "$name: $expected_items items on the primary");
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
	is($standby->safe_psql('postgres', $rows), $written, '  the standby has the same rows');
	$primary->wait_for_catchup('all_of_it');
	is($subscriber->safe_psql('postgres', $rows), $written, '  the subscriber, too');
	# Entries of indexes have a log of their own.
	for my $server ($primary, $standby, $subscriber) {
		is($server->safe_psql('postgres', <<'SQL'), 't|t|t|t', '  all are found by their keys: ' . $server->name);
SET enable_seqscan = off;
SELECT (SELECT count(*) FROM order_store.order_items WHERE order_id > -1) = (SELECT count(quantity) FROM order_store.order_items),
  NOT EXISTS (SELECT id FROM order_store.orders AS o WHERE NOT EXISTS (SELECT FROM order_store.order_items AS i WHERE i.order_id = o.id)),
  NOT EXISTS (SELECT FROM order_store.idempotency_keys AS k WHERE (SELECT key FROM order_store.idempotency_keys AS o WHERE o.customer_id = k.customer_id AND o.key = k.key) IS NULL),
  NOT EXISTS (SELECT FROM order_store.orders AS o WHERE total_amount <> (SELECT sum(quantity * price) FROM order_store.order_items AS i WHERE i.order_id = o.id))
SQL
	}
}

$primary->safe_psql('postgres', <<"SQL");
INSERT INTO order_store.customers (id, first_name) SELECT n, 'Customer ' || n FROM generate_series(1, 100) AS n;
COPY (
  SELECT 'R' || n * 7919 % 8000, 1 + n * 7919 % 8000 % 110, n % 1000, n % 11, n % 7 + 0.25, '2026-01-01 12:00:00', CASE WHEN n % 3 = 0 THEN 'paid' END
  FROM generate_series(1::bigint, $lines) AS n
) TO '$file' (FORMAT csv);
COPY order_proc.order_import FROM '$file' (FORMAT csv);
SQL
my $imported = $primary->safe_psql('postgres', 'SELECT count(*) FROM order_store.order_items');
my $rejected = $primary->safe_psql('postgres', 'SELECT count(*) FROM order_store.import_rejects');
cmp_ok($imported, '>', $lines / 2, 'most lines are items');
is($imported + $rejected, $lines, 'the others are rejects');
same_everywhere('an import', $imported);

$primary->safe_psql('postgres', "SET order_proc.import_create_customers = on; COPY order_proc.order_import FROM '$file' (FORMAT csv)");
my $more = $primary->safe_psql('postgres', 'SELECT count(*) FROM order_store.order_items');
cmp_ok($more, '>', $imported, 'the same file with its unknown customers made');
is($primary->safe_psql('postgres', 'SELECT count(*) FROM order_store.customers'), '110', '  all of them');
same_everywhere('an import that makes customers', $more);

# The total of an order does not follow its items, so it is set beside them.
$primary->safe_psql('postgres', <<'SQL');
SELECT order_proc.batch_create_order_items(array_agg(id), array_agg(7::bigint), array_agg(2), array_agg(1.5)) FROM order_store.orders;
UPDATE order_store.orders SET total_amount = total_amount + 3;
SQL
$more += $primary->safe_psql('postgres', 'SELECT count(*) FROM order_store.orders');
same_everywhere('a batch', $more);

my $before = $primary->safe_psql('postgres', $rows);
$primary->stop('immediate');
$primary->start;
is($primary->safe_psql('postgres', $rows), $before, 'after a crash all is there again');
same_everywhere('after a crash', $more);

$standby->stop('immediate');
$standby->start;
$standby->promote;
is($standby->safe_psql('postgres', "COPY order_proc.order_import FROM '$file' (FORMAT csv); SELECT items FROM order_proc.last_import()"), '0', 'the standby, promoted, knows every order of the file');

for my $server ($primary, $standby, $subscriber) {
	$server->stop;
	is(join("\n", grep { / XX\d{3} (?:ERROR|FATAL|PANIC)|PANIC:|terminated by signal/ } split /\n/, slurp_file($server->logfile)), '', 'no crash, no internal error: ' . $server->name);
}

done_testing();
