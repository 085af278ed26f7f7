// One matrix of a checkpoint, from the bytes of its files into the backend's layout, while what was
// read is still in cache.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/executor.h"
#include "engine/load_item.h"

namespace sparse_experts::engine {

// One thread's scratch memory: aligned for reads past the page cache, kept until a larger piece is
// asked for. For a matrix of floats that is held as it is stored it has the rows of one read; else the
// encoded matrix, its scales, and as many decoded rows.
class ReadScratch {
 public:
  uint8_t* take(uint64_t bytes);

 private:
  std::unique_ptr<uint8_t[]> memory_;
  uint64_t bytes_ = 0;
};

// Where the bytes of segments come from. Each function throws FailureException.
class SegmentReader {
 public:
  // What a read may take of its scratch beyond the bytes that it was asked for.
  static constexpr uint64_t kMargin = 8192;

  virtual ~SegmentReader() = default;
  // The segment lies inside of its file.
  virtual void check(const LoadSegment& segment) = 0;
  // Bytes [begin, begin + count) of a segment. They lie in `scratch` (aligned to a page, of count +
  // kMargin bytes), wherever the answer says.
  virtual const uint8_t* read(const LoadSegment& segment, uint64_t begin, uint64_t count,
                              uint8_t* scratch) = 0;
  // Nobody has asked to stop.
  virtual void check_stopped() const = 0;
  // Bytes that are worth a read of their own, where a matrix is read in pieces; 0: as many as are
  // written at a time.
  virtual uint64_t read_bytes() const { return 0; }
};

// Scratch that a matrix takes of a thread whose SegmentReader says `read_bytes`; of the encoding's spans
// only types and lengths are read.
uint64_t load_scratch_bytes(const DeviceExecutor& executor, const MatrixSlot& slot,
                            const EncodedMatrix& encoding, uint64_t read_bytes);

// Reads, decodes and writes the matrix of an item. Throws FailureException.
void read_matrix(DeviceExecutor& executor, const LoadItem& item, const MatrixSlot& slot,
                 SegmentReader& reader, ReadScratch& scratch);

}  // namespace sparse_experts::engine
