// Shards that a read goes on without (on_failure => 'warn'): each is a WARNING, and its connection
// is closed. Never one that the transaction used before: it would not see what it saw there.
#pragma once

#include "routing.hpp"

namespace order_proc {

enum class OnFailure { error, warn };

/// Connections to the shards that can be reached, in the caller's memory.
std::span<remote::Connection*> connect_those_up(const Cluster& cluster);

/// Opens a connection that broke once more: 08001, or false when its shard is left out.
bool reopen(remote::Connection& connection, OnFailure on_failure);

/// One whose connection was lost.
void leave_out_lost(remote::Connection& connection);

/// One that did not answer in time.
void leave_out_silent(remote::Connection& connection, int milliseconds, const char* detail);

/// 08006: the same where it cannot be left out.
[[noreturn]] void raise_silent(const remote::Connection& connection, int milliseconds,
                               const char* detail);

}  // namespace order_proc
