#include "engine/store_matrix.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/matrix_format.h"
#include "engine/device_memory.h"
#include "engine/matrix_formats.h"
#include "formats/decode.h"
#include "formats/quantize.h"

namespace sparse_experts::engine {
namespace {

// Scratch of one chunk of rows: in cache on the host; to a device long enough that a copy's start
// costs nothing.
constexpr int64_t kHostBytes = int64_t{1} << 19;
constexpr int64_t kDeviceBytes = int64_t{8} << 20;

// Gathers rows into dense memory.
void gather_rows(const StridedSource& source, const RowRun& run, int64_t cols, uint8_t* to) {
  const int64_t element = dtype_bytes(source.dtype);
  for (int64_t i = 0; i < run.count; ++i) {
    const uint8_t* from = source.data + (run.first + i * run.step) * source.row_stride * element;
    if (source.col_stride == 1) {
      std::memcpy(to, from, static_cast<size_t>(cols * element));
      to += cols * element;
      continue;
    }
    for (int64_t col = 0; col < cols; ++col) {
      std::memcpy(to, from + col * source.col_stride * element, static_cast<size_t>(element));
      to += element;
    }
  }
}

}  // namespace

void check_inside(int64_t offset, int64_t row_span, int64_t col_span, uint64_t length) {
  int64_t first = offset;
  int64_t last = offset;
  bool overflow = false;
  for (int64_t span : {row_span, col_span}) {
    int64_t* end = span < 0 ? &first : &last;
    overflow = overflow || __builtin_add_overflow(*end, span, end);
  }
  if (overflow || first < 0 || static_cast<uint64_t>(last) >= length) {
    fail_argument("offset and strides leave the array of " + std::to_string(length) + " elements");
  }
}

int64_t chunk_rows(const DeviceExecutor& executor, const MatrixSlot& slot, int64_t row_bytes) {
  const int64_t bytes = executor.has_host_memory() ? kHostBytes : kDeviceBytes;
  const int64_t granule =
      std::max<int64_t>(1, executor.backend().matrix_granule(executor.device())) *
      (slot.is_interleaved ? 2 : 1);
  return std::max<int64_t>(1, bytes / std::max<int64_t>(1, row_bytes) / granule) * granule;
}

int64_t source_row_bytes(const MatrixSlot& slot) {
  return is_float_format(*slot.format) ? code_row_bytes(slot.format->code, slot.cols) : slot.cols;
}

namespace {

// Dense rows of one float dtype in another.
void convert(const uint8_t* rows, int32_t from, int64_t count, int64_t cols, int32_t to,
             void* out) {
  EncodedMatrix matrix;
  matrix.data = {rows, static_cast<uint64_t>(count * cols * dtype_bytes(from)),
                 stored_type_of(from)};
  throw_if_failed(Failure::from(decode_matrix(matrix, count, cols, to, out, cols)));
}

QuantizedBits quantized_bits(const MatrixSlot& slot) {
  for (const QuantizedBits bits : {QuantizedBits::k8, QuantizedBits::k4}) {
    if (is_same_format(*slot.format, quantized_format(bits, slot.cols))) return bits;
  }
  fail_argument("A matrix of floats cannot become one of this format");
}

// Rows of f32 in the format of a slot.
void quantize_run(const MatrixSlot& slot, const RowRun& run, const float* rows,
                  CanonicalRows* out) {
  quantize_rows(quantized_bits(slot), rows, run.count, slot.cols, out);
}

// Whether the slot holds the weights as they are stored.
bool holds(const StoredMatrix& stored, const MatrixSlot& slot) {
  if (stored.format() == nullptr) return false;
  const SeMatrixFormat format = slot.up_data == nullptr
                                    ? *stored.format()
                                    : half_format(*stored.format(), slot.rows, slot.is_interleaved);
  return is_same_format(format, *slot.format);
}

// Rows are formed in the dtype that is held; in f32 where they are quantised.
int32_t decoded_dtype(const MatrixSlot& slot) {
  return is_float_format(*slot.format) ? element_dtype(*slot.format) : SE_F32;
}

}  // namespace

uint64_t stored_scratch_bytes(const DeviceExecutor& executor, const MatrixSlot& slot) {
  const int64_t row_bytes = slot.cols * dtype_bytes(decoded_dtype(slot));
  return static_cast<uint64_t>(std::min(chunk_rows(executor, slot, row_bytes), slot.rows) *
                               row_bytes);
}

void store_matrix(DeviceExecutor& executor, const StridedSource& source, const MatrixSlot& slot) {
  const bool is_float = is_float_format(*slot.format);
  const int32_t dtype = decoded_dtype(slot);
  const int64_t row_bytes = slot.cols * dtype_bytes(source.dtype);
  const int64_t at_once = std::min(chunk_rows(executor, slot, row_bytes), slot.rows);
  std::vector<uint8_t> rows(static_cast<size_t>(at_once * row_bytes));
  const bool is_direct = source.dtype == dtype;
  std::vector<uint8_t> converted(
      is_direct ? 0 : static_cast<size_t>(at_once * slot.cols * dtype_bytes(dtype)));
  for_chunks(executor, slot, row_bytes, [&](int64_t begin, int64_t count) {
    if (is_float) {
      gather_rows(source, {begin, 1, count}, slot.cols, rows.data());
      if (!is_direct) convert(rows.data(), source.dtype, count, slot.cols, dtype, converted.data());
      write_rows(executor, slot, begin, count, is_direct ? rows.data() : converted.data());
      return;
    }
    write_canonical(executor, slot, begin, count, [&](const RowRun& run, CanonicalRows* out) {
      gather_rows(source, run, slot.cols, rows.data());
      if (!is_direct)
        convert(rows.data(), source.dtype, run.count, slot.cols, dtype, converted.data());
      const uint8_t* floats = is_direct ? rows.data() : converted.data();
      quantize_run(slot, run, reinterpret_cast<const float*>(floats), out);
    });
  });
}

namespace {

// A run of a slot's rows that are consecutive rows of one of the device's matrices.
struct Part {
  uint8_t* matrix;
  int64_t matrix_rows;
  int64_t first_row;
  RowRun run;
};

// Rows [begin, begin + count) of a slot, as parts.
template <typename Body>
void for_parts(const MatrixSlot& slot, int64_t begin, int64_t count, const Body& body) {
  if (slot.up_data == nullptr) {
    body(Part{slot.data, slot.rows, begin, {begin, 1, count}});
    return;
  }
  const int64_t half = slot.rows / 2;
  if (slot.is_interleaved) {
    body(Part{slot.data, half, begin / 2, {begin, 2, count / 2}});
    body(Part{slot.up_data, half, begin / 2, {begin + 1, 2, count / 2}});
    return;
  }
  const int64_t of_gate = std::clamp<int64_t>(half - begin, 0, count);
  if (of_gate > 0) body(Part{slot.data, half, begin, {begin, 1, of_gate}});
  if (count > of_gate)
    body(Part{slot.up_data,
              half,
              std::max<int64_t>(0, begin - half),
              {begin + of_gate, 1, count - of_gate}});
}

SeMatrixRows rows_of(const MatrixSlot& slot, const Part& part) {
  SeMatrixRows rows = {};
  rows.matrix = part.matrix;
  rows.is_pinned = slot.is_pinned ? 1 : 0;
  rows.rows = part.matrix_rows;
  rows.cols = slot.cols;
  rows.dtype = slot.dtype;
  rows.format = slot.format;
  rows.first_row = part.first_row;
  rows.num_rows = part.run.count;
  rows.source_stride = slot.cols;
  rows.global = 1;
  return rows;
}

void write(DeviceExecutor& executor, const SeMatrixRows& rows) {
  throw_if_failed(executor.call([&](const SeBackend& backend, SeDevice* device, SeStatus* status) {
    return backend.matrix_write(device, &rows, status);
  }));
}

}  // namespace

void write_rows(DeviceExecutor& executor, const MatrixSlot& slot, int64_t begin, int64_t count,
                const uint8_t* source) {
  const int64_t row_bytes = source_row_bytes(slot);
  for_parts(slot, begin, count, [&](const Part& part) {
    SeMatrixRows rows = rows_of(slot, part);
    rows.source = source + (part.run.first - begin) * row_bytes;
    rows.source_stride = part.run.step * slot.cols;
    write(executor, rows);
  });
}

void write_canonical(DeviceExecutor& executor, const MatrixSlot& slot, int64_t begin, int64_t count,
                     const ReadRows& read) {
  CanonicalRows canonical;
  for_parts(slot, begin, count, [&](const Part& part) {
    read(part.run, &canonical);
    SeMatrixRows rows = rows_of(slot, part);
    rows.source = canonical.codes.data();
    rows.scales = canonical.scales.data();
    if (!canonical.offsets.empty()) rows.offsets = canonical.offsets.data();
    if (!canonical.super_scales.empty()) rows.super_scales = canonical.super_scales.data();
    if (!canonical.super_offsets.empty()) rows.super_offsets = canonical.super_offsets.data();
    rows.global = canonical.global;
    rows.permutation = canonical.permutation;
    write(executor, rows);
  });
}

void store_stored(DeviceExecutor& executor, const StoredMatrix& stored, const MatrixSlot& slot,
                  uint8_t* scratch, const std::function<void()>& check) {
  const bool is_float = is_float_format(*slot.format);
  const bool is_stored = !is_float && holds(stored, slot);
  const int32_t dtype = decoded_dtype(slot);
  for_chunks(executor, slot, slot.cols * dtype_bytes(dtype), [&](int64_t begin, int64_t count) {
    check();
    if (is_float) {
      stored.decode({begin, 1, count}, dtype, scratch);
      write_rows(executor, slot, begin, count, scratch);
      return;
    }
    write_canonical(executor, slot, begin, count, [&](const RowRun& run, CanonicalRows* rows) {
      if (is_stored) {
        stored.read(run, rows);
        return;
      }
      stored.decode(run, SE_F32, scratch);
      quantize_run(slot, run, reinterpret_cast<const float*>(scratch), rows);
    });
  });
}

void zero_matrix(DeviceExecutor& executor, const MatrixSlot& slot) {
  const int64_t row_bytes = source_row_bytes(slot);
  if (is_float_format(*slot.format)) {
    const int64_t at_once = std::min(chunk_rows(executor, slot, row_bytes), slot.rows);
    const std::vector<uint8_t> zeros(static_cast<size_t>(at_once * row_bytes));
    for_chunks(executor, slot, row_bytes, [&](int64_t begin, int64_t count) {
      write_rows(executor, slot, begin, count, zeros.data());
    });
    return;
  }
  const SeMatrixFormat& format = *slot.format;
  const int64_t blocks = num_blocks(format, slot.cols);
  const int64_t supers = num_super_blocks(format, slot.cols);
  // Of every table code 0 times a scale of 0 is zero; scales that are powers of two have none, and
  // meet codes whose value is zero.
  std::vector<int32_t> in_order(is_permuted(format) ? static_cast<size_t>(slot.cols) : 0);
  std::iota(in_order.begin(), in_order.end(), 0);
  const auto zeros = [&](const RowRun& run, CanonicalRows* out) {
    if (is_permuted(format)) out->permutation = in_order.data();
    const auto assign = [&](auto* part, int64_t of_row) {
      part->assign(static_cast<size_t>(of_row * run.count), 0);
    };
    assign(&out->codes, slot.cols);
    assign(&out->scales, blocks * scale_bytes(format.scale));
    assign(&out->offsets, blocks * offset_bytes(format.offset));
    assign(&out->super_scales, has_super_scales(format) ? supers : 0);
    assign(&out->super_offsets, format.offset == SE_OFFSET_U8 ? supers : 0);
  };
  for_chunks(executor, slot, row_bytes, [&](int64_t begin, int64_t count) {
    write_canonical(executor, slot, begin, count, zeros);
  });
}

}  // namespace sparse_experts::engine
