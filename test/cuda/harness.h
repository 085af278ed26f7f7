// What the kernel suites share: random arrays of every dtype, arrays of a dtype known at run time
// only, and checks that a launch ended well and that no poison is left.
//
//   DeviceArray<float> out(count);                       // poisoned with 0xFF
//   if (!synced(launch_x(args, stream), what)) return;   // ran to its end without a defect
//   check_no_nan(out.download(), what);
//   check_close(to_doubles(out.download()), expected, bound, what);
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "abi/backend.h"
#include "cpp/check.h"
#include "cpp/random.h"
#include "cuda/common/num.cuh"
#include "cuda/context.h"
#include "cuda/device_array.h"

#if defined(SIMT_EMULATOR)
#include <simt/faults.h>
#endif

namespace native_test {

using sparse_experts::cuda::Bf16;
using sparse_experts::cuda::F16;
using sparse_experts::testing::DeviceArray;
using sparse_experts::testing::must;

// ---- dtypes -----------------------------------------------------------------------------------

inline const char* dtype_name(int32_t dtype) {
  switch (dtype) {
    case SE_F32:
      return "f32";
    case SE_F16:
      return "f16";
    case SE_BF16:
      return "bf16";
    case SE_I32:
      return "i32";
    case SE_U8:
      return "u8";
    default:
      return "?";
  }
}

inline int64_t dtype_bytes(int32_t dtype) {
  return dtype == SE_F32 || dtype == SE_I32 ? 4 : dtype == SE_U8 ? 1 : 2;
}

// ---- arrays of a type that the compiler knows -------------------------------------------------

// Normally distributed, deviation `scale`, rounded to T.
template <typename T>
std::vector<T> random_array(Random& random, int64_t count, double scale = 1) {
  std::vector<T> values(static_cast<size_t>(count));
  for (T& value : values) {
    value = sparse_experts::cuda::from_float<T>(static_cast<float>(random.normal() * scale));
  }
  return values;
}

template <typename T>
std::vector<double> to_doubles(const std::vector<T>& values) {
  std::vector<double> wide(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    wide[i] = static_cast<double>(sparse_experts::cuda::to_float(values[i]));
  }
  return wide;
}

template <typename T>
std::vector<T> from_doubles(const std::vector<double>& values) {
  std::vector<T> narrow(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    narrow[i] = sparse_experts::cuda::from_float<T>(static_cast<float>(values[i]));
  }
  return narrow;
}

// ---- arrays of a dtype that only the case knows -----------------------------------------------

// Bytes as the device holds them; f32 is rounded to the dtype.
inline std::vector<uint8_t> encode(int32_t dtype, const std::vector<double>& values) {
  std::vector<uint8_t> bytes(values.size() * static_cast<size_t>(dtype_bytes(dtype)));
  for (size_t i = 0; i < values.size(); ++i) {
    const float value = static_cast<float>(values[i]);
    if (dtype == SE_F32) {
      std::memcpy(bytes.data() + 4 * i, &value, 4);
    } else {
      const uint16_t bits = dtype == SE_F16 ? sparse_experts::cuda::from_float<F16>(value).bits
                                            : sparse_experts::cuda::from_float<Bf16>(value).bits;
      std::memcpy(bytes.data() + 2 * i, &bits, 2);
    }
  }
  return bytes;
}

inline std::vector<double> decode(int32_t dtype, const std::vector<uint8_t>& bytes) {
  std::vector<double> values(bytes.size() / static_cast<size_t>(dtype_bytes(dtype)));
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == SE_F32) {
      float value;
      std::memcpy(&value, bytes.data() + 4 * i, 4);
      values[i] = static_cast<double>(value);
    } else {
      uint16_t bits;
      std::memcpy(&bits, bytes.data() + 2 * i, 2);
      values[i] = static_cast<double>(dtype == SE_F16 ? sparse_experts::cuda::to_float(F16{bits})
                                                      : sparse_experts::cuda::to_float(Bf16{bits}));
    }
  }
  return values;
}

// The values that the device will see.
inline std::vector<double> rounded(int32_t dtype, const std::vector<double>& values) {
  return decode(dtype, encode(dtype, values));
}

// Normally distributed with deviation `scale`, exactly representable in the dtype.
inline std::vector<double> random_values(Random& random, int32_t dtype, int64_t count,
                                         double scale = 1) {
  std::vector<double> values(static_cast<size_t>(count));
  for (double& value : values) value = random.normal() * scale;
  return rounded(dtype, values);
}

// ---- checks -----------------------------------------------------------------------------------

// The launch was accepted, the device finishes, and the emulator found no defect. After a defect
// the emulated device is made usable again, so that the next case can run.
inline bool synced(cudaError_t launched, const std::string& what) {
  bool good = CHECK_MESSAGE(launched == cudaSuccess, what,
                            ": launch: ", std::string(cudaGetErrorName(launched)));
  const cudaError_t finished = cudaDeviceSynchronize();
  good = CHECK_MESSAGE(finished == cudaSuccess, what,
                       ": execution: ", std::string(cudaGetErrorName(finished))) &&
         good;
#if defined(SIMT_EMULATOR)
  if (!good) simt::revive_devices();
#endif
  return good;
}

// No NaN, so no poison either.
template <typename T>
bool check_no_nan(const std::vector<T>& values, const std::string& what) {
  Every number;
  for (const T& value : values) number.that(!std::isnan(sparse_experts::cuda::to_float(value)));
  return number.check(what + ": no NaN");
}

inline bool check_no_nan(int32_t dtype, const std::vector<uint8_t>& bytes,
                         const std::string& what) {
  Every number;
  for (const double value : decode(dtype, bytes)) number.that(!std::isnan(value));
  return number.check(what + ": no NaN");
}

// Every byte still holds the poison: what a kernel must not touch.
template <typename T>
bool check_poison(const std::vector<T>& values, size_t first, size_t count,
                  const std::string& what) {
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(values.data() + first);
  Every poison;
  for (size_t i = 0; i < count * sizeof(T); ++i) poison.equal(int{bytes[i]}, 0xFF);
  return poison.check(what + ": bytes of what must stay, from element " + std::to_string(first));
}

}  // namespace native_test
