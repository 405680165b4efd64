# A batch of a million items that is cancelled, terminated or timed out at many moments: it stops soon and nothing is left
# behind.
use strict;
use warnings;

use FindBin;
use IPC::Run ();
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Strikes;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('batch');
$node->init(extra => [ '-E', 'UTF8', '--locale=C.UTF-8' ]);
$node->append_conf('postgresql.conf', <<'CONF');
shared_buffers = 256MB
max_wal_size = 4GB
autovacuum = off
log_line_prefix = '%m [%p] %e '
CONF
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION order_proc;
SELECT order_proc.create_store();
INSERT INTO order_store.customers (id, first_name, email) VALUES (1, 'One', 'one@example.invalid');
INSERT INTO order_store.orders (id, customer_id, status, total_amount) SELECT o << 12 | 1862, 1, 'pending', 0 FROM generate_series(1::bigint, 100000) AS o;
CREATE TABLE batch AS
  SELECT array_agg((1 + n * 7919 % 100000) << 12 | 1862) AS order_ids, array_agg(n) AS product_ids, array_agg(1 + (n % 9)::int) AS quantities, array_agg(n % 7 + 0.25) AS prices
  FROM generate_series(1::bigint, 1000000) AS n;
VACUUM ANALYZE;
SQL
make_strike($node);

my $serial = 0;

# A session that runs the batch, in the background; it never commits.
sub start_batch {
	my ($chunk, $settings) = @_;
	my $batch = { name => 'victim' . ++$serial, output => '', messages => '' };
	local $ENV{PGAPPNAME} = $batch->{name};
	local $ENV{PGOPTIONS} = $settings;
	$batch->{run} = IPC::Run::start([ 'psql', '-XAt', '-v', 'VERBOSITY=verbose', '-v', 'AUTOCOMMIT=off', '-d', $node->connstr('postgres'), '-c', '\timing on', '-c',
			"SELECT count(*) FROM batch, order_proc.batch_create_order_items(order_ids, product_ids, quantities, prices, $chunk)" ],
		'<', \undef, '>', \$batch->{output}, '2>', \$batch->{messages});
	return $batch;
}

sub end_batch {
	my ($batch) = @_;
	eval { IPC::Run::finish($batch->{run}) };
	my ($state) = $batch->{messages} =~ /(?:ERROR|FATAL):\s+([0-9A-Z]{5}):/;
	($batch->{took}) = $batch->{output} =~ /Time: ([0-9.]+) ms/;
	return $state // '';
}

# Nothing, as soon as the sessions are gone.
sub nothing_is_left {
	return $node->poll_query_until('postgres',
		q{SELECT NOT EXISTS (SELECT FROM order_store.order_items) AND NOT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE application_name LIKE 'victim%')});
}

# In parts of the time that the whole takes; the executor takes five times as long.
my %moments = (
	on => { pg_cancel_backend => [ 0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9 ], pg_terminate_backend => [ 0.15, 0.6 ], statement_timeout => [ 0.15, 0.6 ] },
	off => { pg_cancel_backend => [ 0.1, 0.7 ], pg_terminate_backend => [ 0.4 ], statement_timeout => [ 0.3 ] });

for my $way ([ 1_000_000, 'on' ], [ 100_000, 'on' ], [ 1_000_000, 'off' ]) {
	my ($chunk, $fast_path) = @$way;
	my $settings = "-c order_proc.fast_path=$fast_path";
	my $batch = start_batch($chunk, $settings);
	is(end_batch($batch), '', "an undisturbed batch, $chunk a chunk, fast_path $fast_path");
	my $duration = $batch->{took};
	note("it took $duration ms");
	for my $how ([ 'pg_cancel_backend', '57014' ], [ 'pg_terminate_backend', '57P01' ], [ 'statement_timeout', '57014' ]) {
		for my $part (@{ $moments{$fast_path}{$how->[0]} }) {
			my $age = int($duration * $part);
			my ($took, $state);
			for my $try (1 .. 3) {
				$batch = start_batch($chunk, $how->[0] eq 'statement_timeout' ? "$settings -c statement_timeout=$age" : $settings);
				$took = strike($node, application => $batch->{name}, statement => '^SELECT count', age => $age, how => $how->[0]);
				$state = end_batch($batch);
				last if $took;
			}
			SKIP: {
				skip "$how->[0] after $age ms: was over too soon to be met", 3 unless $took;
				is($state, $how->[1], "$how->[0] after $age ms");
				stops_soon($took);
				ok(nothing_is_left(), '  nothing is left behind');
			}
		}
	}
}

$node->stop;
my @other = grep { / XX\d{3} (?:ERROR|FATAL|PANIC)|PANIC:|terminated by signal/ } split /\n/, slurp_file($node->logfile);
is("@other", '', 'no internal error');

done_testing();
