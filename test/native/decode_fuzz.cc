// Fuzzes decode_matrix with hostile encodings, shapes and spans. With clang it is a libFuzzer
// target: -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all. Built with
// -DSE_FUZZ_DRIVER it is a program, `decode_fuzz [inputs] [seed]`, that runs random inputs of its
// own.
//
// An input is a list of small choices, then bytes for the spans. Every span is an exact heap block,
// so that a read past its end is seen by AddressSanitizer; the output has guard elements behind
// each row, which must keep their value.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "core/dtype.h"
#include "core/matrix_format.h"
#include "core/value_tables.h"
#include "formats/decode.h"
#include "formats/scalars.h"
#include "formats/stored_matrix.h"

namespace {

using namespace sparse_experts;

constexpr int64_t kMaxOutputElements = 1 << 16;
constexpr uint64_t kMaxSpanBytes = 1 << 16;
constexpr uint8_t kGuard = 0xa5;
constexpr auto kNumStoredTypes = static_cast<int32_t>(std::size(sparse_experts::kStoredTypes));

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  uint8_t byte() {
    if (next_ >= size_) return 0;
    return data_[next_++];
  }

  int64_t word() {
    uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value = value << 8 | byte();
    return static_cast<int64_t>(value);
  }

  // Mostly small and positive, sometimes anything.
  int64_t size(int64_t usual) {
    const uint8_t kind = byte();
    if (kind == 255) return word();
    return kind % static_cast<uint8_t>(usual < 255 ? usual : 255);
  }

  // Rarely 0.
  int64_t block(int64_t usual) {
    const int64_t value = size(usual);
    return value == 0 ? byte() % 64 : value;
  }

  std::unique_ptr<uint8_t[]> bytes(uint64_t count) {
    std::unique_ptr<uint8_t[]> block(new uint8_t[count]);
    for (uint64_t i = 0; i < count; ++i) block[i] = byte();
    return block;
  }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t next_ = 0;
};

// At least 1: one of the types is none.
uint64_t type_bytes(StoredType type) {
  return static_cast<uint64_t>(std::max<int64_t>(1, sparse_experts::stored_type_bytes(type)));
}

// A span of `fitting` elements, or of some other length.
Span make_span(Input& input, StoredType usual, int64_t fitting,
               std::vector<std::unique_ptr<uint8_t[]>>& blocks) {
  const uint8_t kind = input.byte();
  Span span;
  span.type =
      kind % 16 == 0 ? static_cast<StoredType>(input.byte() % (kNumStoredTypes + 1)) : usual;
  if (kind % 16 == 1) return span;
  uint64_t bytes = static_cast<uint64_t>(fitting) * type_bytes(span.type);
  if (kind % 16 == 2) bytes = input.byte();
  if (bytes == 0 || bytes > kMaxSpanBytes) bytes = input.byte();
  if (bytes == 0) return span;
  blocks.push_back(input.bytes(bytes));
  span.data = blocks.back().get();
  span.bytes = bytes;
  return span;
}

// Number `index` of a set, around and around.
StoredType pick(StoredTypes types, uint8_t index) {
  for (int32_t type = 0;; type = (type + 1) % kNumStoredTypes) {
    if (contains(types, static_cast<StoredType>(type)) && index-- == 0) {
      return static_cast<StoredType>(type);
    }
  }
}

int64_t grid_size(int64_t length, int64_t block) {
  return block > 0 && length > 0 ? length / block + (length % block != 0) : 0;
}

int64_t product(int64_t a, int64_t b) {
  int64_t value = 0;
  return __builtin_mul_overflow(a, b, &value) ? 0 : value;
}

EncodedMatrix make_matrix(Input& input, int64_t rows, int64_t cols,
                          std::vector<std::unique_ptr<uint8_t[]>>& blocks) {
  EncodedMatrix matrix;
  const uint8_t codec = input.byte();
  matrix.codec = codec == 255 ? static_cast<Codec>(sparse_experts::kNumCodecs + 2)
                              : static_cast<Codec>(codec % sparse_experts::kNumCodecs);
  const uint8_t flags = input.byte();
  matrix.bits = flags & 1 ? 4 : flags & 2 ? 2 : 8;
  if ((flags & 0xc0) == 0xc0) matrix.bits = static_cast<int32_t>(input.byte()) - 8;
  matrix.transposed = (flags & 2) != 0;
  if ((flags & 0x44) == 0x44 && matrix.codec == Codec::kGptq) matrix.bits = 3;
  const bool is_codec = static_cast<int32_t>(matrix.codec) < sparse_experts::kNumCodecs;
  const CodecRow& row = sparse_experts::kCodecs[is_codec ? static_cast<int32_t>(matrix.codec) : 0];
  matrix.zero_offset = row.has_zero_offset ? (flags >> 2) & 1 : 0;
  matrix.is_signed = row.has_signs && (flags & 8) != 0;
  if (row.has_global_scale) {
    matrix.global_scale_op = static_cast<GlobalScale>((flags >> 3) % 3);
  }
  const bool has_scale = !row.is_scale_optional || (row.scale != 0 && (flags & 32) != 0);
  if (has_scale) {
    matrix.block_rows = row.is_input_major ? 1 : input.block(16);
    matrix.block_cols = input.block(64);
    // What has a canonical form.
    if ((flags & 128) != 0 && matrix.block_cols < 64)
      matrix.block_cols = (matrix.block_cols / 16 + 1) * 16;
  }
  const uint8_t types = input.byte();
  matrix.data.type = pick(row.data, matrix.codec == Codec::kGgml ? types : types % 4);
  const uint64_t data_bytes = encoded_data_bytes(matrix, rows, cols);
  matrix.data = make_span(input, matrix.data.type,
                          static_cast<int64_t>(data_bytes / type_bytes(matrix.data.type)), blocks);
  const int64_t grid_rows = grid_size(rows, matrix.block_rows);
  const int64_t grid_cols = grid_size(cols, matrix.block_cols);
  if (has_scale) {
    const StoredType type = pick(row.scale, (types >> 2) % 8);
    matrix.scale = make_span(input, type, product(grid_rows, grid_cols), blocks);
  }
  if (row.has_zero_point && ((types & 32) != 0)) {
    const int64_t bits = matrix.codec == Codec::kAwq ? 4 : std::max(1, matrix.bits);
    const int64_t per_word = matrix.codec == Codec::kInt8 ? 1 : 32 / bits;
    const int64_t lines =
        row.is_input_major ? product(rows, bits) / 32 : grid_size(grid_rows, per_word);
    matrix.zero_point = make_span(input, matrix.data.type, product(lines, grid_cols), blocks);
  }
  if ((types & 64) != 0 && row.has_group_index) {
    matrix.group_index = make_span(input, StoredType::kI32, cols, blocks);
    // Random indices are hardly ever in range; make them so, often. And hardly ever as many of each:
    // those count the columns around and around, or are in order.
    const uint8_t order = input.byte();
    if ((types & 128) != 0 && grid_cols > 0) {
      auto* index = const_cast<uint8_t*>(matrix.group_index.data);
      for (uint64_t i = 0; i + 4 <= matrix.group_index.bytes; i += 4) {
        uint32_t value = static_cast<uint32_t>(i / 4);
        if (order % 4 == 1)
          value /= static_cast<uint32_t>(std::min<int64_t>(matrix.block_cols, 4096));
        if (order % 4 < 2) {
          value %= static_cast<uint32_t>(std::min<int64_t>(grid_cols, 1000000));
          std::memcpy(index + i, &value, 4);
          continue;
        }
        std::memcpy(&value, index + i, 4);
        value %= static_cast<uint32_t>(grid_cols < 1000000 ? grid_cols : 1000000);
        std::memcpy(index + i, &value, 4);
      }
    }
  }
  if ((flags & 16) != 0 && row.has_column_scale) {
    matrix.column_scale = make_span(input, StoredType::kBF16, cols, blocks);
  }
  if (matrix.global_scale_op != GlobalScale::kNone) {
    matrix.global_scale = make_span(input, StoredType::kF32, 1, blocks);
  }
  return matrix;
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "decode_fuzz: %s\n", what);
  std::abort();
}

// One weight of a canonical form, by the words of SeMatrixFormat. Zeros have no sign here.
float canonical_value(const SeMatrixFormat& format, const CanonicalRows& rows, int64_t row,
                      int64_t cols, int64_t col) {
  const auto code = static_cast<size_t>(row * cols + col);
  if (is_float_format(format)) {
    const uint8_t* bytes = rows.codes.data();
    if (format.code == SE_CODE_F32) return bits_to_f32(load_u32(bytes + 4 * code));
    const uint16_t half = load_u16(bytes + 2 * code);
    return format.code == SE_CODE_F16 ? decode_f16(half) : decode_bf16(half);
  }
  const int64_t block_index = row * num_blocks(format, cols) + col / format.block_cols;
  const auto block = static_cast<size_t>(block_index);
  const auto super = static_cast<size_t>(
      format.super_cols == 0 ? 0 : row * num_super_blocks(format, cols) + col / format.super_cols);
  const uint8_t* scales = rows.scales.data();
  float scale = 0;
  switch (format.scale) {
    case SE_SCALE_F32:
      scale = bits_to_f32(load_u32(scales + 4 * block));
      break;
    case SE_SCALE_F16:
      scale = decode_f16(load_u16(scales + 2 * block));
      break;
    case SE_SCALE_BF16:
      scale = decode_bf16(load_u16(scales + 2 * block));
      break;
    case SE_SCALE_E8M0:
      scale = decode_e8m0(scales[block]);
      break;
    case SE_SCALE_E4M3:
      scale = decode_e4m3(scales[block]);
      break;
    case SE_SCALE_U8:
      scale = decode_f16(rows.super_scales[super]) * static_cast<float>(scales[block]);
      break;
    default:
      scale = decode_f16(rows.super_scales[super]) *
              static_cast<float>(static_cast<int8_t>(scales[block]));
  }
  if ((format.flags & SE_FORMAT_GLOBAL_MULTIPLIES) != 0) scale *= rows.global;
  if ((format.flags & SE_FORMAT_GLOBAL_DIVIDES) != 0) scale /= rows.global;
  float value = 0;
  if (format.code == SE_CODE_I8) {
    value = static_cast<int8_t>(rows.codes[code]);
  } else if (format.code == SE_CODE_E4M3) {
    value = decode_e4m3(rows.codes[code]);
  } else {
    if (rows.codes[code] >> code_bits(format.code) != 0) fail("a code has too many bits");
    const sparse_experts::ValueTable& table = kValueTables[format.table];
    if (rows.codes[code] >= table.size) fail("a code has no value");
    value = static_cast<float>(table.integers[rows.codes[code]]) * table.factor;
  }
  if (format.offset == SE_OFFSET_ZERO)
    value -= static_cast<float>(static_cast<int8_t>(rows.offsets[block]));
  value *= scale;
  if (format.offset == SE_OFFSET_F16) value += decode_f16(load_u16(&rows.offsets[2 * block]));
  if (format.offset == SE_OFFSET_U8)
    value -= decode_f16(rows.super_offsets[super]) * static_cast<float>(rows.offsets[block]);
  return value;
}

uint64_t decoded_inputs = 0;
uint64_t canonical_inputs = 0;
uint64_t permuted_inputs = 0;

// Which column of the layer each stored column is: each is one of them.
std::vector<int64_t> columns_of(const SeMatrixFormat& format, const CanonicalRows& rows,
                                int64_t cols) {
  std::vector<int64_t> columns(static_cast<size_t>(cols));
  std::iota(columns.begin(), columns.end(), 0);
  if ((format.flags & SE_FORMAT_PERMUTED) == 0) {
    if (rows.permutation != nullptr) fail("columns in order have a permutation");
    return columns;
  }
  std::copy_n(rows.permutation, cols, columns.begin());
  std::vector<int64_t> sorted = columns;
  std::sort(sorted.begin(), sorted.end());
  for (int64_t col = 0; col < cols; ++col) {
    if (sorted[static_cast<size_t>(col)] != col) fail("a permutation that is none");
  }
  return columns;
}

// The canonical form of a matrix that decodes holds the same weights: all rows of it, and every
// second or third one.
void check_canonical(const EncodedMatrix& source, int64_t rows, int64_t cols) {
  std::unique_ptr<StoredMatrix> stored;
  if (!StoredMatrix::open(source, rows, cols, &stored).is_ok()) fail("what decodes does not open");
  if (stored->format() == nullptr) return;
  ++canonical_inputs;
  if ((stored->format()->flags & SE_FORMAT_PERMUTED) != 0) ++permuted_inputs;
  std::vector<float> decoded(static_cast<size_t>(rows * cols));
  if (!decode_matrix(source, rows, cols, SE_F32, decoded.data(), cols).is_ok())
    fail("what decoded once does not again");
  CanonicalRows canonical;
  std::vector<float> some(decoded.size());
  for (int64_t step = 1; step <= 3; ++step) {
    for (int64_t first = 0; first < std::min(step, rows); ++first) {
      const RowRun run = {first, step, (rows - first + step - 1) / step};
      stored->read(run, &canonical);
      stored->decode(run, SE_F32, some.data());
      const std::vector<int64_t> columns = columns_of(*stored->format(), canonical, cols);
      for (int64_t i = 0; i < run.count; ++i) {
        for (int64_t at = 0; at < cols; ++at) {
          const int64_t col = columns[static_cast<size_t>(at)];
          const float expected = decoded[static_cast<size_t>((first + i * step) * cols + col)];
          const float value = canonical_value(*stored->format(), canonical, i, cols, at);
          const int64_t row = run.first + i * run.step;
          const float again = some[static_cast<size_t>(i * cols + col)];
          const bool is_same = value == expected || (std::isnan(value) && std::isnan(expected));
          if (!is_same) {
            std::fprintf(stderr, "codec %d scale %d: row %lld col %lld: %g, not %g\n",
                         static_cast<int>(source.codec), stored->format()->scale,
                         static_cast<long long>(row), static_cast<long long>(col),
                         static_cast<double>(value), static_cast<double>(expected));
            fail("a canonical weight is another one");
          }
          if (f32_to_bits(again) != f32_to_bits(expected)) fail("a row of a run is another");
        }
      }
    }
  }
}

void run(const uint8_t* data, size_t size) {
  Input input(data, size);
  std::vector<std::unique_ptr<uint8_t[]>> blocks;
  // Multiples of eight decode in every codec; others must be refused or cope.
  int64_t rows = input.size(80);
  int64_t cols = input.size(255);
  const uint8_t rounding = input.byte();
  if (rounding % 2 == 0) {
    rows = rows / 8 * 8;
    cols = cols / 8 * 8;
  }
  // Whole blocks of every ggml type.
  if (rounding % 8 == 0 && cols < 1024) cols = (1 + (cols & 3)) * 256;
  const EncodedMatrix matrix = make_matrix(input, rows, cols, blocks);
  const int32_t dtypes[] = {SE_F32, SE_F16, SE_BF16, SE_I32};
  const int32_t dtype = dtypes[input.byte() % 31 == 0 ? 3 : input.byte() % 3];
  const int64_t padding = input.byte() % 4;
  const int64_t stride = cols < (int64_t{1} << 40) ? cols + padding : cols;

  // Sizes that no buffer here could hold must be refused by their lengths alone: the output is
  // never touched then.
  const int64_t elements = rows > 0 && cols > 0 ? product(rows, stride) : 0;
  const bool fits = elements > 0 && elements <= kMaxOutputElements;
  const size_t out_bytes =
      fits ? static_cast<size_t>(elements * sparse_experts::dtype_bytes(dtype)) : 1;
  std::unique_ptr<uint8_t[]> out(new uint8_t[out_bytes + 16]);
  // Aligned as the weights of a layer are.
  uint8_t* begin = out.get() + (-reinterpret_cast<uintptr_t>(out.get()) & 3);
  std::memset(begin, kGuard, out_bytes);
  const Status status = decode_matrix(matrix, rows, cols, dtype, begin, stride);
  if (!status.is_ok()) {
    if (status.message().empty()) fail("an error without a message");
    for (size_t i = 0; i < out_bytes; ++i) {
      if (begin[i] != kGuard) fail("a refused matrix was written");
    }
    return;
  }
  if (!fits) fail("a matrix was accepted that its data cannot hold");
  ++decoded_inputs;
  check_canonical(matrix, rows, cols);
  const auto element = static_cast<size_t>(sparse_experts::dtype_bytes(dtype));
  for (int64_t row = 0; row < rows; ++row) {
    const uint8_t* tail = begin + static_cast<size_t>(row * stride + cols) * element;
    for (size_t i = 0; i < static_cast<size_t>(stride - cols) * element; ++i) {
      if (tail[i] != kGuard) fail("a row was written past its end");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  run(data, size);
  return 0;
}

#ifdef SE_FUZZ_DRIVER
int main(int argc, char** argv) {
  const int64_t inputs = argc > 1 ? std::strtoll(argv[1], nullptr, 10) : 20000;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  std::mt19937_64 random(seed);
  std::vector<uint8_t> bytes;
  for (int64_t i = 0; i < inputs; ++i) {
    bytes.resize(random() % 4096);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    run(bytes.data(), bytes.size());
  }
  std::printf("decode_fuzz: %lld inputs, %llu decoded, %llu canonical, %llu permuted\n",
              static_cast<long long>(inputs), static_cast<unsigned long long>(decoded_inputs),
              static_cast<unsigned long long>(canonical_inputs),
              static_cast<unsigned long long>(permuted_inputs));
  if (decoded_inputs * 20 < static_cast<uint64_t>(inputs)) fail("too few inputs decode");
  if (permuted_inputs * 5000 < static_cast<uint64_t>(inputs)) fail("too few have permuted columns");
  return 0;
}
#endif
