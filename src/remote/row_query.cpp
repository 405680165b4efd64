#include "remote/row_query.hpp"

#include "remote/pipeline.hpp"

namespace order_proc::remote {

void start_row(Connection& connection, Use use, const char* query,
               std::span<const char* const> values) {
  begin(connection, use);
  queue_text(connection, query, Step::call, {{}, values, {}, {}});
  send(connection);
}

const PGresult* take_row(Connection& connection) {
  const PGresult* const result = next_result(connection);
  if (result == nullptr) raise_error(connection);
  return result;
}

void end_row(Connection& connection) {
  (void)next_result(connection);
  raise_error(connection);
}

const PGresult* ask_row(Connection& connection, const char* query,
                        std::span<const char* const> values) {
  start_row(connection, Use::transaction, query, values);
  return take_row(connection);
}

}  // namespace order_proc::remote
