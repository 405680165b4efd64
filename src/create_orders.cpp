// create_orders: many orders in one call. The whole document is read once before anything is
// written, so what is wrong with its form is found first, in input order; then each order is made
// as create_order_with_items makes it, on its shard when there are shards: each gets its orders
// as one call, all of them work at once, and prepares with it when the call is all that its
// transaction does.
//
// Memory: the document, 8 bytes an order for its id, and what one order needs. Over shards also the
// text of their parts, until it is sent.
#include "create_order.hpp"
#include "failpoints.hpp"
#include "moved_slots.hpp"
#include "order_json.hpp"
#include "pg/arrays.hpp"
#include "remote/pipeline.hpp"
#include "routing.hpp"
#include "slots.hpp"
#include "two_phase.hpp"

namespace order_proc {

namespace {

template <typename T>
T* allocate(std::size_t count) {
  return static_cast<T*>(palloc_extended(std::max<Size>(count, 1) * sizeof(T), MCXT_ALLOC_HUGE));
}

/// Orders of a document: all of them, or those that a shard was given.
struct Orders {
  JsonbValue list;
  std::size_t count;
  std::span<const int64> numbers;  ///< where they are in the caller's document; empty: as they come

  int64 number(std::size_t i) const { return numbers.empty() ? static_cast<int64>(i) : numbers[i]; }
};

Orders orders_in(Jsonb* document, std::span<const int64> numbers = {}) {
  const JsonbValue list = order_list(document);
  return {list, pg::size_of(list), numbers};
}

/// Calls `use` with the position and the request of each order, in memory that goes with it.
template <typename F>
void for_each_order(const Orders& orders, F&& use) {
  static_assert(pg::Jumpable<std::remove_reference_t<F>>);
  const MemoryContext memory =
      AllocSetContextCreate(CurrentMemoryContext, "order_proc order", ALLOCSET_DEFAULT_SIZES);
  pg::for_each_element(orders.list, [&](std::size_t i, const JsonbValue& element) {
    CHECK_FOR_INTERRUPTS();
    const MemoryContext saved = MemoryContextSwitchTo(memory);
    use(i, read_order(element, orders.number(i)));
    MemoryContextSwitchTo(saved);
    MemoryContextReset(memory);
  });
  MemoryContextDelete(memory);
}

constexpr const char* context_format = "orders[" INT64_FORMAT "]";

void describe_order(void* number) {
  errcontext(context_format, *static_cast<const int64*>(number));
}

/// Makes them here.
void make_all(const Orders& orders, int64* ids) {
  const Store store = open_store_for_orders();
  int64 number = 0;
  ErrorContextCallback context{};
  context.callback = describe_order;
  context.arg = &number;
  context.previous = error_context_stack;
  error_context_stack = &context;
  for_each_order(orders, [&](std::size_t i, const OrderRequest& request) {
    number = orders.number(i);
    ids[i] = make_order(store, request);
  });
  error_context_stack = context.previous;
}

Datum id_array(const int64* ids, std::size_t count) {
  return pg::make_array<int64>(count, INT8OID, [&](std::size_t i) { return ids[i]; });
}

// --- over shards ---------------------------------------------------------------------------------

/// A shard's orders.
struct Part {
  remote::Connection* connection;
  int depth;            ///< of its transaction, before the call
  StringInfoData text;  ///< a text datum in the making: room for the header, then the JSON
  int64* numbers;       ///< where they are in the document
  std::size_t count;
};

/// What is noted of an order: its slot, until it is made.
constexpr int16 made = -1;

int16* find_slots(const Orders& orders) {
  auto* const slots = allocate<int16>(orders.count);
  const Store& store = open_store_for_anyone();
  for_each_order(orders, [&](std::size_t i, const OrderRequest& request) {
    slots[i] = static_cast<int16>(slot_of_customer(store, request.customer_id));
  });
  return slots;
}

/// The orders that are yet to be made, by shard. Those without orders have an empty part.
std::span<Part> split(const Orders& orders, const Cluster& cluster, const int16* slots) {
  auto* const parts = static_cast<Part*>(palloc0(sizeof(Part) * cluster.shard_count));
  const auto part_of = [&](std::size_t i) -> Part& {
    return parts[static_cast<std::size_t>(shard_of_slot(cluster, slots[i]).shard_id)];
  };
  for (std::size_t i = 0; i < orders.count; ++i)
    if (slots[i] != made) ++part_of(i).count;
  for (std::size_t shard = 0; shard < cluster.shard_count; ++shard) {
    Part& part = parts[shard];
    if (part.count == 0) continue;
    part.numbers = allocate<int64>(part.count);
    part.count = 0;
    initStringInfo(&part.text);
    part.text.len = VARHDRSZ;
  }
  pg::for_each_element(orders.list, [&](std::size_t i, const JsonbValue& element) {
    CHECK_FOR_INTERRUPTS();
    if (slots[i] == made) return;
    Part& part = part_of(i);
    appendStringInfoChar(&part.text, part.count == 0 ? '[' : ',');
    (void)JsonbToCString(&part.text, element.val.binary.data, element.val.binary.len);
    part.numbers[part.count++] = static_cast<int64>(i);
  });
  return {parts, cluster.shard_count};
}

/// Connects to the shards that have orders.
std::span<remote::Connection*> connect_parts(const Cluster& cluster, std::span<Part> parts) {
  auto* const targets = allocate<remote::Target>(parts.size());
  auto** const connections = allocate<remote::Connection*>(parts.size());
  std::size_t count = 0;
  for (std::size_t shard = 0; shard < parts.size(); ++shard)
    if (parts[shard].count > 0) targets[count++] = cluster.shards[shard];
  remote::connect({targets, count}, {connections, count});
  count = 0;
  for (Part& part : parts)
    if (part.count > 0) {
      part.connection = connections[count++];
      part.depth = part.connection->depth;
    }
  return {connections, count};
}

Oid create_orders_of_shard() {
  const std::array<Oid, 2> types{TEXTOID, INT8ARRAYOID};
  return LookupFuncName(
      list_make2(makeString(pstrdup("order_proc")), makeString(pstrdup("create_orders_of_shard"))),
      static_cast<int>(types.size()), types.data(), false);
}

void set_arguments(RemoteCall& call, Part& part) {
  appendStringInfoChar(&part.text, ']');
  SET_VARSIZE(part.text.data, part.text.len);
  call.set(0, pg::Value(PointerGetDatum(part.text.data)));
  call.set(1, pg::Value(id_array(part.numbers, part.count)));
}

/// Which order a shard's error is about, as describe_order wrote; the part's first when it does not
/// say.
int64 order_in_error(const Part& part) {
  const PGresult* const error = part.connection->error;
  const char* const context =
      error == nullptr ? nullptr : PQresultErrorField(error, PG_DIAG_CONTEXT);
  long long number = 0;
  const char* const at = context == nullptr ? nullptr : strstr(context, "orders[");
  if (at == nullptr || sscanf(at, "orders[%lld]", &number) != 1) return part.numbers[0];
  return number;
}

/// Takes the ids of a part, which come in its order.
void take_ids(const Part& part, Datum answer, int64* ids, int16* slots) {
  ArrayType* const array = DatumGetArrayTypeP(answer);
  const auto* const its = reinterpret_cast<const int64*>(ARR_DATA_PTR(array));
  if (static_cast<std::size_t>(ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array))) != part.count ||
      array_contains_nulls(array))
    elog(ERROR, "shard %d made another number of orders than it was asked for",
         part.connection->shard_id);
  for (std::size_t i = 0; i < part.count; ++i) {
    ids[part.numbers[i]] = its[i];
    slots[part.numbers[i]] = made;
  }
}

bool failed(const Part& part) {
  return part.count > 0 && (part.connection->error != nullptr || part.connection->lost);
}

/// Raises the error of the part that fails by `which`: of several that of the first order.
template <typename F>
void raise_first(std::span<const Part> parts, F&& which) {
  const Part* first = nullptr;
  for (const Part& part : parts)
    if (failed(part) && which(part) &&
        (first == nullptr || order_in_error(part) < order_in_error(*first)))
      first = &part;
  if (first != nullptr) remote::raise_error(*first->connection);
}

/// Undoes what the shards refused because a slot was not there (any more); false when nothing was
/// refused. Raises what failed otherwise, or cannot be undone by itself, or is refused for too
/// long.
bool undo_refused(std::span<const Part> parts, remote::Deadline deadline) {
  raise_first(parts, [](const Part& part) { return !slot_was_away(*part.connection); });
  bool any = false;
  raise_first(parts, [&](const Part& part) {
    any = true;
    return remote::passed(deadline) || !remote::undo_call(*part.connection, part.depth);
  });
  return any;
}

/// What is made of a document over shards.
struct Making {
  FunctionCallInfo caller;     ///< of create_orders
  FunctionCallInfo arguments;  ///< of create_orders_of_shard
  const Orders& orders;
  const Cluster& cluster;
  int64* ids;
  int16* slots;
};

/// Sends the parts and takes the answers. False when the shards were to prepare `with_call` and not
/// all of them did.
bool ask_shards(const Making& making, std::span<Part> parts,
                std::span<remote::Connection* const> connections, bool with_call) {
  RemoteCall call(making.arguments, remote::Use::write);
  if (with_call) call.end_with(queue_commit_part);
  const auto is_first = [&](const Part& part) { return part.connection == connections.front(); };
  for (Part& part : parts) {
    if (part.count == 0) continue;
    set_arguments(call, part);
    call.start(*part.connection);
    pfree(part.text.data);
    if (with_call && is_first(part)) ORDER_PROC_FAILPOINT("f4_prepare_sent");
  }
  remote::flush_all(connections);
  const remote::Deadline deadline =
      with_call ? remote::after_milliseconds(with_call::patience) : remote::never;
  // What has been asked to prepare is not left because of an interrupt before it is known what
  // became of it.
  const auto interrupts = with_call ? remote::Interrupts::leave : remote::Interrupts::serve;
  bool done = true;
  for (const Part& part : parts) {
    if (part.count == 0) continue;
    while (const auto answer = call.next_or_error(*part.connection, deadline, interrupts))
      take_ids(part, answer->datum, making.ids, making.slots);
    if (!with_call) continue;
    done &= with_call::done(*part.connection);
    if (is_first(part)) ORDER_PROC_FAILPOINT("f6_prepared_first");
  }
  return done;
}

/// All that is to be made is of one shard.
void ask_one(const Making& making, std::span<Part> parts) {
  for (Part& part : parts) {
    if (part.count == 0) continue;
    RemoteCall call(making.arguments, remote::Use::write);
    set_arguments(call, part);
    if (const auto answer = call.run_on(*part.connection, making.caller))
      take_ids(part, answer->datum, making.ids, making.slots);
  }
}

enum class Made { all, but_refused, none };

/// Asks each shard once for the orders that are yet to be made there.
Made make_on_shards(const Making& making, remote::Deadline deadline, bool may_prepare) {
  const std::span<Part> parts = split(making.orders, making.cluster, making.slots);
  const auto connections = connect_parts(making.cluster, parts);
  if (may_prepare && with_call::possible(making.caller, connections)) {
    with_call::begin(connections);
    if (ask_shards(making, parts, connections, true)) return Made::all;
    raise_first(parts, [](const Part& part) {
      return !remote::was_fatal(*part.connection) && !part.connection->lost &&
             !slot_was_away(*part.connection);
    });
    with_call::take_back(connections);
    return Made::none;
  }
  if (connections.size() == 1)
    ask_one(making, parts);
  else
    (void)ask_shards(making, parts, connections, false);
  return undo_refused(parts, deadline) ? Made::but_refused : Made::all;
}

/// More than that may keep the shards busy for longer than a commit should take.
constexpr std::size_t most_prepared_with_call = 100;

/// Makes them on the shards. Orders whose slot is on its way to another shard are sent again, by
/// the map as it is then.
void make_all_on_shards(FunctionCallInfo caller, const Orders& orders, const Cluster& cluster,
                        int64* ids) {
  FmgrInfo function;
  fmgr_info(create_orders_of_shard(), &function);
  LOCAL_FCINFO(arguments, 2);
  InitFunctionCallInfoData(*arguments, &function, 2, InvalidOid, nullptr, nullptr);
  arguments->args[0].isnull = arguments->args[1].isnull = true;
  Making making{caller, arguments, orders, cluster, ids, find_slots(orders)};
  const MemoryContext memory =
      AllocSetContextCreate(CurrentMemoryContext, "order_proc parts", ALLOCSET_DEFAULT_SIZES);
  const remote::Deadline deadline = remote::after_milliseconds(look_for_slot);
  bool may_prepare = orders.count <= most_prepared_with_call;
  for (;;) {
    const MemoryContext saved = MemoryContextSwitchTo(memory);
    const Made outcome = make_on_shards(making, deadline, may_prepare);
    MemoryContextSwitchTo(saved);
    MemoryContextReset(memory);
    if (outcome == Made::all) break;
    may_prepare = false;
    if (outcome == Made::none)
      making.slots = find_slots(orders);
    else
      look_again();
  }
  MemoryContextDelete(memory);
}

void require_writable() {
  PreventCommandIfReadOnly("INSERT");
  PreventCommandIfParallelMode("INSERT");
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_create_orders);
Datum order_proc_create_orders(PG_FUNCTION_ARGS) {
  require_writable();
  const Orders orders = orders_in(DatumGetJsonbP(pg::Args(fcinfo).datum(0, "orders")));
  auto* const ids = allocate<int64>(orders.count);
  if (const Cluster* const cluster = routed(makes_orders)) {
    make_all_on_shards(fcinfo, orders, *cluster, ids);
  } else {
    for_each_order(orders, [](std::size_t, const OrderRequest&) {});
    make_all(orders, ids);
  }
  return id_array(ids, orders.count);
}

PG_FUNCTION_INFO_V1(order_proc_create_orders_of_shard);
Datum order_proc_create_orders_of_shard(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  require_writable();
  char* const text = text_to_cstring(args.get_text(0, "orders").value);
  const std::span<const int64> numbers = args.get_int64s(1, "numbers");
  Jsonb* const document = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
  const Orders orders = orders_in(document, numbers);
  if (orders.count != numbers.size())
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("orders and numbers must have the same length"),
            errdetail("They have %zu and %zu elements.", orders.count, numbers.size()),
            errhint("SELECT order_proc.create_orders(orders); makes orders."));
  pfree(text);
  auto* const ids = allocate<int64>(orders.count);
  make_all(orders, ids);
  return id_array(ids, orders.count);
}

}  // extern "C"

}  // namespace order_proc
