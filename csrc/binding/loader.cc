#include "binding/loader.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "binding/device_memory.h"
#include "binding/store_matrix.h"
#include "core/dtype.h"
#include "core/numeric.h"

namespace sparse_experts::binding {
namespace {

// Between two looks at the cancel flag; large enough to keep a disk busy.
constexpr uint64_t kReadBytes = uint64_t{8} << 20;
constexpr std::chrono::milliseconds kProgressInterval{33};
constexpr uint64_t kScratchAlignment = 64;

[[noreturn]] void fail_io(const std::string& path, const std::string& what) {
  fail(ErrorCode::kIo, "cannot read " + path + ": " + what);
}

bool is_stored_as(StoredType type, int32_t dtype) {
  return (type == StoredType::kF32 && dtype == SE_F32) ||
         (type == StoredType::kF16 && dtype == SE_F16) ||
         (type == StoredType::kBF16 && dtype == SE_BF16);
}

}  // namespace

LoadTask::LoadTask(std::shared_ptr<LayerState> layer, std::vector<std::string> files,
                   std::vector<LoadItem> items)
    : layer_(std::move(layer)),
      items_(std::move(items)),
      is_host_(layer_->executor().has_host_memory()) {
  for (std::string& path : files) files_.push_back({std::move(path), -1, 0});
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

void LoadTask::run() {
  try {
    for (const LoadItem& item : items_) load_item(item);
  } catch (...) {
    failure_ = current_failure();
  }
  for (File& file : files_) {
    if (file.descriptor >= 0) close(file.descriptor);
  }
  scratch_.reset();
}

void LoadTask::load_item(const LoadItem& item) {
  check_cancelled();
  const MatrixSlot slot = layer_->matrix_slot(item.role, item.expert, item.kind);
  const EncodedMatrix& encoding = item.encoding;
  const bool is_plain = encoding.codec == Codec::kFloat && !encoding.transposed &&
                        item.scale.bytes == 0 && item.global_scale.bytes == 0 &&
                        slot.row_stride == slot.cols &&
                        is_stored_as(item.data.type, layer_->dtype());
  const uint64_t expected = encoded_data_bytes(encoding, slot.rows, slot.cols);
  if (expected == 0 || expected != item.data.bytes) {
    fail_argument(item.data.name + " has " + std::to_string(item.data.bytes) +
                  " bytes, its shape needs " + std::to_string(expected));
  }
  if (is_plain) {
    if (is_host_) {
      read(item.data, slot.data);
    } else {
      read_to_device(item.data, slot.data);
    }
  } else {
    const LoadSegment* segments[] = {&item.data, &item.scale, &item.zero_point, &item.group_index,
                                     &item.global_scale};
    const int64_t element_bytes = dtype_bytes(layer_->dtype());
    uint64_t bytes = is_host_ ? 0 : static_cast<uint64_t>(slot.rows * slot.cols * element_bytes);
    for (const LoadSegment* segment : segments) {
      // Also checks the length against the file's, before memory is taken for it.
      if (segment->bytes > 0) open_file(*segment);
      bytes += round_up(segment->bytes, kScratchAlignment);
    }
    uint8_t* next = scratch(bytes);
    EncodedMatrix matrix = encoding;
    matrix.data = read_into(item.data, &next);
    matrix.scale = read_into(item.scale, &next);
    matrix.zero_point = read_into(item.zero_point, &next);
    matrix.group_index = read_into(item.group_index, &next);
    matrix.global_scale = read_into(item.global_scale, &next);
    uint8_t* decoded = is_host_ ? slot.data : next;
    const int64_t stride = is_host_ ? slot.row_stride : slot.cols;
    const Status status =
        decode_matrix(matrix, slot.rows, slot.cols, layer_->dtype(), decoded, stride);
    if (!status.is_ok()) {
      Failure failure = Failure::from(status);
      failure.message = item.data.name + ": " + failure.message;
      throw_if_failed(failure);
    }
    check_cancelled();
    if (!is_host_) write_rows(layer_->executor(), slot, element_bytes, 0, slot.rows, decoded);
  }
  layer_->mark_written(item.role, item.expert, item.kind);
}

Span LoadTask::read_into(const LoadSegment& segment, uint8_t** scratch) {
  if (segment.bytes == 0) return {};
  uint8_t* to = *scratch;
  read(segment, to);
  *scratch += round_up(segment.bytes, kScratchAlignment);
  return {to, segment.bytes, segment.type};
}

LoadTask::File& LoadTask::open_file(const LoadSegment& segment) {
  File& file = files_[segment.file];
  if (file.descriptor < 0) {
    file.descriptor = open(file.path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file.descriptor < 0) fail_io(file.path, std::strerror(errno));
    struct stat info;
    if (fstat(file.descriptor, &info) != 0) fail_io(file.path, std::strerror(errno));
    if (!S_ISREG(info.st_mode)) fail_io(file.path, "not a regular file");
    file.bytes = static_cast<uint64_t>(info.st_size);
  }
  if (segment.bytes > file.bytes || segment.offset > file.bytes - segment.bytes) {
    fail_io(file.path, "it ends before " + segment.name);
  }
  return file;
}

uint8_t* LoadTask::scratch(uint64_t bytes) {
  if (bytes + kScratchAlignment > scratch_bytes_) {
    scratch_.reset();
    scratch_bytes_ = 0;
    scratch_.reset(new uint8_t[bytes + kScratchAlignment]);
    scratch_bytes_ = bytes + kScratchAlignment;
  }
  const auto begin = reinterpret_cast<uintptr_t>(scratch_.get());
  return scratch_.get() + (round_up(begin, kScratchAlignment) - begin);
}

void LoadTask::read(const LoadSegment& segment, void* to) {
  read_range(segment, 0, segment.bytes, static_cast<uint8_t*>(to));
}

void LoadTask::read_to_device(const LoadSegment& segment, uint8_t* to) {
  open_file(segment);
  uint8_t* piece = scratch(std::min(kReadBytes, segment.bytes));
  for (uint64_t begin = 0; begin < segment.bytes; begin += kReadBytes) {
    const uint64_t count = std::min(kReadBytes, segment.bytes - begin);
    read_range(segment, begin, count, piece);
    copy_to_device(layer_->executor(), to + begin, piece, count);
  }
}

void LoadTask::read_range(const LoadSegment& segment, uint64_t begin, uint64_t count, uint8_t* to) {
  const File& file = open_file(segment);
  uint64_t done = 0;
  while (done < count) {
    check_cancelled();
    const uint64_t wanted = std::min(kReadBytes, count - done);
    const ssize_t got = pread(file.descriptor, to + done, wanted,
                              static_cast<off_t>(segment.offset + begin + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_io(file.path, std::strerror(errno));
    if (got == 0) fail_io(file.path, "it ends before " + segment.name);
    done += static_cast<uint64_t>(got);
    report_progress(static_cast<uint64_t>(got));
  }
}

void LoadTask::check_cancelled() const {
  if (cancel_.load(std::memory_order_relaxed)) throw_if_failed(Failure::from(Status::cancelled()));
}

void LoadTask::report_progress(uint64_t bytes) {
  loaded_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  if (!reports_progress_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - last_report_ < kProgressInterval) return;
  // A busy JS thread gets one event, not a heap of them.
  if (progress_pending_.exchange(true, std::memory_order_relaxed)) return;
  last_report_ = now;
  completions_->post({call_id_, CompletionQueue::Event::kProgress});
}

LoadCall::LoadCall(Napi::Env env, const Napi::Function& done, const Napi::Value& progress,
                   std::unique_ptr<LoadTask> task)
    : PendingCall(env, done), task_(std::move(task)) {
  if (!is_absent(progress) && napi_create_reference(env, progress, 1, &progress_) != napi_ok) {
    throw Napi::Error::New(env);
  }
  task_->layer()->is_loading = true;
}

LoadCall::~LoadCall() {
  if (!completed_) task_->layer()->is_loading = false;
  if (progress_ != nullptr) napi_delete_reference(env_, progress_);
}

void LoadCall::deliver_progress() {
  task_->progress_delivered();
  if (progress_ == nullptr) return;
  call_back(env_, progress_, Napi::Number::New(env_, static_cast<double>(task_->loaded_bytes())));
}

Failure LoadCall::complete() {
  task_->join();
  completed_ = true;
  task_->layer()->is_loading = false;
  task_->layer()->load_failed = !task_->failure().is_ok();
  return task_->failure();
}

void LoadCall::stop() {
  task_->cancel();
  task_->join();
}

}  // namespace sparse_experts::binding
