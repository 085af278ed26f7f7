#include "engine/matrix_reader.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/dtype.h"
#include "core/matrix_format.h"
#include "core/numeric.h"
#include "engine/store_matrix.h"
#include "formats/stored_matrix.h"

namespace sparse_experts::engine {
namespace {

constexpr uint64_t kPage = 4096;

uint64_t padded(uint64_t bytes) { return round_up(bytes + SegmentReader::kMargin, kPage); }

// Whether a slot holds the very floats that the file does.
bool is_held_as_stored(const MatrixSlot& slot, const EncodedMatrix& encoding) {
  const bool has_only_data = encoding.scale.bytes == 0 && encoding.global_scale.bytes == 0 &&
                             encoding.column_scale.bytes == 0;
  return has_only_data && is_float_format(*slot.format) &&
         is_plain(encoding, element_dtype(*slot.format));
}

// Rows that are read at a time where a matrix is held as it is stored: those that are written at a time,
// or as many as make `read_bytes`.
int64_t plain_rows(const DeviceExecutor& executor, const MatrixSlot& slot, uint64_t read_bytes) {
  const int64_t row_bytes = source_row_bytes(slot);
  const int64_t rows =
      std::max(chunk_rows(executor, slot, row_bytes), static_cast<int64_t>(read_bytes) / row_bytes);
  return std::min(rows, slot.rows);
}

// Rows of floats that lie in the file as the backend wants them, in pieces.
class PlainRows {
 public:
  // `alignment`: of an element. Backends read rows wherever they begin; a file need not align them.
  PlainRows(const LoadItem& item, int64_t num_rows, int64_t row_bytes, int64_t at_once,
            int64_t alignment, SegmentReader& reader, ReadScratch& scratch)
      : item_(item),
        num_rows_(num_rows),
        row_bytes_(row_bytes),
        at_once_(at_once),
        alignment_(alignment),
        reader_(reader),
        memory_(scratch.take(padded(static_cast<uint64_t>(at_once_ * row_bytes)))) {}

  // Rows [begin, begin + count), asked for by rising number.
  const uint8_t* get(int64_t begin, int64_t count) {
    if (begin < first_ || begin + count > last_) read(begin, count);
    return rows_ + (begin - first_) * row_bytes_;
  }

 private:
  void read(int64_t begin, int64_t count) {
    first_ = begin;
    last_ = begin + std::min(std::max(at_once_, count), num_rows_ - begin);
    const auto bytes = static_cast<uint64_t>((last_ - first_) * row_bytes_);
    rows_ = reader_.read(item_.data, static_cast<uint64_t>(begin * row_bytes_), bytes, memory_);
    if (reinterpret_cast<uintptr_t>(rows_) % static_cast<uintptr_t>(alignment_) == 0) return;
    std::memmove(memory_, rows_, bytes);
    rows_ = memory_;
  }

  const LoadItem& item_;
  const int64_t num_rows_;
  const int64_t row_bytes_;
  const int64_t at_once_;
  const int64_t alignment_;
  SegmentReader& reader_;
  uint8_t* const memory_;
  const uint8_t* rows_ = nullptr;  // [first_, last_)
  int64_t first_ = 0;
  int64_t last_ = 0;
};

void read_plain(DeviceExecutor& executor, const LoadItem& item, const MatrixSlot& slot,
                SegmentReader& reader, ReadScratch& scratch) {
  const int64_t row_bytes = source_row_bytes(slot);
  reader.check(item.data);
  const int64_t at_once = plain_rows(executor, slot, reader.read_bytes());
  PlainRows rows(item, slot.rows, row_bytes, at_once, dtype_bytes(element_dtype(*slot.format)),
                 reader, scratch);
  for_chunks(executor, slot, row_bytes, [&](int64_t begin, int64_t count) {
    write_rows(executor, slot, begin, count, rows.get(begin, count));
  });
}

Span read_span(const LoadSegment& segment, SegmentReader& reader, uint8_t** scratch) {
  if (segment.bytes == 0) return {};
  const uint8_t* data = reader.read(segment, 0, segment.bytes, *scratch);
  *scratch += padded(segment.bytes);
  return {data, segment.bytes, segment.type};
}

void read_encoded(DeviceExecutor& executor, const LoadItem& item, const MatrixSlot& slot,
                  SegmentReader& reader, ReadScratch& scratch) {
  // Before memory is taken for them.
  for (const LoadSegment* segment : segments_of(item))
    if (segment->bytes > 0) reader.check(*segment);
  uint8_t* next = scratch.take(load_scratch_bytes(executor, slot, item.encoding, 0));
  EncodedMatrix encoding = item.encoding;
  encoding.data = read_span(item.data, reader, &next);
  encoding.scale = read_span(item.scale, reader, &next);
  encoding.zero_point = read_span(item.zero_point, reader, &next);
  encoding.group_index = read_span(item.group_index, reader, &next);
  encoding.global_scale = read_span(item.global_scale, reader, &next);
  encoding.column_scale = read_span(item.column_scale, reader, &next);
  std::unique_ptr<StoredMatrix> stored;
  const Status status = StoredMatrix::open(encoding, slot.rows, slot.cols, &stored);
  if (!status.is_ok()) {
    Failure failure = Failure::from(status);
    failure.message = item.data.name + ": " + failure.message;
    throw_if_failed(failure);
  }
  store_stored(executor, *stored, slot, next, [&] { reader.check_stopped(); });
}

}  // namespace

uint8_t* ReadScratch::take(uint64_t bytes) {
  if (bytes + kPage > bytes_) {
    memory_.reset();
    bytes_ = 0;
    memory_.reset(new uint8_t[bytes + kPage]);
    bytes_ = bytes + kPage;
  }
  const auto begin = reinterpret_cast<uintptr_t>(memory_.get());
  return memory_.get() + (round_up(begin, kPage) - begin);
}

void LoadItem::set_spans() {
  const auto set = [](Span* span, const LoadSegment& segment) {
    *span = {nullptr, segment.bytes, segment.type};
  };
  set(&encoding.data, data);
  set(&encoding.scale, scale);
  set(&encoding.zero_point, zero_point);
  set(&encoding.group_index, group_index);
  set(&encoding.global_scale, global_scale);
  set(&encoding.column_scale, column_scale);
}

uint64_t load_scratch_bytes(const DeviceExecutor& executor, const MatrixSlot& slot,
                            const EncodedMatrix& encoding, uint64_t read_bytes) {
  if (is_held_as_stored(slot, encoding)) {
    const int64_t rows = plain_rows(executor, slot, read_bytes);
    return padded(static_cast<uint64_t>(rows * source_row_bytes(slot)));
  }
  uint64_t bytes = stored_scratch_bytes(executor, slot);
  for (const Span* part : {&encoding.data, &encoding.scale, &encoding.zero_point,
                           &encoding.group_index, &encoding.global_scale, &encoding.column_scale})
    if (part->bytes > 0) bytes += padded(part->bytes);
  return bytes;
}

void read_matrix(DeviceExecutor& executor, const LoadItem& item, const MatrixSlot& slot,
                 SegmentReader& reader, ReadScratch& scratch) {
  reader.check_stopped();
  const EncodedMatrix& encoding = item.encoding;
  const uint64_t expected = encoded_data_bytes(encoding, slot.rows, slot.cols);
  if (expected == 0 || expected != item.data.bytes) {
    fail_argument(item.data.name + " has " + std::to_string(item.data.bytes) +
                  " bytes, its shape needs " + std::to_string(expected));
  }
  if (is_held_as_stored(slot, encoding)) {
    read_plain(executor, item, slot, reader, scratch);
  } else {
    read_encoded(executor, item, slot, reader, scratch);
  }
}

}  // namespace sparse_experts::engine
