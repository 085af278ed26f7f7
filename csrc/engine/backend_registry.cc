#include "engine/backend_registry.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <mutex>

#include "cpu/backend.h"

namespace sparse_experts::engine {
namespace {

constexpr char kCudaLibrary[] = "libsparse_experts_cuda.so";

// Path of a file beside the library or program that this code is in.
std::string sibling_path(const char* file) {
  Dl_info info;
  static const char anchor = 0;
  if (dladdr(&anchor, &info) == 0 || info.dli_fname == nullptr) return file;
  const std::string self = info.dli_fname;
  const size_t slash = self.rfind('/');
  // A bare name would make dlopen search the system's folders.
  return (slash == std::string::npos ? std::string("./") : self.substr(0, slash + 1)) + file;
}

BackendLookup open_library(const std::string& path, const char* name) {
  if (access(path.c_str(), F_OK) != 0)
    return {nullptr, std::string("this build has no CUDA backend: ") + path + " not found"};
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* error = dlerror();
    return {nullptr, "cannot open " + path + ": " + (error != nullptr ? error : "unknown error")};
  }
  const auto refuse = [&](const std::string& why) -> BackendLookup {
    dlclose(library);
    return {nullptr, path + ": " + why};
  };
  void* symbol = dlsym(library, "se_backend_entry");
  if (symbol == nullptr) return refuse("no se_backend_entry: this is no backend");
  SeBackendEntry entry = nullptr;
  std::memcpy(&entry, &symbol, sizeof entry);
  const SeBackend* backend = entry();
  if (backend == nullptr) return refuse("the backend refuses to start");
  if (backend->abi_version != SE_BACKEND_ABI_VERSION)
    return refuse("backend interface " + std::to_string(backend->abi_version) +
                  ", this build needs " + std::to_string(SE_BACKEND_ABI_VERSION));
  if (backend->table_bytes != sizeof(SeBackend))
    return refuse("function table of " + std::to_string(backend->table_bytes) +
                  " bytes, this build needs " + std::to_string(sizeof(SeBackend)));
  if (backend->name == nullptr || std::strcmp(backend->name, name) != 0)
    return refuse(std::string("it is not the ") + name + " backend");
  return {backend, ""};
}

BackendLookup open_cuda() {
  const char* path = std::getenv("SPARSE_EXPERTS_CUDA_LIBRARY");
  const bool named = path != nullptr && *path != '\0';
  return open_library(named ? std::string(path) : sibling_path(kCudaLibrary), "cuda");
}

}  // namespace

BackendLookup find_backend(const char* name) {
  if (std::strcmp(name, "cpu") == 0) return {cpu_backend(), ""};
  if (std::strcmp(name, "cuda") != 0) return {nullptr, std::string("no backend is named ") + name};
  static std::once_flag once;
  static BackendLookup cuda;
  std::call_once(once, [] { cuda = open_cuda(); });
  return cuda;
}

}  // namespace sparse_experts::engine
