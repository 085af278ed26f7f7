// A small layer on the CPU backend whose experts lie in a file, in memory or read when a call needs them,
// and calls of it.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <random>

#include "cpu/backend.h"
#include "engine/expert_cache.h"
#include "engine/loader.h"
#include "fixture.h"
#include "host_call.h"

namespace engine_test {

using sparse_experts::StoredType;

constexpr int64_t kExperts = 8;
constexpr int64_t kTopK = 2;
constexpr int64_t kHidden = 24;
constexpr int64_t kIntermediate = 40;
constexpr uint64_t kMatrix = kHidden * kIntermediate * sizeof(float);
constexpr MatrixKind kKinds[] = {MatrixKind::kGate, MatrixKind::kUp, MatrixKind::kDown};

inline std::vector<float> random_floats(size_t count, uint32_t seed, float deviation) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// A file with gate, up and down of each expert in f32, behind a few bytes that put them where no page
// begins.
class Checkpoint {
 public:
  static constexpr uint64_t kHeader = 52;

  Checkpoint() {
    char name[] = "/tmp/sparse-experts-cache-XXXXXX";
    const int descriptor = mkstemp(name);
    REQUIRE(descriptor >= 0);
    close(descriptor);
    path_ = name;
    write(1);
  }
  ~Checkpoint() { unlink(path_.c_str()); }
  Checkpoint(const Checkpoint&) = delete;
  Checkpoint& operator=(const Checkpoint&) = delete;
  const std::string& path() const { return path_; }

  // In place.
  void write(uint32_t seed) const {
    const std::vector<float> values = random_floats(kExperts * 3 * kMatrix / 4, seed, 0.3F);
    std::FILE* file = std::fopen(path_.c_str(), "r+b");
    REQUIRE(file != nullptr);
    CHECK(std::fseek(file, kHeader, SEEK_SET) == 0);
    CHECK(std::fwrite(values.data(), sizeof(float), values.size(), file) == values.size());
    std::fclose(file);
  }
  void cut(uint64_t bytes) const { CHECK(truncate(path_.c_str(), static_cast<off_t>(bytes)) == 0); }
  // Another file of this name, with other values.
  void replace() const {
    const Checkpoint other;
    other.write(2);
    CHECK(rename(other.path().c_str(), path_.c_str()) == 0);
  }
  // Makes the time of its last change differ, whatever the resolution of the clock.
  void age() const {
    const timespec times[2] = {{1'000'000, 0}, {1'000'000, 0}};
    CHECK(utimensat(AT_FDCWD, path_.c_str(), times, 0) == 0);
  }

 private:
  std::string path_;
};

inline std::vector<LoadItem> items_of_file() {
  std::vector<LoadItem> items;
  for (int64_t expert = 0; expert < kExperts; ++expert) {
    for (int kind = 0; kind < 3; ++kind) {
      LoadItem item;
      item.expert = expert;
      item.kind = kKinds[kind];
      item.encoding.data.type = StoredType::kF32;
      item.data = {0, Checkpoint::kHeader + static_cast<uint64_t>(expert * 3 + kind) * kMatrix,
                   kMatrix, StoredType::kF32,
                   "experts." + std::to_string(expert) + "." + std::to_string(kind)};
      items.push_back(item);
    }
  }
  return items;
}

inline std::shared_ptr<DeviceExecutor> make_cpu() {
  static std::atomic<int> number{0};
  return std::make_shared<DeviceExecutor>(sparse_experts::cpu_backend(), 0,
                                          "cache-" + std::to_string(number++));
}

inline LayerDescription description_of(const CacheOptions& cache, int64_t max_joint_rows = 0) {
  static const std::vector<float> router = random_floats(kExperts * kHidden, 3, 1);
  LayerDescription layer;
  layer.hidden_size = kHidden;
  layer.intermediate_size = kIntermediate;
  layer.num_experts = kExperts;
  layer.routing.num_experts = kExperts;
  layer.routing.top_k = kTopK;
  layer.routing.num_expert_groups = 1;
  layer.routing.topk_group = 1;
  layer.routing.scaling_factor = 1;
  layer.activation = {SE_SILU, 1, 1, 0, 0, 0};
  layer.num_threads = 2;
  layer.cache = cache;
  layer.max_joint_rows = max_joint_rows;
  layer.vectors[sparse_experts::kRouterWeight] = {router.data(), router.size()};
  return layer;
}

// One expert's memory on this processor.
inline uint64_t block_bytes() {
  CacheOptions all;
  all.host_bytes = uint64_t{1} << 30;
  return LayerState::create(description_of(all), make_cpu())->cache()->plan().block_bytes;
}

inline CacheOptions cache_of(int64_t blocks) {
  static const uint64_t bytes = block_bytes();
  CacheOptions cache;
  cache.host_bytes = static_cast<uint64_t>(blocks) * bytes;
  return cache;
}

inline Failure load(const std::shared_ptr<LayerState>& layer, const std::string& path,
                    std::vector<LoadItem> items = items_of_file(), std::vector<int32_t> warm = {}) {
  Inbox inbox;
  std::vector<LayerLoad> loads(1);
  loads[0] = {layer, {path}, std::move(items), 0, std::move(warm)};
  LoadTask task(std::move(loads));
  task.start(inbox.queue(), 1, false);
  inbox.wait_done(1);
  task.join();
  return task.failure();
}

// A call of random rows.
class Rows : public HostCall {
 public:
  Rows(std::shared_ptr<LayerState> layer, int64_t num_tokens, uint32_t seed)
      : HostCall(std::move(layer),
                 random_floats(static_cast<size_t>(num_tokens * kHidden), seed, 1)),
        seed_(seed) {}

  Failure run() {
    layer()->executor().run_exclusive([&] { LayerTask::run(layer()->executor()); });
    return failure();
  }
  uint32_t seed() const { return seed_; }
  std::vector<int32_t> experts() const {
    std::vector<int32_t> all = ids;
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    return all;
  }

 private:
  const uint32_t seed_;
};

// The layer with all experts in memory, and what it makes of a call.
inline const std::vector<float>& expected(int64_t num_tokens, uint32_t seed) {
  static const Checkpoint file;
  static const std::shared_ptr<LayerState> layer = [] {
    auto made = LayerState::create(description_of({}), make_cpu());
    REQUIRE(load(made, file.path()).is_ok());
    return made;
  }();
  static std::map<std::pair<int64_t, uint32_t>, std::vector<float>> known;
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  std::vector<float>& output = known[{num_tokens, seed}];
  if (!output.empty()) return output;
  const auto call = std::make_shared<Rows>(layer, num_tokens, seed);
  REQUIRE(call->run().is_ok());
  return output = call->output;
}

inline bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct Cached {
  explicit Cached(const CacheOptions& cache, int64_t max_joint_rows = 0)
      : layer(LayerState::create(description_of(cache, max_joint_rows), make_cpu())) {
    REQUIRE(load(layer, file.path()).is_ok());
  }
  std::shared_ptr<Rows> call(int64_t num_tokens, uint32_t seed) const {
    return std::make_shared<Rows>(layer, num_tokens, seed);
  }
  Failure run(int64_t num_tokens, uint32_t seed) const { return call(num_tokens, seed)->run(); }
  bool is_right(int64_t num_tokens, uint32_t seed) const {
    const auto one = call(num_tokens, seed);
    return one->run().is_ok() && same(one->output, expected(num_tokens, seed));
  }
  CacheStats stats() const { return layer->cache()->stats(); }

  Checkpoint file;
  std::shared_ptr<LayerState> layer;
};

}  // namespace engine_test
