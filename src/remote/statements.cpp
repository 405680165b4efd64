// A text is remembered by its hash at first, and kept when it comes again: most texts come once,
// and would cost a statement on each shard for nothing. The last ones used are kept.
//
// Memory: TopMemoryContext, at most `places` texts of `longest` bytes; nothing raises once a place
// is changed.
#include "remote/statements.hpp"

namespace order_proc::remote {

namespace {

constexpr std::size_t places = 32;
constexpr std::size_t longest = 8192;

struct Kept {
  uint64 hash;
  uint64 used;  ///< when: a counter
  char* text;   ///< null while it came once only
  Statement statement;
};

std::array<Kept, places> all_kept{};
uint64 uses = 0;
uint32 numbered = 0;

/// The text's place, or that of the one that was not used for longest.
Kept& place_of(uint64 hash) {
  Kept* oldest = all_kept.data();
  for (Kept& kept : all_kept) {
    if (kept.used > 0 && kept.hash == hash) return kept;
    if (kept.used < oldest->used) oldest = &kept;
  }
  return *oldest;
}

}  // namespace

StatementName name_of(uint32 id, uint32 version) {
  StatementName name;
  snprintf(name.data(), name.size(), "order_proc_%u_%u", id, version);
  return name;
}

void number(Statement& statement) {
  statement.id = ++numbered;
  renew(statement);
}

void renew(Statement& statement) {
  ++statement.version;
  statement.name = name_of(statement.id, statement.version);
}

Statement* kept_statement(const char* text) {
  const std::size_t length = strlen(text);
  if (length > longest) return nullptr;
  const uint64 hash = DatumGetUInt64(
      hash_any_extended(reinterpret_cast<const unsigned char*>(text), static_cast<int>(length), 0));
  Kept& kept = place_of(hash);
  const bool known = kept.used > 0 && kept.hash == hash;
  if (known && kept.text != nullptr && std::string_view(kept.text) == text) {
    kept.used = ++uses;
    return &kept.statement;
  }
  char* const copy = known ? MemoryContextStrdup(TopMemoryContext, text) : nullptr;
  if (kept.text != nullptr) pfree(kept.text);
  kept.text = copy;
  kept.hash = hash;
  kept.used = ++uses;
  if (copy == nullptr) return nullptr;
  kept.statement.text = copy;
  // The place may have had another text: its name must not serve this one.
  if (kept.statement.id == 0)
    number(kept.statement);
  else
    renew(kept.statement);
  return &kept.statement;
}

}  // namespace order_proc::remote
