// The one table of formats in which checkpoints store a matrix.
#include "formats/stored_format.h"

namespace sparse_experts::decode_detail {
namespace {

// In the order of Codec (spec/formats.json).
const StoredFormat* const kStoredFormats[kNumCodecs] = {
    &kFloatFormat, &kE2M1Format, &kPackedIntFormat, &kAwqFormat,
    &kGptqFormat,  &kInt8Format, &kGgmlFormat,      &kInt4RowsFormat};

}  // namespace

const StoredFormat* stored_format(Codec codec) {
  const auto index = static_cast<int32_t>(codec);
  return index >= 0 && index < kNumCodecs ? kStoredFormats[index] : nullptr;
}

}  // namespace sparse_experts::decode_detail
