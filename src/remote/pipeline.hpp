// What a shard is asked: steps queued on its connection (settings, BEGIN, savepoints, the call
// itself), sent together, answered together. Any number of shards work at once.
#pragma once

#include "remote/connection.hpp"
#include "remote/wait.hpp"

namespace order_proc::remote {

/// Parameters and format of a call.
struct Parameters {
  std::span<const Oid> types;           ///< empty: the shard infers them
  std::span<const char* const> values;  ///< null: NULL
  std::span<const int> lengths;         ///< of binary ones
  std::span<const int> formats;         ///< 1: binary; empty: all text
  int result_format = 0;                ///< 1: binary
};

/// Queues a statement of ours, prepared on the connection when that can be.
void queue(Connection& connection, Statement& statement, Step step, const Parameters& parameters);

/// Queues any other text.
void queue_text(Connection& connection, const char* text, Step step, const Parameters& parameters);

/// Commits what is queued so far outside of a transaction: what follows may be rolled back without
/// it.
void queue_sync(Connection& connection);

/// Ends the pipeline and sends what the socket takes; `streaming`: the call's rows will come one by
/// one.
void send(Connection& connection, bool streaming = false);

/// Waits until the shards have taken all that was sent to them: large calls reach them side by
/// side.
void flush_all(std::span<Connection* const> connections);

/// The next result of the call, waiting for it; null at the end of the pipeline, with an error of
/// it left in connection.error, and when the wait ended before. The result belongs to the
/// connection.
PGresult* next_result(Connection& connection, Interrupts interrupts = Interrupts::serve,
                      Deadline deadline = never);

/// The same without waiting: nullopt when nothing has come yet.
std::optional<PGresult*> result_if_any(Connection& connection);

/// Waits until one of them has something to read or is at its end; false when the deadline passed.
bool wait_for_any(std::span<Connection* const> connections, Interrupts interrupts,
                  Deadline deadline);

/// Reads all of them to their ends, at once; results of calls are dropped. False when the deadline
/// passed before.
bool finish_all(std::span<Connection* const> connections, Interrupts interrupts, Deadline deadline);

/// Raises the error of a pipeline that has ended, if there is one: SQLSTATE, message, DETAIL, HINT
/// and the constraint's names of the shard, CONTEXT names it. `closing`: the connection is of no
/// use any more.
void raise_error(Connection& connection, bool closing = false);

/// Whether the pipeline ended because the session on the shard was gone, or went before it began:
/// whoever had nothing there may reopen the connection and ask again.
bool session_gone(const Connection& connection);

/// The SQLSTATE of the pipeline's error, 0 without one; 08006 for one of libpq's own.
int error_code(const Connection& connection);

/// Its message, in the connection's memory; that the connection was lost where there is none.
const char* error_message(const Connection& connection);

/// Whether the session on the shard ended with that error.
bool was_fatal(const Connection& connection);

}  // namespace order_proc::remote
