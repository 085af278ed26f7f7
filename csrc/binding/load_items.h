// Reading the list of matrices that a load is given.
#pragma once

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

// The matrix names of the contract: 'expert' | 'shared' | 'latent' and 'gate' | 'up' | 'gateUp' |
// 'down'.
MatrixRole matrix_role_argument(const Napi::Value& value);
MatrixKind matrix_kind_argument(const Napi::Value& value);

}  // namespace sparse_experts::binding
