// SQLSTATEs of the extension's own class, and values in messages.
#pragma once

#include "pg/postgres.hpp"

namespace order_proc::pg {

inline constexpr int no_store = MAKE_SQLSTATE('O', 'P', '0', '0', '1');
inline constexpr int store_mismatch = MAKE_SQLSTATE('O', 'P', '0', '0', '2');
inline constexpr int version_too_old = MAKE_SQLSTATE('O', 'P', '0', '0', '3');
inline constexpr int transition_not_allowed = MAKE_SQLSTATE('O', 'P', '2', '0', '1');
inline constexpr int status_not_expected = MAKE_SQLSTATE('O', 'P', '2', '0', '2');
inline constexpr int idempotency_key_reused = MAKE_SQLSTATE('O', 'P', '3', '0', '2');
inline constexpr int slot_not_here = MAKE_SQLSTATE('O', 'P', '4', '0', '2');
inline constexpr int no_shard_for_slot = MAKE_SQLSTATE('O', 'P', '4', '0', '3');
inline constexpr int no_consistent_cut = MAKE_SQLSTATE('O', 'P', '5', '0', '2');
inline constexpr int coordinator_fenced = MAKE_SQLSTATE('O', 'P', '5', '0', '3');

/// A text for a message: at most 64 bytes of it, cut at a character, with an ellipsis.
const char* shown(std::string_view text);

/// 22004 for an argument that must not be NULL.
[[noreturn]] void null_argument(const char* name);

/// Allows a breakpoint and a short name: an argument out of its set, with the set as HINT.
[[noreturn]] void unknown_option(const char* name, std::string_view value, const char* hint);

}  // namespace order_proc::pg
