// Statements that shards keep prepared: their names, and those of the texts that the session's user
// sends again and again.
#pragma once

#include "remote/connection.hpp"

namespace order_proc::remote {

using StatementName = std::array<char, 32>;

/// What a version of a statement is prepared as.
StatementName name_of(uint32 id, uint32 version);

/// Gives a statement its number, unique in the session, and its name.
void number(Statement& statement);

/// The statement of a text that came before in this session, to be prepared; null for one that is
/// new, or too long to be kept.
Statement* kept_statement(const char* text);

/// Prepares it anew at its next use: its columns are others than they were.
void renew(Statement& statement);

}  // namespace order_proc::remote
