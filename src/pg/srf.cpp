#include "pg/srf.hpp"

extern "C" {
#include "executor/tstoreReceiver.h"
}

namespace order_proc::pg {

void ResultSet::add(std::initializer_list<Value> row) const {
  constexpr std::size_t most_columns = 16;
  std::array<Datum, most_columns> values;
  std::array<bool, most_columns> nulls;
  std::size_t i = 0;
  for (const Value& value : row) {
    values[i] = value.datum;
    nulls[i++] = value.null;
  }
  Assert(static_cast<int>(i) == info_->setDesc->natts);
  add(values.data(), nulls.data());
}

DestReceiver* ResultSet::receiver() const {
  DestReceiver* const receiver = CreateTuplestoreDestReceiver();
  SetTuplestoreDestReceiverParams(receiver, info_->setResult,
                                  info_->econtext->ecxt_per_query_memory, false, nullptr, nullptr);
  return receiver;
}

TupleDesc expected_columns(FunctionCallInfo fcinfo, const char* function) {
  const auto* const info = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
  if (info == nullptr || !IsA(info, ReturnSetInfo) || info->expectedDesc == nullptr)
    ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
            errmsg("%s needs a column definition list", function),
            errhint("SELECT * FROM order_proc.%s(...) AS t (name type, ...);", function));
  return info->expectedDesc;
}

}  // namespace order_proc::pg
