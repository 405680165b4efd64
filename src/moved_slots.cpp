// Holds nothing: the map is the session's (cluster.cpp).
#include "moved_slots.hpp"

#include "cluster.hpp"
#include "pg/error.hpp"
#include "remote/pipeline.hpp"

namespace order_proc {

namespace {

constexpr int look_again_after = 20;

}  // namespace

bool slot_was_away(const remote::Connection& connection) {
  return remote::error_code(connection) == pg::slot_not_here;
}

void look_again() {
  (void)remote::wait_ready({}, remote::after_milliseconds(look_again_after),
                           remote::Interrupts::serve);
  AcceptInvalidationMessages();
  forget_cluster();
  (void)cluster_of(open_tables_for_anyone({Table::cluster}));
}

}  // namespace order_proc
