// Sorting that hears of a cancel: a long std::sort does not. Pieces are sorted on their own and
// merged.
//
// Memory: once more the size of the values while they are merged, in the caller's context.
#pragma once

#include "pg/postgres.hpp"

namespace order_proc::pg {

/// Some 10 ms of work.
inline constexpr std::size_t sort_piece = 131072;

/// Merges two neighbours that are sorted, up to `middle` and up to `end`, to `out`.
template <typename T, typename Less>
void merge_neighbours(const T* first, const T* middle, const T* end, T* out, Less less) {
  const T* second = middle;
  for (std::size_t done = 1; first < middle || second < end; ++done) {
    const bool from_second = first == middle || (second < end && less(*second, *first));
    *out++ = from_second ? *second++ : *first++;
    if (done % sort_piece == 0) CHECK_FOR_INTERRUPTS();
  }
}

template <typename T, typename Less>
void sort_values(std::span<T> values, Less less) {
  static_assert(std::is_trivially_copyable_v<T> && Jumpable<Less>);
  const std::size_t count = values.size();
  if (std::is_sorted(values.begin(), values.end(), less)) return;
  for (std::size_t first = 0; first < count; first += sort_piece) {
    CHECK_FOR_INTERRUPTS();
    const auto piece = values.subspan(first, std::min(sort_piece, count - first));
    std::sort(piece.begin(), piece.end(), less);
  }
  if (count <= sort_piece) return;
  T* const scratch = static_cast<T*>(palloc_extended(count * sizeof(T), MCXT_ALLOC_HUGE));
  T* from = values.data();
  T* to = scratch;
  for (std::size_t width = sort_piece; width < count; width *= 2) {
    for (std::size_t first = 0; first < count; first += 2 * width) {
      const std::size_t middle = std::min(first + width, count);
      merge_neighbours(from + first, from + middle, from + std::min(middle + width, count),
                       to + first, less);
    }
    std::swap(from, to);
  }
  if (from == scratch) std::copy_n(scratch, count, values.data());
  pfree(scratch);
}

}  // namespace order_proc::pg
