// Idempotency keys: the same key and request answers with the first order, whatever runs at once.
#pragma once

#include "pg/args.hpp"
#include "pg/locks.hpp"
#include "store.hpp"

namespace order_proc {

struct IdempotencyKey {
  int64 customer_id;
  pg::Text key;
  Datum request_hash;  ///< bytea, SHA-256 of the request
};

/// What a look for a key found.
struct KeyLook {
  bool found = false;
  TransactionId busy =
      InvalidTransactionId;  ///< a transaction that has yet to decide about the row
  int64 order_id = 0;
  bool same_request = false;  ///< when nobody is busy with it
};

/// Looks with a dirty snapshot.
KeyLook look_for(const Store& store, const IdempotencyKey& key);

/// The message of OP302.
const char* key_reused_message(const IdempotencyKey& key);

/// 42501 when row security hides the key's order from a caller who may read others.
void require_visible(const Store& store, const IdempotencyKey& key, const KeyLook& look);

/// OP302 when the key stands for another request for good.
void require_same_request(const IdempotencyKey& key, const KeyLook& look);

/// Writes the key as the owner of the table.
void write_key(const Store& store, const IdempotencyKey& key, int64 order_id);

uint64 lock_value(const IdempotencyKey& key);

/// SHA-256, as a bytea.
Datum sha256_of(const void* bytes, std::size_t size);

void wait_for(TransactionId busy);

/// The order made under the key, or the one that `create` makes now. A lock of ours covers look and
/// write, so of two calls at once the second finds the first one's row; it is let go before waiting
/// for that transaction, which may come back with the same key.
template <typename F>
int64 create_once(const Store& store, const IdempotencyKey& key, F&& create) {
  for (;;) {
    const KeyLook look = pg::with_lock(pg::LockKind::idempotency_key, lock_value(key), [&] {
      KeyLook result = look_for(store, key);
      require_visible(store, key, result);
      require_same_request(key, result);
      if (!result.found) {
        result.order_id = create();
        write_key(store, key, result.order_id);
      }
      return result;
    });
    if (!TransactionIdIsValid(look.busy)) return look.order_id;
    wait_for(look.busy);
  }
}

/// 22023 for a key beyond 255 bytes.
void check_key(pg::Text key);

}  // namespace order_proc
