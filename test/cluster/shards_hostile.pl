# A shard that does not speak as one should: messages out of place, of the wrong shape, cut off, or none at all, before or behind
# what it says to each kind of call, and while it is added. Whoever called gets an answer or an error of SQL, in time; no backend crashes, none
# returns an internal error; and a transaction over both shards is there on both or on none.
#
# A sixteenth of the combinations by default, other ones for each call. All, in a quarter of an hour:
#   ORDER_PROC_HOSTILE=all make installcheck-cluster PROVE_TESTS=test/cluster/shards_hostile.pl PROVE_FLAGS=-v
use strict;
use warnings;

use FindBin;
use IO::Select;
use IO::Socket::UNIX;
use lib $FindBin::RealBin;
use Calls;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

sub make_node {
	my ($name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => [ '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync' ]);
	$node->append_conf('postgresql.conf', "max_prepared_transactions = 20\nfsync = off\nautovacuum = off\norder_proc.recovery_worker = off\nlog_statement = none\nlog_line_prefix = '%n [%p] %e '\nclient_min_messages = warning\nclient_connection_check_interval = 100");
	$node->start;
	$node->safe_psql('postgres', "CREATE EXTENSION order_proc; SELECT order_proc.create_store(placement => 'modulo');");
	return $node;
}
my ($coordinator, @shards) = map { make_node($_) } qw(coordinator shard0 shard1);
$Calls::node = $coordinator;

# --- between the coordinator and shard 1 ----------------------------------------------------------------------------------------

# What is in the file goes to the coordinator with the next bytes of the shard: before or behind them, or in their place. With a
# file "only", with the first bytes of a connection, or the second, and so on, as it says.
my $dir = PostgreSQL::Test::Utils::tempdir_short;
my $port = $shards[1]->port;
my $listener = IO::Socket::UNIX->new(Local => "$dir/.s.PGSQL.$port", Listen => 64) or die "cannot listen: $!";
sub pass_on {
	my ($client) = @_;
	my $server = IO::Socket::UNIX->new(Peer => $shards[1]->host . "/.s.PGSQL.$port") or return;
	my $select = IO::Select->new($client, $server);
	my $answers = 0;
	while (1) {
		for my $from ($select->can_read) {
			return unless sysread $from, my $bytes, 65536;
			if ($from == $server && (!-e "$dir/only" || slurp_file("$dir/only") == ++$answers)) {
				for my $where (qw(before behind instead)) {
					next unless -e "$dir/$where" && rename "$dir/$where", "$dir/taken";
					my $more = slurp_file("$dir/taken");
					$bytes = $where eq 'before' ? $more . $bytes : $where eq 'behind' ? $bytes . $more : $more;
				}
			}
			my $to = $from == $client ? $server : $client;
			while (length $bytes) { my $put = syswrite $to, $bytes or return; substr $bytes, 0, $put, ''; }
		}
	}
}
my $proxy = fork // die "cannot fork: $!";
if ($proxy == 0) {
	setpgrp 0, 0;
	$SIG{CHLD} = 'IGNORE';
	while (1) { my $client = $listener->accept or next; next if fork; pass_on($client); POSIX::_exit(0); }
}
setpgrp $proxy, $proxy;
END { local $?; kill 'KILL', -$proxy if $proxy; }

$coordinator->safe_psql('postgres', 'CREATE EXTENSION postgres_fdw');
my @hosts = ($shards[0]->host, $dir);
$coordinator->safe_psql('postgres', sprintf "CREATE SERVER s$_ FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '%s', port '%s', dbname 'postgres'); CREATE USER MAPPING FOR CURRENT_USER SERVER s$_", $hosts[$_], $shards[$_]->port) for 0, 1;
$coordinator->safe_psql('postgres', "SELECT order_proc.add_shard('s0')");

# --- what it says, and to what ---------------------------------------------------------------------------------------------------

sub message { my ($type, $body) = @_; return $type . pack('N', 4 + length $body) . $body; }
sub error { return message('E', join '', map { "$_\0" } @_, ''); }
my %said = (
	'CopyOutResponse' => message('H', "\0\0\0"),
	'CopyInResponse' => message('G', "\0\0\1\0\0"),
	'CopyBothResponse' => message('W', "\0\0\0"),
	'CopyData, CopyDone' => message('d', "1\n") . message('c', ''),
	'a row of another shape' => message('D', pack 'n (N a4)3', 3, map { (4, 'abcd') } 1 .. 3),
	'a row that is longer than its message' => message('D', pack 'n N a4', 1, 1_000_000, 'abcd'),
	'a row of NULLs' => message('D', pack 'n N', 1, 0xFFFFFFFF),
	'columns' => message('T', pack('n', 1) . "x\0" . pack('N n N n N n', 0, 0, 25, 0xFFFF, 0xFFFFFFFF, 0)),
	'no columns' => message('T', pack 'n', 0),
	'a row of no columns' => message('T', pack 'n', 0) . message('D', pack 'n', 0),
	'an error without fields' => message('E', "\0"),
	'an error of a row, without a message' => error('SERROR', 'VERROR', 'C22012', 'DRow 1 of the batch.'),
	'an error of no SQLSTATE' => error('SERROR', 'VERROR', 'Cno', 'Mno'),
	'an internal error' => error('SERROR', 'VERROR', 'C22012', 'Msaid by nobody'),
	'FATAL' => error('SFATAL', 'VFATAL', 'C57P01', 'Mis over'),
	'a long error' => error('SERROR', 'VERROR', 'C22012', 'M' . 'long ' x 100_000),
	'a success' => message('C', "PREPARE TRANSACTION\0"),
	'COMMIT' => message('C', "COMMIT\0"),
	'the end of the pipeline' => message('Z', 'I'),
	'many ends' => message('Z', 'E') x 100,
	'ParseComplete, BindComplete, NoData' => message('1', '') . message('2', '') . message('n', ''),
	'a setting' => message('S', "client_encoding\0SQL_ASCII\0"),
	'a notice' => message('N', join '', map { "$_\0" } 'SWARNING', 'C01000', 'Mbeware', ''),
	'a negative length' => 'D' . pack('N', 0xFFFFFFF0),
	'a length of 1 GB' => 'D' . pack('N', 0x3FFFFFFF),
	'an unknown message' => message('~', 'what'),
	'noise' => join('', map { chr(($_ * 7919) % 251) } 1 .. 3000));

# What may end a call; a shard that says nothing more is waited for, until statement_timeout.
my $expected = qr/^(?:|0[18].{3}|22012|40000|40003|42804|55000|57014|57P01|OP\d{3})$/;
my (%states, @bad);
my ($turn, $tried) = (0, 0);
# Of 75 for a call: whatever divides that would pick the same ones each time.
sub to_be_tried { return !(++$turn % 16) || ($ENV{ORDER_PROC_HOSTILE} // '') eq 'all'; }

# --- to add_shard, which asks what it is, and tells it what it is to be -----------------------------------------------------------

for my $answer (1 .. 12) {
	for my $said (sort keys %said) {
		for my $where (qw(before behind instead)) {
			next unless to_be_tried();
			++$tried;
			append_to_file("$dir/only", $answer);
			append_to_file("$dir/$where", $said{$said});
			my $it = run("SET statement_timeout = 800; SET order_proc.connect_timeout = 1000; BEGIN; SELECT order_proc.add_shard('s1'); ROLLBACK; SELECT 'goes on';", stop => 0);
			unlink "$dir/only", "$dir/$where";
			$states{ $it->{state} }++;
			push @bad, "$answer, $said $where: $it->{state} $it->{errors}" if $it->{output} !~ /goes on$/ || $it->{state} !~ $expected;
		}
	}
}
note join ', ', map { "$_ $states{$_}" } sort keys %states;
is(join("\n", @bad), '', "$tried times add_shard of one that does not speak as it should");
gives('SELECT count(*) FROM order_store.shards', 1, 'which adds none');
gives("SELECT order_proc.add_shard('s1')", 1, 'and one that does is added');
$coordinator->safe_psql('postgres', "SELECT order_proc.create_customer('Customer', c::text, id => c) FROM generate_series(0, 9) AS c");
%states = @bad = ();
$tried = 0;

# --- to all others ----------------------------------------------------------------------------------------------------------------

my $lines = join '', map { "r$_,$_,1,1,1.25,,\n" } 0 .. 9;
append_to_file("$dir/lines.csv", $lines);
sub order { my ($customer, $key) = @_; return "order_proc.create_order_with_items($customer, NULL, NULL, '{1,2}', '{1,1}', '{1.50,2}', idempotency_key => '$key')"; }
sub document { my ($key) = @_; return '[' . join(',', map { qq({"customer_id": $_, "product_ids": [1], "quantities": [1], "prices": [1.50], "idempotency_key": "$key"}) } 0, 1) . ']'; }
my %calls = (
	'fan_out' => sub { "SELECT count(x) FROM order_proc.fan_out('SELECT n FROM generate_series(1, 3) AS n') AS t(x int);" },
	'fan_out of two columns' => sub { "SELECT count(*) FROM order_proc.fan_out('SELECT 1.5, repeat(''x'', 10)') AS t(a numeric, b text);" },
	'fan_out_aggregate' => sub { "SELECT * FROM order_proc.fan_out_aggregate('SELECT count(*), avg(total_amount), stddev(total_amount) FROM order_store.orders') AS t(a bigint, b numeric, c numeric);" },
	'fan_out_exec' => sub { "SELECT count(*) FROM order_proc.fan_out_exec('ANALYZE order_store.receipts');" },
	'a read' => sub { 'SELECT count(*) FROM order_proc.get_order_with_items((SELECT max(id) FROM ids));' },
	'lists' => sub { 'SELECT count(*) > 0 FROM order_proc.list_orders(); SELECT sum(orders) > 0 FROM order_proc.order_counts();' },
	'an atomic list' => sub { 'SET order_proc.read_consistency = atomic; SELECT count(*) > 0 FROM order_proc.list_orders();' },
	'one order' => sub { "SELECT @{[ order(1, $_[0]) ]} > 0;" },
	'orders of both' => sub { "BEGIN; SELECT @{[ order(0, $_[0]) ]} > 0; SELECT @{[ order(1, $_[0]) ]} > 0; COMMIT;" },
	'orders of both, by the coordinator' => sub { "SET order_proc.shards_decide = off; BEGIN; SELECT @{[ order(1, $_[0]) ]} > 0; SELECT @{[ order(0, $_[0]) ]} > 0; COMMIT;" },
	'create_orders' => sub { "SELECT order_proc.create_orders('@{[ document($_[0]) ]}') IS NOT NULL;" },
	'a batch' => sub { "SELECT count(*) FROM order_proc.batch_create_order_items(ARRAY[(SELECT max(id) FROM ids)], '{9}', '{1}', '{1}');" },
	'an import' => sub { "\\copy order_proc.order_import from '$dir/lines.csv' (format csv)" },
	'the status' => sub { 'SELECT count(*) FROM order_proc.shard_status;' },
	'recover()' => sub { 'SELECT count(*) >= 0 FROM order_proc.recover();' });
$coordinator->safe_psql('postgres', 'CREATE TABLE ids (id bigint)');
$coordinator->safe_psql('postgres', "INSERT INTO ids SELECT @{[ order(1, 'first') ]}");

for my $call (sort keys %calls) {
	for my $said (sort keys %said) {
		for my $where (qw(before behind instead)) {
			# Which once ended the coordinator.
			next unless to_be_tried() || ($call eq 'a batch' && $said =~ /of a row/);
			my $what = "$call, $said $where";
			my $key = "k$turn";
			++$tried;
			append_to_file("$dir/next", $said{$said});
			my $it = run(join("\n", 'SET statement_timeout = 800; SET order_proc.commit_timeout = 500; SET order_proc.connect_timeout = 1000;', "SELECT count(*) FROM order_proc.fan_out('SELECT 1') AS t(x int);",
				"\\! mv $dir/next $dir/$where", $calls{$call}->($key), "\\! rm -f $dir/before $dir/behind $dir/instead", "SELECT 'goes on';"), stop => 0);
			$states{ $it->{state} }++;
			push @bad, "$what: $it->{state} $it->{errors}" if $it->{output} !~ /goes on$/ || $it->{state} !~ $expected;
			next unless $call =~ /orders/;
			run('SELECT order_proc.recover()');
			my $made = join '', map { $_->safe_psql('postgres', "SELECT count(*) FROM order_store.idempotency_keys WHERE key = '$key'") } @shards;
			push @bad, "$what: made $made" if $made !~ /^(?:00|11)$/;
		}
	}
}
note join ', ', map { "$_ $states{$_}" } sort keys %states;
is(join("\n", @bad), '', "$tried calls of a shard that does not speak as it should");
run('SELECT order_proc.recover()');
is($_->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), '0', 'nothing stays prepared') for @shards;
gives("SELECT count(x) FROM order_proc.fan_out('SELECT n FROM generate_series(1, 3) AS n') AS t(x int)", 6, 'the coordinator works');

$_->stop for $coordinator, @shards;
for my $node ($coordinator, @shards) {
	is(join("\n", grep { / XX\d{3} (?:ERROR|FATAL|PANIC)|PANIC:|terminated by signal/ } split /\n/, slurp_file($node->logfile)), '', 'no crash and no internal error in the log of ' . $node->name);
}
done_testing();
