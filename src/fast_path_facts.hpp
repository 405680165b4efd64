// What the fast path knows about the tables of the store: whether it may be taken (the rules),
// where the columns are, which indexes and CHECKs there are. Read under the tables' locks, kept
// until DDL.
//
// One static Facts per backend; everything it points to lives in its own memory context, which is
// reset before it is filled again. An ERROR while filling leaves it stale.
#pragma once

#include "store.hpp"

namespace order_proc {

/// An index that an insert has to feed. Expressions and predicate are compiled once.
struct IndexUse {
  Oid oid;
  IndexInfo* info;
  List* expressions;     ///< ExprState, for the key columns that are not plain ones
  ExprState* predicate;  ///< null without one
};

/// A table that the fast path inserts into or reads from.
struct TableFacts {
  const char* insert_obstacle;  ///< null when there is none
  const char* read_obstacle;
  TupleDesc descriptor;
  std::span<const AttrNumber> columns;  ///< in the order of the enums below
  std::span<IndexUse> indexes;
  std::span<ExprState*>
      checks;         ///< those that our own checks of the arguments do not cover already
  bool checks_nulls;  ///< the user made a column of ours NOT NULL
  bool row_by_row;  ///< a row may break a constraint of the user's: which one is told first matters
  std::span<const AttrNumber> given;  ///< columns that the INSERTs of the executor path name
  Oid primary_key;
  Oid sequence;  ///< behind the default of the id; order_items only
};

enum OrderColumn {
  o_id,
  o_customer_id,
  o_status,
  o_total_amount,
  o_notes,
  o_customer_name,
  o_customer_email,
  o_created_at,
  o_updated_at,
  order_columns
};
enum ItemColumn { i_order_id, i_id, i_product_id, i_quantity, i_price, item_columns };
enum CustomerColumn { c_id, c_name, c_first_name, c_last_name, c_email, customer_columns };

enum RejectColumn {
  r_import_id,
  r_line_number,
  r_raw_line,
  r_sqlstate,
  r_message,
  r_imported_by,
  r_rejected_at,
  reject_columns
};

struct Facts {
  TableFacts orders;
  TableFacts items;
  TableFacts customers;  ///< read and locked, never inserted into
  TableFacts rejects;    ///< from layout 1.6 on
  ExprContext* evaluation;
  TupleTableSlot* order_slot;
  std::array<TupleTableSlot*, 1000> item_slots;  ///< made as they are needed
  int item_slot_count;
  MemoryContext memory;
};

/// The facts, true under the locks that the caller holds on the tables.
Facts& fast_path_facts(const Store& store);

/// Why the caller cannot take the fast path now; null when he can. With the reasons of the session
/// and of the caller's own rights.
const char* create_obstacle(const Store& store, const Facts& facts);
const char* create_made_at_obstacle(const Store& store, const Facts& facts);  ///< with created_at
const char* batch_obstacle(const Store& store, const Facts& facts);  ///< to many items at once
const char* read_obstacle(const Store& store, const Facts& facts);

/// To locking rows of customers or orders as their owner does for a foreign key.
const char* lock_obstacle(const Store& store, const Facts& facts, const TableFacts& parents);

/// To writing import_rejects, which the library does as their owner.
const char* rejects_obstacle(const Store& store, const Facts& facts);

}  // namespace order_proc
