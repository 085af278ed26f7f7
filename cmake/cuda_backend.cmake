# The CUDA backend, real or emulated (SE_CUDA_BUILD): the library that the addon opens at run time, and its tests.
#   sparse_experts_cuda       libsparse_experts_cuda.so beside the addon
#   sparse_experts_cuda_code  its objects, for programs that see more than the entry point
#   cuda_tests, conformance   test programs, not part of the default build
set(SE_CUDA_HOST_SOURCES
  csrc/cuda/backend.cc
  csrc/cuda/kernels/any/f32_expert_matmul_config.cc
  csrc/cuda/kernels/sm80/half_expert_matmul_config.cc
  csrc/cuda/kernels/sm80/stored_expert_matmul_config.cc
  csrc/cuda/kernels/sm90/wg_expert_matmul_config.cc
  csrc/cuda/kernels/sm90/wg_weight_maps.cc
  csrc/cuda/layer/call_arrays.cc
  csrc/cuda/layer/describe.cc
  csrc/cuda/layer/expert_tables.cc
  csrc/cuda/layer/forward.cc
  csrc/cuda/layer/forward_plan.cc
  csrc/cuda/layer/forward_run.cc
  csrc/cuda/layer/forward_wave.cc
  csrc/cuda/layer/forward_wave_matmuls.cc
  csrc/cuda/layer/graph_cache.cc
  csrc/cuda/layer/layer.cc
  csrc/cuda/layer/layer_calls.cc
  csrc/cuda/layer/layer_large.cc
  csrc/cuda/layer/layer_small.cc
  csrc/cuda/layer/place_arrays.cc
  csrc/cuda/layer/run_arrays.cc
  csrc/cuda/layer/staging_plan.cc
  csrc/cuda/layer/weight_maps.cc
  csrc/cuda/layouts/pack_stored.cc
  csrc/cuda/layouts/stored_layout.cc
  csrc/cuda/ops/expert_matmul.cc
  csrc/cuda/ops/expert_matmul_tiles.cc
  csrc/cuda/runtime/availability.cc
  csrc/cuda/runtime/call_staging.cc
  csrc/cuda/runtime/copier.cc
  csrc/cuda/runtime/device.cc
  csrc/cuda/runtime/errors.cc
  csrc/cuda/runtime/filler.cc
  csrc/cuda/runtime/matrix.cc
  csrc/cuda/runtime/memory.cc
  csrc/cuda/runtime/mirrored_block.cc
  csrc/cuda/runtime/tensor_map.cc
  csrc/cuda/stages/content_checks.cc
  csrc/cuda/stages/expert_matmul_stage.cc
  csrc/cuda/stages/stages.cc
  csrc/cuda/variants.cc)

# --- how kernels are compiled --------------------------------------------------------------------------------------------------
# Products and sums fuse only where the source says fmaf, as in all native code: the emulator and every architecture round alike.
add_library(se_kernel_flags INTERFACE)
if(SE_CUDA_BUILD STREQUAL "EMULATED")
  add_subdirectory(emulator)
  # One sanitizer for all code of a process; the race flavour (SIMT_RACE) instruments the kernels alone.
  target_link_libraries(simt_emulator PUBLIC se_sanitize)
  target_link_libraries(se_kernel_flags INTERFACE simt_kernel_flags simt_emulator)
else()
  set(SE_NVCC_FLAGS --fmad=false -Xcompiler=-Wall,-Wextra,-ffp-contract=off)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)
    list(APPEND SE_NVCC_FLAGS --compress-mode=size)
  endif()
  if(SE_WERROR)
    list(APPEND SE_NVCC_FLAGS -Werror=all-warnings)
  endif()
  target_compile_options(se_kernel_flags INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:${SE_NVCC_FLAGS}>)
  target_link_libraries(se_kernel_flags INTERFACE CUDA::cudart_static)
endif()
target_link_libraries(se_kernel_flags INTERFACE se_flags)

# -O2: -O3 doubles the compile and gains nothing here. Instrumented, -O1 compiles in two thirds of the time and runs about as fast.
set(SE_EMULATED_LEVEL -O2)
if(SE_SANITIZE OR SIMT_RACE)
  set(SE_EMULATED_LEVEL -O1)
endif()
# Makes .cu files C++ where the emulator takes nvcc's place. g++ warns falsely of
# members that a loop over a template's size always sets.
function(se_kernel_sources)
  if(SE_CUDA_BUILD STREQUAL "EMULATED")
    set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "${SE_EMULATED_LEVEL};-Wno-unknown-pragmas;-Wno-maybe-uninitialized")
  endif()
endfunction()

# --- the library ---------------------------------------------------------------------------------------------------------------
# One object library for each folder of kernels, because each is compiled for the architectures on which its variants run
# (csrc/cuda/variants.cc); `npm run check:kernels` compares the two.
#   se_add_kernels(NAME ARCHITECTURES SOURCE…)   ARCHITECTURES as in CMAKE_CUDA_ARCHITECTURES
set(SE_KERNEL_OBJECTS "")
function(se_add_kernels name architectures)
  se_kernel_sources(${ARGN})
  add_library(se_kernels_${name} OBJECT ${ARGN})
  target_link_libraries(se_kernels_${name} PUBLIC se_kernel_flags)
  if(SE_CUDA_BUILD STREQUAL "ON")
    set_target_properties(se_kernels_${name} PROPERTIES CUDA_ARCHITECTURES "${architectures}")
  endif()
  set(SE_KERNEL_OBJECTS ${SE_KERNEL_OBJECTS} $<TARGET_OBJECTS:se_kernels_${name}> PARENT_SCOPE)
endfunction()

se_add_kernels(any "${CMAKE_CUDA_ARCHITECTURES}"
  csrc/cuda/kernels/any/f32_f32_expert_matmul.cu
  csrc/cuda/ops/capacity.cu
  csrc/cuda/ops/combine.cu
  csrc/cuda/ops/content_checks.cu
  csrc/cuda/ops/dispatch.cu
  csrc/cuda/ops/elementwise.cu
  csrc/cuda/ops/router.cu
  csrc/cuda/ops/select.cu)
# Every supported architecture is 80 or newer.
se_add_kernels(sm80 "${CMAKE_CUDA_ARCHITECTURES}"
  csrc/cuda/kernels/sm80/bf16_bf16_expert_matmul.cu
  csrc/cuda/kernels/sm80/bf16_e4m3_expert_matmul.cu
  csrc/cuda/kernels/sm80/bf16_i8_expert_matmul.cu
  csrc/cuda/kernels/sm80/bf16_u4_expert_matmul.cu
  csrc/cuda/kernels/sm80/f16_e4m3_expert_matmul.cu
  csrc/cuda/kernels/sm80/f16_f16_expert_matmul.cu
  csrc/cuda/kernels/sm80/f16_i8_expert_matmul.cu
  csrc/cuda/kernels/sm80/f16_u4_expert_matmul.cu)

# wgmma is machine code of 90a and of nothing else: where 90 is among the architectures, or all of them are emulated.
set(SE_UNBOUNDED_OBJECTS ${SE_KERNEL_OBJECTS})
if(SE_CUDA_BUILD STREQUAL "EMULATED" OR "${CMAKE_CUDA_ARCHITECTURES}" MATCHES "(^|;)90a?(-real)?(;|$)")
  set(SE_CUDA_SM90A ON)
  set(SE_SM90_SOURCES
    csrc/cuda/kernels/sm90/bf16_bf16_wg_expert_matmul.cu
    csrc/cuda/kernels/sm90/f16_f16_wg_expert_matmul.cu)
  se_add_kernels(sm90 90a-real ${SE_SM90_SOURCES})
endif()

add_library(sparse_experts_cuda_host OBJECT ${SE_CUDA_HOST_SOURCES})
if(SE_CUDA_BUILD STREQUAL "EMULATED")
  # The headers and the runtime, not the kernels' instrumentation.
  target_link_libraries(sparse_experts_cuda_host PUBLIC simt_emulator se_flags)
else()
  target_link_libraries(sparse_experts_cuda_host PUBLIC se_kernel_flags)
endif()
target_compile_definitions(sparse_experts_cuda_host PRIVATE SE_CUDA_ARCHITECTURES="${SE_CUDA_ARCHITECTURE_TEXT}"
  $<$<BOOL:${SE_CUDA_SM90A}>:SE_CUDA_SM90A>)

# What a program or library links to have all of it.
add_library(sparse_experts_cuda_code INTERFACE)
target_sources(sparse_experts_cuda_code INTERFACE
  ${SE_KERNEL_OBJECTS}
  $<TARGET_OBJECTS:sparse_experts_cuda_host>
  $<TARGET_OBJECTS:sparse_experts_core>)
if(SE_CUDA_BUILD STREQUAL "EMULATED")
  target_link_libraries(sparse_experts_cuda_code INTERFACE simt_emulator se_flags)
else()
  target_link_libraries(sparse_experts_cuda_code INTERFACE CUDA::cudart_static se_flags)
endif()

# The same for programs that test on a card: a wait within a kernel that never ends is a trap there. The emulator ends one by itself.
if(SE_CUDA_SM90A AND SE_CUDA_BUILD STREQUAL "ON")
  add_library(bounded_kernels_sm90 OBJECT EXCLUDE_FROM_ALL ${SE_SM90_SOURCES})
  target_link_libraries(bounded_kernels_sm90 PUBLIC se_kernel_flags)
  target_compile_definitions(bounded_kernels_sm90 PRIVATE SE_BOUNDED_WAITS)
  set_target_properties(bounded_kernels_sm90 PROPERTIES CUDA_ARCHITECTURES 90a-real)
  add_library(sparse_experts_cuda_tested INTERFACE)
  target_sources(sparse_experts_cuda_tested INTERFACE
    ${SE_UNBOUNDED_OBJECTS}
    $<TARGET_OBJECTS:bounded_kernels_sm90>
    $<TARGET_OBJECTS:sparse_experts_cuda_host>
    $<TARGET_OBJECTS:sparse_experts_core>)
  target_link_libraries(sparse_experts_cuda_tested INTERFACE CUDA::cudart_static se_flags)
else()
  add_library(sparse_experts_cuda_tested ALIAS sparse_experts_cuda_code)
endif()

set(SE_CUDA_EXPORTS ${CMAKE_CURRENT_SOURCE_DIR}/cmake/cuda_exports.map)
add_library(sparse_experts_cuda SHARED)
target_link_libraries(sparse_experts_cuda PRIVATE sparse_experts_cuda_code)
set_target_properties(sparse_experts_cuda PROPERTIES
  LINKER_LANGUAGE CXX
  LINK_DEPENDS ${SE_CUDA_EXPORTS}
  LIBRARY_OUTPUT_DIRECTORY ${SE_ADDON_DIRECTORY})
target_link_options(sparse_experts_cuda PRIVATE
  LINKER:--gc-sections LINKER:--as-needed
  # The CUDA runtime has at-exit state.
  LINKER:-z,nodelete
  LINKER:--version-script=${SE_CUDA_EXPORTS})
if(NOT SE_SANITIZE)
  target_link_options(sparse_experts_cuda PRIVATE -static-libstdc++)
endif()
if(SE_CUDA_BUILD STREQUAL "ON")
  # Not where the emulator, a static library, has hooks for tests that the list of exports names.
  target_link_options(sparse_experts_cuda PRIVATE LINKER:--exclude-libs,ALL LINKER:-z,defs)
endif()
if(TARGET sparse_experts AND SE_CUDA_BUILD STREQUAL "ON")
  add_dependencies(sparse_experts sparse_experts_cuda)
endif()

# --- tests -----------------------------------------------------------------------------------------------------------------------
if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/test/cuda)
  return()  # the published package has no tests
endif()
include(cmake/doctest.cmake)
include(cmake/test_oracle.cmake)
se_test_program(cuda_tests
  test/cuda/backend_calls_test.cc
  test/cuda/backend_failures_test.cc
  test/cuda/backend_stages_test.cc
  test/cuda/backend_test.cc
  test/cuda/capacity_test.cc
  test/cuda/combine_test.cc
  test/cuda/device_layer.cc
  test/cuda/dispatch_test.cc
  test/cuda/early_launch_test.cc
  test/cuda/elementwise_test.cc
  test/cuda/fills_test.cc
  test/cuda/gate_test.cc
  test/cuda/main.cc
  test/cuda/matmul_configs_test.cc
  test/cuda/matmul_f32_problem.cc
  test/cuda/matmul_f32_test.cc
  test/cuda/matmul_half_test.cc
  test/cuda/matmul_wg_test.cc
  test/cuda/runs_failures_test.cc
  test/cuda/runs_layer.cc
  test/cuda/runs_rules_test.cc
  test/cuda/runs_test.cc
  test/cuda/select_test.cc
  test/cuda/stored_layers_test.cc
  test/cuda/stored_matmul_test.cc
  test/cuda/stored_problem.cc
  test/cuda/wait_test.cc
  test/cuda/warp_groups_test.cc)
se_link_tests(cuda_tests test_oracle sparse_experts_cuda_tested)
set_target_properties(cuda_tests PROPERTIES LINKER_LANGUAGE CXX)

# What each PTX wrapper does, to be compared between the emulator and hardware.
se_kernel_sources(test/conformance/conformance.cu)
add_executable(conformance EXCLUDE_FROM_ALL test/conformance/conformance.cu)
target_include_directories(conformance PRIVATE test)
target_link_libraries(conformance PRIVATE se_kernel_flags)

# The same of what sm_90a alone has, and of the maps that its bulk copies read by.
if(SE_CUDA_SM90A)
  se_kernel_sources(test/conformance90/conformance90.cu)
  add_executable(conformance90 EXCLUDE_FROM_ALL test/conformance90/conformance90.cu)
  target_include_directories(conformance90 PRIVATE test)
  target_link_libraries(conformance90 PRIVATE sparse_experts_cuda_tested se_kernel_flags)
  target_compile_definitions(conformance90 PRIVATE SE_BOUNDED_WAITS)
  if(SE_CUDA_BUILD STREQUAL "ON")
    set_target_properties(conformance90 PROPERTIES CUDA_ARCHITECTURES 90a-real)
  endif()
endif()

# Times the kernels by CUDA events, and every configuration of the matmuls: bench/gpu.
se_kernel_sources(bench/gpu/bench_layer.cu bench/gpu/machine_limits.cu)
function(se_gpu_bench name)
  add_executable(${name} EXCLUDE_FROM_ALL
    ${ARGN}
    bench/gpu/bench_case.cc
    bench/gpu/bench_layer.cu
    bench/gpu/machine_limits.cu
    bench/gpu/replay.cc)
  target_link_libraries(${name} PRIVATE sparse_experts_cuda_code se_kernel_flags ${CMAKE_DL_LIBS})
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
endfunction()
se_gpu_bench(cuda_bench bench/gpu/bench.cc bench/gpu/energy_counter.cc bench/gpu/measure_energy.cc)
se_gpu_bench(cuda_tune bench/gpu/tune.cc bench/gpu/tune_case.cc)
# Rows of large layers against the block in double precision; the bounds are those of the tests.
if(TARGET test_oracle)
  se_gpu_bench(cuda_rows bench/gpu/rows.cc)
  target_link_libraries(cuda_rows PRIVATE test_oracle)
endif()

# What the kernels do, counted: for docs/performance.
if(SE_CUDA_BUILD STREQUAL "EMULATED")
  se_gpu_bench(cuda_counts bench/gpu/counts.cc)
endif()

# Which configuration each matmul gets, for docs/performance: host code only.
add_executable(matmul_configs EXCLUDE_FROM_ALL bench/gpu/configs.cc)
target_link_libraries(matmul_configs PRIVATE sparse_experts_cuda_code)
set_target_properties(matmul_configs PROPERTIES LINKER_LANGUAGE CXX)

# The table of kernel variants as JSON, for tools/check/kernels.mjs: host code only.
add_executable(kernel_variants EXCLUDE_FROM_ALL bench/gpu/variants.cc)
target_link_libraries(kernel_variants PRIVATE sparse_experts_cuda_code)
set_target_properties(kernel_variants PROPERTIES LINKER_LANGUAGE CXX)
