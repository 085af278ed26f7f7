#include "cuda/layer/graph_cache.h"

#include <algorithm>
#include <cstring>

#include "cuda/runtime/device.h"

namespace sparse_experts::cuda {

static_assert(sizeof(GraphKey) == 17 * sizeof(int64_t), "no padding: keys are compared as bytes");

GraphKey make_graph_key(const SeForwardArgs& args, const void* workspace, const void* block) {
  GraphKey key;
  const auto address = [](const void* data) {
    return static_cast<uint64_t>(reinterpret_cast<uintptr_t>(data));
  };
  const SeSelectArgs& select = args.select;
  key.num_tokens = select.num_tokens;
  key.hidden_dtype = args.hidden.dtype;
  key.device_arrays = args.device_arrays;
  key.replay = args.replay != 0 ? 1 : 0;
  if ((args.device_arrays & SE_ARRAY_HIDDEN) != 0) {
    key.hidden = address(args.hidden.data);
    key.hidden_stride = args.hidden.strides[0];
  }
  if ((args.device_arrays & SE_ARRAY_OUTPUT) != 0) {
    key.output = address(args.output.data);
    key.output_stride = args.output.strides[0];
  }
  if (args.replay == 0) {
    if (args.router_input.data != nullptr) {
      key.present_arrays |= 1;
      key.router_input_dtype = args.router_input.dtype;
      if ((args.device_arrays & SE_ARRAY_ROUTER_INPUT) != 0) {
        key.router_input = address(args.router_input.data);
        key.router_input_stride = args.router_input.strides[0];
      }
    }
    if (select.row_top_k != nullptr) key.present_arrays |= 2;
    if (select.sequence_lengths != nullptr) {
      key.present_arrays |= 4;
      key.num_sequences = select.num_sequences;
    }
    if (select.row_top_p != nullptr) key.present_arrays |= 8;
    key.call_top_k = select.call_top_k;
    std::memcpy(&key.top_p, &select.top_p, sizeof key.top_p);
  }
  key.workspace = address(workspace);
  key.block = address(block);
  return key;
}

GraphCache::Action GraphCache::look_up(const GraphKey& key, Entry** entry) {
  ++clock_;
  for (Entry& known : entries_) {
    if (known.last_use == 0 || std::memcmp(&known.key, &key, sizeof key) != 0) continue;
    known.last_use = clock_;
    *entry = &known;
    if (known.graph != nullptr) return Action::kReplay;
    return known.is_forbidden ? Action::kPlain : Action::kCapture;
  }
  Entry& oldest =
      *std::min_element(entries_.begin(), entries_.end(),
                        [](const Entry& a, const Entry& b) { return a.last_use < b.last_use; });
  release(&oldest);
  oldest.key = key;
  oldest.last_use = clock_;
  *entry = &oldest;
  return Action::kPlain;
}

void GraphCache::clear() {
  for (Entry& entry : entries_) release(&entry);
}

void GraphCache::release(Entry* entry) {
  if (entry->graph != nullptr && device_.enter().is_ok())
    static_cast<void>(device_.check(cudaGraphExecDestroy(entry->graph), "cudaGraphExecDestroy"));
  *entry = Entry();
}

}  // namespace sparse_experts::cuda
