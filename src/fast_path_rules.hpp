// The rules of the fast path, table by table: what sends inserts or reads to the executor.
#pragma once

#include "fast_path_facts.hpp"

namespace order_proc {

/// How a column of ours gets its value in an insert.
enum class Source { given, now, sequence };

struct ColumnRule {
  const char* name;
  Oid type;
  int32 typmod;
  Source source;
};

struct TableRules {
  std::span<const ColumnRule> columns;
  /// CHECKs, as deparsed, that the arguments have passed already.
  std::span<const std::string_view> known_checks;
  Oid parent;            ///< InvalidOid: no foreign key is looked for
  int parent_reference;  ///< index into columns
};

/// Fills `facts` from the relation, in the current memory context.
void apply_rules(Relation relation, const TableRules& rules, TableFacts& facts);

}  // namespace order_proc
