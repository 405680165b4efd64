#include "query_nodes.hpp"

namespace order_proc {

Oid our_function(const char* name, std::initializer_list<Oid> types, bool missing_ok) {
  return LookupFuncName(list_make2(makeString(pstrdup("order_proc")), makeString(pstrdup(name))),
                        static_cast<int>(types.size()), types.begin(), missing_ok);
}

Node* constant(Oid type, Datum value, int16 length, bool by_value) {
  return reinterpret_cast<Node*>(
      makeConst(type, -1, get_typcollation(type), length, value, false, by_value));
}

Node* text_constant(const char* value) {
  return constant(TEXTOID, PointerGetDatum(cstring_to_text(value)), -1, false);
}

Node* parameter() {
  Param* const param = makeNode(Param);
  param->paramkind = PARAM_EXTERN;
  param->paramid = 1;
  param->paramtype = INTERNALOID;
  param->paramtypmod = -1;
  param->location = -1;
  return reinterpret_cast<Node*>(param);
}

Aggref* aggregate_call(Oid function, List* arguments, Oid result) {
  Aggref* const call = makeNode(Aggref);
  call->aggfnoid = function;
  call->aggtype = result;
  call->aggkind = AGGKIND_NORMAL;
  call->aggsplit = AGGSPLIT_SIMPLE;
  call->aggno = call->aggtransno = -1;
  call->location = -1;
  AttrNumber number = 0;
  ListCell* cell;
  foreach (cell, arguments) {
    auto* const argument = static_cast<Node*>(lfirst(cell));
    call->args = lappend(
        call->args, makeTargetEntry(reinterpret_cast<Expr*>(argument), ++number, nullptr, false));
    call->aggargtypes = lappend_oid(call->aggargtypes, exprType(argument));
  }
  return call;
}

List* expressions_of(const List* entries) {
  List* expressions = NIL;
  const ListCell* cell;
  foreach (cell, entries)
    expressions = lappend(expressions, static_cast<TargetEntry*>(lfirst(cell))->expr);
  return expressions;
}

Node* procedure_constant(Oid function) {
  return constant(REGPROCEDUREOID, ObjectIdGetDatum(function), sizeof(Oid), true);
}

Node* types_constant(const Aggref* aggregate) {
  Datum types[FUNC_MAX_ARGS];
  int count = 0;
  const ListCell* cell;
  foreach (cell, aggregate->aggargtypes) types[count++] = ObjectIdGetDatum(lfirst_oid(cell));
  ArrayType* const array =
      construct_array(types, count, REGTYPEOID, sizeof(Oid), true, TYPALIGN_INT);
  return constant(REGTYPEARRAYOID, PointerGetDatum(array), -1, false);
}

Node* result_hint(const Aggref* aggregate) {
  int16 length;
  bool by_value;
  get_typlenbyval(aggregate->aggtype, &length, &by_value);
  return reinterpret_cast<Node*>(
      makeConst(aggregate->aggtype, -1, aggregate->aggcollid, length, 0, true, by_value));
}

}  // namespace order_proc
