# psql for servers that may be down. One that cannot connect may be gone before IPC::Run has handed it its input, which
# IPC::Run dies of ("ack Broken pipe"). It has run nothing then, so it is started once more. Use it and forget it.
package Psql;

use strict;
use warnings;

use PostgreSQL::Test::Cluster;

for my $name (qw(psql poll_query_until)) {
	my $original = PostgreSQL::Test::Cluster->can($name);
	no strict 'refs';
	no warnings 'redefine';
	*{"PostgreSQL::Test::Cluster::$name"} = sub {
		for my $attempt (1 .. 100) {
			my @results = wantarray ? eval { $original->(@_) } : scalar eval { $original->(@_) };
			return wantarray ? @results : $results[0] unless $@;
			die $@ if $@ !~ /^ack Broken pipe/ || $attempt == 100;
		}
	};
}

1;
