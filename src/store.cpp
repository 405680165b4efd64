// Making a store, handing out rights on it, asking for its layout.
#include "store.hpp"

#include "migration.hpp"
#include "pg/args.hpp"
#include "pg/error.hpp"
#include "pg/spi.hpp"
#include "pg/user.hpp"

namespace order_proc {

namespace {

core::Placement parse_placement(std::string_view name) {
  if (name == core::name_of(core::Placement::hash)) return core::Placement::hash;
  if (name == core::name_of(core::Placement::modulo)) return core::Placement::modulo;
  pg::unknown_option("placement", name, "Use 'hash' or 'modulo'.");
}

const char* placement_check(core::Placement placement) {
  return placement == core::Placement::hash
             ? "ALTER TABLE order_store.orders ADD CHECK ((id & 4095) = "
               "(hashint8extended(customer_id, 0) & 4095))"
             : "ALTER TABLE order_store.orders ADD CHECK ((id & 4095) = (customer_id & 4095))";
}

/// The grants behind each privilege; the later ones include the earlier.
struct Grants {
  std::string_view privilege;
  std::array<const char*, 4> commands;
};
constexpr std::array grants{
    Grants{"read",
           {"GRANT USAGE ON SCHEMA order_store TO %s",
            "GRANT SELECT ON order_store.customers, order_store.orders, order_store.order_items TO "
            "%s"}},
    Grants{"write",
           {"GRANT INSERT, UPDATE, DELETE ON order_store.customers, order_store.orders, "
            "order_store.order_items TO %s",
            "GRANT USAGE ON SEQUENCE order_store.customers_id_seq, order_store.orders_id_seq, "
            "order_store.order_items_id_seq TO %s"}},
    Grants{"admin",
           {"GRANT SELECT, INSERT, UPDATE, DELETE ON order_store.order_statuses, "
            "order_store.status_transitions TO %s",
            "GRANT SELECT ON order_store.order_status_history, order_store.migrations, "
            "order_store.store TO %s",
            "GRANT SELECT, DELETE ON order_store.idempotency_keys TO %s"}},
};
constexpr std::array administration_grants{
    "GRANT EXECUTE ON FUNCTION order_proc.create_store(pg_catalog.regrole, pg_catalog.text) TO %s",
    "GRANT EXECUTE ON FUNCTION order_proc.migrate_store(pg_catalog.text) TO %s",
};

void grant(const char* command, const char* role) {
  pg::execute(psprintf(command, role));
}

}  // namespace

void check_slot_vectors() {
  for (const auto& [customer_id, slot] : core::slot_vectors) {
    const int here = core::slot_of_hash(DatumGetUInt64(
        DirectFunctionCall2(hashint8extended, Int64GetDatum(customer_id), Int64GetDatum(0))));
    if (here != slot)
      ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
              errmsg("hashint8extended gives customer " INT64_FORMAT " slot %d here, not %d",
                     customer_id, here, slot),
              errhint("Use placement => 'modulo' on this server."));
  }
}

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_create_store);
Datum order_proc_create_store(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  const Oid owner = args.null(0) ? GetUserId() : args.get_oid(0, "owner");
  const core::Placement placement = parse_placement(args.get_text(1, "placement").view());
  const char* const owner_name = GetUserNameFromId(owner, true);
  if (owner_name == nullptr)
    ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
            errmsg("role with oid %u does not exist", owner),
            errhint("SELECT rolname FROM pg_catalog.pg_roles;"));
  if (store_schema_exists())
    ereport(ERROR, errcode(ERRCODE_DUPLICATE_OBJECT),
            errmsg("there is a schema \"order_store\" in this database already"),
            errdetail("A database holds one store."),
            errhint("SELECT order_proc.schema_version() tells its layout."));
  if (placement == core::Placement::hash) check_slot_vectors();
  pg::with_spi([&] {
    // As the caller: PostgreSQL asks whether he may make schemas, and for this owner.
    pg::with_locked_settings([&] {
      pg::execute(
          psprintf("CREATE SCHEMA order_store AUTHORIZATION %s", quote_identifier(owner_name)));
    });
    make_store(owner, placement, placement_check(placement));
  });
  PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(order_proc_grant_store);
Datum order_proc_grant_store(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  const Oid role = args.get_oid(0, "role");
  const std::string_view privilege = args.get_text(1, "privilege").view();
  const auto level = std::find_if(grants.begin(), grants.end(),
                                  [&](const Grants& g) { return g.privilege == privilege; });
  if (level == grants.end())
    pg::unknown_option("privilege", privilege, "Use 'read', 'write' or 'admin'.");
  const char* const name = GetUserNameFromId(role, true);
  if (name == nullptr)
    ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
            errmsg("role with oid %u does not exist", role),
            errhint("SELECT rolname FROM pg_catalog.pg_roles;"));
  require_store_owner(open_store(), "hand out rights on it");
  const char* const quoted = quote_identifier(name);
  pg::with_spi([&] {
    pg::with_locked_settings([&] {
      for (auto given = grants.begin(); given <= level; ++given)
        for (const char* command : given->commands)
          if (command != nullptr) grant(command, quoted);
      if (privilege == "admin" && superuser())
        for (const char* command : administration_grants) grant(command, quoted);
    });
  });
  PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(order_proc_schema_version);
Datum order_proc_schema_version(PG_FUNCTION_ARGS) {
  PG_RETURN_TEXT_P(cstring_to_text(core::layouts[open_store_at_any_layout().layout.index].data()));
}

PG_FUNCTION_INFO_V1(order_proc_require_version);
Datum order_proc_require_version(PG_FUNCTION_ARGS) {
  const std::string_view minimum = pg::Args(fcinfo).get_text(0, "minimum").view();
  const auto required = pg::core_call(core::parse_version, minimum);
  if (!required)
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("\"%s\" is not a version", pg::shown(minimum)),
            errhint("Give major.minor, such as '1.4'."));
  const std::string_view layout = core::layouts[open_store_at_any_layout().layout.index];
  if (*pg::core_call(core::parse_version, layout) < *required)
    ereport(ERROR, errcode(pg::version_too_old),
            errmsg("the store has layout %s, version %s is required", layout.data(),
                   pg::shown(minimum)),
            errhint("ALTER EXTENSION order_proc UPDATE;"));
  PG_RETURN_VOID();
}

}  // extern "C"

}  // namespace order_proc
