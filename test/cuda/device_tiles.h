// The tile records of a matmul's lists, in device memory, by a plain loop.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/harness.h"
#include "cuda/ops/expert_matmul.h"

namespace native_test {

using sparse_experts::cuda::TileRecord;

// Expert e has the entries offsets[e] … offsets[e + 1] - 1.
inline std::vector<TileRecord> tile_records(const std::vector<int32_t>& offsets,
                                            int64_t tile_tokens) {
  std::vector<TileRecord> records;
  for (size_t e = 0; e + 1 < offsets.size(); ++e) {
    const auto first_tile = static_cast<int32_t>(records.size());
    for (int64_t at = offsets[e]; at < offsets[e + 1]; at += tile_tokens)
      records.push_back(
          {static_cast<int32_t>(e), first_tile, offsets[e], offsets[e + 1] - offsets[e]});
  }
  return records;
}

class DeviceTiles {
 public:
  DeviceTiles(const std::vector<int32_t>& offsets, int64_t tile_tokens)
      : records_(tile_records(offsets, tile_tokens)),
        count_(std::vector<int32_t>{static_cast<int32_t>(records_.size())}) {}

  void name_in(sparse_experts::cuda::MatmulGroup* group) const {
    group->tiles = records_.data();
    group->num_tiles = count_.data();
  }

 private:
  DeviceArray<TileRecord> records_;
  DeviceArray<int32_t> count_;
};

}  // namespace native_test
