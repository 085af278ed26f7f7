// Activations as codes of 8 bits (CodedSlab in cpu/isa/isa.h), over the vector class V: included by
// each instruction set's file inside its unnamed namespace.

// Products by 127 / magnitude and magnitude / 127 are normal numbers from here on.
constexpr float kLeastMagnitude = 0x1p-119f;
// Added to a number between -2^22 and 2^22 it leaves the nearest integer in the low bits.
constexpr float kRounding = 12582912.0f;

struct Rounded {
  alignas(64) float values[kCodedBlock];  // their low bytes are the codes
};

// Returns the scale of a block.
static inline float round_block(const float* in, Rounded* out) {
  V::Float largest = V::set(0.0f);
  V::Float probe = V::set(0.0f);  // NaN where a value is not finite
  for (int64_t i = 0; i < kCodedBlock; i += V::kLanes) {
    const V::Float x = V::load(in + i);
    largest = V::max(largest, V::abs(x));
    probe = V::add(probe, V::mul(x, V::set(0.0f)));
  }
  alignas(64) float lanes[V::kLanes];
  alignas(64) float probes[V::kLanes];
  V::store(lanes, largest);
  V::store(probes, probe);
  float magnitude = 0.0f;
  float is_finite = 0.0f;
  for (int i = 0; i < V::kLanes; ++i) {
    magnitude = lanes[i] > magnitude ? lanes[i] : magnitude;
    is_finite += probes[i];
  }
  float scale = magnitude / 127.0f;
  float inverse = 127.0f / magnitude;
  if (!(magnitude >= kLeastMagnitude)) scale = inverse = 0.0f;
  if (!(is_finite == 0.0f)) {
    scale = is_finite;
    for (float& value : out->values) value = kRounding;
    return scale;
  }
  for (int64_t i = 0; i < kCodedBlock; i += V::kLanes) {
    const V::Float scaled = V::mul(V::load(in + i), V::set(inverse));
    V::store(out->values + i, V::add(scaled, V::set(kRounding)));
  }
  return scale;
}

typedef int8_t Codes16 __attribute__((vector_size(16)));

// 16 columns in the order of words of 16, 8 or 4 columns.
static inline Codes16 in_order(Codes16 v, int64_t word_columns) {
  if (word_columns == 16)
    return __builtin_shufflevector(v, v, 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
  if (word_columns == 8)
    return __builtin_shufflevector(v, v, 0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
  return __builtin_shufflevector(v, v, 0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
}

static void encode(CodedSlab* out, const float* in, int64_t n, int64_t word_columns) {
  alignas(64) float padded[kSlab];
  if (n < kSlab) {
    __builtin_memset(padded, 0, sizeof padded);
    __builtin_memcpy(padded, in, static_cast<size_t>(n) * sizeof *in);
    in = padded;
  }
  alignas(64) int8_t codes[kSlab];
  for (int64_t block = 0; block < kSlab / kCodedBlock; ++block) {
    Rounded rounded;
    out->scales[block] = round_block(in + block * kCodedBlock, &rounded);
    int32_t bits[kCodedBlock];
    __builtin_memcpy(bits, rounded.values, sizeof bits);
    int8_t* to = codes + block * kCodedBlock;
    for (int64_t i = 0; i < kCodedBlock; ++i) to[i] = static_cast<int8_t>(bits[i]);
  }
  for (int64_t group = 0; group < kSlab; group += kSummed) {
    int32_t sum = 0;
    for (int64_t i = 0; i < kSummed; ++i) sum += codes[group + i];
    out->sums[group / kSummed] = static_cast<int16_t>(sum);
    Codes16 v;
    __builtin_memcpy(&v, codes + group, sizeof v);
    v = in_order(v, word_columns);
    __builtin_memcpy(out->codes + group, &v, sizeof v);
  }
}
