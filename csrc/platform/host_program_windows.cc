#include "platform/host_program.h"
#include "platform/windows.h"

namespace sparse_experts::platform {
namespace {

const char anchor = 0;

// Where Node's functions are: the program itself (node, Electron, Bun), or the library that it is in
// (NW.js, builds with a shared Node).
HMODULE host_module() {
  for (const wchar_t* name : {L"", L"libnode.dll", L"node.dll", L"nw.dll"}) {
    const HMODULE module = GetModuleHandleW(*name == L'\0' ? nullptr : name);
    if (module != nullptr && GetProcAddress(module, "napi_create_function") != nullptr)
      return module;
  }
  return GetModuleHandleW(nullptr);
}

}  // namespace

void keep_this_library() {
  HMODULE self = nullptr;
  GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
                     reinterpret_cast<const wchar_t*>(&anchor), &self);
}

void* host_symbol(const char* name) {
  static const HMODULE host = host_module();
  return reinterpret_cast<void*>(GetProcAddress(host, name));
}

}  // namespace sparse_experts::platform
