// The experts of a layer in the files of a checkpoint, read one at a time and again and again. The
// files stay open: whoever renames another file into their place changes nothing here. A file that is
// shorter or was written to since it was opened is refused from then on.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/cache_plan.h"
#include "engine/executor.h"
#include "engine/load_item.h"
#include "engine/matrix_reader.h"
#include "platform/input_file.h"

namespace sparse_experts::engine {

class ExpertSource {
 public:
  // Between two looks whether somebody has asked to stop; large enough to keep a disk busy.
  static constexpr uint64_t kReadBytes = uint64_t{4} << 20;
  // Of an expert that nobody waits for yet: who comes meanwhile waits for one of them at most.
  static constexpr uint64_t kAheadBytes = uint64_t{1} << 20;

  // Opens the files. `items`: all matrices of the layer's experts, in any order. Throws IO, and
  // INVALID_ARGUMENT where an expert lacks a matrix.
  ExpertSource(const std::vector<std::string>& files, std::vector<LoadItem> items,
               int64_t num_experts, bool gated, DirectReads direct);

  // Where a matrix of the expert goes.
  using SlotOf = std::function<MatrixSlot(MatrixKind kind)>;
  // Reads one expert. Any number of threads, each with a scratch of its own. `check` may throw, and is
  // asked between reads, which take `read_bytes` and the pages around them at most. Throws IO, CANCELLED and what decoding finds.
  void read(DeviceExecutor& executor, int64_t expert, const SlotOf& slot_of, ReadScratch& scratch,
            const std::function<void()>& check, uint64_t read_bytes = kReadBytes) const;

  // Bytes of the files that an expert takes.
  uint64_t stored_bytes(int64_t expert) const;
  // Every file that experts lie in is read past the page cache.
  bool is_direct() const;

 private:
  struct File {
    std::string path;
    platform::InputFile plain;
    platform::InputFile uncached;  // closed where there are no such reads
    platform::FileStamp stamp;     // as it was opened
  };
  class Reader;

  void open(size_t file, const std::string& path);
  void check_complete(int64_t expert, bool gated) const;

  const DirectReads direct_;
  std::vector<File> files_;
  std::vector<std::vector<LoadItem>> items_;  // by expert
};

}  // namespace sparse_experts::engine
