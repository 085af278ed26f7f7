// Activations and conversions over a vector class V, included by each instruction set's file inside
// its unnamed namespace.
//
// V: Float (kLanes f32), load, store, load_part(p, n), store_part(p, v, n), set(f), add, sub, mul,
// div, abs, fma(a, b, c) = a b + c, product_error(a, b, p) = a b - p exactly, for p = mul(a, b);
// min(a, b) and max(a, b) (b when either is NaN), shift_exponent(t) = the float whose bits are
// (bits(t) + 127) << 23, where_negative(v, a, b) = v < 0 ? a : b.

// e^x to 2 ulp. Below -87.3 the result stays the least normal number, above 88.4 it is infinite;
// NaN stays NaN.
static inline V::Float exp_vector(V::Float x) {
  x = V::max(V::set(-87.3f), V::min(V::set(89.0f), x));
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
  const V::Float magic = V::set(12582912.0f);
  const V::Float shifted = V::fma(x, V::set(1.44269504f), magic);
  const V::Float n = V::sub(shifted, magic);
  V::Float r = V::fma(n, V::set(-0.693359375f), x);  // ln 2 in two parts, the first one short
  r = V::fma(n, V::set(2.12194440e-4f), r);
  // Taylor series of e^r up to r^7 on |r| <= ln(2) / 2: the first term left out is below 6e-9.
  V::Float p = V::set(1.0f / 5040.0f);
  p = V::fma(p, r, V::set(1.0f / 720.0f));
  p = V::fma(p, r, V::set(1.0f / 120.0f));
  p = V::fma(p, r, V::set(1.0f / 24.0f));
  p = V::fma(p, r, V::set(1.0f / 6.0f));
  p = V::fma(p, r, V::set(0.5f));
  p = V::fma(p, r, V::set(1.0f));
  p = V::fma(p, r, V::set(1.0f));
  return V::mul(p, V::shift_exponent(shifted));
}

// v * sigmoid(a v)
static inline V::Float silu_vector(V::Float v, V::Float alpha) {
  const V::Float e = exp_vector(V::mul(V::sub(V::set(0.0f), alpha), v));
  return V::div(v, V::add(V::set(1.0f), e));
}

// v * Phi(v), with Phi(-|v|) = erfc(|v| / sqrt 2) / 2 computed directly, so that the small tail
// keeps its relative accuracy. erfc(z) = e^(-z^2) * t * P(t), t = 1 / (1 + 0.4 z); P is a relative
// minimax fit of degree 9 on z in [0, 9.5], error 7e-9.
static inline V::Float gelu_vector(V::Float v) {
  const V::Float magnitude = V::min(V::set(30.0f), V::abs(v));  // all beyond is 0 or v
  const V::Float t = V::div(V::set(1.0f), V::fma(magnitude, V::set(0.282842712f), V::set(1.0f)));
  V::Float p = V::set(-0.03059572f);
  p = V::fma(p, t, V::set(0.203477193f));
  p = V::fma(p, t, V::set(-0.511727634f));
  p = V::fma(p, t, V::set(0.564762154f));
  p = V::fma(p, t, V::set(-0.298873559f));
  p = V::fma(p, t, V::set(0.279911598f));
  p = V::fma(p, t, V::set(0.126944463f));
  p = V::fma(p, t, V::set(0.215510805f));
  p = V::fma(p, t, V::set(0.224880051f));
  p = V::fma(p, t, V::set(0.225710656f));
  // v^2 / 2 in two parts: the rounding of the square would be multiplied by its size in the
  // exponential.
  const V::Float square = V::mul(magnitude, magnitude);
  const V::Float lost = V::product_error(magnitude, magnitude, square);
  V::Float e = exp_vector(V::mul(V::set(-0.5f), square));
  e = V::fma(e, V::mul(V::set(-0.5f), lost), e);
  const V::Float tail = V::mul(V::set(0.5f), V::mul(e, V::mul(t, p)));
  // The limited magnitude again: exp_vector's floor times a huge v would not be small.
  const V::Float negative = V::mul(V::sub(V::set(0.0f), magnitude), tail);
  return V::where_negative(v, negative, V::mul(v, V::sub(V::set(1.0f), tail)));
}

// 0.5 v (1 + tanh y) = v / (1 + e^(-2y)), y = sqrt(2 / pi) (v + 0.044715 v^3). The last rounding of
// -2y is made good.
static inline V::Float gelu_tanh_vector(V::Float v) {
  const V::Float limited = V::max(V::set(-30.0f), V::min(V::set(30.0f), v));
  const V::Float cubic =
      V::fma(V::mul(limited, limited), V::set(-0.0713548162f), V::set(-1.59576912f));
  const V::Float power = V::mul(limited, cubic);
  const V::Float lost = V::product_error(limited, cubic, power);
  V::Float e = exp_vector(power);
  e = V::fma(e, lost, e);
  return V::div(v, V::add(V::set(1.0f), e));
}

// tanh v. Near 0 by its Taylor series up to v^13, whose first term left out is below 5e-9 of the
// result on |v| < 0.4, because 1 - 2 / (e^(2v) + 1) cancels there.
static inline V::Float tanh_vector(V::Float v) {
  const V::Float square = V::mul(v, v);
  V::Float p = V::set(21844.0f / 6081075.0f);
  p = V::fma(p, square, V::set(-1382.0f / 155925.0f));
  p = V::fma(p, square, V::set(62.0f / 2835.0f));
  p = V::fma(p, square, V::set(-17.0f / 315.0f));
  p = V::fma(p, square, V::set(2.0f / 15.0f));
  p = V::fma(p, square, V::set(-1.0f / 3.0f));
  const V::Float small = V::fma(V::mul(p, square), v, v);
  const V::Float one = V::set(1.0f);
  const V::Float e = exp_vector(V::add(v, v));
  const V::Float large = V::sub(one, V::div(V::set(2.0f), V::add(e, one)));
  return V::where_negative(V::sub(V::abs(v), V::set(0.4f)), small, large);
}

// bound * tanh(v / bound)
static inline V::Float bounded_vector(V::Float v, float bound) {
  return V::mul(V::set(bound), tanh_vector(V::div(v, V::set(bound))));
}

// alpha * tanh(v / alpha) * sigmoid(v)
static inline V::Float situ_vector(V::Float v, float alpha) {
  const V::Float e = exp_vector(V::sub(V::set(0.0f), v));
  return V::div(bounded_vector(v, alpha), V::add(V::set(1.0f), e));
}

template <int kKind>
static inline V::Float activate_vector(V::Float v, V::Float alpha) {
  if constexpr (kKind == SE_SILU) return silu_vector(v, alpha);
  if constexpr (kKind == SE_GELU) return gelu_vector(v);
  if constexpr (kKind == SE_GELU_TANH) return gelu_tanh_vector(v);
  if constexpr (kKind == SE_RELU) return V::max(V::set(0.0f), v);
  if constexpr (kKind == SE_RELU2) {
    const V::Float positive = V::max(V::set(0.0f), v);
    return V::mul(positive, positive);
  }
  return v;
}

template <int kKind>
static inline V::Float expert_activation(const SeActivationSpec& spec, V::Float gate, V::Float up) {
  if constexpr (kKind == SE_SITU) {
    if (!spec.gated) return situ_vector(up, spec.alpha);
    if (spec.limit > 0.0f) up = bounded_vector(up, spec.limit);
    return V::mul(situ_vector(gate, spec.alpha), V::add(up, V::set(spec.up_offset)));
  }
  const V::Float alpha = V::set(spec.alpha);
  if (!spec.gated) return activate_vector<kKind>(up, alpha);
  if (spec.limit > 0.0f) {
    const V::Float limit = V::set(spec.limit);
    gate = V::min(V::set(spec.gate_limit > 0.0f ? spec.gate_limit : spec.limit), gate);
    up = V::max(V::set(-spec.limit), V::min(limit, up));
  }
  return V::mul(activate_vector<kKind>(gate, alpha), V::add(up, V::set(spec.up_offset)));
}

template <int kKind>
static void activate_kind(const SeActivationSpec& spec, const float* gate, const float* up,
                          int64_t n, float* out) {
  if (!spec.gated) gate = up;
  int64_t i = 0;
  for (; i + V::kLanes <= n; i += V::kLanes)
    V::store(out + i, expert_activation<kKind>(spec, V::load(gate + i), V::load(up + i)));
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    V::store_part(
        out + i,
        expert_activation<kKind>(spec, V::load_part(gate + i, rest), V::load_part(up + i, rest)),
        rest);
  }
}

static void activate(const SeActivationSpec& spec, const float* gate, const float* up, int64_t n,
                     float* out) {
  switch (spec.kind) {
    case SE_SILU:
      return activate_kind<SE_SILU>(spec, gate, up, n, out);
    case SE_GELU:
      return activate_kind<SE_GELU>(spec, gate, up, n, out);
    case SE_GELU_TANH:
      return activate_kind<SE_GELU_TANH>(spec, gate, up, n, out);
    case SE_RELU:
      return activate_kind<SE_RELU>(spec, gate, up, n, out);
    case SE_RELU2:
      return activate_kind<SE_RELU2>(spec, gate, up, n, out);
    case SE_SITU:
      return activate_kind<SE_SITU>(spec, gate, up, n, out);
    default:
      return activate_kind<SE_IDENTITY>(spec, gate, up, n, out);
  }
}

// Plain loops from here on: elementwise, each operation rounded by itself, so the compiler's
// vectors cannot change a bit.
static void axpy(float* acc, const float* x, float weight, int64_t n) {
  for (int64_t i = 0; i < n; ++i) acc[i] += weight * x[i];
}

static void scale(float* out, const float* x, float factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = factor * x[i];
}

static inline float bf16_to_f32(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  __builtin_memcpy(&value, &wide, 4);
  return value;
}

static inline uint16_t f32_to_bf16(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t quiet = (bits >> 16) | 0x40u;
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

static void widen(float* out, const void* in, int32_t dtype, int64_t n) {
  if (dtype == SE_F32) {
    if (n > 0) __builtin_memcpy(out, in, static_cast<size_t>(n) * sizeof(float));
  } else if (dtype == SE_BF16) {
    const uint16_t* from = static_cast<const uint16_t*>(in);
    for (int64_t i = 0; i < n; ++i) out[i] = bf16_to_f32(from[i]);
  } else {
    const uint16_t* from = static_cast<const uint16_t*>(in);
    for (int64_t i = 0; i < n; ++i) out[i] = V::f16_to_f32(from[i]);
  }
}

static int narrow(void* out, int32_t dtype, const float* in, int64_t n) {
  uint32_t bad = 0;  // any stored value with a full exponent
  if (dtype == SE_F32) {
    float* to = static_cast<float*>(out);
    for (int64_t i = 0; i < n; ++i) {
      uint32_t bits;
      __builtin_memcpy(&bits, in + i, 4);
      bad |= (bits & 0x7f800000u) == 0x7f800000u ? 1u : 0u;
      to[i] = in[i];
    }
  } else if (dtype == SE_BF16) {
    uint16_t* to = static_cast<uint16_t*>(out);
    for (int64_t i = 0; i < n; ++i) {
      to[i] = f32_to_bf16(in[i]);
      bad |= (to[i] & 0x7f80u) == 0x7f80u ? 1u : 0u;
    }
  } else {
    uint16_t* to = static_cast<uint16_t*>(out);
    for (int64_t i = 0; i < n; ++i) {
      to[i] = V::f32_to_f16(in[i]);
      bad |= (to[i] & 0x7c00u) == 0x7c00u ? 1u : 0u;
    }
  }
  return bad == 0 ? 1 : 0;
}
