#include "binding/measure_layer.h"

#include <algorithm>
#include <vector>

#include "binding/arguments.h"
#include "binding/environment.h"
#include "binding/errors.h"
#include "binding/layer_arguments.h"
#include "binding/load_items.h"
#include "binding/matrix_formats.h"
#include "engine/expert_source.h"
#include "engine/matrix_formats.h"

namespace sparse_experts::binding {
namespace {

constexpr int64_t kMaxLength = int64_t{1} << 53;

// The slot that a matrix will have, without memory.
MatrixSlot planned_slot(const StoredSource& source, int32_t dtype, const SeMatrixFormat& format,
                        bool is_interleaved) {
  MatrixSlot slot;
  slot.rows = source.rows;
  slot.cols = source.cols;
  slot.dtype = dtype;
  slot.format = &format;
  slot.is_interleaved = is_interleaved && source.kind == MatrixKind::kGateUp;
  return slot;
}

}  // namespace

Napi::Value measure_layer(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    const Napi::Object object = object_argument(info[0], "description");
    const int32_t dtype = float_dtype_argument(object.Get("dtype"), "dtype");
    LayerDescription layer =
        parse_layer_config(object_argument(object.Get("config"), "config"), dtype);
    layer.gate_up_interleaved = boolean_property(object, "gateUpInterleaved");
    layer.num_threads = static_cast<int32_t>(integer_property(object, "threads", 0, kMaxThreads));
    layer.cache = parse_cache(object.Get("cache"));
    take_held_formats(object, &layer);
    const std::vector<StoredSource> sources = parse_stored_sources(object.Get("matrices"));
    if (sources.size() != layer.held.size()) fail_argument("Each matrix needs a format");
    const Napi::Object lengths = object_argument(object.Get("vectorLengths"), "vectorLengths");
    for (int role = 0; role < kNumVectors; ++role) {
      const Napi::Value length = lengths.Get(kVectorNames[role]);
      if (is_absent(length)) continue;
      layer.vectors[role].length =
          static_cast<uint64_t>(integer_argument(length, kVectorNames[role], 0, kMaxLength));
    }
    const auto executor =
        Environment::of(env).device(text_argument(object.Get("device"), "device"));
    uint64_t scratch = 0;
    uint64_t reader_scratch = 0;
    for (size_t i = 0; i < sources.size(); ++i) {
      const MatrixSlot slot = planned_slot(sources[i], dtype, layer.formats[layer.held[i].format],
                                           layer.gate_up_interleaved);
      const EncodedMatrix& encoding = sources[i].encoding;
      scratch = std::max(scratch, load_scratch_bytes(*executor, slot, encoding, 0));
      if (layer.held[i].role != MatrixRole::kExpert) continue;
      constexpr uint64_t kReadBytes = ExpertSource::kReadBytes;
      reader_scratch =
          std::max(reader_scratch, load_scratch_bytes(*executor, slot, encoding, kReadBytes));
    }
    const LayerState::Planned planned = LayerState::planned(layer, executor);
    const size_t threads = num_load_threads(*executor, layer.num_threads);
    Napi::Object result = Napi::Object::New(env);
    result.Set("bytes", static_cast<double>(planned.bytes));
    result.Set("pinnedBytes", static_cast<double>(planned.pinned_bytes));
    result.Set("expertBytes", static_cast<double>(planned.expert_bytes));
    result.Set("scratchBytes", static_cast<double>(scratch));
    result.Set("readerScratchBytes", static_cast<double>(reader_scratch));
    result.Set("loadThreads", static_cast<double>(threads));
    return result;
  });
}

}  // namespace sparse_experts::binding
