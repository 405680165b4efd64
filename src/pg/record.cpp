#include "pg/record.hpp"

#include "pg/error.hpp"

namespace order_proc::pg {

void RecordType::prepare(FunctionCallInfo fcinfo) {
  const Oid function = fcinfo->flinfo->fn_oid;
  if (function != function_) {
    type_ = get_func_rettype(function);
    identifier_ = 0;
    function_ = function;
  }
  const TypeCacheEntry* const type = lookup_type_cache(type_, TYPECACHE_TUPDESC);
  if (type->tupDesc == nullptr || type->tupDesc->natts > static_cast<int>(most_columns))
    ereport(
        ERROR, errcode(store_mismatch),
        errmsg("%s does not return the composite type of the extension", get_func_name(function)),
        errhint("DROP EXTENSION order_proc; CREATE EXTENSION order_proc;"));
  if (type->tupDesc_identifier == identifier_) return;
  const MemoryContext saved = MemoryContextSwitchTo(TopMemoryContext);
  const TupleDesc descriptor = CreateTupleDescCopy(type->tupDesc);
  MemoryContextSwitchTo(saved);
  if (descriptor_ != nullptr) FreeTupleDesc(descriptor_);
  descriptor_ = descriptor;
  for (int i = 0; i < descriptor->natts; ++i) {
    const std::string_view name{NameStr(TupleDescAttr(descriptor, i)->attname)};
    const auto field = std::find(names_.begin(), names_.end(), name);
    source_[static_cast<std::size_t>(i)] =
        field == names_.end() ? -1 : static_cast<int>(field - names_.begin());
  }
  identifier_ = type->tupDesc_identifier;
}

Datum RecordType::form(const Datum* values, const bool* nulls) const {
  std::array<Datum, most_columns> columns;
  std::array<bool, most_columns> absent;
  for (int i = 0; i < descriptor_->natts; ++i) {
    const int field = source_[static_cast<std::size_t>(i)];
    columns[static_cast<std::size_t>(i)] = field < 0 ? 0 : values[field];
    absent[static_cast<std::size_t>(i)] = field < 0 || nulls[field];
  }
  return HeapTupleGetDatum(heap_form_tuple(descriptor_, columns.data(), absent.data()));
}

}  // namespace order_proc::pg
