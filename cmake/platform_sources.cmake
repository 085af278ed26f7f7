# The answers of csrc/platform for the system that is compiled for. Sets SE_PLATFORM_SOURCES.
if(WIN32)
  set(SE_PLATFORM_SOURCES
    csrc/platform/descriptor_windows.cc
    csrc/platform/environment_windows.cc
    csrc/platform/host_program_windows.cc
    csrc/platform/input_file_windows.cc
    csrc/platform/library_windows.cc
    csrc/platform/memory_windows.cc
    csrc/platform/process_exit_windows.cc
    csrc/platform/processors_windows.cc
    csrc/platform/windows.cc)
else()
  set(SE_PLATFORM_SOURCES
    csrc/platform/descriptor_posix.cc
    csrc/platform/environment_posix.cc
    csrc/platform/input_file_posix.cc
    csrc/platform/library_posix.cc
    csrc/platform/memory_limits.cc
    csrc/platform/memory_posix.cc
    csrc/platform/process_exit_posix.cc)
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    list(APPEND SE_PLATFORM_SOURCES csrc/platform/processors_linux.cc)
  else()
    list(APPEND SE_PLATFORM_SOURCES csrc/platform/processors_posix.cc)
  endif()
endif()
if("SPARSE_EXPERTS_NEON=1" IN_LIST SE_ISA_DEFINITIONS)
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    list(APPEND SE_PLATFORM_SOURCES csrc/platform/arm_instructions_linux.cc)
  elseif(CMAKE_SYSTEM_NAME STREQUAL "Darwin")
    list(APPEND SE_PLATFORM_SOURCES csrc/platform/arm_instructions_darwin.cc)
  else()
    list(APPEND SE_PLATFORM_SOURCES csrc/platform/arm_instructions_unknown.cc)
  endif()
endif()
