// Settling what transactions over shards have left prepared.
#pragma once

#include "cluster.hpp"
#include "pg/srf.hpp"

namespace order_proc {

/// A transaction that a shard has prepared for this coordinator. Texts are in the caller's memory.
struct Orphan {
  enum class Fate : uint8 {
    running,    ///< the transaction that prepared it may still decide
    commit,     ///< it was decided so
    roll_back,  ///< it was never decided, and cannot be any more
    unknown     ///< another server may have decided, or shards that have not been asked
  };
  const char* gid;
  const char* base;  ///< what names the transaction
  core::Gid numbers;
  int shard_id;
  const char* owner;  ///< the role on the shard
  bool mine;          ///< the view's connection may end it
  TimestampTz since;
  Fate fate;
  bool settled;
};

/// A receipt as a shard lists it. Anybody may have written it; the key proves otherwise.
struct ListedReceipt {
  const char* base;
  int64 key;
  bool proved;  ///< of a transaction that its shards decided
};

/// A shard as the resolver finds it.
struct ShardView {
  remote::Target target;
  remote::Connection* connection;  ///< as the owner of its store; null: not reached
  const char* problem;             ///< why not
  std::span<Orphan> orphans;
  bool more;                          ///< there is more prepared than one look shows
  std::span<ListedReceipt> receipts;  ///< a window of those that may be forgotten
  const char* last_receipt;           ///< when there may be more than one look shows
};

/// A shard that has committed a transaction, proved by its receipt.
struct Receipt {
  const char* base;
  int shard_id;
  bool closed;  ///< the transaction is accounted for on all shards
};

/// What a round of settling left.
struct Left {
  int in_doubt;   ///< prepared and not settled, those that still run apart
  int decisions;  ///< in the commit log, those that still run apart
  int unreached;  ///< shards
  bool more;      ///< to be forgotten than a round takes
};

/// One round over all shards. Rows go to `results` when there is one, else to the server's log.
/// `patience`: how many milliseconds a shard may take to answer. As the owner of the store.
Left settle_all(const Store& store, const Cluster& cluster, const pg::ResultSet* results,
                int patience);

// The parts of it; see shard_views.cpp.

/// Connects to all shards as owners of their stores, and asks what is prepared there. What this
/// server is is written down there first, unless it is a standby; with `adopted`, that it takes
/// over from that coordinator.
std::span<ShardView> view_shards(const Store& store, const Cluster& cluster, int patience,
                                 int64 adopted = 0);
bool all_reached(std::span<const ShardView> views);

/// Receipts are seen a window at a time, from look to look: those of transactions with damage have
/// to stay, and must not hide the others. The first window comes next.
void view_first_receipts();
/// Whether the last window was not the last of all.
bool more_receipts();
/// The next window in the same views.
void view_more_receipts(std::span<ShardView> views, int patience);

/// The view of that shard; null when there is none.
const ShardView* view_of(std::span<const ShardView> views, int shard_id);

/// What is prepared on a shard: bases, sorted.
struct Look {
  std::span<const char* const> bases;
  bool all;  ///< nothing else is; false for a shard that is not reached
};

/// What is prepared on each shard now.
std::span<const Look> look_again(const Cluster& cluster, std::span<ShardView> views, int patience);

/// The receipts of `bases`, on all shards that are reached, sorted for has_receipt. A shard that
/// does not answer is not reached any more.
std::span<const Receipt> find_receipts(const Cluster& cluster, std::span<ShardView> views,
                                       std::span<const char* const> bases, int patience);
/// Null when there is none. With no_shard: of any.
const Receipt* receipt_of(std::span<const Receipt> receipts, const char* base, int shard_id);

/// Not reached, after all.
void give_up(ShardView& view, const char* problem);

/// Finds out what is to become of the orphans.
void find_fates(const Store& store, const Cluster& cluster, std::span<ShardView> views,
                int patience);

/// Those of unknown fate that a shard has a receipt of are to be committed; whether there are any.
bool find_by_receipts(const Cluster& cluster, std::span<ShardView> views, int patience);

/// What is to become of those that the shards decide, and of which there is no receipt; see
/// deciders.cpp. True: of some, the first of their shards is to commit before the others.
bool ask_deciders(const Cluster& cluster, std::span<ShardView> views, int patience);

/// Whether the transaction may still decide: it holds a lock until the shards know.
bool is_running(const core::Gid& gid);

/// Which of the bases are in the commit log, sorted.
std::span<const char* const> find_decisions(const Store& store, std::span<const char* const> bases);
std::span<const char* const> sort_texts(std::span<const char* const> texts);
bool is_among(std::span<const char* const> sorted, const char* text);
Datum text_array(std::span<const char* const> texts);

/// Makes the text of an array, for a shard, of texts that need no quotes.
void add_to_array(StringInfoData& array, const char* text);
const char* end_array(StringInfoData& array);

/// A row for `results`, or a line in the server's log.
void report(const pg::ResultSet* results, const char* gid, int shard_id, const char* action);

/// Whether to say so: always to who called, once a minute in the log of a worker.
bool may_tell(const pg::ResultSet* results, TimestampTz& told);

/// Ends what is to be ended; see settling.cpp.
void settle(const Store& store, const Cluster& cluster, std::span<ShardView> views,
            const pg::ResultSet* results, int patience);

// What is done; see forgetting.cpp.

/// Of a transaction, by its base; nullopt for what is none.
std::optional<core::Gid> numbers_of(const char* base);

/// A row of the commit log.
struct Decision {
  const char* base;
  bool over;  ///< its transaction has told the shards, or never will
  std::span<const int32> shard_ids;
};
std::span<Decision> list_decisions(const Store& store);

/// Forgets decisions that are over and that all shards have carried out, tells of those that a
/// shard has lost. How many are left. `committed`: what the log has.
int close_decisions(const Store& store, const Cluster& cluster, std::span<Decision> decisions,
                    std::span<ShardView> views, bool committed, const pg::ResultSet* results,
                    int patience);

/// Tells of shards that have lost their part of a decided transaction, and keeps it in mind in its
/// row of the commit log, which is made where it has had none.
void tell_damage(const Store& store, const Decision& decision, bool has_row,
                 std::span<const int32> lost, const pg::ResultSet* results);

/// Whether this transaction has forgotten decisions or noted damage: it may yet be rolled back.
bool log_is_changed();

/// What a shard is to do with receipts.
struct ReceiptChange {
  StringInfoData bases;
  StringInfoData keys;  ///< with Change::close
};
enum class Change { close, remove };

/// Room for one on each shard, empty.
std::span<ReceiptChange> begin_changes(std::span<const ShardView> views);

/// Has the shards change receipts, all at once and for good. One that does not is not reached any
/// more.
void change_receipts(std::span<ShardView> views, std::span<ReceiptChange> changes, Change change,
                     int patience);

/// Removes receipts of transactions that are not in the commit log any more, but those that are
/// proved.
void forget_receipts(const Store& store, const Cluster& cluster, std::span<ShardView> views,
                     int patience);

// What the shards decided; see completion.cpp.

/// Forgets the proved receipts of what all shards have carried out, tells of what one has lost. How
/// many are left for the next round.
int complete_by_receipts(const Store& store, const Cluster& cluster, std::span<ShardView> views,
                         const pg::ResultSet* results, int patience);

/// A bare key proves a commit; with all its bits turned, that the transaction is accounted for.
constexpr int64 closed_key(int64 key) {
  return ~key;
}

/// Marks open receipts of `bases` on all shards as accounted for.
void close_receipts(const Cluster& cluster, std::span<ShardView> views,
                    std::span<const char* const> bases, int patience);

}  // namespace order_proc
