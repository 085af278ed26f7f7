#include <algorithm>
#include <bitset>
#include <thread>

#include "platform/processors.h"
#include "platform/windows.h"

namespace sparse_experts::platform {

std::string processor_name() {
  wchar_t name[256];
  DWORD bytes = sizeof name;
  if (RegGetValueW(HKEY_LOCAL_MACHINE, L"HARDWARE\\DESCRIPTION\\System\\CentralProcessor\\0",
                   L"ProcessorNameString", RRF_RT_REG_SZ, nullptr, name, &bytes) != ERROR_SUCCESS)
    return "CPU";
  return utf8(name);
}

// Of a machine with more than 64 processors those of the process's own group: threads run in it
// unless they are moved.
int available_processors() {
  DWORD_PTR allowed = 0;
  DWORD_PTR all = 0;
  if (GetProcessAffinityMask(GetCurrentProcess(), &allowed, &all) != 0 && allowed != 0)
    return static_cast<int>(std::bitset<64>(allowed).count());
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace sparse_experts::platform
