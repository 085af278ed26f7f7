// The stored format of GGUF files: rows of blocks, each of which holds its scales.
#include <algorithm>

#include "formats/ggml/block.h"
#include "formats/scalars.h"
#include "formats/stored_format.h"

namespace sparse_experts {
namespace {

template <std::size_t kSize>
const GgmlLayout* find(const std::array<GgmlLayout, kSize>& layouts, StoredType type) {
  const auto* row = std::find_if(layouts.data(), layouts.data() + kSize,
                                 [type](const GgmlLayout& layout) { return layout.type == type; });
  return row == layouts.data() + kSize ? nullptr : row;
}

}  // namespace

const GgmlLayout* ggml_layout(StoredType type) {
  const GgmlLayout* found = find(kGgmlPlainLayouts, type);
  if (found == nullptr) found = find(kGgmlSuperLayouts, type);
  if (found == nullptr) found = find(kGgmlGridLayouts, type);
  if (found == nullptr) found = find(kGgmlFloatLayouts, type);
  return found;
}

namespace decode_detail {
namespace {

uint64_t ggml_bytes(const EncodedMatrix& source, int64_t rows, int64_t cols) {
  const StoredType type = source.data.type;
  const int64_t elements = stored_type_elements(type);
  // Only NVFP4 has a factor of the whole matrix beside it, which is multiplied.
  if (source.global_scale_op != GlobalScale::kNone &&
      !(type == StoredType::kNVFP4 && source.global_scale_op == GlobalScale::kMultiply)) {
    return 0;
  }
  if (cols % elements != 0) return 0;
  return static_cast<uint64_t>(rows * (cols / elements)) *
         static_cast<uint64_t>(stored_type_bytes(type));
}

void write_block(const GgmlLayout& layout, const GgmlBlock& block, int64_t elements, float* to) {
  for (int64_t begin = 0; begin < elements; begin += layout.group_size) {
    const auto group = static_cast<std::size_t>(begin / layout.group_size);
    const float scale = block.scale * block.scales[group];
    const uint8_t* codes = block.codes.data() + begin;
    for (int32_t j = 0; j < layout.group_size; ++j) to[begin + j] = layout.table[codes[j]] * scale;
    if (!layout.has_offset) continue;
    const float offset = block.offset * block.offsets[group];
    for (int32_t j = 0; j < layout.group_size; ++j) to[begin + j] += offset;
  }
}

// A tile's columns are whole blocks, because blocks divide kTileCols.
void decode_ggml_tile(const CheckedMatrix& matrix, const Tile& tile) {
  const EncodedMatrix& source = *matrix.source;
  const GgmlLayout& layout = *ggml_layout(source.data.type);
  const int64_t elements = stored_type_elements(layout.type);
  const int64_t block_bytes = stored_type_bytes(layout.type);
  const int64_t row_bytes = matrix.cols / elements * block_bytes;
  const float global = source.global_scale_op == GlobalScale::kNone
                           ? 1.0f
                           : bits_to_f32(load_u32(source.global_scale.data));
  GgmlBlock block;
  for (int64_t i = 0; i < tile.rows; ++i) {
    const uint8_t* from = source.data.data + (tile.row + i) * row_bytes;
    for (int64_t j = 0; j < tile.cols; j += elements) {
      layout.unpack(from + (tile.col + j) / elements * block_bytes, &block);
      block.scale *= global;
      write_block(layout, block, elements, tile.out + i * tile.stride + j);
    }
  }
}

}  // namespace

const StoredFormat kGgmlFormat = {ggml_bytes, nullptr, decode_ggml_tile};

}  // namespace decode_detail
}  // namespace sparse_experts
