// How transactions on shards begin: settings, BEGIN, savepoints, each when a call needs it.
#include "remote/transaction.hpp"

#include "failpoints.hpp"
#include "pg/error.hpp"
#include "remote/pipeline.hpp"

extern "C" {
#include "pgtime.h"
#include "utils/bytea.h"
}

namespace order_proc::remote {

namespace {

struct Begin {
  Statement read_write;
  Statement read_only;
};
std::array<Begin, 3> begins{{
    {{"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"},
     {"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"}},
    {{"BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE"},
     {"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"}},
    {{"BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE"},
     {"BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY"}},
}};
/// READ COMMITTED READ WRITE, as set_session has it: a setting for the transaction makes the end of
/// it look at all settings, which costs a shard as much as an item.
Statement plain_begin{"BEGIN"};
Statement rollback_statement{"ROLLBACK"};

Statement& begin_statement(const Connection& connection) {
  if (connection.settings.known && XactIsoLevel == XACT_READ_COMMITTED && !XactReadOnly)
    return plain_begin;
  Begin& begin = begins[XactIsoLevel == XACT_SERIALIZABLE      ? 2
                        : XactIsoLevel == XACT_REPEATABLE_READ ? 1
                                                               : 0];
  return XactReadOnly ? begin.read_only : begin.read_write;
}

/// The session on the shard reads values as this one, writes them so that they are read here as
/// what they were, and stops when we are gone.
Statement set_session{
    "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', $7::pg_catalog.bool), "
    "pg_catalog.set_config('extra_float_digits', '3', $7::pg_catalog.bool), "
    "pg_catalog.set_config('default_transaction_isolation', 'read committed', "
    "$7::pg_catalog.bool), "
    "pg_catalog.set_config('default_transaction_read_only', 'off', $7::pg_catalog.bool), "
    "pg_catalog.set_config('client_connection_check_interval', '100', $7::pg_catalog.bool), "
    "pg_catalog.set_config('standard_conforming_strings', 'on', $7::pg_catalog.bool), "
    "pg_catalog.set_config('bytea_output', $8::pg_catalog.text, $7::pg_catalog.bool), "
    "pg_catalog.set_config('TimeZone', $1::pg_catalog.text, $7::pg_catalog.bool), "
    "pg_catalog.set_config('DateStyle', $2::pg_catalog.text, $7::pg_catalog.bool), "
    "pg_catalog.set_config('IntervalStyle', $3::pg_catalog.text, $7::pg_catalog.bool), "
    "pg_catalog.set_config('lock_timeout', $4::pg_catalog.text, $7::pg_catalog.bool), "
    "pg_catalog.set_config('statement_timeout', $5::pg_catalog.text, $7::pg_catalog.bool), "
    "pg_catalog.set_config('idle_in_transaction_session_timeout', $6::pg_catalog.text, "
    "$7::pg_catalog.bool)"};

/// Of any style what is written by ISO is read; others name time zones by abbreviations, which mean
/// this or that.
const char* date_style() {
  return DateOrder == DATEORDER_DMY   ? "ISO, DMY"
         : DateOrder == DATEORDER_YMD ? "ISO, YMD"
                                      : "ISO, MDY";
}

/// Back to what the connection began with.
void queue_reset(Connection& connection) {
  queue_text(connection, "RESET SESSION AUTHORIZATION", Step::control, {});
  queue_text(connection, "RESET ROLE", Step::control, {});
  queue_text(connection, "RESET ALL", Step::control, {});
}

bool reports(const Connection& connection, const char* name, const char* value) {
  const char* const reported = PQparameterStatus(connection.link, name);
  return reported == nullptr || pg_strcasecmp(reported, value) == 0;
}

/// Whether something that ran on the shard has changed the session's settings, as a trigger may: by
/// those that servers report at the end of each message.
bool settings_changed(const Connection& connection) {
  const Connection::Settings& known = connection.settings;
  if (!known.known || connection.in_flight || connection.step_count > 0) return false;
  return known.timezone == session_timezone && known.date_order == DateOrder &&
         known.interval_style == IntervalStyle &&
         !(reports(connection, "DateStyle", date_style()) &&
           reports(connection, "TimeZone", pg_get_timezone_name(session_timezone)) &&
           reports(connection, "IntervalStyle", GetConfigOption("IntervalStyle", false, false)) &&
           reports(connection, "standard_conforming_strings", "on") &&
           reports(connection, "default_transaction_read_only", "off"));
}

/// In a transaction the settings come back with its end, or that of a savepoint: then they are
/// reset once more outside.
void reset_altered(Connection& connection) {
  if (connection.pooled) return;
  if (settings_changed(connection)) settings_altered(connection);
  if (!connection.altered || connection.depth > 0 || connection.left_open) return;
  queue_reset(connection);
  queue_sync(connection);
  connection.altered = connection.settings.known = false;
}

void queue_settings(Connection& connection) {
  const Connection::Settings wanted{session_timezone, DateOrder,        bytea_output, IntervalStyle,
                                    LockTimeout,      StatementTimeout, true};
  const Connection::Settings& known = connection.settings;
  if (known.known && known.timezone == wanted.timezone && known.date_order == wanted.date_order &&
      known.bytea_output == wanted.bytea_output && known.interval_style == wanted.interval_style &&
      known.lock_timeout == wanted.lock_timeout &&
      known.statement_timeout == wanted.statement_timeout)
    return;
  if (connection.altered && !connection.pooled) queue_reset(connection);
  const std::array<const char*, 8> values{
      pg_get_timezone_name(session_timezone), date_style(),
      GetConfigOption("IntervalStyle", false, false), psprintf("%d", LockTimeout),
      psprintf("%d", StatementTimeout),
      // A transaction on a shard is idle while the application thinks: the local settings decide.
      "0", connection.pooled ? "true" : "false", GetConfigOption("bytea_output", false, false)};
  queue(connection, set_session, Step::control, {{}, values, {}, {}});
  connection.settings = wanted;
  // With a pooler they last for the transaction only.
  connection.settings.known = !connection.pooled;
}

void queue_level(Connection& connection, const char* command, int level) {
  std::array<char, 48> text;
  snprintf(text.data(), text.size(), "%s s%d", command, level);
  queue_text(connection, text.data(), Step::control, {});
}

void queue_release(Connection& connection) {
  if (connection.release_level == 0) return;
  queue_level(connection, "RELEASE SAVEPOINT", connection.release_level);
  connection.release_level = 0;
}

/// Deep nests go in pieces.
void send_piece(Connection& connection) {
  constexpr int most_queued = 12;
  if (connection.step_count < most_queued) return;
  send(connection);
  (void)next_result(connection);
  raise_error(connection);
}

void queue_savepoints(Connection& connection, int level) {
  while (connection.depth < level) {
    send_piece(connection);
    queue_level(connection, "SAVEPOINT", connection.depth + 1);
    ++connection.depth;
  }
}

}  // namespace

void begin(Connection& connection, Use use) {
  make_room();
  if (connection.prepared_here)
    ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
            errmsg("the transaction is already prepared on shard %d (server \"%s\")",
                   connection.shard_id, server_name(connection.server)),
            errhint("Call order_proc.create_orders in a transaction block."));
  const int level = GetCurrentTransactionNestLevel();
  reset_altered(connection);
  if (connection.depth == 0) {
    const bool alone = use == Use::read && !IsolationUsesXactSnapshot() && !connection.pooled;
    if (!alone) {
      ORDER_PROC_FAILPOINT("f1_before_begin");
      queue(connection, begin_statement(connection), Step::control, {});
      connection.depth = 1;
      connection.begin_level = level;
    }
  }
  queue_release(connection);
  queue_settings(connection);
  if (connection.depth > 0) queue_savepoints(connection, level);
  if (use == Use::write && (connection.wrote_level == 0 || connection.wrote_level > level))
    connection.wrote_level = level;
}

void settings_altered(Connection& connection) {
  connection.altered = true;
  connection.settings.known = false;
}

void begin_snapshot(Connection& connection) {
  make_room();
  queue(connection, begins[1].read_only, Step::control, {});
  // Else the session has them.
  if (connection.pooled) queue_settings(connection);
  queue_text(connection, "SELECT 1", Step::control, {});
  connection.left_open = true;
}

void end_snapshot(Connection& connection) {
  queue(connection, rollback_statement, Step::control, {});
  connection.left_open = false;
  connection.alone = true;
}

}  // namespace order_proc::remote
