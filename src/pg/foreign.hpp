// Foreign servers (SQL/MED): who may use one, whose it is.
#pragma once

#include "pg/postgres.hpp"

extern "C" {
#include "commands/defrem.h"
#include "foreign/foreign.h"
}

namespace order_proc::pg {

inline bool may_use_server(Oid server, Oid role) {
#if PG_VERSION_NUM >= 160000
  return object_aclcheck(ForeignServerRelationId, server, role, ACL_USAGE) == ACLCHECK_OK;
#else
  return pg_foreign_server_aclcheck(server, role, ACL_USAGE) == ACLCHECK_OK;
#endif
}

inline bool owns_server(Oid server, Oid role) {
#if PG_VERSION_NUM >= 160000
  return object_ownercheck(ForeignServerRelationId, server, role);
#else
  return pg_foreign_server_ownercheck(server, role);
#endif
}

}  // namespace order_proc::pg
