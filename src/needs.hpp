// What calls that go to shards need of the coordinator's own tables: what the same calls need where
// the rows are. A user mapping may lead to a role that may do more than the caller.
#pragma once

#include <array>
#include <span>

#include "store.hpp"

namespace order_proc {

/// What a call does to a table, and to which columns.
struct Need {
  using Columns = std::span<const char* const>;

  Table table;
  AclMode privileges;
  Columns selected = {};
  Columns inserted = {};
  Columns updated = {};
  const char* sequence = nullptr;  ///< of which it takes values
};

namespace columns {
inline constexpr std::array id{"id"};
inline constexpr std::array counted_orders{"status"};
inline constexpr std::array made_orders{"id",    "customer_id",   "status",        "total_amount",
                                        "notes", "customer_name", "customer_email"};
inline constexpr std::array imported_orders{
    "id", "customer_id", "status", "total_amount", "customer_name", "customer_email", "created_at"};
inline constexpr std::array read_orders{
    "id",        "customer_id",   "status",         "total_amount",
    "notes",     "customer_name", "customer_email", "created_at",
    "updated_at"};
inline constexpr std::array changed_status{"status", "updated_at"};
inline constexpr std::array read_status{"id", "status"};
inline constexpr std::array changed_total{"total_amount", "updated_at"};
inline constexpr std::array summed_items{"order_id", "quantity", "price"};
inline constexpr std::array made_items{"order_id", "product_id", "quantity", "price"};
inline constexpr std::array read_items{"order_id", "id", "product_id", "quantity", "price"};
inline constexpr std::array customers{"id", "first_name", "last_name", "email"};
}  // namespace columns

inline constexpr Need selects_orders{
    .table = Table::orders, .privileges = ACL_SELECT, .selected = columns::read_orders};
inline constexpr Need inserts_items{.table = Table::order_items,
                                    .privileges = ACL_INSERT,
                                    .inserted = columns::made_items,
                                    .sequence = "order_items_id_seq"};
inline constexpr Need selects_customers{
    .table = Table::customers, .privileges = ACL_SELECT, .selected = columns::customers};

inline constexpr std::array reads_orders{selects_orders};
inline constexpr std::array reads_statuses{
    Need{.table = Table::orders, .privileges = ACL_SELECT, .selected = columns::counted_orders}};
inline constexpr std::array reads_orders_and_items{
    selects_orders,
    Need{.table = Table::order_items, .privileges = ACL_SELECT, .selected = columns::read_items}};
inline constexpr std::array makes_orders{Need{.table = Table::orders,
                                              .privileges = ACL_INSERT,
                                              .inserted = columns::made_orders,
                                              .sequence = "orders_id_seq"},
                                         inserts_items, selects_customers};
inline constexpr std::array imports_orders{Need{.table = Table::orders,
                                                .privileges = ACL_INSERT,
                                                .inserted = columns::imported_orders,
                                                .sequence = "orders_id_seq"},
                                           inserts_items, selects_customers};
inline constexpr std::array changes_statuses{Need{.table = Table::orders,
                                                  .privileges = ACL_SELECT | ACL_UPDATE,
                                                  .selected = columns::read_status,
                                                  .updated = columns::changed_status}};
inline constexpr std::array changes_totals{
    Need{.table = Table::orders,
         .privileges = ACL_SELECT | ACL_UPDATE,
         .selected = columns::id,
         .updated = columns::changed_total},
    Need{.table = Table::order_items, .privileges = ACL_SELECT, .selected = columns::summed_items}};
inline constexpr std::array deletes_orders{
    Need{.table = Table::orders, .privileges = ACL_SELECT | ACL_DELETE, .selected = columns::id}};
inline constexpr std::array makes_customers{
    Need{.table = Table::customers, .privileges = ACL_INSERT, .inserted = columns::customers}};
inline constexpr std::array imports_customers{
    Need{.table = Table::customers, .privileges = ACL_INSERT, .inserted = columns::id}};
inline constexpr std::array makes_items{inserts_items};
inline constexpr std::array deletes_keys{
    Need{.table = Table::idempotency_keys, .privileges = ACL_DELETE}};
inline constexpr std::array takes_order_ids{
    Need{.table = Table::orders, .privileges = ACL_NO_RIGHTS, .sequence = "orders_id_seq"}};

}  // namespace order_proc
