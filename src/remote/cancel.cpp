// PQcancel waits without a limit for a server that hangs, so the cancel goes as a statement of a
// short-lived second connection with the same options, which can be left at a deadline.
#include "remote/cancel.hpp"

#include "remote/pipeline.hpp"

namespace order_proc::remote {

namespace {

constexpr std::size_t most_options = 96;
/// Descriptors that are needed for a moment.
constexpr std::size_t most_at_once = 16;

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

/// A cancel on its way.
struct Attempt {
  PGconn* link;
  int process;
  bool sent;
  short events;
};

void end(Attempt& attempt) {
  if (attempt.link == nullptr) return;
  PQfinish(attempt.link);
  attempt.link = nullptr;
  ReleaseExternalFD();
}

Attempt begin(const Connection& connection) {
  if (!AcquireExternalFD()) return {};
  Attempt attempt{connect_again(connection.link), connection.backend_pid, false, POLLOUT};
  if (attempt.link == nullptr) ReleaseExternalFD();
  if (attempt.link != nullptr && PQstatus(attempt.link) == CONNECTION_BAD) end(attempt);
  return attempt;
}

bool send_cancel(const Attempt& attempt) {
  std::array<char, 16> text;
  snprintf(text.data(), text.size(), "%d", attempt.process);
  const std::array<const char*, 1> values{text.data()};
  return PQsendQueryParams(attempt.link, "SELECT pg_catalog.pg_cancel_backend($1::pg_catalog.int4)",
                           1, nullptr, values.data(), nullptr, nullptr, 0) == 1;
}

/// What its socket is ready for; false when there is nothing more to wait for.
bool go_on(Attempt& attempt) {
  if (attempt.sent) return PQconsumeInput(attempt.link) == 1 && PQisBusy(attempt.link) == 1;
  const PostgresPollingStatusType status = PQconnectPoll(attempt.link);
  attempt.sent = status == PGRES_POLLING_OK && send_cancel(attempt);
  attempt.events = status == PGRES_POLLING_WRITING ? POLLOUT : POLLIN;
  return attempt.sent || status == PGRES_POLLING_READING || status == PGRES_POLLING_WRITING;
}

/// True when all were answered.
bool finish(std::span<Attempt> attempts, Deadline deadline) {
  std::array<pollfd, most_at_once> room;
  const std::span<pollfd> descriptors(room.data(), attempts.size());
  bool all = true;
  for (;;) {
    bool waits = false;
    for (std::size_t i = 0; i < attempts.size(); ++i) {
      const Attempt& attempt = attempts[i];
      descriptors[i] = {attempt.link == nullptr ? -1 : PQsocket(attempt.link), attempt.events, 0};
      waits |= attempt.link != nullptr;
    }
    if (!waits) return all;
    if (!wait_ready(descriptors, deadline, Interrupts::hold)) return false;
    for (std::size_t i = 0; i < attempts.size(); ++i) {
      if (descriptors[i].revents == 0 || go_on(attempts[i])) continue;
      all &= attempts[i].sent;
      end(attempts[i]);
    }
  }
}

}  // namespace

bool cancel(std::span<Connection* const> connections, Deadline deadline) {
  bool all = true;
  for (std::size_t next = 0; next < connections.size();) {
    std::array<Attempt, most_at_once> room{};
    std::size_t count = 0;
    for (; next < connections.size() && count < room.size(); ++next) {
      const Connection& connection = *connections[next];
      if (!connection.in_flight || connection.lost) continue;
      if (!connection.pooled) room[count] = begin(connection);
      if (room[count].link == nullptr)
        all = false;
      else
        ++count;
    }
    const std::span<Attempt> attempts(room.data(), count);
    all &= finish(attempts, deadline);
    for (Attempt& attempt : attempts) end(attempt);
  }
  return all;
}

bool cancel_and_finish(Connection& connection, Deadline deadline) {
  Connection* const one[] = {&connection};
  return cancel(one, deadline) && finish_all(one, Interrupts::hold, deadline) && !connection.lost;
}

}  // namespace order_proc::remote
