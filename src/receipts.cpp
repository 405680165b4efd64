// Writing receipts: on the coordinator the question, on the shard the row, as the store's owner.
#include "receipts.hpp"

#include "commit_rows.hpp"
#include "fence.hpp"
#include "pg/args.hpp"
#include "pg/error.hpp"
#include "pg/spi.hpp"
#include "pg/user.hpp"
#include "remote/pipeline.hpp"

extern "C" {
#include "common/hmac.h"
#include "common/sha2.h"
}

namespace order_proc {

namespace {

CommitRows receipts{
    Table::receipts, INT8OID,
    pg::Statement{"INSERT INTO order_store.receipts (gid, receipt_key) VALUES ($1, $2)", TEXTOID,
                  INT8OID}};
pg::Statement delete_receipt{
    "DELETE FROM order_store.receipts AS r WHERE r.gid OPERATOR(pg_catalog.=) $1 AND r.receipt_key "
    "OPERATOR(pg_catalog.=) $2",
    TEXTOID, INT8OID};

remote::Statement write_receipt{
    "SELECT order_proc.write_receipt($1::pg_catalog.text, $2::pg_catalog.int8, NULL, NULL)"};
remote::Statement write_deciding_receipt{
    "SELECT order_proc.write_deciding_receipt($1::pg_catalog.text, $2::pg_catalog.int8)"};

Datum text_datum(std::string_view value) {
  return PointerGetDatum(cstring_to_text_with_len(value.data(), static_cast<int>(value.size())));
}

/// 22023 unless the text names a transaction of this shard's coordinator on this shard.
core::Gid own_gid(const Cluster& here, std::string_view text) {
  const auto gid = pg::core_call(core::parse_gid, text);
  if (gid && here.role == Role::shard &&
      gid->coordinator == static_cast<uint64>(here.coordinator_id) &&
      gid->shard == static_cast<uint32>(here.shard_id))
    return *gid;
  ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
          errmsg("\"%s\" is no transaction of this shard's coordinator", pg::shown(text)),
          errhint("A commit of the coordinator calls this."));
}

void leave_receipt(const Store& store, std::string_view gid, pg::Value key) {
  insert_commit_row(store, receipts, core::gid_base(gid), key);
}

void remove_receipt(const Store& store, std::string_view gid, pg::Value key) {
  pg::with_spi([&] {
    pg::as_user(table_owner(store.table(Table::receipts)), [&] {
      delete_receipt.run(0, {pg::Value(text_datum(core::gid_base(gid))), key});
    });
  });
}

}  // namespace

int64 receipt_key(const Cluster& cluster, std::string_view base) {
  std::array<uint8, PG_SHA256_DIGEST_LENGTH> digest;
  pg_hmac_ctx* const context = pg_hmac_create(PG_SHA256);
  if (context == nullptr) ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
  const bool done =
      pg_hmac_init(context, cluster.secret.data(), cluster.secret.size()) >= 0 &&
      pg_hmac_update(context, reinterpret_cast<const uint8*>(base.data()), base.size()) >= 0 &&
      pg_hmac_final(context, digest.data(), digest.size()) >= 0;
  pg_hmac_free(context);
  if (!done)
    ereport(ERROR, errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not make the key of a receipt"));
  int64 key;
  std::copy_n(digest.begin(), sizeof key, reinterpret_cast<uint8*>(&key));
  return key;
}

void queue_receipt(remote::Connection& connection, int64 key) {
  const std::array<const char*, 2> values{connection.gid.data(), psprintf(INT64_FORMAT, key)};
  remote::queue(connection, write_receipt, remote::Step::control, {{}, values, {}, {}});
}

void queue_deciding_receipt(remote::Connection& connection, int64 key) {
  const std::array<const char*, 2> values{connection.gid.data(), psprintf(INT64_FORMAT, key)};
  remote::queue(connection, write_deciding_receipt, remote::Step::control, {{}, values, {}, {}});
}

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_write_receipt);
Datum order_proc_write_receipt(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  const pg::Text gid = args.get_text(0, "gid");
  const pg::Value key(Int64GetDatum(args.get_int64(1, "receipt_key")));
  const pg::Text carried_out = args.find_text(2);
  const pg::Value carried_out_key(fcinfo->args[3].value, args.null(3));
  const Store& store = open_tables_for_anyone({Table::cluster, Table::receipts});
  (void)own_gid(cluster_without_slots(store), gid.view());
  leave_receipt(store, gid.view(), key);
  // What a coordinator at 1.8 does without: from 1.9 on its worker forgets, many at a time.
  if (carried_out) remove_receipt(store, carried_out.view(), carried_out_key);
  PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(order_proc_write_deciding_receipt);
Datum order_proc_write_deciding_receipt(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  const pg::Text gid = args.get_text(0, "gid");
  const pg::Value key(Int64GetDatum(args.get_int64(1, "receipt_key")));
  const Store& store = open_tables_for_anyone({Table::cluster, Table::receipts});
  const core::Gid numbers = own_gid(cluster_without_slots(store), gid.view());
  const auto deciders = core::deciders_of(numbers);
  if (std::find(deciders.begin(), deciders.end(), numbers.shard) == deciders.end())
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("\"%s\" is not decided by this shard and others", pg::shown(gid.view())),
            errhint("A commit of the coordinator calls this."));
  leave_receipt(store, gid.view(), key);
  PG_RETURN_VOID();
}

}  // extern "C"

}  // namespace order_proc
