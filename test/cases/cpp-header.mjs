/**
 * `node test/cases/cpp-header.mjs FILE`: writes the case table and the bounds as a C++ header for the tests. CMake runs it when it
 * configures, and again when an input changes. Prints its inputs, one a line.
 *
 * Of `layers.json` C++ takes the kinds: the random layers of `test/oracle` have what those describe. A field that they do not know is
 * an error, because a case that silently lost a part of its description would test something else.
 */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'

const root = path.join(import.meta.dirname, '../..')
const INPUTS = {
  layers: 'test/cases/layers.json',
  bounds: 'test/cases/bounds.json',
  /** The bounds that the library publishes: of the output, by dtype. */
  published: 'lib/devices/accuracy.ts',
}
const DTYPES = ['f32', 'f16', 'bf16']

const text = name => readFileSync(path.join(root, INPUTS[name]), 'utf8')
const number = value => {
  if (typeof value !== 'number' || !Number.isFinite(value))
    throw new Error(`Expected a number, found ${value}`)
  return `${value}`
}

const float = value => `${number(value)}${Number.isInteger(value) ? '.0' : ''}f`

/** `ERROR_BOUNDS = { f32: 5e-6, … }` of a module whose code Node does not read everywhere. */
function publishedBounds() {
  const [, fields] = /\bERROR_BOUNDS\b[^=]*=\s*\{([^}]*)\}/.exec(text('published')) ?? []
  const bounds = Object.fromEntries(
    [...(fields ?? '').matchAll(/(\w+):\s*([\d.e+-]+)/g)].map(([, dtype, bound]) => [dtype, Number(bound)]),
  )
  for (const dtype of DTYPES)
    if (!(bounds[dtype] > 0)) throw new Error(`${INPUTS.published}: ERROR_BOUNDS has no number for ${dtype}`)
  return bounds
}

/** `INT8_ACTIVATIONS_BOUND = 3e-2` of the same. */
function int8Bound() {
  const [, bound] = /\bINT8_ACTIVATIONS_BOUND = ([\d.e+-]+)/.exec(text('published')) ?? []
  if (!(Number(bound) > 0)) throw new Error(`${INPUTS.published}: INT8_ACTIVATIONS_BOUND is no number`)
  return Number(bound)
}

function byDtype(name, bounds) {
  const [f32, f16, bf16] = DTYPES.map(dtype => number(bounds[dtype]))
  return `inline double ${name}(int32_t dtype) {
  return dtype == SE_F32 ? ${f32} : dtype == SE_F16 ? ${f16} : ${bf16};
}
`
}

const ACTIVATIONS = {
  silu: 'SE_SILU',
  gelu: 'SE_GELU',
  gelu_pytorch_tanh: 'SE_GELU_TANH',
  relu: 'SE_RELU',
  relu2: 'SE_RELU2',
  identity: 'SE_IDENTITY',
  situ: 'SE_SITU',
}
const SHARED_GATES = { plain: 'SE_SHARED_PLAIN', sigmoid: 'SE_SHARED_SIGMOID', mix: 'SE_SHARED_MIX' }
const one = (table, value, what) => {
  if (!(value in table)) throw new Error(`${INPUTS.layers}: no such ${what}: ${value}`)
  return table[value]
}

/** Statements that describe a config in a LayerOptions `o`, by field. */
const FIELDS = {
  hiddenSize: value => `o.hidden_size = ${number(value)};`,
  intermediateSize: value => `o.intermediate = ${number(value)};`,
  numExperts: (value, config) => `o.num_experts = ${number(value + (config.numIdentityExperts ?? 0))};`,
  numIdentityExperts: value => `o.num_identity = ${number(value)};`,
  topK: value => `o.top_k = ${number(value)};`,
  activation: value => `o.activation.kind = ${one(ACTIVATIONS, value, 'activation')};`,
  gated: value => `o.activation.gated = ${value ? 1 : 0};`,
  swigluLimit: value => `o.activation.limit = ${float(value)};`,
  swigluGateLimit: value => `o.activation.gate_limit = ${float(value)};`,
  swigluAlpha: value => `o.activation.alpha = ${float(value)};`,
  swigluUpOffset: value => `o.activation.up_offset = ${float(value)};`,
  numSharedExperts: (value, config) =>
    `o.shared = ${number(config.sharedIntermediateSize ?? value * config.intermediateSize)};`,
  sharedIntermediateSize: () => '',
  sharedSwigluLimit: () => '',
  sharedSwigluGateLimit: () => '',
  sharedGate: value => `o.shared_mode = ${one(SHARED_GATES, value, 'sharedGate')};`,
  latentSize: value => `o.latent = ${number(value)};`,
  latentNormEpsilon: value => `o.latent_norm_epsilon = ${number(value)};`,
  weightOn: value => `o.weight_on_input = ${value === 'input'};`,
  routerNormEpsilon: value => `o.router_norm_epsilon = ${number(value)};`,
}
const EXTRAS = {
  expertBias: 'o.biases = true;',
  routerBias: 'o.router_bias = true;',
  inputScale: 'o.input_scale = true;',
  outputBias: 'o.output_bias = true;',
  sharedLogitBias: 'o.shared_logit_bias = true;',
}

function kind({ name, config, with: extras = [], rowPadding = 0 }) {
  const statements = [
    ...Object.entries(config).map(([field, value]) => one(FIELDS, field, 'field')(value, config)),
    ...extras.map(extra => one(EXTRAS, extra, 'extra')),
    rowPadding ? `o.row_padding = ${number(rowPadding)};` : '',
  ]
  return `  {
    LayerOptions o;
    ${statements.filter(Boolean).join('\n    ')}
    kinds.push_back({${JSON.stringify(name)}, o});
  }
`
}

const bounds = JSON.parse(text('bounds'))
const header = `// Made by test/cases/cpp-header.mjs of ${Object.values(INPUTS).join(', ')}.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "abi/backend.h"
#include "oracle/fixture.h"

namespace native_test {

// Largest ||out - expected|| / ||expected|| of a layer with f32 output, by the dtype of its experts.
${byDtype('layer_bound', publishedBounds())}
// What an output in a 16-bit dtype adds to that.
${byDtype('output_rounding', bounds.outputRounding)}
// The same of a layer whose activations become codes, against itself with exact ones.
constexpr double kInt8ActivationsBound = ${number(int8Bound())};
// Ids must agree wherever the selection margin exceeds this.
constexpr double kSelectionMargin = ${number(bounds.selectionMargin)};
constexpr double kWeightBound = ${number(bounds.topkWeights)};

struct LayerKind {
  std::string name;
  LayerOptions options;
};

inline std::vector<LayerKind> layer_kinds() {
  std::vector<LayerKind> kinds;
${JSON.parse(text('layers')).kinds.map(kind).join('')}  return kinds;
}

}  // namespace native_test
`

const file = process.argv[2]
if (!file) throw new Error('usage: node test/cases/cpp-header.mjs FILE')
mkdirSync(path.dirname(file), { recursive: true })
writeFileSync(file, header)
console.log(Object.values(INPUTS).join('\n'))
