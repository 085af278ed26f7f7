#include "binding/build_info.h"

namespace sparse_experts::binding {
namespace {

std::string compiler() {
#if defined(__clang__)
  return std::string("clang ") + __clang_version__;
#elif defined(__GNUC__)
  return "gcc " + std::to_string(__GNUC__) + "." + std::to_string(__GNUC_MINOR__) + "." +
         std::to_string(__GNUC_PATCHLEVEL__);
#else
  return "unknown compiler";
#endif
}

}  // namespace

std::string build_info() {
  std::string text = compiler();
#if defined(__OPTIMIZE__)
  text += ", optimized";
#else
  text += ", not optimized";
#endif
#ifdef SE_SANITIZERS
  if (SE_SANITIZERS[0] != '\0') text += std::string(", sanitizers: ") + SE_SANITIZERS;
#endif
  return text;
}

}  // namespace sparse_experts::binding
