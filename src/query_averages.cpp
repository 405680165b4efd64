#include "query_averages.hpp"

namespace order_proc {

namespace {

/// avg, and the sum of the same values.
struct Average {
  Oid average;
  Oid sum;
  Oid sum_type;
};
constexpr std::array averages{
    Average{F_AVG_NUMERIC, F_SUM_NUMERIC, NUMERICOID},
    Average{F_AVG_INT8, F_SUM_INT8, NUMERICOID},
    Average{F_AVG_INT4, F_SUM_INT4, INT8OID},
    Average{F_AVG_INT2, F_SUM_INT2, INT8OID},
};

bool may_execute_all(std::initializer_list<Oid> functions) {
  return std::all_of(functions.begin(), functions.end(),
                     [](Oid function) { return pg::may_execute(function, GetUserId()); });
}

Node* call(Oid function, List* arguments) {
  return reinterpret_cast<Node*>(
      makeFuncExpr(function, NUMERICOID, arguments, InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL));
}

/// Another aggregate of the same values, as numeric.
Node* in_place_of(const Aggref* aggregate, Oid function, Oid type) {
  Aggref* const other = static_cast<Aggref*>(copyObject(const_cast<Aggref*>(aggregate)));
  other->aggfnoid = function;
  other->aggtype = type;
  Node* const value = reinterpret_cast<Node*>(other);
  return type == NUMERICOID ? value : call(F_NUMERIC_INT8, list_make1(value));
}

Node* take_apart(Node* node, void* context) {
  if (node == nullptr) return nullptr;
  if (!IsA(node, Aggref)) return pg::change_children(node, take_apart, context);
  const auto* const aggregate = reinterpret_cast<const Aggref*>(node);
  const auto* const found =
      std::find_if(averages.begin(), averages.end(),
                   [&](const Average& average) { return average.average == aggregate->aggfnoid; });
  if (found == averages.end() || aggregate->aggdistinct != NIL || aggregate->aggorder != NIL ||
      !may_execute_all({found->average, found->sum, F_COUNT_ANY}))
    return node;
  // Of no values the sum is NULL, and nothing is divided.
  return call(F_NUMERIC_DIV, list_make2(in_place_of(aggregate, found->sum, found->sum_type),
                                        in_place_of(aggregate, F_COUNT_ANY, INT8OID)));
}

}  // namespace

Query* with_averages_in_parts(Query* query) {
  query->targetList =
      reinterpret_cast<List*>(take_apart(reinterpret_cast<Node*>(query->targetList), nullptr));
  query->havingQual = take_apart(query->havingQual, nullptr);
  return query;
}

}  // namespace order_proc
