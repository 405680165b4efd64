// What a shard has prepared for this coordinator, present or former: one rule for cuts, the
// resolver and shard_status. Any role may prepare under any name; what is no identifier of ours is
// none of our business.
#pragma once

#include "cluster.hpp"
#include "core/gid.hpp"

namespace order_proc {

/// The condition of queries on pg_prepared_xacts AS p; $1 is prepared_pattern().
#define ORDER_PROC_PREPARED_BY_US                                        \
  "p.database OPERATOR(pg_catalog.=) pg_catalog.current_database() AND " \
  "p.gid OPERATOR(pg_catalog.~) $1::pg_catalog.text"

inline const char* prepared_pattern(const Cluster& cluster) {
  const auto id = static_cast<uint64>(cluster.coordinator_id);
  const auto former = static_cast<uint64>(cluster.former_id);
  return pstrdup(pg::core_call(core::gid_pattern, id, former == 0 ? id : former).data());
}

}  // namespace order_proc
