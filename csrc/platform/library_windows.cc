#include "platform/library.h"
#include "platform/windows.h"

namespace sparse_experts::platform {
namespace {

const char anchor = 0;

std::wstring module_path(HMODULE module) {
  std::wstring path(MAX_PATH, L'\0');
  for (;;) {
    const auto room = static_cast<DWORD>(path.size());
    const DWORD got = GetModuleFileNameW(module, path.data(), room);
    if (got < room) {
      path.resize(got);
      return path;
    }
    path.resize(path.size() * 2);
  }
}

}  // namespace

std::string library_file(const std::string& stem) { return stem + ".dll"; }

std::string sibling_path(const std::string& file) {
  HMODULE self = nullptr;
  const DWORD flags =
      GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
  if (GetModuleHandleExW(flags, reinterpret_cast<const wchar_t*>(&anchor), &self) == 0) return file;
  const std::string path = utf8(module_path(self));
  return path.substr(0, path.rfind('\\') + 1) + file;
}

bool file_exists(const std::string& path) {
  return GetFileAttributesW(wide_path(path).c_str()) != INVALID_FILE_ATTRIBUTES;
}

void* open_library(const std::string& path, std::string* problem) {
  // What it needs in turn is looked for beside it first.
  const HMODULE library =
      LoadLibraryExW(wide_path(path).c_str(), nullptr, LOAD_WITH_ALTERED_SEARCH_PATH);
  if (library == nullptr) *problem = error_text(GetLastError());
  return library;
}

void* library_symbol(void* library, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
}

void close_library(void* library) { FreeLibrary(static_cast<HMODULE>(library)); }

}  // namespace sparse_experts::platform
