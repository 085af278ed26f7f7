#include "transport/ucx_library.h"

#include <cstring>
#include <mutex>

#include "platform/environment.h"
#include "platform/library.h"
#include "transport/guarded.h"

namespace sparse_experts::transport::ucx {
namespace {

constexpr const char* kFile = "libucp.so.0";
// The oldest that this code has met. A second major version has other structs.
constexpr unsigned kMajor = 1;
constexpr unsigned kLeastMinor = 13;

[[noreturn]] void fail_unavailable(const std::string& why) {
  throw TransportError(SE_TRANSPORT_UNAVAILABLE, "ucx: " + why);
}

// libucs reads these when it is opened. With its defaults it takes SIGSEGV, by which a JavaScript engine
// notices accesses outside of a WebAssembly memory, and patches mmap while other threads run in it.
void check_settings() {
  constexpr const char* kSettings[][2] = {{"UCX_HANDLE_ERRORS", "none"}, {"UCX_MEM_EVENTS", "n"}};
  for (const auto& [name, value] : kSettings) {
    if (platform::environment_variable(name) != value)
      fail_unavailable(std::string("the process needs ") + name + "=" + value +
                       " in its environment before libucp is opened");
  }
}

template <typename Function>
void find(void* opened, const char* name, Function* function) {
  void* const symbol = platform::library_symbol(opened, name);
  if (symbol == nullptr) fail_unavailable(std::string(kFile) + " has no " + name);
  std::memcpy(function, &symbol, sizeof symbol);
}

Library open() {
  check_settings();
  std::string problem;
  void* const opened = platform::open_library(kFile, &problem);
  if (opened == nullptr) fail_unavailable("cannot open " + std::string(kFile) + ": " + problem);
  Library found = {};
  find(opened, "ucp_get_version", &found.get_version);
  unsigned major = 0;
  unsigned minor = 0;
  unsigned release = 0;
  found.get_version(&major, &minor, &release);
  if (major != kMajor || minor < kLeastMinor)
    fail_unavailable("version " + std::to_string(major) + "." + std::to_string(minor) + "." +
                     std::to_string(release) + " of " + kFile + ", needed is " +
                     std::to_string(kMajor) + "." + std::to_string(kLeastMinor) + " or newer of " +
                     std::to_string(kMajor));
  find(opened, "ucp_config_read", &found.config_read);
  find(opened, "ucp_config_modify", &found.config_modify);
  find(opened, "ucp_config_release", &found.config_release);
  find(opened, "ucp_init_version", &found.init_version);
  find(opened, "ucp_cleanup", &found.cleanup);
  find(opened, "ucp_worker_create", &found.worker_create);
  find(opened, "ucp_worker_destroy", &found.worker_destroy);
  find(opened, "ucp_worker_get_address", &found.worker_get_address);
  find(opened, "ucp_worker_release_address", &found.worker_release_address);
  find(opened, "ucp_worker_progress", &found.worker_progress);
  find(opened, "ucp_worker_get_efd", &found.worker_get_efd);
  find(opened, "ucp_worker_arm", &found.worker_arm);
  find(opened, "ucp_worker_signal", &found.worker_signal);
  find(opened, "ucp_ep_create", &found.ep_create);
  find(opened, "ucp_ep_close_nbx", &found.ep_close_nbx);
  find(opened, "ucp_tag_send_nbx", &found.tag_send_nbx);
  find(opened, "ucp_tag_probe_nb", &found.tag_probe_nb);
  find(opened, "ucp_tag_msg_recv_nbx", &found.tag_msg_recv_nbx);
  find(opened, "ucp_request_cancel", &found.request_cancel);
  find(opened, "ucp_request_free", &found.request_free);
  find(opened, "ucp_request_check_status", &found.request_check_status);
  return found;
}

}  // namespace

const Library& library() {
  // What throws is tried again: the settings can be made good before the library is there.
  static std::mutex mutex;
  static Library* found = nullptr;
  const std::lock_guard<std::mutex> lock(mutex);
  if (found == nullptr) found = new Library(open());
  return *found;
}

}  // namespace sparse_experts::transport::ucx
