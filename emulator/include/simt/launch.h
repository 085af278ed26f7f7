// Launching a kernel: simt::launch(kernel, grid, block, shared_bytes, stream, arguments…), shared
// memory, and what a runtime has to provide for it.
#pragma once

#include <cuda_runtime.h>

#include <tuple>
#include <type_traits>
#include <utility>

#include "simt/engine.h"
#include "simt/thread.h"

namespace simt {

// --- provided by the runtime ---------------------------------------------------------------------

// Queues a valid launch on the stream (or records it, while the stream captures).
cudaError_t enqueue_launch(KernelLaunch&& launch, cudaStream_t stream);

// Dynamic shared bytes that the kernel may ask for: 48 KiB unless cudaFuncSetAttribute raised it.
size_t kernel_shared_limit(const void* function);

// --- provided by the engine ----------------------------------------------------------------------

// What CUDA would say of the launch's shape, before anything is queued.
cudaError_t validate_launch(const KernelLaunch& launch);

// All shared bytes that the kernel may have on the current device: 48 KiB without leave for more.
size_t total_shared_limit(const void* function);

namespace detail {

void enter_kernel();
void leave_kernel();

// The arguments of a launch. They are copied here as CUDA copies them: when the launch is queued.
template <typename... Parameters>
struct Invocation {
  void (*kernel)(Parameters...);
  std::tuple<Parameters...> arguments;

  template <size_t... kIndex>
  __attribute__((no_sanitize("thread"))) void call(std::index_sequence<kIndex...>) const {
    enter_kernel();
    kernel(std::get<kIndex>(arguments)...);
    leave_kernel();
  }
  __attribute__((no_sanitize("thread"))) void operator()() const {
    call(std::index_sequence_for<Parameters...>());
  }
};

}  // namespace detail

// How a launch is ordered after the one before it on its stream.
enum class Start {
  kAfter,  // when that one has ended
  kEarly   // possibly before: the kernel waits by itself (programmatic stream serialisation)
};

template <typename... Parameters, typename... Arguments>
cudaError_t launch(Start start, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                   size_t shared_bytes, cudaStream_t stream, Arguments&&... arguments) {
  static_assert((!std::is_reference<Parameters>::value && ...), "kernels take values");
  static_assert((std::is_trivially_copyable<Parameters>::value && ...),
                "kernels take plain values");
  KernelLaunch launch;
  launch.grid = grid;
  launch.block = block;
  launch.shared_bytes = shared_bytes;
  launch.function = reinterpret_cast<const void*>(kernel);
  launch.early = start == Start::kEarly;
  const cudaError_t error = validate_launch(launch);
  if (error != cudaSuccess) return error;
  launch.shared_limit = total_shared_limit(launch.function);
  launch.name = function_name(launch.function);
  launch.body = detail::Invocation<Parameters...>{
      kernel, std::tuple<Parameters...>(static_cast<Parameters>(arguments)...)};
  return enqueue_launch(std::move(launch), stream);
}

template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, Arguments&&... arguments) {
  return launch(Start::kAfter, kernel, grid, block, shared_bytes, stream,
                std::forward<Arguments>(arguments)...);
}

}  // namespace simt
