// Decodes matrices from stdin to stdout, so that a test can compare decode_matrix with the
// TypeScript decoder bit by bit. A request is eleven int64 (codec, bits, transposed, zero_offset,
// global scale operation, block_rows, block_cols, rows, cols, output dtype, signed), then six spans
// (type, bytes: int64 each, and the bytes): data, scale, zero point, group index, global scale,
// column scale. The answer is int64 1 and the dense output, or int64 0 for a refusal. The program ends with its input.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "core/dtype.h"
#include "formats/decode.h"

namespace {

using sparse_experts::EncodedMatrix;
using sparse_experts::Span;

bool read_bytes(void* to, size_t bytes) { return std::fread(to, 1, bytes, stdin) == bytes; }

bool read_span(Span* span, std::vector<uint8_t>* bytes) {
  int64_t head[2];
  if (!read_bytes(head, sizeof head)) return false;
  bytes->resize(static_cast<size_t>(head[1]));
  if (!read_bytes(bytes->data(), bytes->size())) return false;
  *span = {bytes->data(), bytes->size(), static_cast<sparse_experts::StoredType>(head[0])};
  return true;
}

void write_bytes(const void* from, size_t bytes) { std::fwrite(from, 1, bytes, stdout); }

}  // namespace

int main() {
  int64_t head[11];
  while (read_bytes(head, sizeof head)) {
    EncodedMatrix matrix;
    matrix.codec = static_cast<sparse_experts::Codec>(head[0]);
    matrix.bits = static_cast<int32_t>(head[1]);
    matrix.transposed = head[2] != 0;
    matrix.zero_offset = static_cast<int32_t>(head[3]);
    matrix.global_scale_op = static_cast<sparse_experts::GlobalScale>(head[4]);
    matrix.block_rows = head[5];
    matrix.block_cols = head[6];
    const int64_t rows = head[7];
    const int64_t cols = head[8];
    const auto dtype = static_cast<int32_t>(head[9]);
    matrix.is_signed = head[10] != 0;
    std::vector<uint8_t> bytes[6];
    Span* spans[] = {&matrix.data,        &matrix.scale,        &matrix.zero_point,
                     &matrix.group_index, &matrix.global_scale, &matrix.column_scale};
    for (int i = 0; i < 6; ++i) {
      if (!read_span(spans[i], &bytes[i])) return 1;
    }
    std::vector<uint8_t> out(static_cast<size_t>(rows * cols * sparse_experts::dtype_bytes(dtype)));
    const bool decoded =
        sparse_experts::decode_matrix(matrix, rows, cols, dtype, out.data(), cols).is_ok();
    const int64_t answer = decoded ? 1 : 0;
    write_bytes(&answer, sizeof answer);
    if (decoded) write_bytes(out.data(), out.size());
  }
  return 0;
}
