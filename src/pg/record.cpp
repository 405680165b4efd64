#include "pg/record.hpp"

#include "pg/error.hpp"

namespace order_proc::pg {

const RecordType& RecordType::of(FunctionCallInfo fcinfo, std::span<const std::string_view> names) {
  FmgrInfo* const call_site = fcinfo->flinfo;
  if (call_site->fn_extra != nullptr) return *static_cast<const RecordType*>(call_site->fn_extra);
  const MemoryContext saved = MemoryContextSwitchTo(call_site->fn_mcxt);
  auto* const type = static_cast<RecordType*>(palloc0(sizeof(RecordType)));
  TupleDesc descriptor = nullptr;
  if (get_call_result_type(fcinfo, nullptr, &descriptor) != TYPEFUNC_COMPOSITE ||
      descriptor->natts > static_cast<int>(most_columns))
    ereport(ERROR, errcode(store_mismatch),
            errmsg("the result of %s is not the composite type of the extension",
                   get_func_name(call_site->fn_oid)),
            errhint("DROP EXTENSION order_proc; CREATE EXTENSION order_proc;"));
  type->descriptor_ = BlessTupleDesc(CreateTupleDescCopy(descriptor));
  for (int i = 0; i < descriptor->natts; ++i) {
    const std::string_view name{NameStr(TupleDescAttr(descriptor, i)->attname)};
    const auto field = std::find(names.begin(), names.end(), name);
    type->source_[static_cast<std::size_t>(i)] =
        field == names.end() ? -1 : static_cast<int>(field - names.begin());
  }
  MemoryContextSwitchTo(saved);
  call_site->fn_extra = type;
  return *type;
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
