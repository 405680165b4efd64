// Streaming imports: COPY (or INSERT) into the views order_import and order_import_lines.
//
// Flow: each line is parsed as it comes (import_read.cpp); good ones go into PostgreSQL's own
// tuplesort by order, bad ones into another by line number (import_rejects.cpp). At the end of the
// statement the sorted lines are put together to orders and written (import_load.cpp). On a
// coordinator the sorted lines go to the shards (import_route.cpp), which put them together and
// write them (import_shard.cpp).
//
// Memory: a context under the (sub)transaction's; when that ends early, the reset callback takes
// the import off the stack, and the resource owner closes what the sorts have on disk.
#pragma once

#include "cluster.hpp"
#include "pg/args.hpp"

extern "C" {
#include "utils/tuplesort.h"
}

namespace order_proc {

enum ImportOnError { import_skip_row, import_skip_order, import_abort };

/// order_proc.import_on_error, order_proc.import_create_customers
extern int import_on_error;
extern bool import_create_customers;

/// Settings; once, from _PG_init.
void define_import_settings();

struct ImportCounts {
  int64 import_id;
  int64 lines;      ///< read
  int64 rejected;   ///< lines left out
  int64 orders;     ///< made
  int64 items;      ///< made
  int64 known;      ///< orders that were there already, with the same lines
  int64 customers;  ///< made
};

/// Lines of an unknown customer wait here until a block of them is looked up at once.
struct PendingLines;

/// An import in progress. They nest: a function in the SELECT list of INSERT .. SELECT may import,
/// too.
struct Import {
  Import* outer;
  MemoryContext memory;
  Oid view;
  Store store;
  const Cluster* cluster;  ///< on a coordinator: as it was when the import began
  ImportCounts counts;
  TimestampTz start;
  bool copying;
  int64 passed_over;  ///< empty lines, the header
  bool loading;
  int64 first_line;  ///< of the first reject while loading, with abort
  int first_sqlstate;
  const char* first_message;

  Tuplesortstate* lines;
  TupleTableSlot* line_slot;
  TupleTableSlot* spill_slot;  ///< for lines that an order keeps on disk
  Tuplesortstate* rejects;
  TupleTableSlot* reject_slot;
  TupleTableSlot** reject_rows;  ///< a batch of them on the way into the table
  HeapTuple
      no_columns;  ///< what the row trigger answers COPY with: returning the row would leak it

  text** statuses;
  int status_count;

  HTAB* customers;  ///< known to exist, and locked
  int64 last_customer;
  bool last_customer_known;
  PendingLines* pending;

  std::array<char, 64> last_timestamp_text;  ///< lines of an order share it
  std::size_t last_timestamp_size;
  TimestampTz last_timestamp;
};

/// A line in one piece, as the sort keeps it behind order_ref and line number.
struct LineData {
  int64 customer_id;
  int64 product_id;
  int64 price;  ///< hundredths
  TimestampTz created_at;
  int32 quantity;
  int16 status;  ///< index into Import::statuses, -1: the initial one
  bool has_created_at;
  bool bad;  ///< only says that the order has a bad line
};

struct Reject {
  int64 line;
  int sqlstate;
  const char* message;
  std::string_view raw;
};

/// What last_import() tells from now on.
void note_last_import(const Import& import);
/// Callbacks; once, from _PG_init.
void watch_last_import();

/// 42501 unless the caller may make orders and items; OP002 unless amounts have two decimals.
void require_import_rights(const Store& store);
void require_two_decimals(const Store& store);

/// The columns of a line in the sort.
TupleDesc sorted_line_descriptor();

/// Makes those of the customers that are not there, as the caller: how many. Inside no with_spi.
int64 make_missing_customers(const Store& store, std::span<const int64> ids);

/// Takes the seven columns of a line.
void read_line(Import& import, std::span<const pg::Text> columns, int64 number,
               std::string_view raw);

/// Notes a line that is left out (see reject_line); with skip_order, the rest of its order hears of
/// it.
void reject_of_order(Import& import, pg::Text order_ref, const Reject& reject);

/// Looks up the customers that lines still wait for.
void finish_reading(Import& import);

/// Makes orders of the sorted lines.
void load_orders(Import& import);

/// On a coordinator: the id of the shard that the customer belongs to.
std::size_t shard_of(const Import& import, int64 customer_id);

/// On a coordinator: the statuses that the shards know.
std::span<text*> statuses_of_shards(const Cluster& cluster);

/// On a coordinator: locks those of the customers that exist and marks them in `known`; with
/// import_create_customers it makes the others. `ids` is ascending and distinct.
void find_customers_on_shards(Import& import, std::span<const int64> ids, bool* known);

/// On a coordinator: sends the sorted lines to the shards.
void load_on_shards(Import& import);

/// What is wrong with a line of an order that belongs to another customer.
const char* wrong_customer(std::string_view order_ref, int64 owner, int64 other);
const char* order_is_bad(std::string_view order_ref, int64 bad_line);

/// Progress in pg_stat_progress_copy.
void report_progress(const Import& import, int64 loaded);

/// For an import that aborts while reading: rejects the lines read so far whose customer is not the
/// one of their order.
void check_orders(Import& import);

/// Notes a line that is left out. With import_on_error = abort it raises the first one in the file:
/// while reading at once, while loading at the end (raise_first_reject), since orders come in
/// another order.
void reject_line(Import& import, const Reject& reject);
void raise_first_reject(const Import& import);

/// What is kept of a line: its first 64 KiB, cut at a character.
std::string_view kept_raw(std::string_view raw);

/// A field of a line that is put together again, in quotes where it needs them.
void append_csv(StringInfo line, std::string_view field);

void begin_rejects(Import& import);

/// Writes order_store.import_rejects, in the order of the lines.
void write_rejects(Import& import);

}  // namespace order_proc
