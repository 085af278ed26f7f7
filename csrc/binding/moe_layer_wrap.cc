#include "binding/moe_layer_wrap.h"

#include <array>
#include <limits>
#include <memory>
#include <vector>

#include "binding/arguments.h"
#include "binding/environment.h"
#include "binding/load_items.h"
#include "core/dtype.h"
#include "engine/store_matrix.h"
#include "formats/stored_matrix.h"

namespace sparse_experts::binding {
namespace {

constexpr napi_type_tag kLayerTag = {0x5e3c1d8f2b7a4096, 0x9d41f6a80c52e37b};

bool is_native_layer(const Napi::Value& object) {
  bool is_layer = false;
  return napi_check_object_type_tag(object.Env(), object, &kLayerTag, &is_layer) == napi_ok &&
         is_layer;
}

}  // namespace

Napi::Function MoeLayerWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeLayer",
                     {InstanceMethod<&MoeLayerWrap::set_matrix>("setMatrix"),
                      InstanceMethod<&MoeLayerWrap::set_encoded>("setEncoded"),
                      InstanceMethod<&MoeLayerWrap::forward>("forward"),
                      InstanceMethod<&MoeLayerWrap::cancel>("cancel"),
                      InstanceMethod<&MoeLayerWrap::forward_sync>("forwardSync"),
                      InstanceMethod<&MoeLayerWrap::workspace_bytes>("workspaceBytes"),
                      InstanceMethod<&MoeLayerWrap::describe_forward>("describeForward"),
                      InstanceMethod<&MoeLayerWrap::memory>("memory"),
                      InstanceMethod<&MoeLayerWrap::cache>("cache"),
                      InstanceMethod<&MoeLayerWrap::phases>("phases"),
                      InstanceMethod<&MoeLayerWrap::dispose>("dispose")});
}

Napi::Object describe_kernels(Napi::Env env, const DeviceExecutor& executor,
                              const SeMoeLayer& layer, const SeLayerOptions& options,
                              int64_t num_tokens) {
  SeForwardDescription description = {};
  executor.backend().describe_forward(executor.device(), &layer, &options, num_tokens,
                                      &description);
  Napi::Object object = Napi::Object::New(env);
  object.Set("gate", description.gate);
  object.Set("select", description.select);
  object.Set("dispatch", description.dispatch);
  object.Set("gateUp", description.gate_up);
  object.Set("down", description.down);
  object.Set("combine", description.combine);
  return object;
}

Napi::Value MoeLayerWrap::create(Napi::Env env, std::shared_ptr<LayerState> layer) {
  Environment& environment = Environment::of(env);
  environment.layer_to_wrap = std::move(layer);
  const Napi::Value object = environment.layer_class.New({});
  environment.layer_to_wrap.reset();
  return object;
}

MoeLayerWrap::MoeLayerWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<MoeLayerWrap>(info) {
  guarded(info.Env(), [&] {
    layer_ = std::move(Environment::of(info.Env()).layer_to_wrap);
    if (!layer_) fail_argument("A NativeLayer is made by createLayer only");
    if (napi_type_tag_object(info.Env(), info.This(), &kLayerTag) != napi_ok) {
      fail(ErrorCode::kInternal, "Node refused a type tag");
    }
    // The garbage collector should feel host memory; a device's is not its business.
    if (!layer_->executor().has_host_memory()) return;
    reported_bytes_ = static_cast<int64_t>(layer_->bytes());
    Napi::MemoryManagement::AdjustExternalMemory(info.Env(), reported_bytes_);
  });
}

void MoeLayerWrap::Finalize(Napi::BasicEnv env) { release(env); }

void MoeLayerWrap::release(Napi::BasicEnv env) {
  if (reported_bytes_ != 0) {
    int64_t adjusted = 0;
    napi_adjust_external_memory(env, -reported_bytes_, &adjusted);
    reported_bytes_ = 0;
  }
  if (!layer_) return;
  released_ = layer_;
  layer_.reset();
}

std::shared_ptr<LayerState> MoeLayerWrap::layer_of(const Napi::Value& value) {
  const Napi::Object object = object_argument(value, "layer");
  if (!is_native_layer(object)) fail_argument("Expected a NativeLayer");
  auto layer = Unwrap(object)->layer_;
  if (!layer) fail(ErrorCode::kDisposed, "the layer is disposed");
  return layer;
}

void MoeLayerWrap::check_receiver(const Napi::CallbackInfo& info) const {
  if (!is_native_layer(info.This()))
    fail_argument("A method of NativeLayer was called on another object");
}

std::shared_ptr<LayerState> MoeLayerWrap::live(const Napi::CallbackInfo& info) const {
  check_receiver(info);
  if (!layer_) fail(ErrorCode::kDisposed, "the layer is disposed");
  return layer_;
}

std::shared_ptr<LayerState> MoeLayerWrap::runnable(const Napi::CallbackInfo& info) const {
  check_receiver(info);
  check_runnable();
  return layer_;
}

void MoeLayerWrap::check_runnable() const {
  if (!layer_) fail(ErrorCode::kDisposed, "the layer is disposed");
  if (layer_->is_loading) fail_argument("The layer is still loading");
  if (layer_->load_failed) fail_argument("The layer's weights did not load");
}

void MoeLayerWrap::check_writable() const {
  if (!layer_) fail(ErrorCode::kDisposed, "the layer is disposed");
  if (layer_->is_loading || layer_->calls_in_flight > 0) {
    fail_argument("Weights cannot change while the layer is in use");
  }
}

// What setMatrix and setEncoded begin with: (role, expert, matrix, ...). Runs none of the caller's
// code.
MoeLayerWrap::MatrixPlace MoeLayerWrap::place_argument(const Napi::CallbackInfo& info) const {
  check_receiver(info);
  check_writable();
  MatrixPlace place;
  place.role = matrix_role_argument(info[0]);
  place.expert = integer_argument(info[1], "expert", 0, kMaxCount);
  place.kind = matrix_kind_argument(info[2]);
  if (place.role == MatrixRole::kExpert && layer_->cache() != nullptr)
    fail_argument("The experts of a cached layer are read from its files");
  place.slot = layer_->matrix_slot(place.role, place.expert, place.kind);
  return place;
}

Napi::Value MoeLayerWrap::set_matrix(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const MatrixPlace place = place_argument(info);
    const MatrixSlot& slot = place.slot;
    const int32_t dtype = float_dtype_argument(info[4], "dtype");
    constexpr int64_t kMaxElements = int64_t{1} << 53;
    const int64_t offset = integer_argument(info[5], "offset", 0, kMaxElements);
    const int64_t row_stride = integer_argument(info[6], "rowStride", -kMaxElements, kMaxElements);
    const int64_t col_stride = integer_argument(info[7], "colStride", -kMaxElements, kMaxElements);
    const ArrayView data = array_view_any_length(info[3], "data", float_array_type(dtype));
    check_inside(offset, multiply(slot.rows - 1, row_stride, "rowStride"),
                 multiply(slot.cols - 1, col_stride, "colStride"), data.length);
    store_matrix(
        layer_->executor(),
        {data.as<const uint8_t>() + offset * dtype_bytes(dtype), dtype, row_stride, col_stride},
        slot);
    layer_->mark_written(place.role, place.expert, place.kind);
    return info.Env().Undefined();
  });
}

// (role, expert, matrix, encoding, parts)
Napi::Value MoeLayerWrap::set_encoded(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const MatrixPlace place = place_argument(info);
    const MatrixSlot& slot = place.slot;
    EncodedMatrix encoding = parse_encoding(object_argument(info[3], "encoding"));
    const std::array<EncodedPart, 6> parts = read_encoded_parts(info[4]);
    // Reading the properties may have run the caller's code.
    check_writable();
    take_encoded_parts(parts, &encoding);
    std::unique_ptr<StoredMatrix> stored;
    throw_if_failed(Failure::from(StoredMatrix::open(encoding, slot.rows, slot.cols, &stored)));
    std::vector<uint8_t> scratch(stored_scratch_bytes(layer_->executor(), slot));
    store_stored(layer_->executor(), *stored, slot, scratch.data(), [] {});
    layer_->mark_written(place.role, place.expert, place.kind);
    return info.Env().Undefined();
  });
}

int64_t MoeLayerWrap::num_tokens_argument(const Napi::CallbackInfo& info,
                                          const LayerState& layer) const {
  return integer_argument(info[0], "numTokens", 0,
                          std::numeric_limits<int32_t>::max() / layer.layer().routing.top_k);
}

Napi::Value MoeLayerWrap::workspace_bytes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto layer = live(info);
    const int64_t tokens = num_tokens_argument(info, *layer);
    const DeviceExecutor& executor = layer->executor();
    const uint64_t bytes = executor.backend().forward_workspace_bytes(
        executor.device(), &layer->layer(), &layer->options(), tokens);
    return Napi::Number::New(info.Env(), static_cast<double>(bytes));
  });
}

Napi::Value MoeLayerWrap::describe_forward(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto layer = live(info);
    const int64_t tokens = num_tokens_argument(info, *layer);
    return describe_kernels(info.Env(), layer->executor(), layer->layer(), layer->options(),
                            tokens);
  });
}

Napi::Value MoeLayerWrap::memory(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    check_receiver(info);
    // After dispose the memory stays until the last accepted call has ended.
    const auto layer = layer_ ? layer_ : released_.lock();
    Napi::Object report = Napi::Object::New(info.Env());
    const bool is_host = layer && layer->executor().has_host_memory();
    const double bytes = layer ? static_cast<double>(layer->bytes()) : 0;
    const double pinned = layer ? static_cast<double>(layer->pinned_bytes()) : 0;
    report.Set("hostBytes", Napi::Number::New(info.Env(), is_host ? bytes : pinned));
    report.Set("deviceBytes", Napi::Number::New(info.Env(), is_host ? 0 : bytes));
    const double workspace = layer ? static_cast<double>(layer->executor().workspace_bytes()) : 0;
    report.Set("workspaceBytes", Napi::Number::New(info.Env(), workspace));
    return report;
  });
}

Napi::Value MoeLayerWrap::cache(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    check_receiver(info);
    const ExpertCache* const cache = layer_ ? layer_->cache() : nullptr;
    if (cache == nullptr) return info.Env().Null();
    const CachePlan& plan = cache->plan();
    const CacheStats stats = cache->stats();
    Napi::Object report = Napi::Object::New(info.Env());
    const auto set = [&](const char* name, auto value) {
      report.Set(name, Napi::Number::New(info.Env(), static_cast<double>(value)));
    };
    set("expertBytes", plan.block_bytes);
    set("slots", plan.num_slots);
    set("ringSlots", plan.num_ring);
    set("hostSlots", cache->host_tier().num_blocks());
    set("readers", cache->num_readers());
    set("hits", stats.hits);
    set("misses", stats.misses);
    set("hostHits", stats.host_hits);
    set("evictions", stats.evictions);
    set("bytesRead", stats.bytes_read);
    set("waitNs", stats.wait_ns);
    set("prefetchExperts", plan.num_prefetched);
    set("prefetched", stats.prefetched.given);
    set("prefetchUsed", stats.prefetched.used);
    set("prefetchWasted", stats.prefetched.wasted);
    set("prefetchDropped", stats.prefetched.dropped);
    set("bytesPrefetched", stats.bytes_prefetched);
    report.Set("directIo", cache->is_direct());
    return report;
  });
}

Napi::Value MoeLayerWrap::phases(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    check_receiver(info);
    const auto read = layer_ ? layer_->executor().backend().layer_phases : nullptr;
    if (read == nullptr || layer_->opened() == nullptr) return info.Env().Null();
    SePhaseTimes times = {};
    read(layer_->opened(), &times);
    Napi::Object report = Napi::Object::New(info.Env());
    const auto set = [&](const char* name, int64_t nanoseconds) {
      report.Set(name, Napi::Number::New(info.Env(), static_cast<double>(nanoseconds) * 1e-9));
    };
    set("routing", times.routing_ns);
    set("dispatch", times.dispatch_ns);
    set("experts", times.experts_ns);
    set("combine", times.combine_ns);
    return report;
  });
}

Napi::Value MoeLayerWrap::dispose(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    check_receiver(info);
    if (layer_) Environment::of(info.Env()).layer_disposed(layer_.get());
    release(info.Env());
    return info.Env().Undefined();
  });
}

}  // namespace sparse_experts::binding
