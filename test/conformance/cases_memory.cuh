// Cases of copies, loads and conversions.
#pragma once

#include "conformance/case_builder.cuh"

namespace conformance {

inline std::vector<unsigned char> bytes_of(const std::vector<uint32_t>& words) {
  std::vector<unsigned char> bytes(words.size() * 4);
  std::memcpy(bytes.data(), words.data(), bytes.size());
  return bytes;
}

inline std::vector<uint32_t> words_of(const std::vector<unsigned char>& bytes) {
  std::vector<uint32_t> words(bytes.size() / 4);
  std::memcpy(words.data(), bytes.data(), bytes.size());
  return words;
}

// Lane l copies l % (kBytes + 1) bytes: every count occurs.
template <int kBytes>
Case cp_async_case(const char* name, uint64_t seed) {
  Case one;
  one.name = name;
  one.seed = seed;
  Random random(seed);
  const std::vector<unsigned char> source = bytes_of(random_words(random, 32 * kBytes / 4));
  std::vector<uint32_t> counts(32);
  std::vector<unsigned char> expected(32 * kBytes, 0);
  for (uint32_t lane = 0; lane < 32; ++lane) {
    counts[lane] = lane % (kBytes + 1);
    std::memcpy(&expected[kBytes * lane], &source[kBytes * lane], counts[lane]);
  }
  const DeviceArray<unsigned char> out(32 * kBytes);
  const DeviceArray<unsigned char> source_on_device(source);
  const DeviceArray<uint32_t> counts_on_device(counts);
  one.out = words_of(run_kernel(name, cp_async_kernel<kBytes>, 1, 32, out, source_on_device.data(),
                                counts_on_device.data(), out.data()));
  one.model = words_of(expected);
  return one;
}

inline std::vector<uint4> vectors_of(const std::vector<uint32_t>& words) {
  std::vector<uint4> vectors(words.size() / 4);
  std::memcpy(vectors.data(), words.data(), words.size() * 4);
  return vectors;
}

inline std::vector<uint32_t> words_of(const std::vector<uint4>& vectors) {
  std::vector<uint32_t> words(vectors.size() * 4);
  std::memcpy(words.data(), vectors.data(), words.size() * 4);
  return words;
}

inline Case cp_async_groups_case(uint64_t seed) {
  Case one;
  one.name = "cp_async/groups";
  one.seed = seed;
  Random random(seed);
  const std::vector<uint4> source = vectors_of(random_words(random, 64 * 4));
  std::vector<uint4> expected(64);
  for (size_t lane = 0; lane < 32; ++lane) {
    expected[lane] = source[31 - lane];
    expected[32 + lane] = source[32 + (lane ^ 5)];
  }
  const DeviceArray<uint4> out(64);
  const DeviceArray<uint4> source_on_device(source);
  one.out = words_of(run_kernel("cp_async/groups", cp_async_groups_kernel, 1, 32, out,
                                source_on_device.data(), out.data()));
  one.model = words_of(expected);
  return one;
}

inline Case griddepcontrol_case(uint64_t seed) {
  Case one;
  one.name = "griddepcontrol";
  one.seed = seed;
  Random random(seed);
  const std::vector<uint4> source = vectors_of(random_words(random, 32 * 4));
  const DeviceArray<uint4> out(32);
  const DeviceArray<uint4> source_on_device(source);
  one.out = words_of(run_kernel("griddepcontrol", griddepcontrol_kernel, 1, 32, out,
                                source_on_device.data(), out.data()));
  one.model = words_of(std::vector<uint4>(source.rbegin(), source.rend()));
  return one;
}

inline Case load_streaming_case(uint64_t seed) {
  Case one;
  one.name = "load_streaming";
  one.seed = seed;
  Random random(seed);
  const std::vector<uint4> source = vectors_of(random_words(random, 100 * 4));
  std::vector<uint32_t> index(32);
  std::vector<uint4> expected(32);
  for (size_t lane = 0; lane < 32; ++lane) {
    index[lane] = static_cast<uint32_t>(random.below(100));
    expected[lane] = source[index[lane]];
  }
  const DeviceArray<uint4> out(32);
  const DeviceArray<uint4> source_on_device(source);
  const DeviceArray<uint32_t> index_on_device(index);
  one.out = words_of(run_kernel("load_streaming", load_streaming_kernel, 1, 32, out,
                                source_on_device.data(), index_on_device.data(), out.data()));
  one.model = words_of(expected);
  return one;
}

// ---- conversions ------------------------------------------------------------------------------

template <typename T>
std::vector<uint32_t> convert_up(const char* name, const std::vector<uint32_t>& bits) {
  const DeviceArray<uint32_t> out(static_cast<int64_t>(bits.size()));
  const DeviceArray<uint32_t> in(bits);
  return run_kernel(name, to_float_kernel<T>, blocks_for(bits.size()), 128, out, in.data(),
                    out.data(), static_cast<int32_t>(bits.size()));
}

template <typename T>
std::vector<uint32_t> convert_down(const char* name, const std::vector<uint32_t>& bits) {
  const DeviceArray<uint32_t> out(static_cast<int64_t>(bits.size()));
  const DeviceArray<uint32_t> in(bits);
  return run_kernel(name, from_float_kernel<T>, blocks_for(bits.size()), 128, out, in.data(),
                    out.data(), static_cast<int32_t>(bits.size()));
}

inline std::vector<uint32_t> all_halves() {
  std::vector<uint32_t> bits(65536);
  for (uint32_t i = 0; i < 65536; ++i) bits[i] = i;
  return bits;
}

inline Case bf16_to_float_case() {
  Case one;
  one.name = "bf16_to_float/all";
  one.out = convert_up<cuda::Bf16>("bf16_to_float/all", all_halves());
  for (uint32_t i = 0; i < 65536; ++i) {
    // NaNs as well: the upper half of an f32 is what bf16 means.
    const double value = model::value_of(model::kBf16, i);
    one.model.push_back(std::isnan(value) ? i << 16 : model::bits_of(static_cast<float>(value)));
  }
  return one;
}

inline Case f16_to_float_case() {
  Case one;
  one.name = "f16_to_float/all";
  one.out = convert_up<cuda::F16>("f16_to_float/all", all_halves());
  for (uint32_t i = 0; i < 65536; ++i) {
    const double value = model::value_of(model::kF16, i);
    one.model.push_back(model::bits_of(static_cast<float>(value)));
  }
  one_nan(one.out);
  one_nan(one.model);
  return one;
}

// Every 16-bit number, the middle between it and the next, and the f32 neighbours of both: all that
// decides a rounding. Then random bits. No NaN.
inline std::vector<uint32_t> rounding_inputs(model::Format format, uint64_t seed) {
  std::vector<uint32_t> inputs;
  const auto add_around = [&inputs](float value) {
    const uint32_t bits = model::bits_of(value);
    for (const uint32_t near : {bits - 1, bits, bits + 1}) {
      if (!std::isnan(model::float_of(near))) inputs.push_back(near);
    }
  };
  for (uint32_t i = 0; i < 65536; ++i) {
    const double value = model::value_of(format, i);
    if (!std::isfinite(value)) continue;
    double next = model::value_of(format, i + 1);
    // Behind the greatest number: where the next one would be.
    if (!std::isfinite(next)) next = 2 * value - model::value_of(format, i - 1);
    if (value != 0) add_around(static_cast<float>(value));
    // Beyond f32's range there is only infinity, which follows.
    const double middle = (value + next) / 2;
    if (std::fabs(middle) <= static_cast<double>(std::numeric_limits<float>::max())) {
      add_around(static_cast<float>(middle));
    }
  }
  for (const uint32_t bits : {0x00000000u, 0x80000000u, 0x00000001u, 0x7f7fffffu, 0x7f800000u,
                              0xff800000u, 0x00800000u, 0x807fffffu}) {
    inputs.push_back(bits);
  }
  Random random(seed);
  while (inputs.size() % 4096 != 0 || inputs.size() < (1u << 18)) {
    const uint32_t bits = static_cast<uint32_t>(random.bits() >> 32);
    if (!std::isnan(model::float_of(bits))) inputs.push_back(bits);
  }
  return inputs;
}

template <typename T>
Case from_float_case(const char* name, model::Format format, uint64_t seed) {
  Case one;
  one.name = name;
  one.seed = seed;
  const std::vector<uint32_t> inputs = rounding_inputs(format, seed);
  one.out = convert_down<T>(name, inputs);
  for (const uint32_t bits : inputs) {
    one.model.push_back(model::round_to(format, static_cast<double>(model::float_of(bits))));
  }
  return one;
}

inline std::vector<uint32_t> nan_inputs(uint64_t seed) {
  std::vector<uint32_t> inputs = {0x7fc00000u, 0xffc00000u, 0x7f800001u, 0xff800001u,
                                  0x7fffffffu, 0xffffffffu, 0x7f808000u, 0x7fa00000u};
  Random random(seed);
  while (inputs.size() < 256) {
    const uint32_t bits = static_cast<uint32_t>(random.bits() >> 32) | 0x7f800000u;
    if (std::isnan(model::float_of(bits))) inputs.push_back(bits);
  }
  return inputs;
}

// bf16 keeps the NaN's upper bits, made quiet; f16 is the instruction's one NaN.
template <typename T>
Case nan_case(const char* name, bool is_bf16, uint64_t seed) {
  Case one;
  one.name = name;
  one.seed = seed;
  const std::vector<uint32_t> inputs = nan_inputs(seed);
  one.out = convert_down<T>(name, inputs);
  for (const uint32_t bits : inputs) one.model.push_back(is_bf16 ? bits >> 16 | 0x40u : 0x7fffu);
  return one;
}

inline void add_memory_cases(std::vector<Case>& cases) {
  cases.push_back(cp_async_case<16>("cp_async_16/all_counts", 41));
  cases.push_back(cp_async_case<4>("cp_async_4/all_counts", 42));
  cases.push_back(cp_async_groups_case(43));
  cases.push_back(griddepcontrol_case(49));
  cases.push_back(load_streaming_case(44));
  cases.push_back(bf16_to_float_case());
  cases.push_back(f16_to_float_case());
  cases.push_back(from_float_case<cuda::Bf16>("bf16_from_float/rounding", model::kBf16, 51));
  cases.push_back(from_float_case<cuda::F16>("f16_from_float/rounding", model::kF16, 52));
  cases.push_back(nan_case<cuda::Bf16>("bf16_from_float/nan", true, 53));
  cases.push_back(nan_case<cuda::F16>("f16_from_float/nan", false, 54));
}

}  // namespace conformance
