// Named places where a test may fail, stop or kill the process. They exist only in a library that
// is compiled with ORDER_PROC_FAILPOINTS; a lint sees to it that no other one knows of them.
#pragma once

#ifdef ORDER_PROC_FAILPOINTS

namespace order_proc {

/// Does what the setting order_proc.failpoint says for that place. Behind the decision of a commit
/// no test asks for an error.
void reach_failpoint(const char* name);

void define_failpoint_settings();

}  // namespace order_proc

#define ORDER_PROC_FAILPOINT(name) ::order_proc::reach_failpoint(name)

#else

#define ORDER_PROC_FAILPOINT(name) ((void)0)

#endif
