// client: times statements over libpq, variants in turn, for the sections of bench/run that need
// several servers.
//
//   client PAIRS MILLISECONDS FILE
//
// FILE has a variant a line, its fields between tabs: name, mode, a statement for each new session
// or nothing, the statement, a file with a parameter a line (or one for each connection, between
// commas) or nothing, and one or more connection strings. Prints name, pair and microseconds per
// call, between tabs. A pair is one slice of MILLISECONDS of each variant, every other time in the
// opposite sequence.
//
// Modes, of which `MODE:N` has N sessions at once, each in a thread, and tells the time of all over
// the calls of all:
//   warm  connected; the statement, prepared, goes to all connections at once, and the call ends
//         with the last answer
//   cold  each call connects anew, to all at once, and runs the statement unprepared
//   turn  as warm, but each call goes to one connection, in turn
//   hand  the statement on all connections but the last, committed in two phases by the client,
//         with its record on the last
#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>
#include <cmath>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

struct Closer {
  void operator()(PGconn* connection) const { PQfinish(connection); }
};
using Connection = std::unique_ptr<PGconn, Closer>;

/// One of those who call: connected to all servers of its variant.
struct Session {
  std::vector<Connection> connections;
  std::size_t next = 0;  ///< the parameter
  std::size_t turn = 0;  ///< the connection
  std::string tag;       ///< unique to it
};

struct Variant {
  std::string name, mode, prelude, statement;
  std::vector<std::vector<std::string>> parameters;  ///< of each connection, or of all
  std::vector<std::string> servers;
  std::vector<Session> sessions;
  int calls = 1;  ///< of each session in a slice
};

[[noreturn]] void fail(const std::string& what, const std::string& why) {
  std::fprintf(stderr, "%s: %s\n", what.c_str(), why.c_str());
  std::exit(1);
}

void run(PGconn* connection, const Variant& variant, const std::string& sql) {
  PGresult* const result = PQexec(connection, sql.c_str());
  const ExecStatusType status = PQresultStatus(result);
  if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
    fail(variant.name, PQerrorMessage(connection));
  PQclear(result);
}

void wait_for(std::vector<pollfd>& sockets) {
  if (poll(sockets.data(), sockets.size(), 60000) <= 0) fail("poll", "nothing came for a minute");
}

/// Connects to all servers at once.
std::vector<Connection> connect(const Variant& variant) {
  std::vector<Connection> connections;
  std::vector<PostgresPollingStatusType> states;
  for (const std::string& server : variant.servers) {
    connections.emplace_back(PQconnectStart(server.c_str()));
    states.push_back(PGRES_POLLING_WRITING);
  }
  for (;;) {
    std::vector<pollfd> sockets;
    std::vector<std::size_t> which;
    for (std::size_t i = 0; i < connections.size(); ++i) {
      if (states[i] == PGRES_POLLING_OK) continue;
      sockets.push_back({PQsocket(connections[i].get()),
                         static_cast<short>(states[i] == PGRES_POLLING_READING ? POLLIN : POLLOUT),
                         0});
      which.push_back(i);
    }
    if (which.empty()) return connections;
    wait_for(sockets);
    for (std::size_t i = 0; i < which.size(); ++i) {
      if (sockets[i].revents == 0) continue;
      PGconn* const connection = connections[which[i]].get();
      states[which[i]] = PQconnectPoll(connection);
      if (states[which[i]] == PGRES_POLLING_FAILED) fail(variant.name, PQerrorMessage(connection));
    }
  }
}

void prepare(const Variant& variant, const Session& session) {
  for (const Connection& connection : session.connections) {
    if (!variant.prelude.empty()) run(connection.get(), variant, variant.prelude);
    if (variant.mode == "hand") continue;
    PGresult* const result =
        PQprepare(connection.get(), "call", variant.statement.c_str(), 0, nullptr);
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
      fail(variant.name, PQerrorMessage(connection.get()));
    PQclear(result);
  }
}

/// The next parameter for that connection.
const std::string& parameter(const Variant& variant, Session& session, std::size_t connection) {
  const auto& list = variant.parameters[connection % variant.parameters.size()];
  return list[session.next++ % list.size()];
}

void send(const Variant& variant, Session& session, std::size_t index, PGconn* connection) {
  int sent = 0;
  if (variant.mode == "cold") {
    sent = PQsendQuery(connection, variant.statement.c_str());
  } else if (variant.parameters.empty()) {
    sent = PQsendQueryPrepared(connection, "call", 0, nullptr, nullptr, nullptr, 0);
  } else {
    const char* const value = parameter(variant, session, index).c_str();
    sent = PQsendQueryPrepared(connection, "call", 1, &value, nullptr, nullptr, 0);
  }
  if (sent == 0 || PQflush(connection) != 0) fail(variant.name, PQerrorMessage(connection));
}

/// Takes what has come; true when the call is over.
bool finished(const Variant& variant, PGconn* connection) {
  if (PQconsumeInput(connection) == 0) fail(variant.name, PQerrorMessage(connection));
  while (PQisBusy(connection) == 0) {
    PGresult* const result = PQgetResult(connection);
    if (result == nullptr) return true;
    if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
      fail(variant.name, PQresultErrorMessage(result));
    if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 0)
      fail(variant.name, "no rows");
    PQclear(result);
  }
  return false;
}

/// Waits until all of them have finished what they were sent.
void wait_for_all(const Variant& variant, std::vector<PGconn*> busy) {
  while (!busy.empty()) {
    std::vector<pollfd> sockets;
    for (PGconn* const connection : busy) sockets.push_back({PQsocket(connection), POLLIN, 0});
    wait_for(sockets);
    std::erase_if(busy, [&](PGconn* connection) {
      const auto socket = std::find_if(sockets.begin(), sockets.end(), [&](const pollfd& s) {
        return s.fd == PQsocket(connection);
      });
      return socket->revents != 0 && finished(variant, connection);
    });
  }
}

/// One call: to all connections at once.
void call(const Variant& variant, Session& session) {
  std::vector<Connection> fresh;
  if (variant.mode == "cold") fresh = connect(variant);
  const std::vector<Connection>& connections = variant.mode == "cold" ? fresh : session.connections;
  std::vector<PGconn*> busy;
  for (std::size_t i = 0; i < connections.size(); ++i) {
    if (variant.mode == "turn" && i != session.turn) continue;
    send(variant, session, i, connections[i].get());
    busy.push_back(connections[i].get());
  }
  wait_for_all(variant, busy);
  session.turn = (session.turn + 1) % connections.size();
}

/// One transaction that the client itself commits in two phases.
void commit_by_hand(const Variant& variant, Session& session) {
  const std::string gid = "'" + session.tag + std::to_string(session.next) + "'";
  std::vector<PGconn*> shards;
  for (std::size_t i = 0; i + 1 < session.connections.size(); ++i)
    shards.push_back(session.connections[i].get());
  const auto all = [&](const auto& text_of) {
    for (std::size_t i = 0; i < shards.size(); ++i)
      if (PQsendQuery(shards[i], text_of(i).c_str()) == 0)
        fail(variant.name, PQerrorMessage(shards[i]));
    wait_for_all(variant, shards);
  };
  all([&](std::size_t i) {
    std::string statement = variant.statement;
    statement.replace(statement.find("$1"), 2, parameter(variant, session, i));
    return "BEGIN; " + statement + "; PREPARE TRANSACTION " + gid;
  });
  run(session.connections.back().get(), variant, "INSERT INTO bench.decided VALUES (" + gid + ")");
  all([&](std::size_t) { return "COMMIT PREPARED " + gid; });
}

/// `calls` of each session.
double slice(Variant& variant, int calls) {
  const Clock::time_point began = Clock::now();
  const auto call_all = [&](Session& session) {
    for (int i = 0; i < calls; ++i) {
      if (variant.mode == "hand") {
        commit_by_hand(variant, session);
      } else {
        call(variant, session);
      }
    }
  };
  std::vector<std::jthread> threads;
  for (std::size_t i = 1; i < variant.sessions.size(); ++i)
    threads.emplace_back([&, i] { call_all(variant.sessions[i]); });
  call_all(variant.sessions[0]);
  threads.clear();
  return std::chrono::duration<double, std::micro>(Clock::now() - began).count() / calls /
         static_cast<double>(variant.sessions.size());
}

std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream file(path);
  if (!file) fail(path, "cannot be read");
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

Variant read_variant(const std::string& line) {
  Variant variant;
  std::istringstream fields(line);
  std::string parameters;
  std::getline(fields, variant.name, '\t');
  std::getline(fields, variant.mode, '\t');
  std::getline(fields, variant.prelude, '\t');
  std::getline(fields, variant.statement, '\t');
  std::getline(fields, parameters, '\t');
  std::istringstream files(parameters);
  for (std::string file; std::getline(files, file, ',');)
    variant.parameters.push_back(lines_of(file));
  for (std::string server; std::getline(fields, server, '\t');) variant.servers.push_back(server);
  if (variant.servers.empty()) fail(line, "a variant without a server");
  const std::size_t colon = variant.mode.find(':');
  variant.sessions.resize(colon == std::string::npos ? 1
                                                     : std::stoul(variant.mode.substr(colon + 1)));
  variant.mode.resize(std::min(colon, variant.mode.size()));
  const auto started = std::to_string(Clock::now().time_since_epoch().count());
  for (std::size_t i = 0; i < variant.sessions.size(); ++i) {
    // Apart, so that sessions do not work on the same rows.
    variant.sessions[i].next = i * 137;
    variant.sessions[i].tag = variant.name + '_' + started + '_' + std::to_string(i) + '_';
  }
  return variant;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) fail("usage", "client PAIRS MILLISECONDS FILE");
  const int pairs = std::stoi(arguments[1]);
  const double milliseconds = std::stod(arguments[2]);
  std::vector<Variant> variants;
  for (const std::string& line : lines_of(arguments[3])) variants.push_back(read_variant(line));
  for (Variant& variant : variants) {
    if (variant.mode != "cold") {
      for (Session& session : variant.sessions) {
        session.connections = connect(variant);
        prepare(variant, session);
      }
      // Past the five plans that a prepared statement may get for its parameters, and past the
      // first calls of many shards.
      (void)slice(variant, variant.parameters.empty() ? 20 : 500);
    }
    // As many as take about the time of a slice.
    for (double spent = 0; spent < milliseconds * 1000;) {
      spent = slice(variant, variant.calls) * variant.calls *
              static_cast<double>(variant.sessions.size());
      const double more = milliseconds * 1000 / spent;
      if (more <= 1.1) break;
      variant.calls = static_cast<int>(std::ceil(variant.calls * std::min(more, 4.0)));
    }
  }
  for (int pair = 1; pair <= pairs; ++pair) {
    for (std::size_t i = 0; i < variants.size(); ++i) {
      Variant& variant = variants[pair % 2 == 1 ? i : variants.size() - 1 - i];
      std::printf("%s\t%d\t%.3f\n", variant.name.c_str(), pair, slice(variant, variant.calls));
    }
  }
  return 0;
}
