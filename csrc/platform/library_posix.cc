#include <dlfcn.h>
#include <unistd.h>

#include "platform/library.h"

namespace sparse_experts::platform {

std::string library_file(const std::string& stem) { return "lib" + stem + ".so"; }

std::string sibling_path(const std::string& file) {
  Dl_info info;
  static const char anchor = 0;
  if (dladdr(&anchor, &info) == 0 || info.dli_fname == nullptr) return file;
  const std::string self = info.dli_fname;
  const size_t slash = self.rfind('/');
  // A bare name would make dlopen search the system's folders.
  return (slash == std::string::npos ? std::string("./") : self.substr(0, slash + 1)) + file;
}

bool file_exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

void* open_library(const std::string& path, std::string* problem) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* error = dlerror();
    *problem = error != nullptr ? error : "unknown error";
  }
  return library;
}

void* library_symbol(void* library, const char* name) { return dlsym(library, name); }

void close_library(void* library) { dlclose(library); }

}  // namespace sparse_experts::platform
