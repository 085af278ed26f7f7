// The stored format of GGUF files: rows of blocks, each of which holds its scales.
#include <algorithm>
#include <cstring>
#include <iterator>

#include "core/matrix_format.h"
#include "core/value_tables.h"
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

using Values = std::array<float, 256>;

// What the codes of a table stand for.
Values values_of(int32_t table) {
  Values values{};
  for (std::size_t code = 0; code < values.size(); ++code) {
    if (table == SE_TABLE_NONE) {
      values[code] = static_cast<int8_t>(code);
    } else if (table == SE_TABLE_E2M1) {
      // Not from the table of integers, which has no negative zero.
      values[code] = kE2M1Values[code % std::size(kE2M1Values)];
    } else {
      const ValueTable& row = kValueTables[table];
      values[code] = static_cast<float>(row.integers[code % std::size(row.integers)]) * row.factor;
    }
  }
  return values;
}

const Values& cached_values(int32_t table) {
  constexpr std::size_t kNumTables = std::size(kValueTables);
  static const auto kAll = [] {
    std::array<Values, kNumTables> all{};
    for (std::size_t i = 0; i < kNumTables; ++i) all[i] = values_of(static_cast<int32_t>(i));
    return all;
  }();
  return kAll[static_cast<std::size_t>(table)];
}

float scale_of(const GgmlLayout& layout, const GgmlBlock& block, std::size_t group) {
  const uint8_t byte = block.scales[group];
  switch (layout.scale) {
    case SE_SCALE_F16:
      return decode_f16(load_u16(&block.scales[2 * group]));
    case SE_SCALE_E8M0:
      return decode_e8m0(byte);
    case SE_SCALE_E4M3:
      return decode_e4m3(byte);
    case SE_SCALE_I8:
      return decode_f16(block.super_scale) * static_cast<float>(static_cast<int8_t>(byte));
    default:
      return decode_f16(block.super_scale) * static_cast<float>(byte);
  }
}

// What is added to the values of a group.
float offset_of(const GgmlLayout& layout, const GgmlBlock& block, std::size_t group) {
  if (layout.offset == SE_OFFSET_F16) return decode_f16(load_u16(&block.offsets[2 * group]));
  return -(decode_f16(block.super_offset) * static_cast<float>(block.offsets[group]));
}

void write_block(const GgmlLayout& layout, const GgmlBlock& block, float global, float* to) {
  const Values& values = cached_values(layout.table);
  const int64_t elements = stored_type_elements(layout.type);
  for (int64_t begin = 0; begin < elements; begin += layout.group_size) {
    const auto group = static_cast<std::size_t>(begin / layout.group_size);
    const float scale = scale_of(layout, block, group) * global;
    const uint8_t* codes = block.codes.data() + begin;
    for (int32_t j = 0; j < layout.group_size; ++j) to[begin + j] = values[codes[j]] * scale;
    if (layout.offset == SE_OFFSET_NONE) continue;
    const float offset = offset_of(layout, block, group);
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
      write_block(layout, block, global, tile.out + i * tile.stride + j);
    }
  }
}

bool ggml_canonical(const EncodedMatrix& source, int64_t /*rows*/, int64_t /*cols*/,
                    SeMatrixFormat* format) {
  const GgmlLayout* layout = ggml_layout(source.data.type);
  if (layout == nullptr) return false;
  format->code = layout->code;
  format->table = layout->table;
  format->scale = layout->scale;
  format->offset = layout->offset;
  format->block_rows = 1;
  format->block_cols = layout->group_size;
  if (has_super_scales(*format) || layout->offset == SE_OFFSET_U8)
    format->super_cols = stored_type_elements(layout->type);
  if (source.global_scale_op == GlobalScale::kMultiply) format->flags = SE_FORMAT_GLOBAL_MULTIPLIES;
  return true;
}

void read_ggml_rows(const CheckedMatrix& matrix, int64_t row, int64_t num_rows,
                    const CanonicalTarget& to) {
  const GgmlLayout& layout = *ggml_layout(matrix.source->data.type);
  const auto elements = static_cast<size_t>(stored_type_elements(layout.type));
  const auto block_bytes = static_cast<size_t>(stored_type_bytes(layout.type));
  const size_t groups = elements / static_cast<size_t>(layout.group_size);
  const size_t scales = groups * static_cast<size_t>(scale_bytes(layout.scale));
  const size_t offsets = groups * static_cast<size_t>(offset_bytes(layout.offset));
  const size_t blocks_per_row = static_cast<size_t>(matrix.cols) / elements;
  const uint8_t* from =
      matrix.source->data.data + static_cast<size_t>(row) * blocks_per_row * block_bytes;
  GgmlBlock block;
  for (size_t i = 0; i < static_cast<size_t>(num_rows) * blocks_per_row; ++i) {
    layout.unpack(from + i * block_bytes, &block);
    std::memcpy(to.codes + i * elements, block.codes.data(), elements);
    std::memcpy(to.scales + i * scales, block.scales.data(), scales);
    if (offsets > 0) std::memcpy(to.offsets + i * offsets, block.offsets.data(), offsets);
    if (layout.scale == SE_SCALE_U8 || layout.scale == SE_SCALE_I8)
      to.super_scales[i] = block.super_scale;
    if (layout.offset == SE_OFFSET_U8) to.super_offsets[i] = block.super_offset;
  }
}

}  // namespace

const StoredFormat kGgmlFormat = {ggml_bytes, nullptr, decode_ggml_tile, ggml_canonical,
                                  read_ggml_rows};

}  // namespace decode_detail
}  // namespace sparse_experts
