// libFuzzer: whatever bytes come as a chunk of an import, the reader ends, reads only what it was
// given, and what it reads is packed to the same bytes. cmake -DFUZZ=ON with clang; then
// build/fuzz_import_chunk -max_total_time=600 CORPUS test/unit/corpus
#include "core/import_chunk.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

namespace {

using namespace order_proc::core;

void require(bool holds) {
  if (!holds) std::abort();
}

/// The order and its lines once more; false for what is malformed.
bool copy_order(ChunkReader& reader, std::string& copy) {
  const auto order = reader.order();
  if (!order) return false;
  const std::size_t at = copy.size();
  copy.resize(at + chunk_order_size + order->order_ref.size());
  put_chunk_order(copy.data() + at, {0, order->customer_id, 0, order->order_ref});
  set_chunk_order(copy.data() + at, order->flags, order->lines);
  for (std::uint32_t i = 0; i < order->lines; ++i) {
    const auto line = reader.line();
    if (!line) return false;
    copy.resize(copy.size() + chunk_line_size);
    put_chunk_line(copy.data() + copy.size() - chunk_line_size, *line);
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  // On the heap and no longer than that: reading beyond it is found.
  const std::unique_ptr<char[]> input(new char[size]);
  std::copy(bytes, bytes + size, input.get());
  const std::string_view chunk(input.get(), size);
  std::string copy;
  ChunkReader reader(chunk);
  while (!reader.at_end())
    if (!copy_order(reader, copy)) return 0;
  require(copy == chunk);
  return 0;
}
