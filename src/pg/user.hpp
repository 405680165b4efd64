// Acting as another role, and under a locked search_path, for the length of a call. An ERROR undoes
// both: the abort of the (sub)transaction restores user and settings.
#pragma once

#include "pg/postgres.hpp"

namespace order_proc::pg {

/// Runs `body` as `user`, as RI triggers do: what the library does on its own behalf. The caller's
/// row security does not apply, nor does FORCE ROW LEVEL SECURITY on the owner's own tables.
template <typename F>
auto as_user(Oid user, F&& body, int flags = SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS) {
  static_assert(Jumpable<std::remove_reference_t<F>> && Jumpable<std::invoke_result_t<F>>);
  Oid saved_user;
  int saved_context;
  GetUserIdAndSecContext(&saved_user, &saved_context);
  SetUserIdAndSecContext(user, saved_context | flags);
  if constexpr (std::is_void_v<std::invoke_result_t<F>>) {
    body();
    SetUserIdAndSecContext(saved_user, saved_context);
  } else {
    const auto result = body();
    SetUserIdAndSecContext(saved_user, saved_context);
    return result;
  }
}

/// Sets `name` for the innermost GUC nest level only.
inline void set_for_nest_level(const char* name, const char* value,
                               GucContext context = PGC_USERSET) {
  (void)set_config_option(name, value, context, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/// Runs `body` with search_path = pg_catalog, pg_temp: names of others cannot be picked up, and
/// what PostgreSQL deparses reads the same for everybody.
template <typename F>
void with_locked_path(F&& body) {
  static_assert(Jumpable<std::remove_reference_t<F>>);
  const int nest_level = NewGUCNestLevel();
  set_for_nest_level("search_path", "pg_catalog, pg_temp");
  body();
  AtEOXact_GUC(false, nest_level);
}

/// Runs `body` with search_path = pg_catalog, pg_temp, no notices and lock_timeout 200 ms: names of
/// others cannot be picked up, a lock that is not to be had soon is not queued for. An autovacuum
/// that holds the lock is sent away when its waiter looks for deadlocks: that must come before.
template <typename F>
void with_locked_settings(F&& body) {
  static_assert(Jumpable<std::remove_reference_t<F>>);
  const int nest_level = NewGUCNestLevel();
  set_for_nest_level("search_path", "pg_catalog, pg_temp");
  set_for_nest_level("client_min_messages", "warning");
  set_for_nest_level("lock_timeout", "200ms");
  set_for_nest_level("deadlock_timeout", "50ms", PGC_SUSET);
  body();
  AtEOXact_GUC(false, nest_level);
}

/// Runs `body` as the owner of a migration's tables: user code that it fires has that owner's
/// rights only, and what it creates is no member of an extension whose script is running.
template <typename F>
void as_store_owner(Oid owner, F&& body) {
  static_assert(Jumpable<std::remove_reference_t<F>>);
  const bool in_script = creating_extension;
  with_locked_settings([&] {
    PG_TRY();
    {
      creating_extension = false;
      as_user(owner, body,
              SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS);
    }
    PG_FINALLY();
    {
      // Not restored by an abort: a script may catch the error and go on.
      creating_extension = in_script;
    }
    PG_END_TRY();
  });
}

}  // namespace order_proc::pg
