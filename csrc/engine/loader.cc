#include "engine/loader.h"

#include <algorithm>
#include <map>
#include <utility>

#include "engine/expert_cache.h"

namespace sparse_experts::engine {
namespace {

// Between two looks at the cancel flag; large enough to keep a disk busy.
constexpr uint64_t kReadBytes = uint64_t{8} << 20;
constexpr std::chrono::milliseconds kProgressInterval{33};
// One thread copies from the page cache at a part of the memory's speed; more than a few gain
// nothing.
constexpr size_t kMaxReaders = 4;

}  // namespace

size_t num_load_threads(const DeviceExecutor& executor, int32_t num_threads) {
  // Copies to a device take turns anyhow.
  if (!executor.has_host_memory()) return 1;
  const size_t most = std::min<size_t>(kMaxReaders, std::thread::hardware_concurrency());
  const size_t wanted = num_threads > 0 ? std::min(most, static_cast<size_t>(num_threads)) : most;
  return std::max<size_t>(1, wanted);
}

LoadTask::LoadTask(std::vector<LayerLoad> layers) : layers_(std::move(layers)) {
  std::map<std::string, size_t> known;
  for (size_t index = 0; index < layers_.size(); ++index) {
    LayerLoad& load = layers_[index];
    std::vector<size_t> file_of;
    for (std::string& path : load.files) {
      const auto [entry, is_new] = known.emplace(std::move(path), files_.size());
      if (is_new) files_.push_back({entry->first, {}});
      file_of.push_back(entry->second);
    }
    for (LoadItem& item : load.items) {
      if (item.role == MatrixRole::kExpert && !load.layer->owns(item.expert)) continue;
      item.layer = index;
      item.set_spans();
      for (LoadSegment* segment : segments_of(item)) {
        if (segment->bytes > 0) segment->file = file_of.at(segment->file);
      }
      items_.push_back(std::move(item));
    }
    load.files.clear();
    load.items.clear();
  }
  std::stable_sort(items_.begin(), items_.end(), [](const LoadItem& a, const LoadItem& b) {
    return std::pair(a.data.file, a.data.offset) < std::pair(b.data.file, b.data.offset);
  });
}

LoadTask::~LoadTask() {
  cancel();
  join();
}

void LoadTask::start(std::shared_ptr<CompletionQueue> completions, uint64_t call_id,
                     bool reports_progress) {
  completions_ = std::move(completions);
  call_id_ = call_id;
  reports_progress_ = reports_progress;
  last_report_ = std::chrono::steady_clock::now();
  thread_ = std::thread([this] {
    run();
    completions_->post({call_id_, CompletionQueue::Event::kDone});
  });
}

void LoadTask::join() {
  if (thread_.joinable()) thread_.join();
}

size_t LoadTask::num_threads() const {
  std::map<const DeviceExecutor*, size_t> of_device;
  for (const LayerLoad& load : layers_) {
    const DeviceExecutor& executor = load.layer->executor();
    size_t& threads = of_device[&executor];
    threads = std::max(threads, num_load_threads(executor, load.layer->num_threads()));
  }
  size_t sum = 0;
  for (const auto& [executor, threads] : of_device) sum += threads;
  return sum;
}

// Before anything is read: what does not fit fails at once.
void LoadTask::reserve_workspaces() {
  for (const LayerLoad& load : layers_) {
    check_stopped();
    if (load.reserved_tokens > 0) load.layer->reserve_workspace(load.reserved_tokens);
  }
}

void LoadTask::prepare_caches() {
  std::vector<std::vector<LoadItem>> experts(layers_.size());
  for (const LoadItem& item : items_) {
    if (is_cached(item)) experts[item.layer].push_back(item);
  }
  std::vector<std::string> paths;
  for (const File& file : files_) paths.push_back(file.path);
  for (size_t index = 0; index < layers_.size(); ++index) {
    LayerState& layer = *layers_[index].layer;
    if (layer.cache() == nullptr) continue;
    layer.cache()->open(layer, paths, std::move(experts[index]));
    layer.cache()->touch(layer, [this] { check_stopped(); });
    layer.mark_blocks_touched();
    layer.cache()->warm(layers_[index].warm);
  }
  const auto is_read_later = [this](const LoadItem& item) {
    return is_cached(item) && layers_[item.layer].layer->cache()->block_of(
                                  static_cast<int32_t>(item.expert)) == nullptr;
  };
  items_.erase(std::remove_if(items_.begin(), items_.end(), is_read_later), items_.end());
}

void LoadTask::finish_caches() {
  try {
    for (const LayerLoad& load : layers_)
      if (load.layer->cache() != nullptr) load.layer->cache()->finish_warm(*load.layer, load.warm);
  } catch (...) {
    note_failure(0);
  }
}

void LoadTask::prepare() {
  try {
    reserve_workspaces();
    prepare_caches();
  } catch (...) {
    note_failure(0);
  }
}

void LoadTask::run() {
  prepare();
  std::vector<std::thread> helpers;
  try {
    while (!failed_ && helpers.size() + 1 < std::min(num_threads(), items_.size()))
      helpers.emplace_back([this] { work(); });
  } catch (...) {
    // The system refuses more threads: those that are there do it.
  }
  work();
  for (std::thread& helper : helpers) helper.join();
  for (File& file : files_) file.input.close();
  if (!failed_) finish_caches();
}

void LoadTask::work() {
  ReadScratch scratch;
  while (!failed_.load(std::memory_order_relaxed)) {
    const size_t index = next_item_.fetch_add(1, std::memory_order_relaxed);
    if (index >= items_.size()) return;
    try {
      load_item(items_[index], scratch);
    } catch (...) {
      note_failure(index);
    }
  }
}

// Called in a handler. Of several failures the one of the first matrix is told.
void LoadTask::note_failure(size_t index) {
  const Failure failure = current_failure();
  const std::lock_guard<std::mutex> lock(failure_mutex_);
  // Stopped for another one's failure.
  if (failed_ && failure.code == ErrorCode::kCancelled) return;
  if (failed_ && index > failed_item_) return;
  failed_ = true;
  failed_item_ = index;
  failure_ = failure;
}

bool LoadTask::is_cached(const LoadItem& item) const {
  return item.role == MatrixRole::kExpert && layers_[item.layer].layer->cache() != nullptr;
}

void LoadTask::load_item(const LoadItem& item, ReadScratch& scratch) {
  current_layer_.store(item.layer, std::memory_order_relaxed);
  LayerState& layer = *layers_[item.layer].layer;
  if (is_cached(item)) {
    uint8_t* const block = layer.cache()->block_of(static_cast<int32_t>(item.expert));
    read_matrix(layer.executor(), item, layer.expert_slot(block, item.expert, item.kind), *this,
                scratch);
    return;
  }
  const MatrixSlot slot = layer.matrix_slot(item.role, item.expert, item.kind);
  read_matrix(layer.executor(), item, slot, *this, scratch);
  layer.mark_written(item.role, item.expert, item.kind);
}

const LoadTask::File& LoadTask::open_file(const LoadSegment& segment) {
  const std::lock_guard<std::mutex> lock(files_mutex_);
  File& file = files_[segment.file];
  std::string problem;
  if (!file.input.is_open() && !file.input.open(file.path, &problem)) fail_io(file.path, problem);
  const uint64_t length = file.input.bytes();
  if (segment.bytes > length || segment.offset > length - segment.bytes) {
    fail_io(file.path, "it ends before " + segment.name);
  }
  return file;
}

const uint8_t* LoadTask::read(const LoadSegment& segment, uint64_t begin, uint64_t count,
                              uint8_t* scratch) {
  const File& file = open_file(segment);
  uint64_t done = 0;
  while (done < count) {
    check_stopped();
    const uint64_t wanted = std::min(kReadBytes, count - done);
    std::string problem;
    const int64_t got =
        file.input.read_at(segment.offset + begin + done, scratch + done, wanted, &problem);
    if (got < 0) fail_io(file.path, problem);
    if (got == 0) fail_io(file.path, "it ends before " + segment.name);
    done += static_cast<uint64_t>(got);
    report_progress(static_cast<uint64_t>(got));
  }
  return scratch;
}

void LoadTask::check_stopped() const {
  if (cancel_.load(std::memory_order_relaxed) || failed_.load(std::memory_order_relaxed))
    throw_if_failed(Failure::from(Status::cancelled()));
}

void LoadTask::report_progress(uint64_t bytes) {
  loaded_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  if (!reports_progress_) return;
  const auto now = std::chrono::steady_clock::now();
  {
    const std::lock_guard<std::mutex> lock(report_mutex_);
    if (now - last_report_ < kProgressInterval) return;
    // A busy owner gets one event, not a heap of them.
    if (progress_pending_.exchange(true, std::memory_order_relaxed)) return;
    last_report_ = now;
  }
  completions_->post({call_id_, CompletionQueue::Event::kProgress});
}

}  // namespace sparse_experts::engine
