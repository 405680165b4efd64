// watch: how long what is prepared stays so once all servers accept connections.
//
//   watch COORDINATOR SHARD...
//
// Connects to each server until all have let it in; the last one's welcome is the moment. From then
// on it asks every shard every 10 ms what is prepared. Prints the most that a look found, and the
// seconds until a look at all shards found none any more: the first of half a second of such looks,
// for a server that was frozen may prepare yet what was on its way to it. Ends with 1 when that
// takes a minute.
#include <libpq-fe.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr double longest = 60;
constexpr double quiet = 0.5;

double seconds_since(Clock::time_point moment) {
  return std::chrono::duration<double>(Clock::now() - moment).count();
}

/// Not for ever: a server that is not started again is a fault of the test.
std::vector<PGconn*> connect_to_all(int count, char** addresses) {
  std::vector<PGconn*> connections(static_cast<std::size_t>(count), nullptr);
  const Clock::time_point began = Clock::now();
  std::size_t missing = connections.size();
  while (missing > 0) {
    for (std::size_t i = 0; i < connections.size(); ++i) {
      if (connections[i] != nullptr) continue;
      PGconn* const connection = PQconnectdb(addresses[i]);
      if (PQstatus(connection) == CONNECTION_OK) {
        connections[i] = connection;
        --missing;
        continue;
      }
      PQfinish(connection);
      if (seconds_since(began) > longest) {
        std::fprintf(stderr, "%s does not accept connections\n", addresses[i]);
        std::exit(1);
      }
    }
    if (missing > 0) usleep(5000);
  }
  return connections;
}

/// How many are prepared on all shards; their names in `names`.
int count_prepared(const std::vector<PGconn*>& connections, std::string& names) {
  int count = 0;
  names.clear();
  // The first is the coordinator: what it has prepared would be somebody else's.
  for (std::size_t i = 1; i < connections.size(); ++i) {
    PGresult* const result = PQexec(connections[i], "SELECT gid FROM pg_prepared_xacts");
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
      std::fprintf(stderr, "%s", PQerrorMessage(connections[i]));
      std::exit(1);
    }
    for (int row = 0; row < PQntuples(result); ++row)
      names += std::string(" ") + PQgetvalue(result, row, 0);
    count += PQntuples(result);
    PQclear(result);
  }
  return count;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) {
    std::fprintf(stderr, "usage: watch COORDINATOR SHARD...\n");
    return 2;
  }
  const std::vector<PGconn*> connections = connect_to_all(count - 1, arguments + 1);
  const Clock::time_point moment = Clock::now();
  std::string names;
  int prepared = count_prepared(connections, names);
  int most = prepared;
  std::optional<double> none_since;
  while (!none_since || seconds_since(moment) - *none_since < quiet) {
    if (prepared > 0)
      none_since.reset();
    else if (!none_since)
      none_since = seconds_since(moment);
    if (seconds_since(moment) > longest) {
      std::fprintf(stderr, "still prepared:%s\n", names.c_str());
      return 1;
    }
    usleep(10000);
    prepared = count_prepared(connections, names);
    most = std::max(most, prepared);
  }
  std::printf("%d %.3f\n", most, *none_since);
  for (PGconn* const connection : connections) PQfinish(connection);
  return 0;
}
