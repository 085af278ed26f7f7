// What kernels of the race flavour call where those of the others read a variable.
#define SIMT_INSTRUMENTED_VIEW
#include "simt/thread.h"

namespace simt::detail {

const ThreadView& view() { return *current_view; }

}  // namespace simt::detail
