// Receipts: a row in a transaction that a shard has prepared, so that it is there for everybody
// once the shard has committed, and never otherwise. Its key, made of a secret of the coordinator,
// cannot be guessed: a receipt that somebody else wrote proves nothing.
#pragma once

#include "cluster.hpp"

namespace order_proc {

/// The key of a transaction's receipts, by the part of its identifier that all shards share.
int64 receipt_key(const Cluster& cluster, std::string_view base);

/// Queues that the transaction on the shard leaves a receipt with that key for its `gid`.
void queue_receipt(remote::Connection& connection, int64 key);

/// The same on the shard whose commit decides: that fails when the shard has taken another
/// coordinator by then, and what it does not hear of within `patience` milliseconds it rolls back.
void queue_deciding_receipt(remote::Connection& connection, int64 key, int patience);

}  // namespace order_proc
