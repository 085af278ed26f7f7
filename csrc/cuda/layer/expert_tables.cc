#include "cuda/layer/expert_tables.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/numeric.h"
#include "cuda/runtime/device.h"
#include "cuda/variants.h"
#include "ops/checks.h"

namespace sparse_experts::cuda {
namespace {

constexpr auto kMapBytes = static_cast<uint64_t>(kWeightMapBytes);
static_assert(kMapBytes % 64 == 0, "kernels read maps at multiples of 64 bytes");

}  // namespace

Status ExpertTables::open(SeExperts* experts, LayerMaps* maps) {
  num_experts_ = experts->num_experts;
  gate_up_maps_.matrices = describe_matrices(*experts, false);
  down_maps_.matrices = describe_matrices(*experts, true);
  uint64_t bytes = table_bytes();
  for (Maps* of : {&gate_up_maps_, &down_maps_}) {
    of->are_read = reads_maps(device_, of->matrices);
    of->offset = bytes = round_up(bytes, kMapBytes);
    if (of->are_read) bytes += static_cast<uint64_t>(num_experts_) * kMapBytes;
  }
  SE_RETURN_IF_ERROR(block_.open(bytes));
  SE_RETURN_IF_ERROR(fetch(*experts));
  const auto own = [&](int table) {
    return reinterpret_cast<const void* const*>(block_.device()) + table * num_experts_;
  };
  if (experts->gate.data != nullptr) experts->gate.data = own(kGate);
  experts->up.data = own(kUp);
  experts->down.data = own(kDown);
  if (gate_up_maps_.are_read) maps->gate_up = block_.device() + gate_up_maps_.offset;
  if (down_maps_.are_read) maps->down = block_.device() + down_maps_.offset;
  return Status::ok();
}

// What the layer was opened with, as if it were set one by one.
Status ExpertTables::fetch(const SeExperts& experts) {
  const auto count = static_cast<size_t>(num_experts_);
  std::vector<const void*> found[kNumTables];
  const void* const* const tables[kNumTables] = {experts.gate.data, experts.up.data,
                                                 experts.down.data};
  for (int table = 0; table < kNumTables; ++table) {
    found[table].resize(count);
    if (tables[table] != nullptr)
      SE_RETURN_IF_ERROR(
          device_.copier().to_host(found[table].data(), tables[table], count * sizeof(void*)));
  }
  char* host = nullptr;
  SE_RETURN_IF_ERROR(block_.edit(&host));
  std::memset(host, 0, table_bytes());
  std::vector<int32_t> here;
  std::vector<SeExpertMatrices> matrices;
  const bool gated = experts.activation.gated != 0;
  for (size_t e = 0; e < count; ++e) {
    const SeExpertMatrices one = {found[kGate][e], found[kUp][e], found[kDown][e]};
    if (one.up == nullptr || one.down == nullptr || (gated && one.gate == nullptr)) continue;
    here.push_back(static_cast<int32_t>(e));
    matrices.push_back(one);
  }
  first_changed_ = 0;
  end_changed_ = num_experts_;
  return set(here.data(), static_cast<int64_t>(here.size()), matrices.data());
}

bool ExpertTables::has_any(const int32_t* experts, int64_t num_experts) const {
  return std::any_of(experts, experts + num_experts,
                     [&](int32_t expert) { return is_present(expert); });
}

// Of gate and up, then of down. Those of an expert that is nowhere, or that no kernel reads, are left
// out: nothing reads them.
Status ExpertTables::encode(const SeExpertMatrices& expert,
                            std::vector<unsigned char>* maps) const {
  maps->assign(2 * kMapBytes, 0);
  if (expert.up == nullptr) return Status::ok();
  const auto encode_one = [&](const Maps& of, const void* gate, const void* up, unsigned char* to) {
    if (!of.are_read) return true;
    WeightMatrices matrices = of.matrices;
    matrices.count = 1;
    matrices.gate = &gate;
    matrices.up = &up;
    return encode_weight_maps(matrices, device_.limits().device, to);
  };
  SE_CHECK_ARGUMENT(encode_one(gate_up_maps_, expert.gate, expert.up, maps->data()) &&
                        encode_one(down_maps_, nullptr, expert.down, maps->data() + kMapBytes),
                    "layer: matrices of an expert lie where kernels cannot read them");
  return Status::ok();
}

Status ExpertTables::set(const int32_t* experts, int64_t num_experts,
                         const SeExpertMatrices* matrices) {
  std::vector<std::vector<unsigned char>> maps(static_cast<size_t>(num_experts));
  for (int64_t i = 0; i < num_experts; ++i)
    SE_RETURN_IF_ERROR(encode(matrices[i], &maps[static_cast<size_t>(i)]));
  char* host = nullptr;
  SE_RETURN_IF_ERROR(block_.edit(&host));
  auto* const pointers = reinterpret_cast<const void**>(host);
  for (int64_t i = 0; i < num_experts; ++i) {
    const int64_t e = experts[i];
    pointers[kGate * num_experts_ + e] = matrices[i].gate;
    pointers[kUp * num_experts_ + e] = matrices[i].up;
    pointers[kDown * num_experts_ + e] = matrices[i].down;
    const unsigned char* map = maps[static_cast<size_t>(i)].data();
    for (const Maps* of : {&gate_up_maps_, &down_maps_}) {
      if (of->are_read)
        std::memcpy(host + of->offset + static_cast<uint64_t>(e) * kMapBytes, map, kMapBytes);
      map += kMapBytes;
    }
    mark_changed(e);
  }
  return Status::ok();
}

void ExpertTables::mark_changed(int64_t expert) {
  const bool is_first = first_changed_ == end_changed_;
  first_changed_ = is_first ? expert : std::min(first_changed_, expert);
  end_changed_ = is_first ? expert + 1 : std::max(end_changed_, expert + 1);
}

Status ExpertTables::bring_up_to_date(cudaStream_t stream, bool* has_queued) {
  *has_queued = first_changed_ != end_changed_;
  if (!*has_queued) return Status::ok();
  // A few kilobytes: the pointers go as one.
  SE_RETURN_IF_ERROR(block_.upload(0, table_bytes(), stream));
  const auto count = static_cast<uint64_t>(end_changed_ - first_changed_);
  for (const Maps* of : {&gate_up_maps_, &down_maps_}) {
    if (!of->are_read) continue;
    SE_RETURN_IF_ERROR(block_.upload(of->offset + static_cast<uint64_t>(first_changed_) * kMapBytes,
                                     count * kMapBytes, stream));
  }
  first_changed_ = end_changed_ = 0;
  return Status::ok();
}

}  // namespace sparse_experts::cuda
