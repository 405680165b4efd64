# A coordinator and shards for the tests of failures: servers that are killed, frozen and cut off, and made whole again;
# what their orders are, and whether that is what clients were told.
package Failures;

use strict;
use warnings;

use FindBin;
use IO::Select;
use IO::Socket::UNIX;
use IPC::Run ();
use lib "$FindBin::RealBin/../cluster";
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Psql;
use Test::More;
use Time::HiRes qw(sleep time);

# new(shards => 3, customers => 200, settings => '...'): servers in a cluster, each shard behind a proxy.
sub new {
	my ($class, %how) = @_;
	my $self = bless { shards => [], proxies => [] }, $class;
	my $count = $how{shards} // 3;
	$self->{coordinator} = make_node('coordinator', $how{settings} // '');
	for my $number (0 .. $count - 1) {
		my $node = make_node("shard$number", $how{settings} // '');
		push @{ $self->{shards} }, $node;
		push @{ $self->{proxies} }, { folder => PostgreSQL::Test::Utils::tempdir_short(), node => $node };
		$self->start_proxy($number);
	}
	$_->safe_psql('postgres', 'CREATE EXTENSION order_proc; SELECT order_proc.create_store();') for $self->nodes;
	$self->{coordinator}->safe_psql('postgres', 'CREATE EXTENSION postgres_fdw');
	for my $number (0 .. $count - 1) {
		$self->{coordinator}->safe_psql('postgres', sprintf <<'SQL', $number, $self->{proxies}[$number]{folder}, $self->{shards}[$number]->port, $number, $number);
CREATE SERVER shard%s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '%s', port '%s', dbname 'postgres', connect_timeout '3');
CREATE USER MAPPING FOR CURRENT_USER SERVER shard%s;
SELECT order_proc.add_shard('shard%s');
SQL
	}
	my $customers = $how{customers} // 200;
	$self->{coordinator}->safe_psql('postgres', "SELECT count(order_proc.create_customer('First ' || n, 'Last ' || n, NULL, n)) FROM generate_series(1, $customers) AS n");
	return $self;
}

sub make_node {
	my ($name, $settings) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => [ '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync' ]);
	# fsync guards against the loss of power, which nobody can switch off here.
	$node->append_conf('postgresql.conf', <<"CONF");
max_prepared_transactions = 100
max_connections = 100
fsync = off
autovacuum = off
restart_after_crash = on
log_line_prefix = '%m [%p] %e '
client_min_messages = warning
$settings
CONF
	$node->start;
	return $node;
}

sub nodes { my ($self) = @_; return ($self->{coordinator}, @{ $self->{shards} }); }
sub address { my ($self) = @_; return $self->{coordinator}->connstr('postgres'); }

# --- proxies -------------------------------------------------------------------------------------------------------

# A process group that passes connections on: stopped, it is a network that swallows everything; killed, one that is cut.
sub start_proxy {
	my ($self, $number) = @_;
	my $proxy = $self->{proxies}[$number];
	my $port = $proxy->{node}->port;
	my $path = "$proxy->{folder}/.s.PGSQL.$port";
	my $target = $proxy->{node}->host . "/.s.PGSQL.$port";
	unlink $path;
	my $listener = IO::Socket::UNIX->new(Local => $path, Listen => 64) or die "cannot listen on $path: $!";
	my $pid = fork // die "cannot fork: $!";
	if ($pid == 0) {
		setpgrp 0, 0;
		$SIG{CHLD} = 'IGNORE';
		while (1) {
			my $client = $listener->accept or next;
			next if fork;
			close $listener;
			pass_on($client, $target);
			POSIX::_exit(0);
		}
	}
	setpgrp $pid, $pid;
	close $listener;
	$proxy->{pid} = $pid;
}

sub pass_on {
	my ($client, $target) = @_;
	my $server = IO::Socket::UNIX->new(Peer => $target) or return;
	my $select = IO::Select->new($client, $server);
	while (1) {
		for my $from ($select->can_read) {
			my $got = sysread $from, my $bytes, 65536;
			return unless $got;
			my $to = $from == $client ? $server : $client;
			for (my $at = 0; $at < $got;) {
				my $put = syswrite $to, $bytes, $got - $at, $at;
				return unless $put;
				$at += $put;
			}
		}
	}
}

sub cut {
	my ($self, $number) = @_;
	my $pid = delete $self->{proxies}[$number]{pid} // return;
	kill 'KILL', -$pid;
	waitpid $pid, 0;
	for (1 .. 500) { last unless kill 0, -$pid; sleep 0.002; }
}
sub swallow { my ($self, $number) = @_; kill 'STOP', -$self->{proxies}[$number]{pid}; $self->{proxies}[$number]{stopped} = 1; }

# --- servers -------------------------------------------------------------------------------------------------------

# All of its processes at once, as when the machine dies.
sub kill_node {
	my ($self, $node) = @_;
	my @processes = processes($node);
	kill 'KILL', @processes;
	for (1 .. 500) { last unless grep { kill 0, $_ } @processes; sleep 0.002; }
	$node->{_pid} = undef;
}
sub is_running { my ($node) = @_; return defined $node->{_pid} && kill 0, $node->{_pid}; }

sub processes {
	my ($node) = @_;
	my $postmaster = $node->{_pid} // return;
	return ($postmaster, split ' ', `pgrep -P $postmaster`);
}
sub freeze { my ($self, $node) = @_; $node->{frozen} = [ processes($node) ]; kill 'STOP', @{ $node->{frozen} }; }
sub thaw { my ($node) = @_; my $frozen = delete $node->{frozen} // return; kill 'CONT', @$frozen; }

# Everything runs again and is connected.
sub heal {
	my ($self) = @_;
	thaw($_) for $self->nodes;
	for my $number (0 .. $#{ $self->{proxies} }) {
		my $proxy = $self->{proxies}[$number];
		if (delete $proxy->{stopped}) { kill 'CONT', -$proxy->{pid} if $proxy->{pid}; }
		$self->start_proxy($number) unless $proxy->{pid};
	}
	for my $node ($self->nodes) {
		next if is_running($node);
		unlink $node->data_dir . '/failpoint_reached';
		# Processes of the server that was killed may still hold its memory.
		my $up = 0;
		for (1 .. 100) {
			$node->{_pid} = undef;
			last if $up = $node->start(fail_ok => 1);
			sleep 0.1;
		}
		die 'cannot start ' . $node->name unless $up;
	}
	for my $node ($self->nodes) { $node->poll_query_until('postgres', 'SELECT true') or die $node->name . ' does not answer'; }
}

# Seconds until no transaction is prepared any more; dies when that takes longer than `limit`. `by_hand`: calls recover().
sub settle {
	my ($self, %how) = @_;
	my $began = time;
	while (1) {
		$self->{coordinator}->psql('postgres', 'SELECT * FROM order_proc.recover()', timeout => 60) if $how{by_hand} // 1;
		my @left = map { $_->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts') } @{ $self->{shards} };
		return time - $began unless grep { $_ ne '' } @left;
		die "still prepared: @left" if time - $began > ($how{limit} // 30);
		sleep 0.05;
	}
}

# --- what is there -------------------------------------------------------------------------------------------------

# customer:key => whether its order is there and whole; dies when one is there twice, in the wrong place or incomplete.
sub orders {
	my ($self) = @_;
	my %orders;
	for my $number (0 .. $#{ $self->{shards} }) {
		my $rows = $self->{shards}[$number]->safe_psql('postgres', <<'SQL');
SELECT k.customer_id || ':' || k.key, o.customer_id = k.customer_id AND o.total_amount = i.total AND i.count > 0
  AND get_bit((SELECT owned_slots FROM order_store.cluster), order_proc.slot_for_customer(k.customer_id)) = 1
FROM order_store.idempotency_keys AS k LEFT JOIN order_store.orders AS o ON o.id = k.order_id
CROSS JOIN LATERAL (SELECT count(*), sum(quantity * price) AS total FROM order_store.order_items WHERE order_id = k.order_id) AS i
SQL
		for (split /\n/, $rows) {
			my ($key, $whole) = split /\|/;
			die "$key is on two shards" if exists $orders{$key};
			die "$key is not whole" unless $whole eq 't';
			$orders{$key} = 1;
		}
		my $without = $self->{shards}[$number]->safe_psql('postgres', 'SELECT count(*) FROM order_store.orders AS o WHERE NOT EXISTS (SELECT FROM order_store.idempotency_keys AS k WHERE k.order_id = o.id)');
		die "$without orders without a key on shard $number" if $without;
	}
	return \%orders;
}

# Compares the logs of test/failures/workload.cpp with what is there; returns a text for each violation.
sub violations {
	my ($self, @logs) = @_;
	my $orders = $self->orders;
	my (@violations, %known, %outcomes);
	for my $log (@logs) {
		for my $line (split /\n/, slurp_file($log)) {
			my ($outcome, $state, $together, $never) = split /\t/, $line, -1;
			my @there = map { $known{$_} = 1; $orders->{$_} ? 1 : 0 } split / /, $together;
			my $sum = 0;
			$sum += $_ for @there;
			$outcomes{$outcome}++;
			push @violations, "half there, $outcome $state: $together" if $sum != 0 && $sum != @there;
			push @violations, "acknowledged and not there: $together" if $outcome eq 'ok' && $sum == 0;
			push @violations, "failed with $state and there: $together" if $outcome eq 'failed' && $sum > 0;
			push @violations, "outcome() named it, and it is not there: $together" if $outcome eq 'present' && $sum == 0;
			push @violations, "outcome() did not know it, and it is there: $together" if $outcome eq 'absent' && $sum > 0;
			for (split / /, $never) { $known{$_} = 1; push @violations, "rolled back and there: $_" if $orders->{$_}; }
		}
	}
	push @violations, map { "nobody made $_" } grep { !$known{$_} } keys %$orders;
	return (\@violations, \%outcomes);
}

# --- programs ------------------------------------------------------------------------------------------------------

# A program of this folder, compiled: the clients of workload.cpp, say; undef without a compiler.
sub program {
	my ($name) = @_;
	my $program = PostgreSQL::Test::Utils::tempdir() . "/$name";
	my $includes = `pg_config --includedir`;
	my $libraries = `pg_config --libdir`;
	chomp($includes, $libraries);
	my $failed = system_log($ENV{CXX} // 'c++', '-std=gnu++20', '-O1', "-I$includes", "-L$libraries", "test/failures/$name.cpp", '-o', $program, '-lpq');
	return $failed ? undef : $program;
}

# A psql in the background that runs these commands and stops at the first error. The last is a COMMIT, or a call that returns ids.
sub start_session {
	my ($self, @commands) = @_;
	my $session = { output => '', messages => '', began => time, done => $commands[-1] eq 'COMMIT' ? qr/^COMMIT$/m : qr/^[\d{},]+$/m };
	$session->{run} = IPC::Run::start([ 'psql', '-XAt', '-v', 'VERBOSITY=verbose', '-v', 'ON_ERROR_STOP=1', '-d', $self->address, map { ('-c', $_) } @commands ],
		'<', \undef, '>', \$session->{output}, '2>', \$session->{messages});
	return $session;
}

# The process that has reached its failpoint and pauses there; undef when the session ended before, or got nowhere.
sub reached {
	my ($self, $session) = @_;
	my $file = $self->{coordinator}->data_dir . '/failpoint_reached';
	for (1 .. 6000) { last if -s $file || !IPC::Run::pumpable($session->{run}); sleep 0.01; IPC::Run::pump_nb($session->{run}); }
	return undef unless -s $file;
	chomp(my $pid = slurp_file($file));
	return $pid;
}
sub release { my ($self) = @_; unlink $self->{coordinator}->data_dir . '/failpoint_reached'; }

# ok, failed or unknown, as workload.cpp means them; the SQLSTATE and how long it took are in the session.
sub end_session {
	my ($self, $session) = @_;
	eval { IPC::Run::finish($session->{run}) };
	$session->{took} = time - $session->{began};
	($session->{state}) = $session->{messages} =~ /(?:ERROR|FATAL):\s+([0-9A-Z]{5}):/;
	$session->{state} //= '';
	return 'ok' if $session->{output} =~ $session->{done};
	# 2: psql lost its connection.
	return 'unknown' if $session->{state} eq '40003' || $session->{state} eq '' || ($session->{run}->full_result // 0) >> 8 == 2;
	return 'failed';
}

sub DESTROY {
	my ($self) = @_;
	local $?;    # the test's result
	for my $number (0 .. $#{ $self->{proxies} }) { $self->cut($number); }
}

1;
