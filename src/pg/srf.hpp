// Functions that return sets: rows go to a tuplestore (work_mem, then disk).
#pragma once

#include "pg/spi.hpp"

namespace order_proc::pg {

class ResultSet {
 public:
  explicit ResultSet(FunctionCallInfo fcinfo)
      : info_(reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo)) {
    InitMaterializedSRF(fcinfo, 0);
  }

  /// One value for each column of the result's type.
  void add(std::initializer_list<Value> row) const;
  void add(const Datum* values, const bool* nulls) const {
    tuplestore_putvalues(info_->setResult, info_->setDesc, const_cast<Datum*>(values),
                         const_cast<bool*>(nulls));
  }

  TupleDesc descriptor() const { return info_->setDesc; }
  Tuplestorestate* store() const { return info_->setResult; }

  /// Takes the rows of a statement (see Statement::run_into) that has the result's columns.
  DestReceiver* receiver() const;

  /// What the function returns.
  Datum done() const { return static_cast<Datum>(0); }

 private:
  ReturnSetInfo* info_;
};

/// The column definition list of a function that returns records; 0A000 where there is none: in a
/// select list.
TupleDesc expected_columns(FunctionCallInfo fcinfo, const char* function);

}  // namespace order_proc::pg
