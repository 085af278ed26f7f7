// What a load reads: the matrices of a layer, and where their bytes lie in the files of a checkpoint.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/matrix_slot.h"
#include "formats/decode.h"

namespace sparse_experts::engine {

// A run of bytes in a file. bytes == 0: absent.
struct LoadSegment {
  size_t file = 0;
  uint64_t offset = 0;
  uint64_t bytes = 0;
  StoredType type = StoredType::kU8;
  std::string name;
};

struct LoadItem {
  size_t layer = 0;  // index into a load's layers
  MatrixRole role = MatrixRole::kExpert;
  int64_t expert = 0;
  MatrixKind kind = MatrixKind::kDown;
  EncodedMatrix encoding;  // its spans point somewhere while decoding only
  LoadSegment data, scale, zero_point, group_index, global_scale, column_scale;

  // Spans of what headers tell: types and lengths.
  void set_spans();
};

// The segments of a LoadItem, const or not; those that it has not are empty.
template <typename Item>
auto segments_of(Item& item) {
  return std::array{&item.data,        &item.scale,        &item.zero_point,
                    &item.group_index, &item.global_scale, &item.column_scale};
}

}  // namespace sparse_experts::engine
