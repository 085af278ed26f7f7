#include "engine/encoded_matmul.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <numeric>
#include <string>

#include "core/dtype.h"
#include "core/status.h"
#include "ops/contract.h"

namespace sparse_experts::engine {
namespace {

constexpr int64_t kGroupElements = int64_t{16} << 20;

SeTensor dense(void* data, int32_t dtype, std::initializer_list<int64_t> shape) {
  SeTensor tensor = {};
  tensor.data = data;
  tensor.dtype = dtype;
  tensor.rank = static_cast<int32_t>(shape.size());
  std::copy(shape.begin(), shape.end(), tensor.shape);
  int64_t stride = 1;
  for (int32_t axis = tensor.rank - 1; axis >= 0; --axis) {
    tensor.strides[axis] = stride;
    stride *= tensor.shape[axis];
  }
  return tensor;
}

// Experts that follow each other and have slots, as a stage call of their own: slots of theirs alone,
// numbered from 0.
class Group {
 public:
  explicit Group(const SeExpertMatmulArgs& args)
      : args_(args), rows_(args.weights.shape[1]), cols_(args.weights.shape[2]) {}

  bool is_empty() const { return experts_.empty(); }
  bool is_full() const {
    return (static_cast<int64_t>(experts_.size()) + 1) * rows_ * cols_ > kGroupElements;
  }

  Status add(int64_t expert, const EncodedMatrix& encoded) {
    const auto matrix = static_cast<size_t>(rows_ * cols_);
    experts_.push_back(expert);
    weights_.resize(experts_.size() * matrix);
    return decode_matrix(encoded, rows_, cols_, SE_F32, weights_.data() + weights_.size() - matrix,
                         cols_);
  }

  // Runs it, writes the rows of its slots, and empties it.
  int32_t run(const SeBackend& backend, SeDevice* device, SeStatus* status) {
    const auto num_experts = static_cast<int64_t>(experts_.size());
    const int32_t first = args_.expert_offsets[experts_.front()];
    std::vector<int32_t> offsets;
    for (const int64_t e : experts_) offsets.push_back(args_.expert_offsets[e] - first);
    offsets.push_back(args_.expert_offsets[experts_.back() + 1] - first);
    const int64_t num_slots = offsets.back();
    const int32_t* slots = args_.sorted_slots + first;
    std::vector<int32_t> numbers(static_cast<size_t>(num_slots));
    std::iota(numbers.begin(), numbers.end(), 0);
    std::vector<uint8_t> x = rows_of_slots(slots, num_slots);
    std::vector<float> bias = biases();
    const int64_t width = args_.output.shape[1];
    std::vector<float> out(static_cast<size_t>(num_slots * width));

    SeExpertMatmulArgs call = args_;
    call.x = dense(x.data(), args_.x.dtype, {num_slots, cols_});
    call.weights = dense(weights_.data(), SE_F32, {num_experts, rows_, cols_});
    if (!bias.empty()) call.bias = dense(bias.data(), SE_F32, {num_experts, rows_});
    call.num_slots = num_slots;
    call.gather = 0;
    call.expert_offsets = offsets.data();
    call.sorted_slots = numbers.data();
    call.output = dense(out.data(), SE_F32, {num_slots, width});
    const int32_t code = backend.expert_matmul(device, &call, status);
    if (code != SE_OK) return code;
    for (int64_t i = 0; i < num_slots; ++i)
      std::copy_n(out.data() + i * width, width,
                  static_cast<float*>(args_.output.data) + slots[i] * args_.output.strides[0]);
    experts_.clear();
    weights_.clear();
    return SE_OK;
  }

 private:
  std::vector<uint8_t> rows_of_slots(const int32_t* slots, int64_t num_slots) const {
    const int64_t element = dtype_bytes(args_.x.dtype);
    const auto row_bytes = static_cast<size_t>(cols_ * element);
    std::vector<uint8_t> rows(static_cast<size_t>(num_slots) * row_bytes);
    for (int64_t i = 0; i < num_slots; ++i) {
      const int64_t row = args_.gather != 0 ? slots[i] / args_.top_k : slots[i];
      std::memcpy(rows.data() + static_cast<size_t>(i) * row_bytes,
                  static_cast<const uint8_t*>(args_.x.data) + row * args_.x.strides[0] * element,
                  row_bytes);
    }
    return rows;
  }

  // [experts, rows]; empty: none.
  std::vector<float> biases() const {
    std::vector<float> bias;
    if (args_.bias.data == nullptr) return bias;
    for (const int64_t e : experts_) {
      const float* from = static_cast<const float*>(args_.bias.data) + e * args_.bias.strides[0];
      bias.insert(bias.end(), from, from + rows_);
    }
    return bias;
  }

  const SeExpertMatmulArgs& args_;
  int64_t rows_;
  int64_t cols_;
  std::vector<int64_t> experts_;
  std::vector<float> weights_;
};

}  // namespace

int32_t encoded_expert_matmul(const SeBackend& backend, SeDevice* device,
                              const SeExpertMatmulArgs& args,
                              const std::vector<EncodedMatrix>& experts, SeStatus* status) try {
  // Read here before the backend sees them.
  const Status contents = check_expert_matmul_contents(args);
  if (!contents.is_ok()) return contents.write_to(status);
  auto* output = static_cast<float*>(args.output.data);
  for (int64_t slot = 0; slot < args.num_slots; ++slot)
    std::fill_n(output + slot * args.output.strides[0], args.output.shape[1], 0.0F);
  Group group(args);
  for (size_t e = 0; e < experts.size(); ++e) {
    if (args.expert_offsets[e] == args.expert_offsets[e + 1]) continue;
    if (!group.is_empty() && group.is_full()) {
      const int32_t code = group.run(backend, device, status);
      if (code != SE_OK) return code;
    }
    const Status decoded = group.add(static_cast<int64_t>(e), experts[e]);
    if (!decoded.is_ok()) return decoded.write_to(status);
  }
  return group.is_empty() ? Status::ok().write_to(status) : group.run(backend, device, status);
} catch (const std::bad_alloc&) {
  const auto matrix = static_cast<uint64_t>(args.weights.shape[1] * args.weights.shape[2]);
  return Status::out_of_memory(matrix * sizeof(float), 0).write_to(status);
}

}  // namespace sparse_experts::engine
