// Formats of matrices as JavaScript's objects.
#pragma once

#include <vector>

#include "binding/arguments.h"
#include "binding/errors.h"
#include "engine/layer_description.h"

namespace sparse_experts::binding {

// { code, table, scale, offset, blockRows, blockCols, superCols, flags }
SeMatrixFormat matrix_format_argument(const Napi::Value& value, const char* name);

// The matrices of a layer that are held in formats of their own: `formats`, and for each of
// `matrices` an index into them (`formatOf`).
void take_held_formats(const Napi::Object& description, LayerDescription* layer);

// chooseFormats and matrixBytes.
void define_matrix_formats(Napi::Env env, Napi::Object exports);

}  // namespace sparse_experts::binding
