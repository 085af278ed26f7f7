#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>

#include "bench_layer.h"
#include "cuda/common/launch.cuh"
#include "cuda/common/num.cuh"

namespace sparse_experts::bench {
namespace {

constexpr int kThreads = 256;

// A permutation of 32-bit numbers with well-mixed bits.
__device__ __forceinline__ uint32_t mix(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ x >> 16;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    fill_kernel(T* data, int64_t count, float scale, uint32_t seed) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += stride) {
    const uint32_t bits =
        mix(mix(static_cast<uint32_t>(i) ^ seed * 0x9e3779b9u) + static_cast<uint32_t>(i >> 32));
    // Two uniform values in [0, 1): their sum has variance 1/6.
    const float sum = static_cast<float>(bits & 0xffffu) + static_cast<float>(bits >> 16);
    data[i] = cuda::from_float<T>((sum * (1.0f / 65536.0f) - 1.0f) * (2.4494897f * scale));
  }
}

template <typename T>
void fill(T* data, int64_t count, float scale, uint32_t seed, cudaStream_t stream) {
  const auto blocks =
      static_cast<unsigned>(std::min<int64_t>((count + kThreads - 1) / kThreads, 4096));
  if (blocks == 0) return;
  must(cuda::launch(fill_kernel<T>, dim3(blocks), dim3(kThreads), 0, stream, data, count, scale,
                    seed),
       "fill");
}

// One block of allocations: offsets first, memory later.
class Layout {
 public:
  uint64_t take(uint64_t bytes) {
    const uint64_t at = size_;
    size_ = (size_ + bytes + 255) / 256 * 256;
    return at;
  }
  uint64_t size() const { return size_; }

 private:
  uint64_t size_ = 0;
};

}  // namespace

void must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "cuda_bench: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver ? 3 : 1);
}

DeviceMemory allocate(uint64_t bytes, const char* what) {
  void* pointer = nullptr;
  must(cudaMalloc(&pointer, std::max<uint64_t>(bytes, 1)), what);
  return DeviceMemory(static_cast<char*>(pointer));
}

void fill_bf16(void* data, int64_t count, float scale, uint32_t seed, cudaStream_t stream) {
  fill(static_cast<cuda::Bf16*>(data), count, scale, seed, stream);
}

void fill_f32(float* data, int64_t count, float scale, uint32_t seed, cudaStream_t stream) {
  fill(data, count, scale, seed, stream);
}

uint64_t BenchLayer::expert_bytes() const {
  return static_cast<uint64_t>(3 * shape_.hidden_size * shape_.intermediate_size * 2);
}

uint64_t BenchLayer::shared_bytes() const {
  return static_cast<uint64_t>(3 * shape_.hidden_size * shape_.shared_size * 2);
}

BenchLayer::BenchLayer(const Shape& shape, int max_copies, uint64_t bytes_at_most, bool one_expert)
    : shape_(shape) {
  const uint64_t copy_bytes =
      static_cast<uint64_t>(shape.num_experts) * expert_bytes() + shared_bytes();
  const auto fitting = static_cast<int>(std::min<uint64_t>(bytes_at_most / copy_bytes, 1 << 20));
  memory_.push_back(allocate(static_cast<uint64_t>(shape.num_experts) * 4, "bias"));
  bias_ = reinterpret_cast<float*>(memory_.back().get());
  const int64_t router_count = shape.num_experts * shape.hidden_size;
  memory_.push_back(allocate(static_cast<uint64_t>(router_count) * 4, "router"));
  router_ = reinterpret_cast<float*>(memory_.back().get());
  fill_f32(router_, router_count, 1.0f / std::sqrt(static_cast<float>(shape.hidden_size)), 7,
           nullptr);
  const int copies = std::max(1, std::min(max_copies, fitting));
  for (int copy = 0; copy < copies; ++copy) add_copy(copy, one_expert);
  must(cudaDeviceSynchronize(), "weights");
}

void BenchLayer::add_copy(int number, bool one_expert) {
  const int64_t hidden = shape_.hidden_size;
  const uint64_t matrix = static_cast<uint64_t>(hidden * shape_.intermediate_size * 2);
  const uint64_t shared_matrix = static_cast<uint64_t>(hidden * shape_.shared_size * 2);
  const auto experts = static_cast<uint64_t>(shape_.num_experts);
  Layout layout;
  uint64_t weights[3];
  uint64_t shared[3];
  for (uint64_t& offset : weights) offset = layout.take((one_expert ? 1 : experts) * matrix);
  for (uint64_t& offset : shared) offset = layout.take(shared_matrix);
  uint64_t tables[6];
  for (int i = 0; i < 6; ++i) tables[i] = layout.take((i < 3 ? experts : 1) * sizeof(void*));
  memory_.push_back(allocate(layout.size(), "weights"));
  char* const base = memory_.back().get();

  SeMoeLayer layer{};
  layer.hidden_size = hidden;
  layer.routing.scoring = SE_SOFTMAX;
  layer.routing.num_experts = shape_.num_experts;
  layer.routing.top_k = shape_.top_k;
  layer.routing.num_expert_groups = 1;
  layer.routing.topk_group = 1;
  layer.routing.normalization = SE_NORM_SUM;
  layer.routing.scaling_factor = 1;
  layer.router_weight = router_;
  const auto fill_matrix = [&](int which, uint64_t offset, int64_t count, int64_t columns,
                               uint32_t seed) {
    fill_bf16(base + offset, count, 1.0f / std::sqrt(static_cast<float>(columns)),
              seed + static_cast<uint32_t>(which) + 16u * static_cast<uint32_t>(number), nullptr);
  };
  const auto make_table = [&](uint64_t offset, uint64_t first, uint64_t stride, uint64_t count) {
    std::vector<const void*> entries;
    for (uint64_t i = 0; i < count; ++i) entries.push_back(base + first + i * stride);
    must(cudaMemcpy(base + offset, entries.data(), count * sizeof(void*), cudaMemcpyHostToDevice),
         "table");
    return reinterpret_cast<const void* const*>(base + offset);
  };
  const auto fill_experts = [&](SeExperts* out, int64_t count, int64_t size, const uint64_t* at,
                                const uint64_t* table, uint32_t seed) {
    out->num_experts = count;
    out->dtype = SE_BF16;
    out->activation = {SE_SILU, 1, 1.0f, 0.0f, 0.0f};
    SeMatrixTable* const matrices[3] = {&out->gate, &out->up, &out->down};
    for (int i = 0; i < 3; ++i) {
      const int64_t columns = i == 2 ? size : hidden;
      fill_matrix(i, at[i], (one_expert ? 1 : count) * hidden * size, columns, seed);
      const uint64_t stride = one_expert ? 0 : static_cast<uint64_t>(hidden * size * 2);
      *matrices[i] = {make_table(table[i], at[i], stride, static_cast<uint64_t>(count)),
                      i == 2 ? hidden : size, columns, columns};
    }
  };
  fill_experts(&layer.experts, shape_.num_experts, shape_.intermediate_size, weights, tables, 1);
  if (shape_.shared_size > 0)
    fill_experts(&layer.shared, 1, shape_.shared_size, shared, tables + 3, 4);
  layers_.push_back(layer);
}

void BenchLayer::set_zipf(bool zipf) {
  std::vector<int64_t> rank(static_cast<size_t>(shape_.num_experts));
  std::iota(rank.begin(), rank.end(), 0);
  std::shuffle(rank.begin(), rank.end(), std::mt19937(11));
  std::vector<float> bias(rank.size());
  std::transform(rank.begin(), rank.end(), bias.begin(),
                 [](int64_t r) { return -std::log1p(static_cast<float>(r)); });
  must(cudaMemcpy(bias_, bias.data(), bias.size() * 4, cudaMemcpyHostToDevice), "bias");
  for (SeMoeLayer& layer : layers_) layer.router_bias = zipf ? bias_ : nullptr;
}

void dump_array(const std::string& file, const void* data, uint64_t bytes) {
  std::vector<char> host(bytes);
  must(cudaMemcpy(host.data(), data, bytes, cudaMemcpyDeviceToHost), "download");
  std::FILE* out = std::fopen(file.c_str(), "wb");
  const bool written = out != nullptr && std::fwrite(host.data(), 1, bytes, out) == bytes;
  if (out == nullptr || std::fclose(out) != 0 || !written) {
    std::fprintf(stderr, "cuda_bench: cannot write %s\n", file.c_str());
    std::exit(1);
  }
}

void BenchLayer::dump(const std::string& directory) const {
  const SeMoeLayer& first = layers_.front();
  const auto first_matrix = [](const SeMatrixTable& table) {
    const void* pointer = nullptr;
    must(cudaMemcpy(&pointer, table.data, sizeof pointer, cudaMemcpyDeviceToHost), "table");
    return pointer;
  };
  const auto dump_experts = [&](const SeExperts& experts, const std::string& prefix) {
    const char* const names[3] = {"gate", "up", "down"};
    const SeMatrixTable* const matrices[3] = {&experts.gate, &experts.up, &experts.down};
    for (int i = 0; i < 3; ++i) {
      const auto bytes =
          static_cast<uint64_t>(experts.num_experts * matrices[i]->rows * matrices[i]->cols * 2);
      dump_array((directory + "/").append(prefix).append(names[i]).append(".bin"),
                 first_matrix(*matrices[i]), bytes);
    }
  };
  dump_experts(first.experts, "");
  if (shape_.shared_size > 0) dump_experts(first.shared, "shared_");
  dump_array(directory + "/router.bin", router_,
             static_cast<uint64_t>(shape_.num_experts * shape_.hidden_size) * 4);
  dump_array(directory + "/bias.bin", bias_, static_cast<uint64_t>(shape_.num_experts) * 4);
}

}  // namespace sparse_experts::bench
