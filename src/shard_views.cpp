// What the shards have, for the resolver: all are asked at once, each as the owner of its store.
// Which user mapping leads there is tried once and remembered.
#include "resolver.hpp"

#include "mappings.hpp"
#include "pg/error.hpp"
#include "prepared.hpp"
#include "receipts.hpp"
#include "remote/pipeline.hpp"
#include "remote/wait.hpp"

namespace order_proc {

void give_up(ShardView& view, const char* problem) {
  if (view.connection != nullptr && (view.connection->in_flight || view.connection->lost))
    remote::close_connection(*view.connection);
  view.connection = nullptr;
  view.problem = problem;
}

namespace {

/// Prepared transactions and receipts of a shard in one look.
constexpr int most_rows = 2000;
static_assert(most_rows == 2000, "the limit stands in the queries");

constexpr const char* register_query = "SELECT order_proc.register_coordinator($1, $2, $3, $4, $5)";
constexpr const char* prepared_query =
    "SELECT p.gid, p.owner, p.owner OPERATOR(pg_catalog.=) CURRENT_USER OR (SELECT r.rolsuper FROM "
    "pg_catalog.pg_roles AS r WHERE r.rolname OPERATOR(pg_catalog.=) CURRENT_USER), "
    "(EXTRACT(epoch FROM p.prepared) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8 "
    "FROM pg_catalog.pg_prepared_xacts AS p WHERE " ORDER_PROC_PREPARED_BY_US
    " ORDER BY p.prepared LIMIT 2000";
/// What is visible of the shards' own decisions is final at once; of others, and of places taken,
/// somebody might want to know a little longer. What no coordinator wrote may be of any length.
constexpr const char* receipts_query =
    "SELECT r.gid, r.receipt_key FROM order_store.receipts AS r WHERE (r.written_at "
    "OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-) "
    "'5 seconds'::pg_catalog.interval) OR (pg_catalog.starts_with(r.gid, 'opc3_') AND "
    "r.receipt_key OPERATOR(pg_catalog.<>) 0)) AND r.gid OPERATOR(pg_catalog.>) "
    "$1::pg_catalog.text COLLATE pg_catalog.\"C\" AND pg_catalog.octet_length(r.gid) "
    "OPERATOR(pg_catalog.<) 200 ORDER BY r.gid "
    "COLLATE pg_catalog.\"C\" USING OPERATOR(pg_catalog.<) LIMIT 2000";
/// Of version 1.7.
constexpr const char* no_receipts_query =
    "SELECT NULL::pg_catalog.text, NULL::pg_catalog.int8 WHERE false";
constexpr const char* find_receipts_query =
    "SELECT r.gid, r.receipt_key FROM order_store.receipts AS r WHERE r.gid "
    "OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[])";

/// Which user's mapping led to the owner of the shard's store the last time.
struct Known {
  Oid server;
  Oid user;
};
std::array<Known, most_shards> known{};

/// The last receipt of the window that was shown; empty: the next one is the first.
std::array<char, 200> window_end{};

TimestampTz from_unix(const char* microseconds) {
  return strtoll(microseconds, nullptr, 10) -
         static_cast<int64>(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
}

/// What the coordinator, present or former, has prepared on the shard.
void queue_prepared(const Cluster& cluster, remote::Connection& connection) {
  const std::array<const char*, 1> pattern{prepared_pattern(cluster)};
  remote::queue_text(connection, prepared_query, remote::Step::call, {{}, pattern, {}, {}});
}

void queue_receipts(const ShardView& view) {
  if (!view.target.fenced)
    return remote::queue_text(*view.connection, no_receipts_query, remote::Step::call, {});
  const std::array<const char*, 1> after{window_end.data()};
  remote::queue_text(*view.connection, receipts_query, remote::Step::call, {{}, after, {}, {}});
}

void queue_questions(const Cluster& cluster, const ShardView& view, int64 adopted) {
  remote::Connection& connection = *view.connection;
  const remote::Incarnation here = remote::incarnation();
  const std::array<const char*, 5> self{
      psprintf(INT64_FORMAT, cluster.coordinator_id), psprintf("%d", view.target.shard_id),
      psprintf("%u", here.timeline), psprintf(INT64_FORMAT, here.instance),
      adopted == 0 ? nullptr : psprintf(INT64_FORMAT, adopted)};
  if (here.timeline != 0 && view.target.fenced)
    remote::queue_text(connection, register_query, remote::Step::control, {{}, self, {}, {}});
  queue_prepared(cluster, connection);
  queue_receipts(view);
  remote::send(connection);
}

std::span<Orphan> read_orphans(const PGresult* result, int shard_id) {
  const int rows = PQntuples(result);
  auto* const orphans = static_cast<Orphan*>(palloc(sizeof(Orphan) * static_cast<Size>(rows + 1)));
  std::size_t count = 0;
  for (int row = 0; row < rows; ++row) {
    const char* const gid = pstrdup(remote::cell(result, row, 0));
    const auto numbers = pg::core_call(core::parse_gid, std::string_view(gid));
    if (!numbers) continue;
    const std::string_view base = core::gid_base(gid);
    orphans[count++] = {gid,
                        pnstrdup(base.data(), base.size()),
                        *numbers,
                        shard_id,
                        pstrdup(remote::cell(result, row, 1)),
                        *remote::cell(result, row, 2) == 't',
                        from_unix(remote::cell(result, row, 3)),
                        Orphan::Fate::unknown,
                        false};
  }
  return {orphans, count};
}

int64 key_at(const PGresult* result, int row) {
  return strtoll(remote::cell(result, row, 1), nullptr, 10);
}

void read_receipts(const PGresult* result, ShardView& view) {
  view.receipts = {};
  view.last_receipt = nullptr;
  if (result == nullptr) return;
  const int rows = PQntuples(result);
  auto* const receipts =
      static_cast<ListedReceipt*>(palloc(sizeof(ListedReceipt) * static_cast<Size>(rows + 1)));
  std::size_t count = 0;
  for (int row = 0; row < rows; ++row) {
    const std::string_view base{remote::cell(result, row, 0)};
    if (!base.empty() &&
        base.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == base.npos)
      receipts[count++] = {pstrdup(base.data()), key_at(result, row), false};
  }
  view.receipts = {receipts, count};
  if (rows == most_rows) view.last_receipt = pstrdup(remote::cell(result, rows - 1, 0));
}

/// Leaves what all shards have shown: a window is the same for all of them, so that the receipts of
/// a transaction are seen together.
void end_window(std::span<ShardView> views) {
  const char* end = nullptr;
  for (const ShardView& view : views)
    if (view.connection != nullptr && view.last_receipt != nullptr &&
        (end == nullptr || strcmp(view.last_receipt, end) < 0))
      end = view.last_receipt;
  strlcpy(window_end.data(), end == nullptr ? "" : end, window_end.size());
  if (end == nullptr) return;
  for (ShardView& view : views) {
    const auto behind =
        std::find_if(view.receipts.begin(), view.receipts.end(),
                     [&](const ListedReceipt& receipt) { return strcmp(receipt.base, end) > 0; });
    view.receipts = view.receipts.first(static_cast<std::size_t>(behind - view.receipts.begin()));
  }
}

/// Takes the answers; false when another user should ask.
bool read_answers(ShardView& view, remote::Deadline deadline) {
  remote::Connection& connection = *view.connection;
  const auto next = [&] {
    return remote::next_result(connection, remote::Interrupts::serve, deadline);
  };
  const PGresult* result = next();
  if (result != nullptr) view.orphans = read_orphans(result, view.target.shard_id);
  view.more = result != nullptr && PQntuples(result) == most_rows;
  if (result != nullptr) result = next();
  read_receipts(result, view);
  if (result != nullptr) (void)next();
  if (connection.in_flight) {
    give_up(view, "it does not answer");
    return true;
  }
  // Another server is the coordinator.
  if (remote::error_code(connection) == pg::coordinator_fenced) remote::raise_error(connection);
  if (connection.error == nullptr && !connection.lost) return true;
  const bool no_right = remote::error_code(connection) == ERRCODE_INSUFFICIENT_PRIVILEGE;
  give_up(view, pstrdup(remote::error_message(connection)));
  return !no_right;
}

/// The shards that have yet to be reached, and by whom to try next.
struct Search {
  std::span<ShardView> views;
  std::span<std::span<const Mapping>> mappings;
  std::span<std::size_t> at;
  std::span<bool> over;
};

Search begin_search(const Store& store, std::span<ShardView> views) {
  const std::size_t count = views.size();
  const auto room = [count](Size size) { return palloc0(size * (count + 1)); };
  Search search{
      views,
      {static_cast<std::span<const Mapping>*>(room(sizeof(std::span<const Mapping>))), count},
      {static_cast<std::size_t*>(room(sizeof(std::size_t))), count},
      {static_cast<bool*>(room(sizeof(bool))), count}};
  for (std::size_t i = 0; i < count; ++i) {
    ShardView& view = views[i];
    view.problem = "it has no user mapping that leads to the owner of the shard's store";
    if (!OidIsValid(view.target.server)) {
      view.problem = "its foreign server does not exist";
      search.over[i] = true;
      continue;
    }
    search.mappings[i] = mappings_of(view.target.server, store.owner);
    const Known& last = known[static_cast<std::size_t>(view.target.shard_id)];
    if (last.server != view.target.server) continue;
    auto* const first = const_cast<Mapping*>(search.mappings[i].data());
    auto* const end = first + search.mappings[i].size();
    auto* const found =
        std::find_if(first, end, [&](const Mapping& m) { return m.user == last.user; });
    if (found != end) std::rotate(first, found, found + 1);
  }
  return search;
}

/// Tries the next mapping of each shard that is not reached; false when there was none to try.
bool search_further(const Cluster& cluster, Search& search, int patience, int64 adopted) {
  const std::size_t count = search.views.size();
  auto* const targets = static_cast<remote::Target*>(palloc(sizeof(remote::Target) * (count + 1)));
  auto* const which = static_cast<std::size_t*>(palloc(sizeof(std::size_t) * (count + 1)));
  auto** const connections =
      static_cast<remote::Connection**>(palloc(sizeof(remote::Connection*) * (count + 1)));
  std::size_t tried = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (search.over[i] || search.at[i] >= search.mappings[i].size()) continue;
    targets[tried] = search.views[i].target;
    targets[tried].mapped = true;
    targets[tried].user = search.mappings[i][search.at[i]++].user;
    which[tried++] = i;
  }
  if (tried == 0) return false;
  auto** const reasons = static_cast<const char**>(palloc0(sizeof(char*) * (count + 1)));
  remote::connect({targets, tried}, {connections, tried}, false, {reasons, tried});
  for (std::size_t i = 0; i < tried; ++i) {
    ShardView& view = search.views[which[i]];
    view.connection = connections[i];
    if (view.connection == nullptr)
      view.problem =
          reasons[i] == nullptr || *reasons[i] == '\0' ? "it cannot be reached" : reasons[i];
    else
      queue_questions(cluster, view, adopted);
  }
  const remote::Deadline deadline = remote::after_milliseconds(patience);
  for (std::size_t i = 0; i < tried; ++i) {
    ShardView& view = search.views[which[i]];
    if (view.connection == nullptr) continue;
    search.over[which[i]] = read_answers(view, deadline);
    if (view.connection != nullptr)
      known[static_cast<std::size_t>(view.target.shard_id)] = {view.target.server, targets[i].user};
  }
  return true;
}

}  // namespace

std::span<ShardView> view_shards(const Store& store, const Cluster& cluster, int patience,
                                 int64 adopted) {
  auto* const views =
      static_cast<ShardView*>(palloc0(sizeof(ShardView) * (cluster.shard_count + 1)));
  for (std::size_t i = 0; i < cluster.shard_count; ++i) {
    views[i].target = cluster.shards[i];
    // Whether the shard is one already is the question: add_shard may be in doubt itself.
    views[i].target.coordinator_id = 0;
  }
  Search search = begin_search(store, {views, cluster.shard_count});
  const remote::Deadline deadline = remote::after_milliseconds(patience);
  while (search_further(cluster, search, patience, adopted) && !remote::passed(deadline)) {
  }
  end_window(search.views);
  return search.views;
}

void view_first_receipts() {
  window_end[0] = '\0';
}

bool more_receipts() {
  return window_end[0] != '\0';
}

void view_more_receipts(std::span<ShardView> views, int patience) {
  for (const ShardView& view : views) {
    if (view.connection == nullptr) continue;
    queue_receipts(view);
    remote::send(*view.connection);
  }
  const remote::Deadline deadline = remote::after_milliseconds(patience);
  for (ShardView& view : views) {
    if (view.connection == nullptr) continue;
    read_receipts(remote::next_result(*view.connection, remote::Interrupts::serve, deadline), view);
    while (remote::next_result(*view.connection, remote::Interrupts::serve, deadline) != nullptr) {
    }
    if (view.connection->in_flight)
      give_up(view, "it does not answer");
    else if (view.connection->lost || view.connection->error != nullptr)
      give_up(view, pstrdup(remote::error_message(*view.connection)));
  }
  end_window(views);
}

void add_to_array(StringInfoData& array, const char* text) {
  appendStringInfo(&array, "%c%s", array.len == 0 ? '{' : ',', text);
}

const char* end_array(StringInfoData& array) {
  appendStringInfoString(&array, array.len == 0 ? "{}" : "}");
  return array.data;
}

const ShardView* view_of(std::span<const ShardView> views, int shard_id) {
  const auto at = static_cast<std::size_t>(shard_id);
  return at < views.size() && views[at].target.shard_id == shard_id ? &views[at] : nullptr;
}

bool all_reached(std::span<const ShardView> views) {
  return std::all_of(views.begin(), views.end(),
                     [](const ShardView& view) { return view.connection != nullptr; });
}

namespace {

const char* array_of(std::span<const char* const> bases) {
  StringInfoData text;
  initStringInfo(&text);
  for (const char* const base : bases) add_to_array(text, base);
  return end_array(text);
}

/// The same text among `sorted`; null when it is not there.
const char* find_text(std::span<const char* const> sorted, const char* text) {
  const auto found =
      std::lower_bound(sorted.begin(), sorted.end(), text,
                       [](const char* a, const char* b) { return strcmp(a, b) < 0; });
  return found != sorted.end() && strcmp(*found, text) == 0 ? *found : nullptr;
}

/// As many as the shards have, not as many as they could.
struct Receipts {
  Receipt* list;
  std::size_t count;
  std::size_t room;
};

void add_receipt(Receipts& receipts, const Receipt& receipt) {
  if (receipts.count == receipts.room) {
    receipts.room = std::max<std::size_t>(receipts.room * 2, 64);
    const Size size = sizeof(Receipt) * receipts.room;
    receipts.list = static_cast<Receipt*>(
        receipts.list == nullptr ? palloc(size) : repalloc_huge(receipts.list, size));
  }
  receipts.list[receipts.count++] = receipt;
}

/// By base, then by shard: no_shard comes before all of them.
static_assert(no_shard < 0);
int compare_receipts(const Receipt& a, const Receipt& b) {
  const int by_base = strcmp(a.base, b.base);
  return by_base != 0 ? by_base : a.shard_id - b.shard_id;
}

int compare_for_sort(const void* a, const void* b, void*) {
  return compare_receipts(*static_cast<const Receipt*>(a), *static_cast<const Receipt*>(b));
}

}  // namespace

std::span<const Look> look_again(const Cluster& cluster, std::span<ShardView> views, int patience) {
  auto* const looks = static_cast<Look*>(palloc0(sizeof(Look) * (views.size() + 1)));
  for (const ShardView& view : views) {
    if (view.connection == nullptr) continue;
    queue_prepared(cluster, *view.connection);
    remote::send(*view.connection);
  }
  const remote::Deadline deadline = remote::after_milliseconds(patience);
  for (std::size_t i = 0; i < views.size(); ++i) {
    ShardView& view = views[i];
    if (view.connection == nullptr) continue;
    const PGresult* const result =
        remote::next_result(*view.connection, remote::Interrupts::serve, deadline);
    if (result != nullptr) {
      const auto orphans = read_orphans(result, view.target.shard_id);
      auto** const bases = static_cast<const char**>(palloc(sizeof(char*) * (orphans.size() + 1)));
      for (std::size_t at = 0; at < orphans.size(); ++at) bases[at] = orphans[at].base;
      looks[i] = {sort_texts({bases, orphans.size()}), PQntuples(result) < most_rows};
      (void)remote::next_result(*view.connection, remote::Interrupts::serve, deadline);
    }
    if (view.connection->in_flight || view.connection->lost) {
      give_up(view, "it does not answer");
      looks[i].all = false;
    }
  }
  return {looks, views.size()};
}

std::span<const Receipt> find_receipts(const Cluster& cluster, std::span<ShardView> views,
                                       std::span<const char* const> bases, int patience) {
  if (bases.empty()) return {};
  const std::array<const char*, 1> values{array_of(bases)};
  for (const ShardView& view : views) {
    if (view.connection == nullptr) continue;
    remote::queue_text(*view.connection, find_receipts_query, remote::Step::call,
                       {{}, values, {}, {}});
    remote::send(*view.connection);
  }
  const std::span<const char* const> asked = sort_texts(bases);
  Receipts receipts{};
  const remote::Deadline deadline = remote::after_milliseconds(patience);
  for (ShardView& view : views) {
    if (view.connection == nullptr) continue;
    const PGresult* const result =
        remote::next_result(*view.connection, remote::Interrupts::serve, deadline);
    const int rows = result == nullptr ? 0 : PQntuples(result);
    for (int row = 0; row < rows; ++row) {
      CHECK_FOR_INTERRUPTS();
      const char* const base = find_text(asked, remote::cell(result, row, 0));
      if (base == nullptr) continue;
      const int64 written = key_at(result, row);
      const int64 key = receipt_key(cluster, base);
      const bool closed = written == closed_key(key);
      // Written by somebody else it proves nothing.
      if (written == key || closed) add_receipt(receipts, {base, view.target.shard_id, closed});
    }
    if (result != nullptr)
      (void)remote::next_result(*view.connection, remote::Interrupts::serve, deadline);
    if (result == nullptr || view.connection->in_flight || view.connection->lost)
      give_up(view, "it does not answer");
  }
  if (receipts.count > 0)
    qsort_interruptible(receipts.list, receipts.count, sizeof(Receipt), compare_for_sort, nullptr);
  return {receipts.list, receipts.count};
}

const Receipt* receipt_of(std::span<const Receipt> receipts, const char* base, int shard_id) {
  const auto found = std::lower_bound(
      receipts.begin(), receipts.end(), Receipt{base, shard_id, false},
      [](const Receipt& a, const Receipt& b) { return compare_receipts(a, b) < 0; });
  const bool there = found != receipts.end() && strcmp(found->base, base) == 0 &&
                     (shard_id == no_shard || found->shard_id == shard_id);
  return there ? &*found : nullptr;
}

}  // namespace order_proc
