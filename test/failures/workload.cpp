// workload: one client of the tests of failures.
//
//   workload ledger|pairs|bank CONNECTION SEED CLIENT TRANSACTIONS LOG
//
// ledger  Orders of random customers: alone, two by create_orders, two in a transaction, or two
//         with a third that is rolled back to a savepoint. Each transaction is a line of LOG,
//         fields between tabs:
//           ok        committed, as the server said
//           failed    an error: nothing of it may be there
//           present   the connection was lost or the outcome unknown, and outcome() named the order
//           absent    the same, and outcome() said there is none
//           unknown   outcome() could not be asked for half a minute
//         then the SQLSTATE, the keys that stand or fall together, and a key that must never be
//         there; customer:key each.
// pairs   The same without those that are alone.
// bank    Transfers between two accounts of bank.account by fan_out_exec; LOG counts them.
//
// The same seed and client number give the same transactions. It goes on through lost connections,
// and ends early when the file LOG.stop appears.
#include <libpq-fe.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

namespace {

constexpr int customers = 200;
constexpr int accounts = 60;

std::string address;
std::string stop_file;
PGconn* connection = nullptr;

bool stopped() {
  return access(stop_file.c_str(), F_OK) == 0;
}

/// Connects anew; false after half a minute, or when it is to stop.
bool reconnect() {
  for (int attempt = 0; attempt < 300; ++attempt) {
    if (connection != nullptr) PQfinish(connection);
    connection = PQconnectdb(address.c_str());
    if (PQstatus(connection) == CONNECTION_OK) {
      // Half of the sessions each way.
      static unsigned sessions = 0;
      PQclear(PQexec(connection, sessions++ % 2 == 0 ? "SET order_proc.shards_decide = on"
                                                     : "SET order_proc.shards_decide = off"));
      return true;
    }
    if (attempt > 50 && stopped()) return false;
    usleep(100000);
  }
  return false;
}

/// What a statement answered: its first field, or the SQLSTATE; "" is a connection that is gone.
struct Answer {
  bool done;
  std::string state;
  std::string value;
};

Answer ask(const std::string& sql) {
  PGresult* const result = PQexec(connection, sql.c_str());
  const ExecStatusType status = PQresultStatus(result);
  Answer answer{status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK, "", ""};
  if (!answer.done) {
    const char* const state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (state != nullptr) answer.state = state;
  } else if (status == PGRES_TUPLES_OK && PQntuples(result) == 1 &&
             PQgetisnull(result, 0, 0) == 0) {
    answer.value = PQgetvalue(result, 0, 0);
  } else if (std::strcmp(PQcmdStatus(result), "ROLLBACK") == 0) {
    answer.value = "ROLLBACK";
  }
  PQclear(result);
  return answer;
}

struct Order {
  int customer;
  std::string key;
  std::string call;
  std::string json;  ///< for create_orders
};

Order make_order(std::mt19937_64& random, const std::string& key) {
  Order order{1 + static_cast<int>(random() % customers), key, "", ""};
  std::string products;
  std::string quantities;
  std::string prices;
  const std::size_t items = 1 + random() % 4;
  for (std::size_t i = 0; i < items; ++i) {
    const char* const comma = i == 0 ? "" : ",";
    products += comma + std::to_string(1 + random() % 1000);
    quantities += comma + std::to_string(1 + random() % 9);
    prices += comma + std::to_string(random() % 100) + ".25";
  }
  order.call = "SELECT order_proc.create_order_with_items(" + std::to_string(order.customer) +
               ", 'pending', NULL, '{" + products + "}', '{" + quantities + "}', '{" + prices +
               "}', NULL, '" + key + "')";
  order.json = "{\"customer_id\": " + std::to_string(order.customer) + ", \"product_ids\": [" +
               products + "], \"quantities\": [" + quantities + "], \"prices\": [" + prices +
               "], \"idempotency_key\": \"" + key + "\"}";
  return order;
}

/// Asks what became of the order until it is answered.
std::string outcome_of(const Order& order) {
  const std::string question =
      "SELECT order_proc.outcome(" + std::to_string(order.customer) + ", '" + order.key + "')";
  for (int attempt = 0; attempt < 300 && reconnect(); ++attempt) {
    const Answer answer = ask(question);
    if (answer.done) return answer.value.empty() ? "absent" : "present";
    usleep(100000);
  }
  return "unknown";
}

bool is_gone() {
  return PQstatus(connection) != CONNECTION_OK;
}

/// A statement that ends the transaction: what its answer says of all of it.
std::string judge(const Answer& answer) {
  if (answer.done) return answer.value == "ROLLBACK" ? "failed" : "ok";
  if (is_gone() || answer.state.empty() || answer.state == "40003") return "unknown";
  return "failed";
}

struct Transaction {
  std::vector<Order> together;
  std::vector<Order> never;
  bool in_one_call = false;  ///< of create_orders
};

/// Runs it and says how it ended.
std::string run(const Transaction& transaction, std::string& state) {
  std::vector<std::string> statements;
  if (transaction.together.size() == 1) {
    statements = {transaction.together[0].call};
  } else if (transaction.in_one_call) {
    statements = {"SELECT order_proc.create_orders('[" + transaction.together[0].json + ", " +
                  transaction.together[1].json + "]')"};
  } else {
    statements = {"BEGIN", transaction.together[0].call};
    if (!transaction.never.empty()) {
      statements.insert(statements.end(),
                        {"SAVEPOINT s", transaction.never[0].call, "ROLLBACK TO s"});
    }
    statements.insert(statements.end(), {transaction.together[1].call, "COMMIT"});
  }
  for (std::size_t i = 0; i < statements.size(); ++i) {
    const Answer answer = ask(statements[i]);
    state = answer.state;
    const bool last = i + 1 == statements.size();
    if (last) return judge(answer);
    if (answer.done) continue;
    if (!is_gone()) (void)ask("ROLLBACK");
    return "failed";
  }
  return "failed";
}

std::string keys_of(const std::vector<Order>& orders) {
  std::string keys;
  for (const Order& order : orders)
    keys += (keys.empty() ? "" : " ") + std::to_string(order.customer) + ":" + order.key;
  return keys;
}

void ledger(std::mt19937_64& random, bool alone, int client, int transactions, std::ofstream& log) {
  for (int n = 0; n < transactions && !stopped(); ++n) {
    const std::string key = "c" + std::to_string(client) + "-" + std::to_string(n);
    const unsigned kind = static_cast<unsigned>(alone ? random() % 10 : 5 + random() % 5);
    Transaction transaction{{make_order(random, key + "a")}, {}};
    if (kind >= 5) transaction.together.push_back(make_order(random, key + "b"));
    transaction.in_one_call = kind == 5 || kind == 6;
    if (kind == 9) transaction.never.push_back(make_order(random, key + "x"));
    if (is_gone() && !reconnect()) return;
    std::string state;
    std::string outcome = run(transaction, state);
    if (outcome == "unknown") outcome = outcome_of(transaction.together[0]);
    log << outcome << '\t' << state << '\t' << keys_of(transaction.together) << '\t'
        << keys_of(transaction.never) << std::endl;
  }
}

void bank(std::mt19937_64& random, int transactions, std::ofstream& log) {
  int done = 0;
  int failed = 0;
  for (int n = 0; n < transactions && !stopped(); ++n) {
    const int from = 1 + static_cast<int>(random() % accounts);
    const int to = 1 + (from + static_cast<int>(random() % (accounts - 1))) % accounts;
    const int amount = 1 + static_cast<int>(random() % 100);
    if (is_gone() && !reconnect()) break;
    const Answer answer = ask(
        "SELECT count(*) FROM order_proc.fan_out_exec('UPDATE bank.account SET balance = balance + "
        "CASE id WHEN " +
        std::to_string(from) + " THEN -" + std::to_string(amount) + " ELSE " +
        std::to_string(amount) + " END WHERE id IN (" + std::to_string(from) + ", " +
        std::to_string(to) + ")')");
    ++(answer.done ? done : failed);
  }
  log << done << '\t' << failed << std::endl;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 7) {
    std::fprintf(stderr,
                 "usage: workload ledger|pairs|bank CONNECTION SEED CLIENT TRANSACTIONS LOG\n");
    return 2;
  }
  const std::string kind = arguments[1];
  address = arguments[2];
  const int client = std::stoi(arguments[4]);
  const int transactions = std::stoi(arguments[5]);
  stop_file = std::string(arguments[6]) + ".stop";
  std::mt19937_64 random(std::stoull(arguments[3]) * 1000 + static_cast<unsigned>(client));
  std::ofstream log(arguments[6]);
  if (!reconnect()) return 1;
  if (kind == "bank") {
    bank(random, transactions, log);
  } else {
    ledger(random, kind == "ledger", client, transactions, log);
  }
  PQfinish(connection);
  return 0;
}
