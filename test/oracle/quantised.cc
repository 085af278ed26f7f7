#include "oracle/quantised.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "oracle/fixture.h"
#include "oracle/oracle.h"

namespace native_test {
namespace {

int64_t bits_of(int32_t code) {
  switch (code) {
    case SE_CODE_U2:
      return 2;
    case SE_CODE_U3:
      return 3;
    case SE_CODE_U4:
      return 4;
    case SE_CODE_U5:
      return 5;
    case SE_CODE_U6:
      return 6;
    default:
      return 8;
  }
}

int64_t bytes_of_scale(int32_t scale) {
  if (scale == SE_SCALE_F32) return 4;
  return scale == SE_SCALE_F16 || scale == SE_SCALE_BF16 ? 2 : 1;
}

int64_t bytes_of_offset(int32_t offset) {
  if (offset == SE_OFFSET_NONE) return 0;
  return offset == SE_OFFSET_F16 ? 2 : 1;
}

// OCP's 8-bit floats, by their definitions.
double e4m3(uint8_t code) {
  const int exponent = code >> 3 & 15;
  const int mantissa = code & 7;
  const double sign = code & 0x80 ? -1 : 1;
  if ((code & 0x7f) == 0x7f) return NAN;
  return sign *
         (exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10));
}

double e8m0(uint8_t code) { return code == 255 ? NAN : std::ldexp(1.0, code - 127); }

// The values of ggml's IQ types: kvalues_iq4nl; grids of iq1, iq2 and iq3 with their signs.
double table_value(int32_t table, int code) {
  constexpr double kIq4Nl[] = {-127, -104, -83, -65, -49, -35, -22, -10,
                               1,    13,   25,  38,  53,  69,  89,  113};
  constexpr double kE2m1[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  constexpr double kIq1[] = {-1.125, -0.875, -0.125, 0.125, 0.875, 1.125};
  constexpr double kIq2[] = {1, 3.125, 5.375};
  constexpr double kIq3Xxs[] = {1, 3, 5, 7, 9, 11, 13, 15.5};
  const double sign = code & 8 ? -1 : 1;
  switch (table) {
    case SE_TABLE_Q:
      return code;
    case SE_TABLE_Q2:
      return code - 2;
    case SE_TABLE_Q4:
      return code - 4;
    case SE_TABLE_Q8:
      return code - 8;
    case SE_TABLE_Q16:
      return code - 16;
    case SE_TABLE_Q32:
      return code - 32;
    case SE_TABLE_E2M1:
      return sign * kE2m1[code & 7];
    case SE_TABLE_IQ4_NL:
      return kIq4Nl[code];
    case SE_TABLE_IQ1:
      return kIq1[code];
    case SE_TABLE_IQ2:
      return (code < 3 ? 1 : -1) * kIq2[code % 3];
    case SE_TABLE_IQ3_XXS:
      return sign * kIq3Xxs[code & 7];
    default:  // SE_TABLE_IQ3_S
      return sign * (2 * (code & 7) + 1);
  }
}

int num_codes(const SeMatrixFormat& format) {
  if (format.table == SE_TABLE_IQ1 || format.table == SE_TABLE_IQ2) return 6;
  return 1 << bits_of(format.code);
}

SeMatrixFormat block(int32_t code, int32_t table, int32_t scale, int64_t block_cols,
                     int32_t offset = SE_OFFSET_NONE, int64_t super_cols = 0) {
  return {code, table, scale, offset, 1, block_cols, super_cols, 0};
}

// What the weights are like before they are scaled.
double deviation_of(const SeMatrixFormat& format) {
  double squares = 0;
  const int count = num_codes(format);
  for (int code = 0; code < count; ++code) {
    double value = static_cast<int8_t>(code);
    if (format.code == SE_CODE_E4M3) value = (code & 0x7f) == 0x7f ? 0 : e4m3(code);
    if (format.table != SE_TABLE_NONE) value = table_value(format.table, code);
    squares += value * value;
  }
  return std::sqrt(squares / count);
}

// A usual scale in an SeScale.
void put_scale(double value, int32_t scale, Random* random, uint8_t* to) {
  const float f32 = static_cast<float>(value);
  const uint16_t f16 = to_half_bits(f32, SE_F16);
  const uint16_t bf16 = to_half_bits(f32, SE_BF16);
  switch (scale) {
    case SE_SCALE_F32:
      std::memcpy(to, &f32, 4);
      break;
    case SE_SCALE_F16:
      std::memcpy(to, &f16, 2);
      break;
    case SE_SCALE_BF16:
      std::memcpy(to, &bf16, 2);
      break;
    case SE_SCALE_E8M0:
      *to = static_cast<uint8_t>(127 + std::ilogb(std::fabs(value)));
      break;
    case SE_SCALE_E4M3:
      *to = static_cast<uint8_t>(0x28 + random->below(0x28));  // about 1
      break;
    default:
      *to = static_cast<uint8_t>(random->below(64));
  }
}

}  // namespace

std::vector<QuantisedKind> quantised_kinds(int64_t rows, int64_t cols) {
  std::vector<QuantisedKind> kinds = {
      {"fp8 per channel", block(SE_CODE_E4M3, 0, SE_SCALE_F32, cols)},
      {"mxfp8", block(SE_CODE_E4M3, 0, SE_SCALE_E8M0, 32)},
      {"mxfp4", block(SE_CODE_U4, SE_TABLE_E2M1, SE_SCALE_E8M0, 32)},
      {"nvfp4", block(SE_CODE_U4, SE_TABLE_E2M1, SE_SCALE_E4M3, 16)},
      {"nvfp4 divided", block(SE_CODE_U4, SE_TABLE_E2M1, SE_SCALE_E4M3, 16)},
      {"int4 f16/32", block(SE_CODE_U4, SE_TABLE_Q8, SE_SCALE_F16, 32)},
      {"int4 bf16/128", block(SE_CODE_U4, SE_TABLE_Q8, SE_SCALE_BF16, 128)},
      {"int4 f16/64 and zeros", block(SE_CODE_U4, SE_TABLE_Q, SE_SCALE_F16, 64, SE_OFFSET_ZERO)},
      {"q4_1", block(SE_CODE_U4, SE_TABLE_Q, SE_SCALE_F16, 32, SE_OFFSET_F16)},
      {"iq4_nl", block(SE_CODE_U4, SE_TABLE_IQ4_NL, SE_SCALE_F16, 32)},
      {"iq4_xs", block(SE_CODE_U4, SE_TABLE_IQ4_NL, SE_SCALE_I8, 32, SE_OFFSET_NONE, 256)},
      {"q2_K", block(SE_CODE_U2, SE_TABLE_Q, SE_SCALE_U8, 16, SE_OFFSET_U8, 256)},
      {"q3_K", block(SE_CODE_U3, SE_TABLE_Q4, SE_SCALE_I8, 16, SE_OFFSET_NONE, 256)},
      {"q4_K", block(SE_CODE_U4, SE_TABLE_Q, SE_SCALE_U8, 32, SE_OFFSET_U8, 256)},
      {"q5_0", block(SE_CODE_U5, SE_TABLE_Q16, SE_SCALE_F16, 32)},
      {"q5_1", block(SE_CODE_U5, SE_TABLE_Q, SE_SCALE_F16, 32, SE_OFFSET_F16)},
      {"q5_K", block(SE_CODE_U5, SE_TABLE_Q, SE_SCALE_U8, 32, SE_OFFSET_U8, 256)},
      {"q6_K", block(SE_CODE_U6, SE_TABLE_Q32, SE_SCALE_I8, 16, SE_OFFSET_NONE, 256)},
      {"q8_0", block(SE_CODE_I8, 0, SE_SCALE_F16, 32)},
      {"int8 per channel", block(SE_CODE_I8, 0, SE_SCALE_F32, cols)},
      {"int8 f16/64 and zeros", block(SE_CODE_I8, 0, SE_SCALE_F16, 64, SE_OFFSET_ZERO)},
      {"iq1", block(SE_CODE_U4, SE_TABLE_IQ1, SE_SCALE_U8, 32, SE_OFFSET_NONE, 256)},
      {"iq2", block(SE_CODE_U4, SE_TABLE_IQ2, SE_SCALE_U8, 16, SE_OFFSET_NONE, 256)},
      {"iq3_xxs", block(SE_CODE_U4, SE_TABLE_IQ3_XXS, SE_SCALE_U8, 32, SE_OFFSET_NONE, 256)},
      {"iq3_s", block(SE_CODE_U4, SE_TABLE_IQ3_S, SE_SCALE_U8, 32, SE_OFFSET_NONE, 256)},
      {"u2 f32/256", block(SE_CODE_U2, SE_TABLE_Q2, SE_SCALE_F32, 256)},
      {"u3 bf16/48", block(SE_CODE_U3, SE_TABLE_Q4, SE_SCALE_BF16, 48)},
      {"u4 f16/512 and zeros", block(SE_CODE_U4, SE_TABLE_Q, SE_SCALE_F16, 512, SE_OFFSET_ZERO)},
      {"u4 f16/80", block(SE_CODE_U4, SE_TABLE_Q8, SE_SCALE_F16, 80)},
      {"u6 bf16/272", block(SE_CODE_U6, SE_TABLE_Q32, SE_SCALE_BF16, 272, SE_OFFSET_F16)},
  };
  kinds[3].format.flags = SE_FORMAT_GLOBAL_MULTIPLIES;
  kinds[4].format.flags = SE_FORMAT_GLOBAL_DIVIDES;
  // Scales that rows share: by blocks that are no panels too, and by the whole matrix.
  for (const int64_t block_rows : {int64_t{24}, int64_t{128}}) {
    QuantisedKind kind = {"fp8 " + std::to_string(block_rows) + "x128",
                          block(SE_CODE_E4M3, 0, SE_SCALE_F32, 128)};
    kind.format.block_rows = block_rows;
    kinds.push_back(kind);
  }
  QuantisedKind kind = {"fp8 128x128 e8m0", block(SE_CODE_E4M3, 0, SE_SCALE_E8M0, 128)};
  kind.format.block_rows = 128;
  kinds.push_back(kind);
  kind = {"fp8 per matrix", block(SE_CODE_E4M3, 0, SE_SCALE_F32, cols)};
  kind.format.block_rows = rows;
  kinds.push_back(kind);
  return kinds;
}

QuantisedMatrix::QuantisedMatrix(const SeMatrixFormat& matrix_format, int64_t num_rows,
                                 int64_t num_cols, Scales scales, Random* random)
    : format(matrix_format),
      rows(num_rows),
      cols(num_cols),
      stride_(num_cols + 3),
      num_blocks_((num_cols + format.block_cols - 1) / format.block_cols),
      num_supers_(format.super_cols == 0 ? 0
                                         : (num_cols + format.super_cols - 1) / format.super_cols) {
  const bool is_e4m3 = format.code == SE_CODE_E4M3;
  // Every code in turn, from another one on in each row.
  codes_.assign(rows * stride_, 0xff);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col) {
      uint8_t code =
          static_cast<uint8_t>((random->below(3) + row * 5 + col * 7) % num_codes(format));
      const bool takes_nan = scales == Scales::kAnyInRows && row % 7 == 2;
      if (is_e4m3 && (code & 0x7f) == 0x7f && !takes_nan) code ^= 1;
      codes_[row * stride_ + col] = code;
    }
  }
  const bool has_global =
      (format.flags & (SE_FORMAT_GLOBAL_MULTIPLIES | SE_FORMAT_GLOBAL_DIVIDES)) != 0;
  const double unit = 1 / (deviation_of(format) * std::sqrt(static_cast<double>(cols)));
  if (has_global)
    global_ = static_cast<float>((format.flags & SE_FORMAT_GLOBAL_DIVIDES) != 0 ? 1 / unit : unit);
  const int64_t bytes = bytes_of_scale(format.scale);
  const bool scales_are_small = format.scale == SE_SCALE_U8 || format.scale == SE_SCALE_I8;
  scales_.assign(rows * num_blocks_ * bytes, 0);
  offsets_.assign(rows * num_blocks_ * bytes_of_offset(format.offset), 0);
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t first_of_block = row / format.block_rows * format.block_rows;
    for (int64_t block = 0; block < num_blocks_; ++block) {
      uint8_t* to = &scales_[(row * num_blocks_ + block) * bytes];
      if (row != first_of_block) {
        std::memcpy(to, &scales_[(first_of_block * num_blocks_ + block) * bytes], bytes);
        continue;
      }
      put_scale(unit * (0.5 + random->uniform()) * (random->below(4) == 0 ? -1 : 1), format.scale,
                random, to);
      if (format.scale == SE_SCALE_I8 && random->below(4) == 0) *to = -*to;
      if (scales == Scales::kAnyInRows && row % 7 == 4) {
        for (int64_t i = 0; i < bytes; ++i) to[i] = static_cast<uint8_t>(random->bits());
        // Exponents of zero and all ones, more often than chance has them.
        if (random->below(3) == 0) to[bytes - 1] = 0;
        if (random->below(3) == 0) to[bytes - 1] |= 0x7f;
      }
    }
  }
  for (int64_t i = 0; i < rows * num_blocks_; ++i) {
    if (format.offset == SE_OFFSET_ZERO) {
      offsets_[i] = static_cast<uint8_t>(
          format.code == SE_CODE_I8 ? random->bits() : random->below(num_codes(format) + 1));
    } else if (format.offset == SE_OFFSET_U8) {
      offsets_[i] = static_cast<uint8_t>(random->below(64));
    } else if (format.offset == SE_OFFSET_F16) {
      const double offset = -unit * deviation_of(format) * (0.5 + random->uniform());
      put_scale(offset, SE_SCALE_F16, random, &offsets_[i * 2]);
    }
  }
  const auto supers = [&](std::vector<uint16_t>* out) {
    for (int64_t i = 0; i < rows * num_supers_; ++i) {
      const double value = unit / 32 * (0.5 + random->uniform());
      out->push_back(to_half_bits(static_cast<float>(value), SE_F16));
    }
  };
  if ((format.flags & SE_FORMAT_PERMUTED) != 0) {
    Random order(static_cast<uint64_t>(cols * 16 + format.scale));
    for (int64_t col = 0; col < cols; ++col) {
      permutation_.push_back(static_cast<int32_t>(col));
      std::swap(permutation_[col], permutation_[order.below(col + 1)]);
    }
  }
  if (scales_are_small) supers(&super_scales_);
  if (format.offset == SE_OFFSET_U8) supers(&super_offsets_);
}

float QuantisedMatrix::scale_of(int64_t row, int64_t block) const {
  const uint8_t* at = &scales_[(row * num_blocks_ + block) * bytes_of_scale(format.scale)];
  const int64_t super = format.super_cols == 0
                            ? 0
                            : row * num_supers_ + block * format.block_cols / format.super_cols;
  float scale = 0;
  switch (format.scale) {
    case SE_SCALE_F32:
      scale = static_cast<float>(element(at, SE_F32, 0));
      break;
    case SE_SCALE_F16:
      scale = static_cast<float>(element(at, SE_F16, 0));
      break;
    case SE_SCALE_BF16:
      scale = static_cast<float>(element(at, SE_BF16, 0));
      break;
    case SE_SCALE_E8M0:
      scale = static_cast<float>(e8m0(*at));
      break;
    case SE_SCALE_E4M3:
      scale = static_cast<float>(e4m3(*at));
      break;
    case SE_SCALE_U8:
      scale = static_cast<float>(*at * element(&super_scales_[super], SE_F16, 0));
      break;
    default:
      scale =
          static_cast<float>(static_cast<int8_t>(*at) * element(&super_scales_[super], SE_F16, 0));
  }
  if ((format.flags & SE_FORMAT_GLOBAL_MULTIPLIES) != 0) return scale * global_;
  if ((format.flags & SE_FORMAT_GLOBAL_DIVIDES) != 0) return scale / global_;
  return scale;
}

float QuantisedMatrix::weight(int64_t row, int64_t col) const {
  const uint8_t code = codes_[row * stride_ + col];
  const int64_t block = col / format.block_cols;
  double value = static_cast<int8_t>(code);
  if (format.code == SE_CODE_E4M3) value = e4m3(code);
  if (format.table != SE_TABLE_NONE) value = table_value(format.table, code);
  const int64_t at = row * num_blocks_ + block;
  if (format.offset == SE_OFFSET_ZERO) value -= static_cast<int8_t>(offsets_[at]);
  const float scaled = static_cast<float>(value) * scale_of(row, block);
  if (format.offset == SE_OFFSET_F16)
    return scaled + static_cast<float>(element(offsets_.data(), SE_F16, at));
  if (format.offset == SE_OFFSET_U8) {
    const int64_t super = row * num_supers_ + col / format.super_cols;
    return scaled - static_cast<float>(offsets_[at] * element(&super_offsets_[super], SE_F16, 0));
  }
  return scaled;
}

std::vector<float> QuantisedMatrix::weights() const {
  std::vector<float> out(rows * cols);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t col = 0; col < cols; ++col)
      out[row * cols + (permutation_.empty() ? col : permutation_[col])] = weight(row, col);
  return out;
}

SeMatrixRows QuantisedMatrix::rows_of(int64_t first, int64_t count, int32_t dtype,
                                      void* matrix) const {
  const auto from = [&](const auto& array, int64_t per_row) {
    return array.empty() ? nullptr : array.data() + first * per_row;
  };
  SeMatrixRows out{};
  out.matrix = matrix;
  out.rows = rows;
  out.cols = cols;
  out.dtype = dtype;
  out.format = &format;
  out.first_row = first;
  out.num_rows = count;
  out.source = from(codes_, stride_);
  out.source_stride = stride_;
  out.scales = from(scales_, num_blocks_ * bytes_of_scale(format.scale));
  out.offsets = from(offsets_, num_blocks_ * bytes_of_offset(format.offset));
  out.super_scales = from(super_scales_, num_supers_);
  out.super_offsets = from(super_offsets_, num_supers_);
  out.global = global_;
  out.permutation = permutation_.empty() ? nullptr : permutation_.data();
  return out;
}

bool same_floats(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](float x, float y) {
           return std::isnan(x) ? std::isnan(y) : x == y && std::signbit(x) == std::signbit(y);
         });
}

}  // namespace native_test
