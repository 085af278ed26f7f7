// ggml's types of e2m1 elements: MXFP4 (32, an e8m0 scale) and NVFP4 (64, four e4m3 scales). The low
// nibble of byte j is element j, the high one lies half a group behind it.
#include "formats/ggml/bits.h"
#include "formats/ggml/block.h"

namespace sparse_experts {
namespace {

void unpack_mxfp4(const uint8_t* from, GgmlBlock* to) {
  to->scales[0] = from[0];
  put_nibbles(from + 1, 16, to->codes.data());
}

void unpack_nvfp4(const uint8_t* from, GgmlBlock* to) {
  for (std::size_t group = 0; group < 4; ++group) {
    // Scales have no sign, and what is NaN in e4m3 is 0.
    const auto code = static_cast<uint8_t>(from[group] & 0x7f);
    to->scales[group] = code == 0x7f ? 0 : code;
    put_nibbles(from + 4 + 8 * group, 8, to->codes.data() + 16 * group);
  }
}

}  // namespace

const std::array<GgmlLayout, 2> kGgmlFloatLayouts = {{
    {StoredType::kMXFP4, SE_CODE_U4, SE_TABLE_E2M1, SE_SCALE_E8M0, SE_OFFSET_NONE, 32,
     unpack_mxfp4},
    {StoredType::kNVFP4, SE_CODE_U4, SE_TABLE_E2M1, SE_SCALE_E4M3, SE_OFFSET_NONE, 16,
     unpack_nvfp4},
}};

}  // namespace sparse_experts
