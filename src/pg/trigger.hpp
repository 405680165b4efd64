// Trigger functions: called as what they are for, or 39P01.
#pragma once

#include "pg/postgres.hpp"

namespace order_proc::pg {

/// The trigger's data; 39P01 when the function is called otherwise.
inline TriggerData* trigger_data(FunctionCallInfo fcinfo, const char* name) {
  if (!CALLED_AS_TRIGGER(fcinfo))
    ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
            errmsg("%s() must be called as a trigger", name));
  return reinterpret_cast<TriggerData*>(fcinfo->context);
}

/// 39P01 unless the trigger is of the kind that the function is for.
inline void require_trigger(bool fits, const char* name, const char* kind) {
  if (!fits)
    ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
            errmsg("%s() must be fired %s", name, kind));
}

}  // namespace order_proc::pg
