// Reading pg_user_mapping: what libpq would be told of the user, and in which order to try.
#include "mappings.hpp"

#include "pg/foreign.hpp"

extern "C" {
#include "catalog/pg_user_mapping.h"
#include "libpq-fe.h"
}

namespace order_proc {

namespace {

constexpr std::size_t most_mappings = 1024;

/// The user that libpq takes when it is told none.
const char* default_user() {
  PQconninfoOption* const known = PQconndefaults();
  if (known == nullptr) ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
  const char* user = "";
  for (const PQconninfoOption* option = known; option->keyword != nullptr; ++option)
    if (std::string_view(option->keyword) == "user" && option->val != nullptr)
      user = pstrdup(option->val);
  PQconninfoFree(known);
  return user;
}

const char* remote_user(Oid user, Oid server, const char* otherwise) {
  const UserMapping* const mapping = GetUserMapping(user, server);
  ListCell* cell;
  foreach (cell, mapping->options) {
    auto* const option = static_cast<DefElem*>(lfirst(cell));
    if (std::string_view(option->defname) == "user") return defGetString(option);
  }
  return otherwise;
}

int rank(Oid user, Oid owner) {
  if (user == GetUserId()) return 0;
  if (user == owner) return 1;
  return OidIsValid(user) && superuser_arg(user) ? 2 : 3;
}

}  // namespace

std::span<const Mapping> mappings_of(Oid server, Oid owner) {
  auto* const found = static_cast<Mapping*>(palloc(sizeof(Mapping) * most_mappings));
  std::size_t count = 0;
  const char* const otherwise = default_user();
  const Relation mappings = table_open(UserMappingRelationId, AccessShareLock);
  ScanKeyData key;
  ScanKeyInit(&key, Anum_pg_user_mapping_umserver, BTEqualStrategyNumber, F_OIDEQ,
              ObjectIdGetDatum(server));
  const SysScanDesc scan = systable_beginscan(mappings, InvalidOid, false, nullptr, 1, &key);
  for (HeapTuple row = systable_getnext(scan); HeapTupleIsValid(row) && count < most_mappings;
       row = systable_getnext(scan)) {
    const Oid user = reinterpret_cast<const FormData_pg_user_mapping*>(GETSTRUCT(row))->umuser;
    found[count++] = {user, remote_user(user, server, otherwise)};
  }
  systable_endscan(scan);
  table_close(mappings, AccessShareLock);
  std::sort(found, found + count, [owner](const Mapping& a, const Mapping& b) {
    return rank(a.user, owner) < rank(b.user, owner);
  });
  return {found, count};
}

}  // namespace order_proc
