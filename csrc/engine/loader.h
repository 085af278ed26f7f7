// Reading the matrices of one layer or of several from checkpoint files on threads of their own: pread,
// decode, and into the backend's layout, while what was read is still in cache. Each thread takes the
// next matrix in the order in which they lie in the files, whatever layers they are of, so that the
// number of threads does not grow with that of layers and a disk reads forward.
// The experts of a cached layer are not read here, but for those that are to be there before the first
// call: their items go to the layer's cache, which reads an expert when a call needs it.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/completion.h"
#include "engine/layer.h"
#include "engine/load_item.h"
#include "engine/matrix_reader.h"
#include "platform/input_file.h"

namespace sparse_experts::engine {

// One layer's part of a load.
struct LayerLoad {
  std::shared_ptr<LayerState> layer;
  std::vector<std::string> files;  // what the items' segments count
  std::vector<LoadItem> items;
  int64_t reserved_tokens = 0;     // rows of the calls for which the device gets its workspace now
  std::vector<int32_t> warm = {};  // of a cached layer: experts that get slots now, as many as can
};

// Threads that read layers of a device. `num_threads`: those of the layer's forwards, 0: all.
size_t num_load_threads(const DeviceExecutor& executor, int32_t num_threads);

class LoadTask final : private SegmentReader {
 public:
  explicit LoadTask(std::vector<LayerLoad> layers);
  ~LoadTask() override;
  LoadTask(const LoadTask&) = delete;
  LoadTask& operator=(const LoadTask&) = delete;

  // Posts kDone once, and kProgress now and then when `reports_progress`.
  void start(std::shared_ptr<CompletionQueue> completions, uint64_t call_id, bool reports_progress);
  void cancel() { cancel_.store(true, std::memory_order_relaxed); }
  void join();

  uint64_t loaded_bytes() const { return loaded_bytes_.load(std::memory_order_relaxed); }
  // Of the matrix that was begun last: an index into layers().
  size_t current_layer() const { return current_layer_.load(std::memory_order_relaxed); }
  // The owner has taken the last progress event: the next may come.
  void progress_delivered() { progress_pending_.store(false, std::memory_order_relaxed); }
  const Failure& failure() const { return failure_; }  // after kDone
  const std::vector<LayerLoad>& layers() const { return layers_; }

 private:
  struct File {
    std::string path;
    platform::InputFile input;
  };

  size_t num_threads() const;
  void run();
  void prepare();
  void reserve_workspaces();
  void work();
  void load_item(const LoadItem& item, ReadScratch& scratch);
  // Gives the experts of cached layers to their caches, and touches the memory of their blocks.
  void prepare_caches();
  // What was read for them is theirs.
  void finish_caches();
  // Of an expert whose layer has a cache.
  bool is_cached(const LoadItem& item) const;
  void check(const LoadSegment& segment) override { open_file(segment); }
  const uint8_t* read(const LoadSegment& segment, uint64_t begin, uint64_t count,
                      uint8_t* scratch) override;
  const File& open_file(const LoadSegment& segment);
  void note_failure(size_t index);
  void check_stopped() const override;
  void report_progress(uint64_t bytes);

  std::vector<LayerLoad> layers_;
  std::vector<LoadItem> items_;  // of all layers; segments count files_
  std::atomic<size_t> next_item_{0};
  std::atomic<size_t> current_layer_{0};
  std::mutex files_mutex_;
  std::vector<File> files_;

  std::shared_ptr<CompletionQueue> completions_;
  uint64_t call_id_ = 0;
  bool reports_progress_ = false;
  std::mutex report_mutex_;
  std::chrono::steady_clock::time_point last_report_;  // under report_mutex_
  std::atomic<bool> cancel_{false};
  std::atomic<bool> failed_{false};
  std::atomic<bool> progress_pending_{false};
  std::atomic<uint64_t> loaded_bytes_{0};
  std::mutex failure_mutex_;
  size_t failed_item_ = 0;  // of failure_: the first of those that were seen to fail
  Failure failure_;
  std::thread thread_;
};

}  // namespace sparse_experts::engine
