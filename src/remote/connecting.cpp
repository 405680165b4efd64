// Connecting: libpq's options out of server and user mapping, the password rule, and all that are
// wanted at once, each asked whether it is the shard that it should be.
//
// What has come half way at an ERROR is found by its missing process id, and closed at the next
// use.
#include "remote/connecting.hpp"

#include "pg/error.hpp"
#include "pg/foreign.hpp"
#include "remote/incarnation.hpp"
#include "remote/limits.hpp"
#include "remote/pipeline.hpp"

namespace order_proc::remote {

namespace {

Registrar registrar = nullptr;

/// What libpq takes of the options of server and mapping, and what we add.
struct Options {
  const char** keywords;
  const char** values;
  int count;
  bool has_password;
  bool has_hosts;  ///< several
  bool password_required;
};

bool is_libpq_option(const PQconninfoOption* known, const char* name) {
  for (const PQconninfoOption* option = known; option->keyword != nullptr; ++option)
    if (std::string_view(option->keyword) == name) return true;
  return false;
}

void add_option(Options& options, const char* keyword, const char* value) {
  options.keywords[options.count] = keyword;
  options.values[options.count++] = value;
}

void add_options(Options& options, const List* definitions, const PQconninfoOption* known) {
  ListCell* cell;
  foreach (cell, definitions) {
    auto* const definition = static_cast<DefElem*>(lfirst(cell));
    const std::string_view name{definition->defname};
    if (name == "password_required") options.password_required = defGetBoolean(definition);
    // The session's own settings are ours to make.
    if (name == "options" || name == "client_encoding" || name == "fallback_application_name" ||
        !is_libpq_option(known, definition->defname))
      continue;
    const char* const value = defGetString(definition);
    if (name == "password") options.has_password = *value != '\0';
    if (name == "host")
      options.has_hosts = std::string_view(value).find(',') != std::string_view::npos;
    add_option(options, definition->defname, value);
  }
}

const char* user_name(Oid user) {
  return OidIsValid(user) ? quote_identifier(GetUserNameFromId(user, false)) : "PUBLIC";
}

/// That of the user, else that of PUBLIC.
bool has_mapping(const Connection& connection) {
  const auto exists = [&](Oid user) {
    return SearchSysCacheExists2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(user),
                                 ObjectIdGetDatum(connection.server));
  };
  return exists(connection.user) || exists(InvalidOid);
}

const UserMapping* mapping_of(const Connection& connection) {
  if (!has_mapping(connection))
    ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
            errmsg("user mapping not found for user %s, server \"%s\"", user_name(connection.user),
                   server_name(connection.server)),
            errhint("CREATE USER MAPPING FOR %s SERVER %s OPTIONS (user '...', password '...');",
                    user_name(connection.user), quote_identifier(server_name(connection.server))));
  return GetUserMapping(connection.user, connection.server);
}

Options options_for(const Connection& connection) {
  const ForeignServer* const server = GetForeignServerExtended(connection.server, FSV_MISSING_OK);
  if (server == nullptr) raise_no_server(connection.shard_id);
  const UserMapping* const mapping = mapping_of(connection);
  const Size most =
      static_cast<Size>(list_length(server->options) + list_length(mapping->options)) + 8;
  Options options{static_cast<const char**>(palloc0(sizeof(char*) * most)),
                  static_cast<const char**>(palloc0(sizeof(char*) * most)),
                  0,
                  false,
                  false,
                  true};
  // Without libpq's defaults, which take a look at the password file of the operating system.
  PQconninfoOption* const known = PQconninfoParse("", nullptr);
  if (known == nullptr) ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
  add_options(options, server->options, known);
  add_options(options, mapping->options, known);
  PQconninfoFree(known);
  add_option(options, "client_encoding", GetDatabaseEncodingName());
  add_option(options, "fallback_application_name", "order_proc");
  if (connection.beside != nullptr) {
    // Of an option that comes twice the last one counts.
    add_option(options, "host", PQhost(connection.beside->link));
    add_option(options, "hostaddr", PQhostaddr(connection.beside->link));
    add_option(options, "port", PQport(connection.beside->link));
    add_option(options, "target_session_attrs", "any");
  } else if (connection.standby)
    add_option(options, "target_session_attrs", "prefer-standby");
  else if (options.has_hosts)
    add_option(options, "target_session_attrs", "primary");
  return options;
}

/// As dblink and postgres_fdw demand: others than superusers must not get in by what the server
/// process can do (trust, peer, a .pgpass of the operating system's user).
bool needs_password(const Connection& connection, const Options& options) {
  return !superuser_arg(connection.user) && options.password_required;
}

[[noreturn]] void no_password(const Connection& connection, const char* detail, const char* hint) {
  ereport(ERROR, errcode(ERRCODE_S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED),
          errmsg("password is required for server \"%s\"", server_name(connection.server)),
          errdetail_internal("%s", detail), errhint("%s", hint));
}

/// Begins to connect; false when it may not and `quiet`.
bool start(Connection& connection, bool quiet) {
  if (quiet && !has_mapping(connection)) return false;
  const Options options = options_for(connection);
  if (needs_password(connection, options) && !options.has_password) {
    if (quiet) return false;
    no_password(
        connection, "Non-superusers must provide a password in the user mapping.",
        psprintf("ALTER USER MAPPING FOR %s SERVER %s OPTIONS (ADD password '...');",
                 user_name(connection.user), quote_identifier(server_name(connection.server))));
  }
  forget_session(connection);
  if (!connection.mapped) reserve_place(connection);
  if (!AcquireExternalFD()) {
    release_place(connection);
    if (connection.beside != nullptr) return false;
    ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_RESOURCES),
            errmsg("too many open files for a connection to server \"%s\"",
                   server_name(connection.server)),
            errhint("Raise max_files_per_process, or the operating system's limit."));
  }
  connection.link = PQconnectStartParams(options.keywords, options.values, 0);
  if (connection.link == nullptr) {
    ReleaseExternalFD();
    release_place(connection);
    ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
  }
  return true;
}

[[noreturn]] void raise_unreachable(Connection& connection, const char* why) {
  close_connection(connection);
  ereport(ERROR, errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
          errmsg("could not connect to shard %d (server \"%s\")", connection.shard_id,
                 server_name(connection.server)),
          why == nullptr ? 0 : errdetail_internal("%s", why),
          errhint("SELECT * FROM order_proc.shard_status;"));
}

/// A connection on its way: first libpq connects, then the shard is asked who it is.
struct Attempt {
  Connection* connection;
  PostgresPollingStatusType status;
  bool joining;  ///< the question is on its way
  bool over;     ///< well when backend_pid is known
};

/// The server's process id, when the database is that shard of that cluster; NULL when it has yet
/// to hear of this server.
constexpr const char* join_text =
    "SELECT order_proc.join_cluster($1::pg_catalog.int8, $2::pg_catalog.int4)";
constexpr const char* join_fenced_text =
    "SELECT order_proc.join_cluster($1::pg_catalog.int8, $2::pg_catalog.int4, "
    "$3::pg_catalog.int4, $4::pg_catalog.int8)";

void queue_join(Connection& connection) {
  const Incarnation here = connection.fenced ? incarnation() : Incarnation{};
  connection.timeline = here.timeline;
  const std::array<const char*, 4> values{
      psprintf(INT64_FORMAT, connection.coordinator_id), psprintf("%d", connection.shard_id),
      psprintf("%u", here.timeline), psprintf(INT64_FORMAT, here.instance)};
  if (connection.coordinator_id == 0)
    queue_text(connection, "SELECT pg_catalog.pg_backend_pid()", Step::call, {});
  else if (here.timeline == 0)
    queue_text(connection, join_text, Step::call, {{}, std::span(values).first(2), {}, {}});
  else
    queue_text(connection, join_fenced_text, Step::call, {{}, values, {}, {}});
}

void hear_of_joining(Connection& connection, const PGresult* result) {
  if (PQntuples(result) != 1) return;
  connection.unregistered = PQgetisnull(result, 0, 0) == 1;
  connection.backend_pid = static_cast<int>(strtol(cell(result, 0, 0), nullptr, 10));
  // A pooler hands out process ids of its own.
  connection.pooled = connection.backend_pid != PQbackendPID(connection.link);
}

/// Once more, after the shard was told that this server is its coordinator now.
void register_and_join(Connection& connection, Deadline deadline) {
  registrar({connection.shard_id, connection.server, connection.coordinator_id, connection.fenced});
  queue_join(connection);
  send(connection);
  while (const PGresult* const result = next_result(connection, Interrupts::serve, deadline))
    hear_of_joining(connection, result);
}

/// Ready for statements: pipelines, no waiting in libpq, the password rule. `quiet`: what breaks it
/// is a failure like others.
bool settle(Connection& connection, bool quiet) {
  if (!superuser_arg(connection.user) && !PQconnectionUsedPassword(connection.link)) {
    const Options options = options_for(connection);
    if (needs_password(connection, options)) {
      close_connection(connection);
      if (quiet) return false;
      no_password(connection, "The server did not ask for the password of the user mapping.",
                  "Let the shard's pg_hba.conf ask this user for it (scram-sha-256, not trust or "
                  "peer), then SELECT pg_reload_conf(); there.");
    }
  }
  return PQsetnonblocking(connection.link, 1) == 0 && PQenterPipelineMode(connection.link) == 1;
}

/// Asks a new connection whether it leads to the shard it should, and who answers.
void join(Attempt& attempt, bool quiet) {
  Connection& connection = *attempt.connection;
  attempt.joining = settle(connection, quiet);
  attempt.over = !attempt.joining;
  if (attempt.over) return;
  connection.socket = PQsocket(connection.link);
  queue_join(connection);
  send(connection);
}

/// Takes libpq's connecting on. Whether it came a step further, of the few that there are.
bool advance(Attempt& attempt, bool quiet) {
  PGconn* const link = attempt.connection->link;
  const ConnStatusType before = PQstatus(link);
  attempt.status = PQconnectPoll(link);
  attempt.over = attempt.status == PGRES_POLLING_FAILED;
  if (attempt.status == PGRES_POLLING_OK) join(attempt, quiet);
  return PQstatus(link) != before;
}

/// Takes the answer as far as it has come.
void take_answer(Attempt& attempt) {
  Connection& connection = *attempt.connection;
  Connection* const one[] = {&connection};
  (void)wait_for_any(one, Interrupts::serve, GetCurrentTimestamp());
  while (const auto result = result_if_any(connection)) {
    attempt.over = *result == nullptr;
    if (attempt.over) return;
    hear_of_joining(connection, *result);
  }
}

short events_of(const Attempt& attempt) {
  if (!attempt.joining) return attempt.status == PGRES_POLLING_READING ? POLLIN : POLLOUT;
  return PQflush(attempt.connection->link) == 1 ? POLLIN | POLLOUT : POLLIN;
}

/// Waits until all attempts are over, or none of them has come a step further for
/// order_proc.connect_timeout: one that hangs keeps no other, and many that share a busy machine
/// are not given up while they get on, which would cost it as much again.
void wait_for_attempts(std::span<Attempt> attempts, bool quiet) {
  Deadline deadline = after_milliseconds(connect_timeout);
  auto* const descriptors = static_cast<pollfd*>(palloc(sizeof(pollfd) * (attempts.size() + 1)));
  for (;;) {
    std::size_t count = 0;
    for (const Attempt& attempt : attempts)
      if (!attempt.over)
        descriptors[count++] = {PQsocket(attempt.connection->link), events_of(attempt), 0};
    if (count == 0 || !wait_ready({descriptors, count}, deadline, Interrupts::serve)) break;
    std::size_t at = 0;
    bool got_on = false;
    for (Attempt& attempt : attempts) {
      if (attempt.over || descriptors[at++].revents == 0) continue;
      if (attempt.joining)
        take_answer(attempt);
      else
        got_on |= advance(attempt, quiet);
      got_on |= attempt.over;
    }
    if (got_on) deadline = after_milliseconds(connect_timeout);
  }
  pfree(descriptors);
  for (const Attempt& attempt : attempts)
    if (attempt.connection->unregistered && registrar != nullptr)
      register_and_join(*attempt.connection, after_milliseconds(connect_timeout));
}

/// Starts all that are not open; those that cannot even be started raise, unless `quiet`.
std::span<Attempt> start_all(std::span<Connection* const> wanted, bool quiet) {
  auto* const attempts = static_cast<Attempt*>(palloc(sizeof(Attempt) * (wanted.size() + 1)));
  std::size_t count = 0;
  for (Connection* const connection : wanted) {
    if (connection == nullptr || connection->link != nullptr) continue;
    const bool failed = !start(*connection, quiet) || PQstatus(connection->link) == CONNECTION_BAD;
    attempts[count++] = {connection, failed ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING, false,
                         failed};
  }
  return {attempts, count};
}

/// The reason why an attempt failed, for those who may know it; null when nothing is known.
const char* failure_of(const Attempt& attempt) {
  if (!attempt.over)
    return psprintf("It did not answer within order_proc.connect_timeout (%d ms).",
                    connect_timeout);
  // Its own mapping is no secret of the caller's.
  if (!has_mapping(*attempt.connection)) return "The caller has no user mapping for its server.";
  return reason(*attempt.connection);
}

[[noreturn]] void too_old(Connection& connection) {
  close_connection(connection);
  ereport(ERROR, errcode(pg::store_mismatch),
          errmsg("shard %d (server \"%s\") has an older version of order_proc", connection.shard_id,
                 server_name(connection.server)),
          errhint("ALTER EXTENSION order_proc UPDATE; there."));
}

}  // namespace

void set_registrar(Registrar called) {
  registrar = called;
}

void open(std::span<Connection*> wanted, std::span<const char*> unreachable) {
  if (std::all_of(wanted.begin(), wanted.end(),
                  [](const Connection* c) { return c == nullptr || c->link != nullptr; }))
    return;
  const std::span<Attempt> attempts =
      start_all({wanted.data(), wanted.size()}, !unreachable.empty());
  wait_for_attempts(attempts, !unreachable.empty());
  for (const Attempt& attempt : attempts) {
    Connection& connection = *attempt.connection;
    if (attempt.over && connection.backend_pid != 0 && !connection.lost) continue;
    // What the shard says itself: that it is another one, or has another version.
    const bool says_why = unreachable.empty() || error_code(connection) == pg::coordinator_fenced;
    if (says_why && error_code(connection) == ERRCODE_UNDEFINED_FUNCTION) too_old(connection);
    if (says_why && connection.error != nullptr) raise_error(connection, true);
    const char* const why = failure_of(attempt);
    if (unreachable.empty()) raise_unreachable(connection, why);
    close_connection(connection);
    const auto at = std::find(wanted.begin(), wanted.end(), &connection) - wanted.begin();
    unreachable[static_cast<std::size_t>(at)] = why == nullptr ? "" : why;
    wanted[static_cast<std::size_t>(at)] = nullptr;
  }
}

void try_out(std::span<Connection* const> wanted, std::span<bool> answered) {
  const std::span<Attempt> attempts = start_all(wanted, true);
  wait_for_attempts(attempts, true);
  for (std::size_t i = 0; i < attempts.size(); ++i) {
    answered[i] = attempts[i].over;
    close_connection(*attempts[i].connection);
  }
}

}  // namespace order_proc::remote
