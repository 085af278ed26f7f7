/** Every public function with arguments that it accepts, and values that nobody should pass in their place. */

import path from 'node:path'
import { runInNewContext } from 'node:vm'
import * as library from '../../lib/index.js'
import { ERROR_CODES, MoeLayer, reference, stages, Tensor } from '../../lib/index.js'

const [T, H, I, E, K] = [2, 4, 3, 4, 2]
const floats = (length: number) => Float32Array.from({ length }, (_, i) => Math.sin(i + 1))
const config = {
  scoringFunc: 'softmax',
  normTopkProb: true,
  numExperts: E,
  topK: K,
  hiddenSize: H,
  intermediateSize: I,
}
const weights = () => ({
  router: { weight: floats(E * H) },
  experts: Array.from({ length: E }, () => ({ gate: floats(I * H), up: floats(I * H), down: floats(H * I) })),
})
const routing = { scoringFunc: 'softmax', numExperts: E, topK: K }
/** A checkpoint with experts in one layer, the last of two. */
const GOLDEN = path.join(import.meta.dirname, '../golden/cases/deepseek_v3')
const MODEL_OPTIONS = { layers: [1], device: ['reference'], maxTokens: 4, maxQueuedTokens: 9, dtype: 'f32' }
/** `[2, 2]` in bytes, its parts given whole so that each is replaced too. */
const quantised = () => ({
  format: 'int8',
  data: Int8Array.of(1, 2, 3, 4),
  scales: Uint16Array.of(0x3c00, 0x3c00),
  scaleType: 'f16',
  zeros: Int8Array.of(0, 1),
  groupSize: 32,
  blockRows: 1,
  groupIndex: Int32Array.of(0, 0),
})
const ids = Int32Array.of(0, 1, 2, 3)
const tensor = (data: Float32Array | Int32Array, ...shape: number[]) => Tensor.from(data, shape)
const sorted = () => stages.dispatch(tensor(ids, T, K), E)
const activation = { activation: 'silu', gated: false, swigluLimit: 0, swigluAlpha: 1, swigluUpOffset: 0 }

/** The arguments of a call that succeeds. Options are given whole, so that each of their values is replaced too. */
export const CALLS: Record<string, () => unknown[]> = {
  bf16ToNumber: () => [0x3f80],
  f16ToNumber: () => [0x3c00],
  numberToBf16: () => [1],
  numberToF16: () => [1],
  quantize: () => [floats(4), 2, 2, 'int8', 'bf16'],
  dequantize: () => [quantised(), 2, 2],
  fromFloat32: () => [floats(4), 'bf16'],
  toFloat32: () => [Uint16Array.of(1, 2), 'bf16'],
  devices: () => [],
  doctor: () => [],
  setLogger: () => [null],
  plan: () => [config, 4, { device: 'reference', dtype: 'f32', batchInvariant: false, activations: 'exact' }],
  metrics: () => [[layer]],
  readTrace: () => ['/nowhere', {}],
  simulate: () => [
    '/nowhere',
    {
      cache: { slots: 3, policy: 'lru', scope: 'layer', readers: 2 },
      rates: { disk: 1e9, readSeconds: 0, expert: 1e9, callSeconds: 0 },
      tokensPerCall: 1,
    },
  ],
  'reference.gate': () => [floats(T * H), floats(E * H), floats(E), { hiddenSize: H, numExperts: E }],
  'reference.selectExperts': () => [floats(T * E), routing, { topK: 1, topP: 0.5, sequenceLengths: [1, 1] }],
  'reference.selectionMargins': () => [
    floats(T * E),
    routing,
    { topK: 1, topP: 0.5, sequenceLengths: [1, 1] },
  ],
  'reference.dispatch': () => [ids, E],
  'reference.expertMatmul': () => [
    floats(T * K * H),
    floats(E * I * H),
    reference.dispatch(ids, E),
    { rows: I, cols: H, gather: false, topK: K, bias: floats(E * I), activation, interleaved: false },
  ],
  'reference.activate': () => ['silu', 1, 1],
  'reference.combine': () => [floats(T * K * H), ids, floats(T * K), { topK: K, hiddenSize: H }],
  'reference.forward': () => [
    config,
    weights(),
    floats(T * H),
    { topK: 1, topP: 0.5, sequenceLengths: [1, 1], routerInput: floats(T * H), dtype: 'bf16' },
  ],
  'stages.gate': () => [tensor(floats(T * H), T, H), tensor(floats(E * H), E, H), tensor(floats(E), E)],
  'stages.selectExperts': () => [
    tensor(floats(T * E), T, E),
    routing,
    { topK: 1, topP: 0.5, sequenceLengths: Int32Array.of(1, 1) },
  ],
  'stages.dispatch': () => [tensor(ids, T, K), E],
  'stages.expertMatmul': () => [
    tensor(floats(T * K * H), T * K, H),
    tensor(floats(E * I * H), E, I, H),
    sorted(),
    { gather: false, topK: K, activation: 'silu', gated: false, bias: tensor(floats(E * I), E, I) },
  ],
  'stages.combine': () => [
    tensor(floats(T * K * H), T * K, H),
    tensor(ids, T, K),
    tensor(floats(T * K), T, K),
  ],
  'MoeLayer.load': () => ['/nowhere', { layer: 0, device: 'reference', dtype: 'f32', threads: 1 }],
  openCheckpoint: () => ['/nowhere', { module: 'x', config: {} }],
  'MoeModel.load': () => [GOLDEN, MODEL_OPTIONS],
  'MoeModel.plan': () => [GOLDEN, { ...MODEL_OPTIONS, layers: { from: 1, to: 2 } }],
  'MoeLayer.create': () => [
    config,
    weights(),
    {
      ...{ device: 'reference', dtype: 'f32', threads: 1 },
      ...{ coalesce: true, maxCoalescedTokens: 9, maxQueuedTokens: 9 },
    },
  ],
  'Tensor.from': () => [floats(4), [2, 2], { dtype: 'f32', device: 'cpu' }],
}
const layer = MoeLayer.create(config as never, weights(), { device: 'reference' })
const model = await library.MoeModel.load(GOLDEN, { device: 'reference', layers: [1] })
const disposed = await library.MoeModel.load(GOLDEN, { device: 'reference', layers: [1] })
export const METHODS: Record<string, () => [object, unknown[]]> = {
  'MoeLayer.forward': () => [
    layer,
    [
      floats(T * H),
      {
        ...{ topK: 1, topP: Float32Array.of(0.5, 1), rows: Int32Array.of(7, 7) },
        output: new Float32Array(T * H),
      },
    ],
  ],
  'MoeLayer.forwardSync': () => [
    layer,
    [
      floats(T * H),
      { routing: { topkIds: ids, topkWeights: floats(T * K) }, sequenceLengths: Int32Array.of(1, 1) },
    ],
  ],
  'MoeLayer.stats': () => [layer, []],
  'MoeLayer.health': () => [layer, []],
  'MoeLayer.explain': () => [layer, [4]],
  // Below a file there is no directory: nothing is written.
  'MoeLayer.record': () => [
    layer,
    [path.join(import.meta.filename, 'trace'), { weights: true, maxBytes: 1000 }],
  ],
  'MoeLayer.dispose': () => [MoeLayer.create(config as never, weights(), { device: 'reference' }), []],
  'MoeModel.layer': () => [model, [model.layers[0]]],
  'MoeModel.forward': () => [
    model,
    [model.layers[0], floats(model.layer(model.layers[0]!).config.hiddenSize), {}],
  ],
  'MoeModel.record': () => [
    model,
    [path.join(import.meta.filename, 'trace'), { weights: true, maxBytes: 1000 }],
  ],
  'MoeModel.stats': () => [model, []],
  'MoeModel.health': () => [model, []],
  'MoeModel.dispose': () => [disposed, []],
  'Tensor.toHost': () => [tensor(floats(2), 2), []],
  'Tensor.dispose': () => [tensor(floats(2), 2), []],
}

const fail = () => {
  throw new Error('called into a caller’s value')
}
const proxy = () => new Proxy({}, { get: fail, has: fail, ownKeys: fail, getPrototypeOf: fail })
const revoked = () => {
  const made = Proxy.revocable({}, {})
  made.revoke()
  return made.proxy
}
const detached = () => {
  const array = floats(8)
  structuredClone(array.buffer, { transfer: [array.buffer] })
  return array
}
const nested = () =>
  Array(50_000)
    .fill(0)
    .reduce((inner: unknown) => [inner], 0)
/** What nobody should pass. */
export const VALUES: [string, () => unknown][] = [
  ['undefined', () => undefined],
  ['null', () => null],
  ['true', () => true],
  ['0', () => 0],
  ['-1', () => -1],
  ['0.5', () => 0.5],
  ['NaN', () => Number.NaN],
  ['Infinity', () => Number.POSITIVE_INFINITY],
  ['2^31 - 1', () => 2 ** 31 - 1],
  ['2^53', () => 2 ** 53],
  ['1n', () => 1n],
  ['a string', () => 'x'.repeat(1000)],
  ['a symbol', () => Symbol('x')],
  ['a function', () => fail],
  ['{}', () => ({})],
  ['an object without prototype', () => Object.create(null)],
  [
    'an object whose words are null',
    () => ({ toString: null, valueOf: null, constructor: null, toJSON: null }),
  ],
  ['an object of length 2^31', () => ({ length: 2 ** 31 })],
  [
    'a forged array',
    () => Object.setPrototypeOf({ length: 8, buffer: {}, byteOffset: 0 }, Float32Array.prototype),
  ],
  ['a forged tensor', () => Object.setPrototypeOf({ dtype: 'f32', shape: [2, 4] }, Tensor.prototype)],
  ['an empty array', () => []],
  ['an array of BigInts', () => [1n, 2n]],
  ['an array of objects', () => [{}, null]],
  ['a list 50,000 deep', nested],
  ['a sparse array', () => new Array(2 ** 31)],
  ['a detached array', detached],
  ['a Float64Array', () => new Float64Array(8)],
  ['a BigInt64Array', () => new BigInt64Array(8)],
  ['an array of another realm', () => runInNewContext('new Float32Array(8)')],
  ['a Proxy', proxy],
  ['a revoked Proxy', revoked],
]

/** 'reference.gate', 'MoeLayer.forward' … */
export function exportedFunctions(): string[] {
  const names: string[] = []
  const visit = (holder: object, prefix: string) => {
    for (const [name, value] of Object.entries(holder)) {
      if (value === library.MoeError || value === ERROR_CODES) continue
      if (
        typeof value === 'function' &&
        value.prototype?.constructor === value &&
        value.toString().startsWith('class')
      ) {
        for (const [owner, kinds] of [
          [value, Object.getOwnPropertyDescriptors(value)],
          [value.prototype, Object.getOwnPropertyDescriptors(value.prototype)],
        ] as const) {
          for (const [member, { value: body }] of Object.entries(kinds)) {
            if (typeof body === 'function' && member !== 'constructor' && member !== 'prototype' && owner)
              names.push(`${prefix}${name}.${member}`)
          }
        }
      } else if (typeof value === 'function') names.push(prefix + name)
      else if (typeof value === 'object' && value !== null) visit(value, `${prefix}${name}.`)
    }
  }
  visit(library, '')
  return names
}

export function lookUp(name: string): (...args: unknown[]) => unknown {
  const found = name
    .split('.')
    .reduce<unknown>((holder, key) => (holder as Record<string, unknown>)[key], library)
  return found as (...args: unknown[]) => unknown
}

/** A place of a call's arguments, and how a value gets there: into the arguments given, or those of another variant. */
export type Variant = [place: string, replaced: (value: unknown, args?: unknown[]) => unknown[]]

/** The arguments with one replaced, and with one value of an options object replaced. */
export function* variants(original: unknown[], count: number): Generator<Variant> {
  for (let index = 0; index < Math.max(original.length, count); index++) {
    yield [`argument ${index}`, (value, args = original) => Object.assign([...args], { [index]: value })]
    const options = original[index]
    if (
      typeof options !== 'object' ||
      options === null ||
      ArrayBuffer.isView(options) ||
      Array.isArray(options)
    )
      continue
    if (options instanceof Tensor) continue
    for (const key of Object.keys(options))
      yield [
        `argument ${index}.${key}`,
        (value, args = original) =>
          Object.assign([...args], { [index]: { ...(args[index] as object), [key]: value } }),
      ]
  }
}

/** Rejects where `body` neither succeeds nor fails with a code of the package. */
export async function expectCoded(label: string, body: () => unknown): Promise<void> {
  try {
    await body()
  } catch (error) {
    // What a Proxy throws when it is looked at is the caller's own error, and passes as any getter's does.
    if (label.endsWith('Proxy') && /called into|revoked/.test(String((error as Error).message))) return
    const code = (error as { code?: unknown } | null)?.code
    if (!(error instanceof Error) || !Object.hasOwn(ERROR_CODES, String(code)))
      throw new Error(`${label}: ${error instanceof Error ? error.stack : String(error)}`)
  }
}
