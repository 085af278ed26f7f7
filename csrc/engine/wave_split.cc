#include "engine/wave_split.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "engine/failure.h"

namespace sparse_experts::engine {

WaveSplit split_wave(const SeForwardWave& wave, const SeSelectArgs& select, int64_t top_k,
                     const std::vector<int32_t>& owner_of, int32_t rank) {
  const auto num_experts = static_cast<int64_t>(owner_of.size());
  std::vector<int32_t> counts(owner_of.size(), 0);
  std::map<int32_t, PeerPart> parts;
  for (int64_t t = 0; t < wave.num_tokens; ++t) {
    const int64_t token = wave.first_token + t;
    if (select.non_finite != nullptr && select.non_finite[token] != 0) continue;
    for (int64_t k = 0; k < top_k; ++k) {
      const int32_t expert = select.topk_ids[token * top_k + k];
      // Dropped, or an identity expert.
      if (expert < 0 || expert >= num_experts) continue;
      ++counts[static_cast<size_t>(expert)];
      const int32_t owner = owner_of[static_cast<size_t>(expert)];
      if (owner == rank) continue;
      PeerPart& part = parts[owner];
      if (part.tokens.empty() || part.tokens.back() != token) part.tokens.push_back(token);
      part.slots.push_back({static_cast<uint32_t>(part.tokens.size() - 1), expert,
                            select.topk_weights[token * top_k + k]});
      part.slot_rows.push_back(t * top_k + k);
    }
  }
  WaveSplit split;
  for (int64_t e = 0; e < num_experts; ++e) {
    const int32_t counted = wave.expert_offsets[e + 1] - wave.expert_offsets[e];
    const int32_t found = counts[static_cast<size_t>(e)];
    if (counted != found)
      fail(ErrorCode::kInternal, "Expert " + std::to_string(e) + " has " + std::to_string(counted) +
                                     " slots, its ids stand in " + std::to_string(found));
    if (found == 0) continue;
    const bool is_own = owner_of[static_cast<size_t>(e)] == rank;
    (is_own ? split.own_experts : split.other_experts).push_back(static_cast<int32_t>(e));
  }
  for (auto& [owner, part] : parts) {
    part.owner = owner;
    split.parts.push_back(std::move(part));
  }
  return split;
}

}  // namespace sparse_experts::engine
