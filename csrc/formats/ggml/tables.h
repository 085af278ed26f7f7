// Private to formats/ggml: value tables.
#pragma once

#include <array>

namespace sparse_experts {

// code - kMiddle, for codes below kSize.
template <int kSize, int kMiddle>
constexpr std::array<float, kSize> integers() {
  std::array<float, kSize> table{};
  for (int code = 0; code < kSize; ++code) {
    table[static_cast<std::size_t>(code)] = static_cast<float>(code - kMiddle);
  }
  return table;
}

// The 16 values of IQ4_NL and IQ4_XS. None is 0.
constexpr std::array<float, 16> kNonLinearValues = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                    1,    13,   25,  38,  53,  69,  89,  113};

}  // namespace sparse_experts
