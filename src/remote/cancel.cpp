// PQcancel waits without a limit for a server that hangs, so the cancel goes as a statement of a
// short-lived second connection with the same options, which this loop can leave at its deadline.
#include "remote/cancel.hpp"

#include "remote/pipeline.hpp"

namespace order_proc::remote {

namespace {

constexpr std::size_t most_options = 96;

/// Begins to connect as the first connection did.
PGconn* connect_again(PGconn* link) {
  PQconninfoOption* const known = PQconninfo(link);
  if (known == nullptr) return nullptr;
  std::array<const char*, most_options> keywords{};
  std::array<const char*, most_options> values{};
  std::size_t count = 0;
  for (const PQconninfoOption* option = known;
       option->keyword != nullptr && count + 1 < most_options; ++option)
    if (option->val != nullptr) {
      keywords[count] = option->keyword;
      values[count++] = option->val;
    }
  PGconn* const second = PQconnectStartParams(keywords.data(), values.data(), 0);
  PQconninfoFree(known);
  return second;
}

bool wait_for(PGconn* link, short events, Deadline deadline) {
  pollfd descriptor{PQsocket(link), events, 0};
  return descriptor.fd >= 0 && wait_ready({&descriptor, 1}, deadline, Interrupts::hold);
}

bool connected(PGconn* link, Deadline deadline) {
  for (PostgresPollingStatusType status = PGRES_POLLING_WRITING; status != PGRES_POLLING_OK;
       status = PQconnectPoll(link)) {
    if (status == PGRES_POLLING_FAILED || PQstatus(link) == CONNECTION_BAD) return false;
    if (!wait_for(link, status == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline)) return false;
  }
  return true;
}

bool send_cancel(PGconn* link, int process, Deadline deadline) {
  std::array<char, 16> text;
  snprintf(text.data(), text.size(), "%d", process);
  const std::array<const char*, 1> values{text.data()};
  if (PQsendQueryParams(link, "SELECT pg_catalog.pg_cancel_backend($1::pg_catalog.int4)", 1,
                        nullptr, values.data(), nullptr, nullptr, 0) != 1)
    return false;
  while (PQisBusy(link) == 1)
    if (!wait_for(link, POLLIN, deadline) || PQconsumeInput(link) == 0) return false;
  PGresult* const result = PQgetResult(link);
  const bool done = PQresultStatus(result) == PGRES_TUPLES_OK;
  PQclear(result);
  return done;
}

}  // namespace

bool cancel_and_finish(Connection& connection, Deadline deadline) {
  if (connection.pooled || !AcquireExternalFD()) return false;
  PGconn* const second = connect_again(connection.link);
  const bool sent = second != nullptr && connected(second, deadline) &&
                    send_cancel(second, connection.backend_pid, deadline);
  if (second != nullptr) PQfinish(second);
  ReleaseExternalFD();
  Connection* const one[] = {&connection};
  return sent && finish_all(one, Interrupts::hold, deadline) && !connection.lost;
}

}  // namespace order_proc::remote
