// Places in the code, for reports.
#pragma once

#include <string>

#include "block.h"

namespace simt::detail {

// "function+0x12 (file:line)" of a return address, as much as is known.
std::string describe_code(const void* pc);

// Its source line outside of the emulator's own headers, or an empty one. The text stays valid.
Site source_site(const void* pc);

}  // namespace simt::detail
