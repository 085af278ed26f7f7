#include "engine/loader.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "core/matrix_format.h"
#include "core/numeric.h"
#include "engine/store_matrix.h"
#include "formats/stored_matrix.h"

namespace sparse_experts::engine {
namespace {

// Between two looks at the cancel flag; large enough to keep a disk busy.
constexpr uint64_t kReadBytes = uint64_t{8} << 20;
constexpr std::chrono::milliseconds kProgressInterval{33};
constexpr uint64_t kScratchAlignment = 64;
// One thread copies from the page cache at a part of the memory's speed; more than a few gain
// nothing.
constexpr size_t kMaxReaders = 4;

[[noreturn]] void fail_io(const std::string& path, const std::string& what) {
  fail(ErrorCode::kIo, "cannot read " + path + ": " + what);
}

// A LoadItem, const or not, and its segments.
template <typename Item>
auto segments_of(Item& item) {
  return std::array{&item.data,        &item.scale,        &item.zero_point,
                    &item.group_index, &item.global_scale, &item.column_scale};
}

// Whether a slot holds the very floats that the file does.
bool is_held_as_stored(const MatrixSlot& slot, const EncodedMatrix& encoding) {
  const bool has_only_data = encoding.scale.bytes == 0 && encoding.global_scale.bytes == 0 &&
                             encoding.column_scale.bytes == 0;
  return has_only_data && is_float_format(*slot.format) &&
         is_plain(encoding, element_dtype(*slot.format));
}

uint64_t plain_scratch_bytes(const DeviceExecutor& executor, const MatrixSlot& slot) {
  const int64_t row_bytes = source_row_bytes(slot);
  return static_cast<uint64_t>(std::min(chunk_rows(executor, slot, row_bytes), slot.rows) *
                               row_bytes);
}

}  // namespace

uint64_t load_scratch_bytes(const DeviceExecutor& executor, const MatrixSlot& slot,
                            const EncodedMatrix& encoding) {
  if (is_held_as_stored(slot, encoding)) return plain_scratch_bytes(executor, slot);
  uint64_t bytes = stored_scratch_bytes(executor, slot);
  for (const Span* part : {&encoding.data, &encoding.scale, &encoding.zero_point,
                           &encoding.group_index, &encoding.global_scale, &encoding.column_scale})
    bytes += round_up(part->bytes, kScratchAlignment);
  return bytes;
}

size_t num_load_threads(const DeviceExecutor& executor, int32_t num_threads) {
  // Copies to a device take turns anyhow.
  if (!executor.has_host_memory()) return 1;
  const size_t most = std::min<size_t>(kMaxReaders, std::thread::hardware_concurrency());
  const size_t wanted = num_threads > 0 ? std::min(most, static_cast<size_t>(num_threads)) : most;
  return std::max<size_t>(1, wanted);
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
  try {
    for (const LayerLoad& load : layers_) {
      check_stopped();
      if (load.reserved_tokens > 0) load.layer->reserve_workspace(load.reserved_tokens);
    }
  } catch (...) {
    note_failure(0);
  }
}

void LoadTask::run() {
  reserve_workspaces();
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
}

void LoadTask::work() {
  Scratch scratch;
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

void LoadTask::load_item(const LoadItem& item, Scratch& scratch) {
  check_stopped();
  current_layer_.store(item.layer, std::memory_order_relaxed);
  LayerState& layer = *layers_[item.layer].layer;
  const MatrixSlot slot = layer.matrix_slot(item.role, item.expert, item.kind);
  const EncodedMatrix& encoding = item.encoding;
  const uint64_t expected = encoded_data_bytes(encoding, slot.rows, slot.cols);
  if (expected == 0 || expected != item.data.bytes) {
    fail_argument(item.data.name + " has " + std::to_string(item.data.bytes) +
                  " bytes, its shape needs " + std::to_string(expected));
  }
  if (is_held_as_stored(slot, encoding)) {
    load_plain(item, layer.executor(), slot, scratch);
  } else {
    load_encoded(item, layer.executor(), slot, scratch);
  }
  layer.mark_written(item.role, item.expert, item.kind);
}

void LoadTask::load_plain(const LoadItem& item, DeviceExecutor& executor, const MatrixSlot& slot,
                          Scratch& scratch) {
  const int64_t row_bytes = source_row_bytes(slot);
  open_file(item.data);
  uint8_t* rows = scratch.take(plain_scratch_bytes(executor, slot));
  for_chunks(executor, slot, row_bytes, [&](int64_t begin, int64_t count) {
    read_range(item.data, static_cast<uint64_t>(begin * row_bytes),
               static_cast<uint64_t>(count * row_bytes), rows);
    write_rows(executor, slot, begin, count, rows);
  });
}

void LoadTask::load_encoded(const LoadItem& item, DeviceExecutor& executor, const MatrixSlot& slot,
                            Scratch& scratch) {
  for (const LoadSegment* segment : segments_of(item)) {
    // Also checks the length against the file's, before memory is taken for it.
    if (segment->bytes > 0) open_file(*segment);
  }
  uint8_t* next = scratch.take(load_scratch_bytes(executor, slot, item.encoding));
  EncodedMatrix encoding = item.encoding;
  encoding.data = read_into(item.data, &next);
  encoding.scale = read_into(item.scale, &next);
  encoding.zero_point = read_into(item.zero_point, &next);
  encoding.group_index = read_into(item.group_index, &next);
  encoding.global_scale = read_into(item.global_scale, &next);
  encoding.column_scale = read_into(item.column_scale, &next);
  std::unique_ptr<StoredMatrix> stored;
  const Status status = StoredMatrix::open(encoding, slot.rows, slot.cols, &stored);
  if (!status.is_ok()) {
    Failure failure = Failure::from(status);
    failure.message = item.data.name + ": " + failure.message;
    throw_if_failed(failure);
  }
  store_stored(executor, *stored, slot, next, [this] { check_stopped(); });
}

Span LoadTask::read_into(const LoadSegment& segment, uint8_t** scratch) {
  if (segment.bytes == 0) return {};
  uint8_t* to = *scratch;
  read_range(segment, 0, segment.bytes, to);
  *scratch += round_up(segment.bytes, kScratchAlignment);
  return {to, segment.bytes, segment.type};
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

uint8_t* LoadTask::Scratch::take(uint64_t bytes) {
  if (bytes + kScratchAlignment > bytes_) {
    memory_.reset();
    bytes_ = 0;
    memory_.reset(new uint8_t[bytes + kScratchAlignment]);
    bytes_ = bytes + kScratchAlignment;
  }
  const auto begin = reinterpret_cast<uintptr_t>(memory_.get());
  return memory_.get() + (round_up(begin, kScratchAlignment) - begin);
}

void LoadTask::read_range(const LoadSegment& segment, uint64_t begin, uint64_t count, uint8_t* to) {
  const File& file = open_file(segment);
  uint64_t done = 0;
  while (done < count) {
    check_stopped();
    const uint64_t wanted = std::min(kReadBytes, count - done);
    std::string problem;
    const int64_t got =
        file.input.read_at(segment.offset + begin + done, to + done, wanted, &problem);
    if (got < 0) fail_io(file.path, problem);
    if (got == 0) fail_io(file.path, "it ends before " + segment.name);
    done += static_cast<uint64_t>(got);
    report_progress(static_cast<uint64_t>(got));
  }
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
