// Reading the list of matrices that a load is given.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "binding/arguments.h"
#include "binding/errors.h"
#include "engine/loader.h"
#include "engine/matrix_formats.h"

namespace sparse_experts::binding {

std::vector<std::string> parse_load_files(const Napi::Value& value);
// Checks shapes against the layer and segments against the list of files.
std::vector<LoadItem> parse_load_items(const Napi::Value& value, const LayerState& layer,
                                       size_t num_files);
// The same items, before there is a layer.
std::vector<StoredSource> parse_stored_sources(const Napi::Value& value);

EncodedMatrix parse_encoding(const Napi::Object& object);

// A tensor of an encoded matrix in memory: { bytes: Uint8Array, type }. Read first, taken when no
// property will be read any more.
struct EncodedPart {
  Napi::Value bytes;
  StoredType type = StoredType::kU8;
};
// data, scale, zeroPoint, groupIndex, globalScale, columnScale; all but data may be absent.
std::array<EncodedPart, 6> read_encoded_parts(const Napi::Value& value);
void take_encoded_parts(const std::array<EncodedPart, 6>& parts, EncodedMatrix* encoding);

// The matrix names of the contract: 'expert' | 'shared' | 'latent' and 'gate' | 'up' | 'gateUp' |
// 'down'.
MatrixRole matrix_role_argument(const Napi::Value& value);
MatrixKind matrix_kind_argument(const Napi::Value& value);

}  // namespace sparse_experts::binding
