// Parts of the queries that query_split.hpp makes: constants, a parameter, calls. All of it lives
// in the current memory context.
#pragma once

#include "pg/query.hpp"

namespace order_proc {

/// A function of ours; when it is not there 42883, or InvalidOid.
Oid our_function(const char* name, std::initializer_list<Oid> types, bool missing_ok = false);

Node* constant(Oid type, Datum value, int16 length, bool by_value);
Node* text_constant(const char* value);
Node* procedure_constant(Oid function);

/// The types of an aggregate's arguments, as regtype[].
Node* types_constant(const Aggref* aggregate);

/// A NULL that carries type and collation of the aggregate's result.
Node* result_hint(const Aggref* aggregate);

/// $1, of type internal.
Node* parameter();

/// An aggregate of ours with these arguments.
Aggref* aggregate_call(Oid function, List* arguments, Oid result);

/// What the entries of a target list compute.
List* expressions_of(const List* entries);

}  // namespace order_proc
