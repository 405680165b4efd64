#include "pg/alone.hpp"

extern "C" {
// libpq/libpq.h has these, and asks for the headers of Kerberos.
#if PG_VERSION_NUM >= 170000
extern ssize_t pq_buffer_remaining_data(void);
#else
extern bool pq_buffer_has_data(void);
#endif
extern void pq_startmsgread(void);
extern int pq_peekbyte(void);
extern void pq_endmsgread(void);

#include "nodes/plannodes.h"
#include "tcop/dest.h"
#include "tcop/pquery.h"
#include "utils/portal.h"
}

namespace order_proc::pg {

namespace {

/// The call is found by its node in the plan: one that a function makes has another.
bool is_whole_statement(const PlannedStmt* statement, const Node* call) {
  const Plan* const plan = statement->planTree;
  if (statement->commandType != CMD_SELECT || statement->hasModifyingCTE ||
      statement->rowMarks != NIL || !IsA(plan, Result) || outerPlan(plan) != nullptr ||
      reinterpret_cast<const Result*>(plan)->resconstantqual != nullptr ||
      list_length(plan->targetlist) != 1)
    return false;
  const auto* const column = linitial_node(TargetEntry, plan->targetlist);
  return static_cast<const void*>(column->expr) == static_cast<const void*>(call);
}

bool has_message_waiting() {
#if PG_VERSION_NUM >= 170000
  return pq_buffer_remaining_data() > 0;
#else
  return pq_buffer_has_data();
#endif
}

/// With the extended protocol the transaction ends at the client's Sync, which is sent with the
/// call as a rule. It is looked at, not taken.
bool sync_is_next() {
  if (!has_message_waiting()) return false;
  pq_startmsgread();
  const int type = pq_peekbyte();
  pq_endmsgread();
  return type == 'S';
}

}  // namespace

bool is_whole_transaction(FunctionCallInfo call) {
  if (IsTransactionBlock() || GetCurrentTransactionNestLevel() != 1 || IsInParallelMode() ||
      call->flinfo->fn_expr == nullptr)
    return false;
  const Portal portal = ActivePortal;
  if (portal == nullptr || portal->strategy != PORTAL_ONE_SELECT ||
      (portal->cursorOptions & CURSOR_OPT_HOLD) != 0 || portal->queryDesc == nullptr ||
      !is_whole_statement(portal->queryDesc->plannedstmt, call->flinfo->fn_expr))
    return false;
  switch (portal->queryDesc->dest->mydest) {
    case DestRemote:
      return true;
    case DestRemoteExecute:
      return sync_is_next();
    default:
      return false;
  }
}

}  // namespace order_proc::pg
