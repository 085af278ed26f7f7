# CPU kernels: one file per instruction set, each with its own flags, chosen at run time (csrc/cpu/isa/choose_isa.cc).
# -O3 unrolls and vectorises the plain loops there; the vector types of scalar.cc are wider than the baseline's registers (psabi).
# g++ would give each row of a block a pointer of its own and count them all up: a fifth of the inner loop's instructions.
set(SE_O3 -O3 $<$<CXX_COMPILER_ID:GNU>:-fno-ivopts>)
set(SE_ISA_SOURCES csrc/cpu/isa/scalar.cc)
set_source_files_properties(csrc/cpu/isa/scalar.cc PROPERTIES COMPILE_OPTIONS "${SE_O3};-Wno-psabi")
set(SE_ISA_DEFINITIONS "")
option(SE_AVX512_IN_C "Tests only: the AVX-512 kernels on a processor without it, its instructions in C++" OFF)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(SE_ISA_DEFINITIONS SPARSE_EXPERTS_X86=1)
  list(APPEND SE_ISA_SOURCES csrc/cpu/isa/avx2.cc csrc/cpu/isa/avxvnni.cc csrc/cpu/isa/avx512.cc csrc/cpu/isa/avx512vnni.cc
    csrc/cpu/isa/avx512bf16.cc csrc/cpu/isa/avx512bf16_quant.cc)
  # g++ 12 warns falsely inside the AVX-512 intrinsics headers (GCC PR105593).
  set(SE_AVX512 ${SE_O3} -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma -mf16c -Wno-uninitialized -Wno-maybe-uninitialized)
  set_source_files_properties(csrc/cpu/isa/avx2.cc PROPERTIES COMPILE_OPTIONS "${SE_O3};-mavx2;-mfma;-mf16c")
  set_source_files_properties(csrc/cpu/isa/avxvnni.cc PROPERTIES COMPILE_OPTIONS "${SE_O3};-mavx2;-mfma;-mf16c;-mavxvnni")
  set_source_files_properties(csrc/cpu/isa/avx512.cc PROPERTIES COMPILE_OPTIONS "${SE_AVX512}")
  set_source_files_properties(csrc/cpu/isa/avx512vnni.cc PROPERTIES COMPILE_OPTIONS "${SE_AVX512};-mavx512vnni")
  set_source_files_properties(csrc/cpu/isa/avx512bf16.cc PROPERTIES COMPILE_OPTIONS "${SE_AVX512};-mavx512bf16")
  set_source_files_properties(csrc/cpu/isa/avx512bf16_quant.cc PROPERTIES COMPILE_OPTIONS "${SE_AVX512};-mavx512bf16;-mavx512vbmi")
  if(SE_AVX512_IN_C)
    # Each instruction is a function: inlined into every block they take minutes to compile.
    list(APPEND SE_ISA_DEFINITIONS SE_AVX512_IN_C=1)
    set_source_files_properties(csrc/cpu/isa/avx512.cc csrc/cpu/isa/avx512vnni.cc csrc/cpu/isa/avx512bf16.cc csrc/cpu/isa/avx512bf16_quant.cc PROPERTIES COMPILE_OPTIONS
      "-O2;-fno-inline;-mavx2;-mfma;-mf16c;-Wno-psabi;-include;${CMAKE_CURRENT_SOURCE_DIR}/test/native/avx512_in_c.h")
  endif()
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
  set(SE_ISA_DEFINITIONS SPARSE_EXPERTS_NEON=1)
  list(APPEND SE_ISA_SOURCES csrc/cpu/isa/neon.cc csrc/cpu/isa/neondotprod.cc csrc/cpu/isa/neoni8mm.cc)
  # On arm64 g++ orders instructions before it gives out registers: loads of a whole block come first, and accumulators go to the stack.
  set(SE_NEON ${SE_O3} $<$<CXX_COMPILER_ID:GNU>:-fno-schedule-insns>)
  set_source_files_properties(csrc/cpu/isa/neon.cc PROPERTIES COMPILE_OPTIONS "${SE_NEON}")
  set_source_files_properties(csrc/cpu/isa/neondotprod.cc PROPERTIES COMPILE_OPTIONS "${SE_NEON};-march=armv8.2-a+dotprod")
  set_source_files_properties(csrc/cpu/isa/neoni8mm.cc PROPERTIES COMPILE_OPTIONS "${SE_NEON};-march=armv8.2-a+dotprod+i8mm")
endif()

# Under AddressSanitizer -O1: the same kernels, compiled in a fifth of the time that -O3 takes. Those that do not run here: no optimisation.
# AddressSanitizer's checks are calls there, because g++ takes longer to write them out than to compile the rest. Undefined behaviour ends
# the program there by an illegal instruction instead of a call that describes it, which halves the compile; handle_sigill in
# tools/test/sanitizers.mjs makes AddressSanitizer say where. ThreadSanitizer's run takes the plain set alone (tools/test/native.mjs).
if(SE_SANITIZE AND EXISTS /proc/cpuinfo)
  file(STRINGS /proc/cpuinfo SE_CPU_FLAGS REGEX "^flags" LIMIT_COUNT 1)
  foreach(SE_SET scalar avx2 avxvnni avx512 avx512vnni avx512bf16 avx512bf16_quant)
    string(REGEX REPLACE "avx512bf16(_quant)?" avx512_bf16 SE_FLAG ${SE_SET})
    string(REGEX REPLACE "^(avx|avx512)vnni$" "\\1_vnni" SE_FLAG ${SE_FLAG})
    string(REGEX REPLACE "avx512$" avx512bw SE_FLAG ${SE_FLAG})
    if(NOT SE_SET STREQUAL scalar AND (SE_SANITIZE STREQUAL thread OR NOT SE_CPU_FLAGS MATCHES " ${SE_FLAG}( |$)"))
      set_property(SOURCE csrc/cpu/isa/${SE_SET}.cc APPEND PROPERTY COMPILE_OPTIONS -O0)
    elseif(SE_SANITIZE MATCHES address)
      set_property(SOURCE csrc/cpu/isa/${SE_SET}.cc APPEND PROPERTY COMPILE_OPTIONS -O1
        $<$<CXX_COMPILER_ID:GNU>:--param=asan-instrumentation-with-call-threshold=0>
        $<$<CXX_COMPILER_ID:GNU>:-fsanitize-undefined-trap-on-error>)
    endif()
  endforeach()
endif()
