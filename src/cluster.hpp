// What this database is to a cluster: alone, its coordinator, or one of its shards; which shard has
// which slot.
//
// One static copy per backend, read with the store's descriptor and stale with it: triggers on the
// tables cluster, shards and slot_map announce changes.
#pragma once

#include "core/slot.hpp"
#include "remote/connection.hpp"
#include "remote/incarnation.hpp"
#include "store.hpp"

namespace order_proc {

enum class Role { alone, coordinator, shard };

inline constexpr std::size_t most_shards = 1024;
inline constexpr int no_shard = -1;

struct Cluster {
  Role role;
  int64 coordinator_id;
  int shard_id;     ///< of this database, when it is a shard
  bool copied;      ///< the coordinator's row came from another database, with a dump or a clone
  int64 former_id;  ///< of the coordinator that this one is a copy of
  std::array<uint8, 32> secret;          ///< of a coordinator: makes receipts
  remote::Incarnation coordinator_here;  ///< on a shard: the coordinator's, as far as it is known
  std::size_t shard_count;
  std::array<remote::Target, most_shards> shards;       ///< by id
  bool slots_known;                                     ///< else the next means nothing
  std::array<int16, core::slot_count> shard_of_slot;    ///< no_shard: not dealt
  std::array<uint8, core::slot_count / 8> owned_slots;  ///< on a shard, by bits

  std::span<const remote::Target> targets() const { return {shards.data(), shard_count}; }
  bool owns(int slot) const {
    return (owned_slots[static_cast<std::size_t>(slot / 8)] & (1 << (slot % 8))) != 0;
  }
};

/// Of the store, which is open: at least its table `cluster`.
const Cluster& cluster_of(const Store& store);

/// The same without a look at the slot map, of thousands of rows, if nobody has asked for it yet.
const Cluster& cluster_without_slots(const Store& store);

/// OP503 unless this database is the one that made the cluster.
void require_original(const Cluster& of);

/// One that no other coordinator has, or ever had.
int64 new_coordinator_id();

/// Reads the map anew at the next use, whether a change was announced or not.
void forget_cluster();

/// The shard that has the slot; OP403 when none does.
const remote::Target& shard_of_slot(const Cluster& of, int slot);

/// The name that the store has of a shard's foreign server, which may not exist.
NameData server_name_of(int shard_id);

/// On a shard: locks the slot against being moved away until the end of the transaction, and raises
/// OP402 unless it is here. Elsewhere nothing.
void require_slot(const Store& store, int slot);

/// Callbacks; once, from _PG_init.
void watch_cluster();

}  // namespace order_proc
