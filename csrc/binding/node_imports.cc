// Windows only: Node-API's functions, looked up in the program that has loaded this library.
#include "platform/host_program.h"

// The headers declare each function as imported, so calls go through a pointer of this name.
#define SE_NODE_IMPORT(name) \
  extern "C" {               \
  void* __imp_##name;        \
  }
#include <node_api_names.inc>
#undef SE_NODE_IMPORT

namespace sparse_experts::binding {
namespace {

// Before anything of this library runs. A function that this Node does not have yet stays null; the
// version of Node-API that the addon asks for has all that it calls.
struct Imports {
  Imports() {
    // Node unloads an addon with the last worker that loaded it; ours has threads of its own.
    platform::keep_this_library();
#define SE_NODE_IMPORT(name) __imp_##name = platform::host_symbol(#name);
#include <node_api_names.inc>
#undef SE_NODE_IMPORT
  }
};

const Imports imports;

}  // namespace
}  // namespace sparse_experts::binding
