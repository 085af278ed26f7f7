// What all formats share of their canonical forms; codes and zero points are each format's own.
#include "formats/stored_matrix.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <numeric>

#include "core/matrix_format.h"
#include "core/numeric.h"
#include "formats/scalars.h"
#include "formats/stored_format.h"

namespace sparse_experts {

using decode_detail::CanonicalTarget;
using decode_detail::CheckedMatrix;
using decode_detail::StoredFormat;

namespace {

// More rows than a matrix has, and a multiple of every number of rows that a backend packs together.
constexpr int64_t kAllRows = int64_t{1} << 30;

int32_t scale_of(StoredType type) {
  switch (type) {
    case StoredType::kF32:
      return SE_SCALE_F32;
    case StoredType::kF16:
      return SE_SCALE_F16;
    case StoredType::kBF16:
      return SE_SCALE_BF16;
    case StoredType::kF8E4M3:
      return SE_SCALE_E4M3;
    default:
      return SE_SCALE_E8M0;
  }
}

// The columns in the order of their groups, those of one group as they come. False where groups are
// not alike.
bool order_by_group(const CheckedMatrix& matrix, std::vector<int32_t>* permutation) {
  const auto cols = static_cast<size_t>(matrix.cols);
  permutation->resize(cols);
  // Indices that were never set: the columns are in order.
  if (matrix.group_index.empty()) {
    std::iota(permutation->begin(), permutation->end(), 0);
    return true;
  }
  const int64_t block_cols = std::min(matrix.source->block_cols, matrix.cols);
  // Where the next column of each group goes.
  std::vector<int64_t> next(static_cast<size_t>(matrix.grid_cols));
  for (size_t group = 0; group < next.size(); ++group)
    next[group] = static_cast<int64_t>(group) * block_cols;
  for (int64_t col = 0; col < matrix.cols; ++col) {
    const int64_t group = matrix.group_index[static_cast<size_t>(col)];
    const int64_t end = std::min((group + 1) * block_cols, matrix.cols);
    int64_t& at = next[static_cast<size_t>(group)];
    if (at == end) return false;
    (*permutation)[static_cast<size_t>(at++)] = static_cast<int32_t>(col);
  }
  // As many columns as there are places, and no group with too many: all are full.
  return true;
}

}  // namespace

namespace decode_detail {

bool canonical_grid(const EncodedMatrix& source, int64_t rows, int64_t cols,
                    SeMatrixFormat* format) {
  if (source.block_rows < 1 || source.block_cols < 1) return false;
  format->scale = scale_of(source.scale.type);
  format->block_rows = source.block_rows >= rows ? kAllRows : source.block_rows;
  format->block_cols = std::min(source.block_cols, cols);
  if (source.global_scale_op == GlobalScale::kMultiply)
    format->flags |= SE_FORMAT_GLOBAL_MULTIPLIES;
  if (source.global_scale_op == GlobalScale::kDivide) format->flags |= SE_FORMAT_GLOBAL_DIVIDES;
  if (source.group_index.bytes > 0) format->flags |= SE_FORMAT_PERMUTED;
  return true;
}

void copy_grid_scales(const CheckedMatrix& matrix, int64_t row, int64_t num_rows, uint8_t* to) {
  const EncodedMatrix& source = *matrix.source;
  const auto bytes = static_cast<size_t>(stored_type_bytes(source.scale.type));
  // Input-major formats, and transposed matrices, have a line of scales for each group of columns.
  const bool may_be_transposed = source.codec == Codec::kFloat || source.codec == Codec::kE2M1;
  const bool is_transposed =
      codec_row(source.codec).is_input_major || (may_be_transposed && source.transposed);
  for (int64_t r = row; r < row + num_rows; ++r) {
    const int64_t line = r / source.block_rows;
    for (int64_t block = 0; block < matrix.grid_cols; ++block) {
      const int64_t index =
          is_transposed ? block * matrix.grid_rows + line : line * matrix.grid_cols + block;
      std::memcpy(to, source.scale.data + static_cast<size_t>(index) * bytes, bytes);
      to += bytes;
    }
  }
}

}  // namespace decode_detail

bool canonical_format(const EncodedMatrix& source, int64_t rows, int64_t cols,
                      SeMatrixFormat* format) {
  *format = SeMatrixFormat{};
  const StoredFormat* stored = decode_detail::stored_format(source.codec);
  if (stored == nullptr || stored->canonical == nullptr || rows < 1 || cols < 1) return false;
  // A scale of each column has no place there.
  if (source.column_scale.bytes > 0) return false;
  return stored->canonical(source, rows, cols, format) && is_matrix_format(*format) &&
         has_whole_blocks(*format, cols);
}

struct StoredMatrix::State {
  EncodedMatrix source;
  CheckedMatrix matrix;
  std::vector<int32_t> permutation;  // [cols] of SE_FORMAT_PERMUTED, else empty
};

StoredMatrix::StoredMatrix() = default;
StoredMatrix::~StoredMatrix() = default;

Status StoredMatrix::open(const EncodedMatrix& source, int64_t rows, int64_t cols,
                          std::unique_ptr<StoredMatrix>* matrix) try {
  std::unique_ptr<StoredMatrix> opened(new StoredMatrix());
  opened->state_ = std::make_unique<State>();
  State& state = *opened->state_;
  state.source = source;
  SE_RETURN_IF_ERROR(decode_detail::check_matrix(state.source, rows, cols, &state.matrix));
  opened->has_format_ = canonical_format(source, rows, cols, &opened->format_);
  if (opened->has_format_ && is_permuted(opened->format_))
    opened->has_format_ = order_by_group(state.matrix, &state.permutation);
  *matrix = std::move(opened);
  return Status::ok();
} catch (const std::bad_alloc&) {
  return Status::out_of_memory(source.scale.bytes * sizeof(float) + 2 * source.group_index.bytes,
                               0);
}

void StoredMatrix::decode(const RowRun& run, int32_t dtype, void* out) const {
  decode_detail::decode_rows(state_->matrix, run, dtype, out, state_->matrix.cols);
}

void StoredMatrix::read(const RowRun& run, CanonicalRows* out) const {
  const CheckedMatrix& matrix = state_->matrix;
  const int64_t cols = matrix.cols;
  const int64_t blocks = num_blocks(format_, cols);
  const int64_t supers = num_super_blocks(format_, cols);
  const int64_t row_bytes = is_float_format(format_) ? code_row_bytes(format_.code, cols) : cols;
  const int64_t row_scales = blocks * scale_bytes(format_.scale);
  const int64_t row_offsets = blocks * offset_bytes(format_.offset);
  const int64_t scale_supers = has_super_scales(format_) ? supers : 0;
  const int64_t offset_supers = format_.offset == SE_OFFSET_U8 ? supers : 0;
  const auto resize = [&](auto* part, int64_t of_row) {
    part->resize(static_cast<size_t>(of_row * run.count));
  };
  resize(&out->codes, row_bytes);
  resize(&out->scales, row_scales);
  resize(&out->offsets, row_offsets);
  resize(&out->super_scales, scale_supers);
  resize(&out->super_offsets, offset_supers);
  out->global = state_->source.global_scale_op == GlobalScale::kNone
                    ? 1.0f
                    : bits_to_f32(load_u32(state_->source.global_scale.data));
  const auto& read_rows = *decode_detail::stored_format(state_->source.codec)->read_rows;
  const int64_t at_once = run.step == 1 ? run.count : 1;
  for (int64_t i = 0; i < run.count; i += at_once) {
    read_rows(
        matrix, run.first + i * run.step, at_once,
        CanonicalTarget{out->codes.data() + i * row_bytes, out->scales.data() + i * row_scales,
                        out->offsets.data() + i * row_offsets,
                        out->super_scales.data() + i * scale_supers,
                        out->super_offsets.data() + i * offset_supers});
  }
  out->permutation = nullptr;
  if (!is_permuted(format_)) return;
  // Codes come in the layer's order; what belongs to blocks is in the order of groups already.
  const int32_t* permutation = state_->permutation.data();
  std::vector<uint8_t> row(static_cast<size_t>(cols));
  for (int64_t i = 0; i < run.count; ++i) {
    uint8_t* codes = out->codes.data() + i * cols;
    std::memcpy(row.data(), codes, row.size());
    for (int64_t col = 0; col < cols; ++col)
      codes[col] = row[static_cast<size_t>(permutation[col])];
  }
  out->permutation = permutation;
}

}  // namespace sparse_experts
