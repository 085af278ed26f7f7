// ggml's types of 32 elements with one f16 scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL. Of packed
// nibbles the low one of byte j is element j, the high one element j + 16.
#include <cstring>

#include "formats/ggml/bits.h"
#include "formats/ggml/block.h"

namespace sparse_experts {
namespace {

void read_scale(const uint8_t* from, GgmlBlock* to) { std::memcpy(to->scales.data(), from, 2); }

void read_offset(const uint8_t* from, GgmlBlock* to) { std::memcpy(to->offsets.data(), from, 2); }

void unpack_q4_0(const uint8_t* from, GgmlBlock* to) {
  read_scale(from, to);
  put_nibbles(from + 2, 16, to->codes.data());
}

void unpack_q4_1(const uint8_t* from, GgmlBlock* to) {
  read_scale(from, to);
  read_offset(from + 2, to);
  put_nibbles(from + 4, 16, to->codes.data());
}

void unpack_q5_0(const uint8_t* from, GgmlBlock* to) {
  read_scale(from, to);
  put_nibbles(from + 6, 16, to->codes.data());
  add_bit_of_each(from + 2, 4, 4, to->codes.data());
}

void unpack_q5_1(const uint8_t* from, GgmlBlock* to) {
  read_scale(from, to);
  read_offset(from + 2, to);
  put_nibbles(from + 8, 16, to->codes.data());
  add_bit_of_each(from + 4, 4, 4, to->codes.data());
}

void unpack_q8_0(const uint8_t* from, GgmlBlock* to) {
  read_scale(from, to);
  std::memcpy(to->codes.data(), from + 2, 32);
}

}  // namespace

const std::array<GgmlLayout, 6> kGgmlPlainLayouts = {{
    {StoredType::kQ4V0, SE_CODE_U4, SE_TABLE_Q8, SE_SCALE_F16, SE_OFFSET_NONE, 32, unpack_q4_0},
    {StoredType::kQ4V1, SE_CODE_U4, SE_TABLE_Q, SE_SCALE_F16, SE_OFFSET_F16, 32, unpack_q4_1},
    {StoredType::kQ5V0, SE_CODE_U5, SE_TABLE_Q16, SE_SCALE_F16, SE_OFFSET_NONE, 32, unpack_q5_0},
    {StoredType::kQ5V1, SE_CODE_U5, SE_TABLE_Q, SE_SCALE_F16, SE_OFFSET_F16, 32, unpack_q5_1},
    {StoredType::kQ8V0, SE_CODE_I8, SE_TABLE_NONE, SE_SCALE_F16, SE_OFFSET_NONE, 32, unpack_q8_0},
    {StoredType::kIQ4NL, SE_CODE_U4, SE_TABLE_IQ4_NL, SE_SCALE_F16, SE_OFFSET_NONE, 32,
     unpack_q4_0},
}};

}  // namespace sparse_experts
