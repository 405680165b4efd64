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

/// The same where the shards decide: 42883 when the shard is too old for it.
void queue_deciding_receipt(remote::Connection& connection, int64 key);

}  // namespace order_proc
