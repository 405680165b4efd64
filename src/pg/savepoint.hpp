// A part of a function that may fail without failing the function.
#pragma once

#include "pg/error.hpp"

namespace order_proc::pg {

/// Runs `body` in a subtransaction. Returns null when it went well, else what it raised, in the
/// caller's memory context, with everything it did undone. The one place that catches.
template <typename F>
ErrorData* in_savepoint(F&& body) {
  static_assert(Jumpable<std::remove_reference_t<F>> && std::is_void_v<std::invoke_result_t<F>>);
  const MemoryContext memory = CurrentMemoryContext;
  const ResourceOwner owner = CurrentResourceOwner;
  ErrorData* volatile error = nullptr;
  BeginInternalSubTransaction(nullptr);
  MemoryContextSwitchTo(memory);
  PG_TRY();
  {
    body();
    ReleaseCurrentSubTransaction();
  }
  PG_CATCH();
  {
    MemoryContextSwitchTo(memory);
    error = CopyErrorData();
    FlushErrorState();
    RollbackAndReleaseCurrentSubTransaction();
  }
  PG_END_TRY();
  MemoryContextSwitchTo(memory);
  CurrentResourceOwner = owner;
  return error;
}

/// Whether the error may lie in the data (another row may do better): not a cancel, a lack of
/// resources, a conflict with another transaction or a defect.
inline bool caused_by_data(const ErrorData* error) {
  // An exhausted sequence would refuse every row; a store that does not fit, too.
  if (error->sqlerrcode == ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED ||
      error->sqlerrcode == store_mismatch || error->sqlerrcode == no_store)
    return false;
  switch (ERRCODE_TO_CATEGORY(error->sqlerrcode)) {
    case ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION):
    case ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES):
    case ERRCODE_TO_CATEGORY(ERRCODE_TRANSACTION_ROLLBACK):
    case ERRCODE_TO_CATEGORY(ERRCODE_SYSTEM_ERROR):
    case ERRCODE_TO_CATEGORY(ERRCODE_INTERNAL_ERROR):
    case ERRCODE_TO_CATEGORY(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE):
    case ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_PRIVILEGE):
    case ERRCODE_TO_CATEGORY(ERRCODE_INVALID_TRANSACTION_STATE):
    case ERRCODE_TO_CATEGORY(ERRCODE_CONNECTION_FAILURE):
      return false;
    default:
      return true;
  }
}

}  // namespace order_proc::pg
