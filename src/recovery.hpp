// Recovery as the administrator sees it: recover(), what is in doubt, a coordinator that was copied
// or promoted.
#pragma once

namespace order_proc {

/// What to do when a shard has yet to hear of a coordinator that was promoted; once, from _PG_init.
void watch_promotions();

}  // namespace order_proc
