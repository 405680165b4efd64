// Rows that commits over shards leave beside the user's: decisions (order_store.commit_log) and
// receipts (order_store.receipts).
#pragma once

#include "pg/spi.hpp"
#include "store.hpp"

namespace order_proc {

/// A table of them: the transaction (its primary key), a value, the time.
struct CommitRows {
  Table table;
  Oid value_type;
  pg::Statement insert;  ///< by the executor; parameters: the transaction, the value
};

/// Inserts a row, as the table's owner: by direct access, without the executor, unless somebody
/// could tell the difference (triggers, constraints, more indexes). 23505 when the transaction has
/// one.
void insert_commit_row(const Store& store, CommitRows& rows, std::string_view transaction,
                       pg::Value value);

}  // namespace order_proc
