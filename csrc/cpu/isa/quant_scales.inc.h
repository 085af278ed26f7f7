// Scales and offsets of quantised panels (cpu/layouts/quant_panels.h) as f32, over the vector class
// V: included by each instruction set's file inside its unnamed namespace.

// Rows of a panel, whatever it holds.
constexpr int64_t kWidth = int64_t{V::kPanelVectors} * V::kLanes;

// Blocks that a chunk can meet: of 16 columns, and one more where blocks do not begin with it.
constexpr int64_t kMaxBlocks = kChunk / 16 + 1;

// The blocks that some columns meet, [block][row of the panel].
struct BlockScales {
  alignas(64) float scale[kMaxBlocks * kWidth];
  // SE_OFFSET_ZERO: what a value loses before it is scaled. Other offsets: what it gains after.
  alignas(64) float shift[kMaxBlocks * kWidth];
};

static inline float float_of_bits(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

// 2^(code - 127): code 0 is a subnormal number, 255 is NaN.
static inline float e8m0_to_f32(uint8_t code) {
  const uint32_t bits = static_cast<uint32_t>(code) << 23;
  return float_of_bits(code == 0 ? 0x00400000u : code == 255 ? 0x7fc00000u : bits);
}

// With exponent e > 0 and mantissa m: 2^(e - 7) * (1 + m / 8), as an f32 of exponent e + 120. With
// e == 0 that reads 2^-7 * (1 + m / 8), and twice it less 2^-6 is what the code means, 2^-6 * m / 8.
// The latter is the smaller one for e == 0 and for no other e.
static inline float e4m3_to_f32(uint8_t code) {
  const uint32_t magnitude = code & 0x7fu;
  const float normal = float_of_bits((magnitude << 20) + (120u << 23));
  const float subnormal = normal * 2.0f - 0.015625f;
  const float value = subnormal < normal ? subnormal : normal;
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  bits = magnitude == 0x7fu ? 0x7fc00000u : bits;
  return float_of_bits(bits | static_cast<uint32_t>(code & 0x80u) << 24);
}

static void widen_f16(const char* from, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + V::kLanes <= n; i += V::kLanes) V::store(to + i, V::widen_f16(from + i * 2));
  for (; i < n; ++i) {
    uint16_t bits;
    __builtin_memcpy(&bits, from + i * 2, sizeof bits);
    to[i] = V::f16_to_f32(bits);
  }
}

// n scales of an SeScale that are values by themselves. Plain loops: the compiler has vectors for them.
static void widen_scales(const char* from, int32_t scale, int64_t n, float* to) {
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(from);
  if (scale == SE_SCALE_F16) {
    widen_f16(from, n, to);
  } else if (scale == SE_SCALE_F32) {
    __builtin_memcpy(to, from, static_cast<size_t>(n) * sizeof *to);
  } else if (scale == SE_SCALE_BF16) {
    for (int64_t i = 0; i < n; ++i) {
      uint16_t bits;
      __builtin_memcpy(&bits, from + i * 2, sizeof bits);
      to[i] = float_of_bits(static_cast<uint32_t>(bits) << 16);
    }
  } else if (scale == SE_SCALE_E8M0) {
    for (int64_t i = 0; i < n; ++i) to[i] = e8m0_to_f32(bytes[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = e4m3_to_f32(bytes[i]);
  }
}

// Bytes of some blocks, [block][row], times what their rows have.
template <class Byte>
static inline void multiply_bytes(const char* from, int64_t num_blocks, const float* rows,
                                  float* to) {
  const Byte* bytes = reinterpret_cast<const Byte*>(from);
  for (int64_t b = 0; b < num_blocks; ++b) {
    for (int64_t i = 0; i < kWidth; ++i)
      to[b * kWidth + i] = static_cast<float>(bytes[b * kWidth + i]) * rows[i];
  }
}

// The scale of the whole matrix, after all others.
static inline void apply_global(const QuantPanel& quant, const char* panel, float* scales,
                                int64_t n) {
  float global;
  __builtin_memcpy(&global, panel, sizeof global);
  if ((quant.flags & SE_FORMAT_GLOBAL_MULTIPLIES) != 0) {
    for (int64_t i = 0; i < n; ++i) scales[i] *= global;
  } else {
    for (int64_t i = 0; i < n; ++i) scales[i] /= global;
  }
}

static inline int64_t bytes_of_scale(int32_t scale) {
  if (scale == SE_SCALE_F32) return 4;
  return scale == SE_SCALE_F16 || scale == SE_SCALE_BF16 ? 2 : 1;
}

// Blocks [first, first + count) of a panel, which all meet `chunk`.
static void load_scales(const QuantPanel& quant, const char* panel, int64_t chunk, int64_t first,
                        int64_t count, BlockScales* out) {
  const QuantChunk& places = chunk + 1 == quant.num_chunks ? quant.last : quant.whole;
  const char* at = panel + quant.header_bytes + chunk * quant.chunk_bytes;
  const int64_t lanes = quant.shares_scales ? 1 : kWidth;
  const char* scales;
  const char* offsets;
  const int64_t offset_bytes = quant.offset == SE_OFFSET_F16 ? 2 : 1;
  if (quant.in_header) {
    scales = panel + quant.header_scales + first * lanes * bytes_of_scale(quant.scale);
    offsets = panel + quant.header_offsets + first * kWidth * offset_bytes;
  } else {
    const int64_t block = first - chunk * (kChunk / quant.block_cols);
    scales = at + places.scales + block * kWidth * bytes_of_scale(quant.scale);
    offsets = at + places.offsets + block * kWidth * offset_bytes;
  }
  const int64_t n = count * kWidth;
  float rows[kWidth];
  if (quant.scale == SE_SCALE_U8 || quant.scale == SE_SCALE_I8) {
    widen_f16(at, kWidth, rows);
    if (quant.scale == SE_SCALE_U8) multiply_bytes<uint8_t>(scales, count, rows, out->scale);
    if (quant.scale == SE_SCALE_I8) multiply_bytes<int8_t>(scales, count, rows, out->scale);
  } else if (quant.shares_scales) {
    float shared[kMaxBlocks];
    widen_scales(scales, quant.scale, count, shared);
    for (int64_t b = 0; b < count; ++b) {
      for (int64_t i = 0; i < kWidth; ++i) out->scale[b * kWidth + i] = shared[b];
    }
  } else {
    widen_scales(scales, quant.scale, n, out->scale);
  }
  if ((quant.flags & (SE_FORMAT_GLOBAL_MULTIPLIES | SE_FORMAT_GLOBAL_DIVIDES)) != 0)
    apply_global(quant, panel, out->scale, n);
  if (quant.offset == SE_OFFSET_ZERO) {
    const int8_t* zeros = reinterpret_cast<const int8_t*>(offsets);
    for (int64_t i = 0; i < n; ++i) out->shift[i] = static_cast<float>(zeros[i]);
  } else if (quant.offset == SE_OFFSET_F16) {
    widen_f16(offsets, n, out->shift);
  } else if (quant.offset == SE_OFFSET_U8) {
    widen_f16(at + places.second_supers, kWidth, rows);
    for (float& row : rows) row = -row;
    multiply_bytes<uint8_t>(offsets, count, rows, out->shift);
  }
}

// One chunk of one panel.
struct PanelChunk {
  int64_t from;  // its first column
  int64_t cols;
  int64_t num_blocks;
  const char* codes;
};

// Finds a chunk of a matrix of k columns, loads its scales, and fetches those that lie `ahead` of them.
static inline PanelChunk open_chunk(const QuantPanel& quant, const char* panel, int64_t k,
                                    int64_t chunk, int64_t ahead, BlockScales* blocks) {
  const int64_t from = chunk * kChunk;
  const int64_t cols = k - from < kChunk ? k - from : kChunk;
  const int64_t first_block = from / quant.block_cols;
  const int64_t num_blocks = (from + cols - 1) / quant.block_cols - first_block + 1;
  load_scales(quant, panel, chunk, first_block, num_blocks, blocks);
  const QuantChunk& places = chunk + 1 == quant.num_chunks ? quant.last : quant.whole;
  const char* begin = panel + quant.header_bytes + chunk * quant.chunk_bytes;
  for (int64_t line = 0; line < places.codes; line += 64) __builtin_prefetch(begin + line + ahead);
  return {from, cols, num_blocks, begin + places.codes};
}
