// Loading from files on several threads: contents, files that are not what they should be, failures
// in the middle, and aborts.
#include "engine/loader.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "fixture.h"

using namespace engine_test;
using sparse_experts::StoredType;

namespace {

constexpr int64_t kExperts = 12;
constexpr int64_t kRows = 64;
constexpr int64_t kCols = 32;
constexpr uint64_t kMatrix = kRows * kCols * sizeof(float);

// A file with the down matrices of kExperts experts in f32: element i of expert e is e * 10000 + i.
class Checkpoint {
 public:
  Checkpoint() {
    char name[] = "/tmp/sparse-experts-loader-XXXXXX";
    const int descriptor = mkstemp(name);
    REQUIRE(descriptor >= 0);
    close(descriptor);
    path_ = name;
    write(kExperts * kMatrix);
  }
  ~Checkpoint() { unlink(path_.c_str()); }
  const std::string& path() const { return path_; }

  void write(uint64_t bytes) const {
    std::vector<float> values;
    for (int64_t expert = 0; expert < kExperts; ++expert) {
      for (int64_t i = 0; i < kRows * kCols; ++i)
        values.push_back(static_cast<float>(expert * 10000 + i));
    }
    std::FILE* file = std::fopen(path_.c_str(), "wb");
    REQUIRE(file != nullptr);
    CHECK(std::fwrite(values.data(), 1, bytes, file) == bytes);
    std::fclose(file);
  }
  void cut() const { CHECK(truncate(path_.c_str(), 10) == 0); }

 private:
  std::string path_;
};

std::vector<LoadItem> items_of_file() {
  std::vector<LoadItem> items;
  for (int64_t expert = 0; expert < kExperts; ++expert) {
    LoadItem item;
    item.expert = expert;
    item.encoding.data.type = StoredType::kF32;
    item.data = {0, static_cast<uint64_t>(expert) * kMatrix, kMatrix, StoredType::kF32,
                 "experts." + std::to_string(expert)};
    items.push_back(item);
  }
  return items;
}

std::vector<LayerLoad> load_of(std::shared_ptr<LayerState> layer, const std::string& path,
                               std::vector<LoadItem> items) {
  return {{std::move(layer), {path}, std::move(items)}};
}

struct Loading {
  explicit Loading(int32_t dtype = SE_F32, int threads = 4) {
    LayerDescription description;
    description.dtype = dtype;
    description.num_experts = kExperts;
    description.hidden_size = kRows;
    description.intermediate_size = kCols;
    description.num_threads = threads;
    description.routing.num_experts = kExperts;
    description.routing.top_k = 2;
    layer = LayerState::create(description, executor);
  }

  std::unique_ptr<LoadTask> start(const std::string& path, std::vector<LoadItem> items,
                                  bool reports_progress = false) {
    auto task = std::make_unique<LoadTask>(load_of(layer, path, std::move(items)));
    task->start(inbox.queue(), 1, reports_progress);
    return task;
  }
  // The failure of a whole load.
  Failure load(const std::string& path, std::vector<LoadItem> items) {
    const size_t done = inbox.done();
    const auto task = start(path, std::move(items));
    CHECK(inbox.wait_done(done + 1).size() == done + 1);
    task->join();
    return task->failure();
  }
  const uint8_t* matrix(int64_t expert) const {
    return layer->matrix_slot(MatrixRole::kExpert, expert, MatrixKind::kDown).data;
  }

  Stub stub;
  std::shared_ptr<DeviceExecutor> executor = make_executor();
  Inbox inbox;
  std::shared_ptr<LayerState> layer;
};

}  // namespace

TEST_SUITE_BEGIN("loader");

TEST_CASE(
    "two layers are one load: matrices in the order of the files, and the layer that is read") {
  const Checkpoint file;
  const Checkpoint other;
  Loading first;
  Loading second;
  // The second layer's experts lie in front in one file; two of the first one's are in the other.
  std::vector<LoadItem> front = items_of_file();
  std::vector<LoadItem> back(front.begin() + 6, front.end());
  front.resize(6);
  std::vector<LayerLoad> loads = load_of(first.layer, file.path(), back);
  loads[0].files.push_back(other.path());
  for (size_t i = 0; i < 2; ++i) loads[0].items[i].data.file = 1;
  loads.push_back({second.layer, {file.path()}, front});
  LoadTask task(std::move(loads));
  task.start(first.inbox.queue(), 1, false);
  CHECK(first.inbox.wait_done(1).size() == 1);
  task.join();
  REQUIRE(task.failure().is_ok());
  CHECK(task.loaded_bytes() == kExperts * kMatrix);
  for (int64_t expert = 0; expert < kExperts; ++expert) {
    const auto* values =
        reinterpret_cast<const float*>((expert < 6 ? second : first).matrix(expert));
    CHECK(values[kRows * kCols - 1] == static_cast<float>(expert * 10000 + kRows * kCols - 1));
  }
  // What lies in the file that was named last is read last.
  CHECK(task.current_layer() == 0);
}

TEST_CASE("a failure in one layer ends the load of both") {
  const Checkpoint file;
  const Checkpoint damaged;
  damaged.cut();
  Loading first;
  Loading second;
  std::vector<LayerLoad> loads = load_of(first.layer, file.path(), items_of_file());
  loads.push_back(load_of(second.layer, damaged.path(), items_of_file())[0]);
  LoadTask task(std::move(loads));
  task.start(first.inbox.queue(), 1, false);
  CHECK(first.inbox.wait_done(1).size() == 1);
  task.join();
  CHECK(task.failure().code == ErrorCode::kIo);
  CHECK(task.failure().message.find(damaged.path()) != std::string::npos);
}

TEST_CASE("the workspace that a load asks for is there before the first call") {
  const Checkpoint file;
  Loading loading;
  std::vector<LayerLoad> loads = load_of(loading.layer, file.path(), items_of_file());
  loads[0].reserved_tokens = 32;
  LoadTask task(std::move(loads));
  CHECK(loading.executor->workspace_bytes() == 0);
  task.start(loading.inbox.queue(), 1, false);
  CHECK(loading.inbox.wait_done(1).size() == 1);
  task.join();
  REQUIRE(task.failure().is_ok());
  const uint64_t planned = loading.executor->backend().forward_workspace_bytes(
      loading.executor->device(), &loading.layer->layer(), &loading.layer->options(), 32);
  CHECK(planned > 0);
  CHECK(loading.executor->workspace_bytes() == planned);
}

TEST_CASE("every matrix arrives where it belongs, with one thread and with several") {
  const Checkpoint file;
  for (const int threads : {1, 4}) {
    CAPTURE(threads);
    Loading loading(SE_F32, threads);
    const auto task = loading.start(file.path(), items_of_file());
    loading.inbox.wait_done(1);
    task->join();
    CHECK(task->failure().message == "");
    CHECK(task->loaded_bytes() == kExperts * kMatrix);
    for (int64_t expert = 0; expert < kExperts; ++expert) {
      float last = 0;
      std::memcpy(&last, loading.matrix(expert) + kMatrix - 4, 4);
      CHECK(last == static_cast<float>(expert * 10000 + kRows * kCols - 1));
    }
    CHECK(loading.stub.breaches() == 0);
  }
}

TEST_CASE("another stored dtype is decoded on the way") {
  const Checkpoint file;
  Loading loading(SE_BF16);
  CHECK(loading.load(file.path(), items_of_file()).is_ok());
  uint16_t value = 0;
  std::memcpy(&value, loading.matrix(0) + 2 * 3, 2);
  CHECK(value == 0x4040);  // 3
}

TEST_CASE("a file that is missing, short, or no file is an IO failure that names it") {
  const Checkpoint file;
  Loading loading;
  const auto expect = [&](const std::string& path, const std::string& text) {
    const Failure failure = loading.load(path, items_of_file());
    CHECK(failure.code == ErrorCode::kIo);
    CHECK_MESSAGE(failure.message.find(text) != std::string::npos, failure.message);
    CHECK(failure.message.find(path) != std::string::npos);
  };
  expect("/tmp/sparse-experts-nowhere", "No such file");
  expect("/tmp", "not a regular file");
  file.write(kExperts * kMatrix - 1);
  expect(file.path(), "it ends before experts.11");
  file.write(0);
  expect(file.path(), "it ends before experts.0");
  file.write(kExperts * kMatrix);
  CHECK(loading.load(file.path(), items_of_file()).is_ok());
}

TEST_CASE("a file that shrinks while it is read is an IO failure") {
  const Checkpoint file;
  Loading loading(SE_F32, 1);
  loading.stub.write_milliseconds = 50;
  const auto task = loading.start(file.path(), items_of_file(), true);
  REQUIRE(wait_until([&] { return loading.inbox.progress() > 0; }));
  file.cut();
  loading.inbox.wait_done(1);
  task->join();
  CHECK(task->failure().code == ErrorCode::kIo);
  CHECK(task->loaded_bytes() < kExperts * kMatrix);
}

TEST_CASE("bytes that are not the shape's are refused before they are read") {
  const Checkpoint file;
  Loading loading;
  auto items = items_of_file();
  items[5].data.bytes -= 4;
  const Failure failure = loading.load(file.path(), items);
  CHECK(failure.code == ErrorCode::kInvalidArgument);
  CHECK(failure.message.find("experts.5 has 8188 bytes, its shape needs 8192") == 0);
}

TEST_CASE("a write that fails ends the load with its failure, and a second load succeeds") {
  const Checkpoint file;
  for (const int32_t code : {SE_OUT_OF_MEMORY, SE_INTERNAL}) {
    for (const int nth : {0, 5, 11}) {
      CAPTURE(nth);
      Loading loading;
      loading.stub.fail(Call::kMatrixWrite, code, nth);
      const Failure failure = loading.load(file.path(), items_of_file());
      CHECK(failure.code == (code == SE_INTERNAL ? ErrorCode::kInternal : ErrorCode::kOutOfMemory));
      CHECK(loading.load(file.path(), items_of_file()).is_ok());
    }
  }
}

TEST_CASE("a device that is lost in the middle ends the load, and stays lost") {
  const Checkpoint file;
  Loading loading;
  loading.stub.fail(Call::kMatrixWrite, SE_DEVICE_LOST, 3);
  CHECK(loading.load(file.path(), items_of_file()).code == ErrorCode::kDeviceLost);
  const int writes = loading.stub.calls(Call::kMatrixWrite);
  CHECK(loading.load(file.path(), items_of_file()).code == ErrorCode::kDeviceLost);
  CHECK(loading.stub.calls(Call::kMatrixWrite) == writes);
}

TEST_CASE("an abort on the first progress stops in the middle") {
  const Checkpoint file;
  for (const int threads : {1, 4}) {
    CAPTURE(threads);
    Loading loading(SE_F32, threads);
    loading.stub.write_milliseconds = 50;
    const auto task = loading.start(file.path(), items_of_file(), true);
    REQUIRE(wait_until([&] { return loading.inbox.progress() > 0; }));
    task->cancel();
    loading.inbox.wait_done(1);
    task->join();
    CHECK(task->failure().code == ErrorCode::kCancelled);
    CHECK(loading.stub.calls(Call::kMatrixWrite) < kExperts);
  }
}

TEST_CASE("progress waits until the last report was taken") {
  const Checkpoint file;
  Loading loading(SE_F32, 1);
  loading.stub.write_milliseconds = 20;
  const auto task = loading.start(file.path(), items_of_file(), true);
  loading.inbox.wait_done(1);
  task->join();
  CHECK(loading.inbox.progress() == 1);
  CHECK(task->loaded_bytes() == kExperts * kMatrix);
}

TEST_CASE("a load that nobody waits for stops with its owner") {
  const Checkpoint file;
  Loading loading;
  loading.stub.write_milliseconds = 50;
  loading.start(file.path(), items_of_file()).reset();
  CHECK(loading.stub.calls(Call::kMatrixWrite) < kExperts);
  CHECK(loading.inbox.wait_done(1).size() == 1);
}

TEST_CASE("a device with memory of its own is written by one thread") {
  const Checkpoint file;
  Stub stub;
  stub.is_host = false;
  const auto executor = make_executor();
  CHECK_FALSE(executor->has_host_memory());
  LayerDescription description;
  description.num_experts = kExperts;
  description.hidden_size = kRows;
  description.intermediate_size = kCols;
  const auto layer = LayerState::create(description, executor);
  Inbox inbox;
  LoadTask task(load_of(layer, file.path(), items_of_file()));
  task.start(inbox.queue(), 1, false);
  inbox.wait_done(1);
  task.join();
  CHECK(task.failure().is_ok());
  CHECK(task.loaded_bytes() == kExperts * kMatrix);
}

TEST_SUITE_END();
