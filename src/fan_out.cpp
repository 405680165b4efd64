// TEMPORARY, to be replaced by the one with connections: fan_out on a database without shards, the
// query run here, rows gathered in memory.
#include "fan_out.hpp"

#include "pg/args.hpp"
#include "pg/srf.hpp"

namespace order_proc {

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_fan_out);
Datum order_proc_fan_out(PG_FUNCTION_ARGS) {
  const char* const text = text_to_cstring(pg::Args(fcinfo).get_text(0, "query").value);
  const auto* const info = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
  if (info == nullptr || info->expectedDesc == nullptr)
    ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
            errmsg("fan_out needs a column definition list"),
            errhint("SELECT * FROM order_proc.fan_out(...) AS t (name type, ...);"));
  const pg::ResultSet results(fcinfo);
  pg::with_spi([&] {
    SPIPlanPtr const plan = SPI_prepare(text, 0, nullptr);
    if (plan == nullptr) elog(ERROR, "could not prepare \"%s\"", text);
    if (SPI_execute_plan(plan, nullptr, nullptr, true, 0) != SPI_OK_SELECT)
      ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
              errmsg("fan_out runs queries that return rows"),
              errhint("Use order_proc.fan_out_exec."));
    const TupleDesc got = SPI_tuptable->tupdesc;
    const TupleDesc wanted = results.descriptor();
    bool same = got->natts == wanted->natts;
    for (int i = 0; same && i < got->natts; ++i)
      same = TupleDescAttr(got, i)->atttypid == TupleDescAttr(wanted, i)->atttypid;
    if (!same)
      ereport(ERROR, errcode(ERRCODE_DATATYPE_MISMATCH),
              errmsg("the column definition list does not match the query"),
              errhint("Give the columns that the query returns."));
    for (uint64 row = 0; row < SPI_processed; ++row)
      tuplestore_puttuple(info->setResult, SPI_tuptable->vals[row]);
  });
  return results.done();
}

}  // extern "C"

}  // namespace order_proc
