#include "pg/copy_position.hpp"

extern "C" {
#include "commands/copy.h"
#include "commands/copyfrom_internal.h"
#include "commands/progress.h"
#include "utils/backend_progress.h"
}

namespace order_proc::pg {

CopyPosition copy_position(Oid relation) {
  for (const ErrorContextCallback* context = error_context_stack; context != nullptr;
       context = context->previous) {
    if (context->callback != CopyFromErrorCallback) continue;
    const auto* const state = static_cast<CopyFromState>(context->arg);
    if (state->rel == nullptr || RelationGetRelid(state->rel) != relation) break;
    const bool has_text = state->line_buf_valid && !state->opts.binary;
    return {true, state->cur_lineno,
            has_text ? std::string_view(state->line_buf.data,
                                        static_cast<std::size_t>(state->line_buf.len))
                     : std::string_view{}};
  }
  return {false, 0, {}};
}

void report_copied(int64 lines) {
  pgstat_progress_update_param(PROGRESS_COPY_TUPLES_PROCESSED, lines);
}

}  // namespace order_proc::pg
