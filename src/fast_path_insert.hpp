// Rows into tables by direct access: forming them in slots, checking them, feeding their indexes.
#pragma once

#include "fast_path_facts.hpp"
#include "pg/args.hpp"

namespace order_proc {

/// Item slots; one heap_multi_insert each.
inline constexpr std::size_t item_batch_size = 1000;

/// Starts a row with all columns NULL: what the user added stays so.
void begin_row(TupleTableSlot* slot, Relation table);

inline void set_column(TupleTableSlot* slot, AttrNumber column, Datum value, bool null = false) {
  slot->tts_values[column - 1] = value;
  slot->tts_isnull[column - 1] = null;
}

/// CHECKs and NOT NULLs that the checks of the arguments do not cover; raises the executor's own
/// error.
void check_row(Relation table, const TableFacts& facts, ExprContext* evaluation,
               TupleTableSlot* slot);

/// Entries for rows that are in the heap, index by index, so that each index is opened once and its
/// pages stay warm. `except`: an index that the caller feeds himself.
void insert_index_entries(Relation table, const TableFacts& facts, ExprContext* evaluation,
                          std::span<TupleTableSlot*> slots, Oid except = InvalidOid);

/// A row of orders in the making.
struct OrderValues {
  int64 id;
  int64 customer_id;
  text* status;
  Datum total_amount;  ///< numeric, as stored
  pg::Text notes;
  pg::Text customer_name;
  pg::Text customer_email;
  std::optional<TimestampTz> created_at;  ///< the default otherwise
};

/// One row of orders with its index entries.
void insert_order_row(Relation table, Facts& facts, const OrderValues& order);

/// How many items go in together: one where the order in which constraints of the user's are
/// checked shows.
inline std::size_t items_at_once(const Facts& facts) {
  return facts.items.row_by_row ? 1 : item_batch_size;
}

/// The slot for row `i` of a batch of items, below item_batch_size.
TupleTableSlot* item_slot(Facts& facts, std::size_t i);

}  // namespace order_proc
