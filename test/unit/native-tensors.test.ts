/** What the addon gets of a caller's weights, while the oracle's own view of them is broken on purpose. */

import { beforeEach, describe, expect, it, vi } from 'vitest'
import { resolveConfig } from '../../lib/block/resolve.js'
import { relativeError } from '../../lib/devices/accuracy.js'
import { tryLoadNative } from '../../lib/devices/native/addon.js'
import { nativeTensors } from '../../lib/devices/native/tensors.js'
import { type MoeConfig, MoeLayer, type MoeWeights } from '../../lib/index.js'

// A defect of the oracle: gate and up are exchanged, and no length is checked.
vi.mock('../../lib/reference/tensors.js', async original => {
  const tensors = await original<typeof import('../../lib/reference/tensors.js')>()
  const layerTensors: typeof tensors.layerTensors = (config, weights, asNumbers) => {
    const experts = weights.experts.map(expert => ({ ...expert, gate: expert.up, up: expert.gate! }))
    return tensors.layerTensors(config, { ...weights, experts }, asNumbers)
  }
  return { ...tensors, layerTensors }
})
vi.mock('../../lib/reference/matrix.js', async original => {
  const matrix = await original<typeof import('../../lib/reference/matrix.js')>()
  const viewMatrix: typeof matrix.viewMatrix = (source, rows, cols, _name, widen) => {
    const { data } = 'data' in source ? source : { data: source }
    return { rows, cols, data: widen(data), offset: 0, rowStride: cols, colStride: 1 }
  }
  return { ...matrix, viewMatrix }
})

const H = 3
const I = 2
const E = 2
const CONFIG: MoeConfig = {
  hiddenSize: H,
  intermediateSize: I,
  numExperts: E,
  topK: 1,
  scoringFunc: 'softmax',
  normTopkProb: false,
  numSharedExperts: 2,
  sharedGate: 'sigmoid',
  routerNormEpsilon: 1e-6,
}
const LATENT: MoeConfig = { ...CONFIG, latentSize: 1, latentNormEpsilon: 1e-6 }

let next: number
/** Values of both signs that occur once in a layer. */
const values = (length: number) => Float32Array.from({ length }, () => Math.sin(next++))
const mlp = (width: number, size: number) => ({
  gate: values(width * size),
  up: values(width * size),
  down: values(size * width),
  gateBias: values(width),
  upBias: values(width),
  downBias: values(size),
})

function makeWeights(config: MoeConfig): MoeWeights {
  const size = config.latentSize ?? H
  return {
    router: {
      weight: values(E * H),
      bias: values(E),
      selectionBias: values(E),
      perExpertScale: values(E),
      inputScale: values(H),
    },
    experts: [mlp(I, size), mlp(I, size)],
    shared: mlp(2 * I, H),
    sharedGate: values(H),
    outputBias: values(H),
    sharedLogitBias: values(1),
    ...(config.latentSize
      ? { latentDown: values(size * H), latentUp: values(H * size), latentNorm: values(size) }
      : {}),
  }
}

beforeEach(() => {
  next = 1
})

describe('tensors of the addon', () => {
  it('are the caller’s own arrays, each at its place', () => {
    const weights = makeWeights(LATENT)
    const { vectors, matrices } = nativeTensors(resolveConfig(LATENT), weights)
    const [first, second] = weights.experts
    const join = (key: 'gateBias' | 'upBias' | 'downBias') =>
      Float32Array.of(...first![key]!, ...second![key]!)
    expect(vectors).toEqual({
      routerWeight: weights.router.weight,
      routerBias: weights.router.bias,
      selectionBias: weights.router.selectionBias,
      perExpertScale: weights.router.perExpertScale,
      routerInputScale: weights.router.inputScale,
      hashTable: undefined,
      sharedGate: weights.sharedGate,
      sharedLogitBias: weights.sharedLogitBias,
      latentNorm: weights.latentNorm,
      outputBias: weights.outputBias,
      gateBias: join('gateBias'),
      upBias: join('upBias'),
      downBias: join('downBias'),
      sharedGateBias: weights.shared!.gateBias,
      sharedUpBias: weights.shared!.upBias,
      sharedDownBias: weights.shared!.downBias,
    })
    const placed = matrices.map(({ role, expert, name, source }) => {
      const { dtype, matrix } = source as Extract<typeof source, { matrix: unknown }>
      const { data, offset, rowStride, colStride } = matrix
      return [`${role} ${expert} ${name} ${dtype}`, data, offset, rowStride, colStride]
    })
    const dense = (place: string, data: unknown, cols: number) => [`${place} f32`, data, 0, cols, 1]
    expect(placed).toEqual([
      ...weights.experts.flatMap((expert, e) => [
        dense(`expert ${e} gate`, expert.gate, 1),
        dense(`expert ${e} up`, expert.up, 1),
        dense(`expert ${e} down`, expert.down, I),
      ]),
      dense('shared 0 gate', weights.shared!.gate, H),
      dense('shared 0 up', weights.shared!.up, H),
      dense('shared 0 down', weights.shared!.down, 2 * I),
      dense('latent 0 down', weights.latentDown, H),
      dense('latent 0 up', weights.latentUp, 1),
    ])
  })

  it('keep strides, and the bits of 16-bit matrices', () => {
    const weights = makeWeights(CONFIG)
    const bits = Uint16Array.from({ length: I * H }, (_, i) => i)
    // Reversed rows and columns: the last element comes first.
    const up = { data: bits, offset: I * H - 1, strides: [-H, -1] as const }
    const half: MoeWeights = {
      ...weights,
      dtype: 'f16',
      experts: [{ ...weights.experts[0]!, up }, weights.experts[1]!],
    }
    const found = nativeTensors(resolveConfig(CONFIG), half).matrices[1]!
    expect(found).toMatchObject({ role: 'expert', expert: 0, name: 'up', rows: I, cols: H })
    const matrix = { data: bits, offset: I * H - 1, rowStride: -H, colStride: -1 }
    expect(found.source).toEqual({ dtype: 'f16', matrix })
  })

  it('widen a router of 16 bits', () => {
    const weights = makeWeights(CONFIG)
    const bits = Uint16Array.from({ length: E * H }, () => 0x3fc0)
    const router = { ...weights.router, weight: bits }
    const { vectors } = nativeTensors(resolveConfig(CONFIG), { ...weights, router })
    expect(vectors.routerWeight).toEqual(new Float32Array(E * H).fill(1.5))
  })
})

/** Every tensor of a layer by its path, with a function that gives weights in which it is another. */
const TENSORS: [string, (weights: MoeWeights, value: unknown) => MoeWeights][] = [
  ...['weight', 'bias', 'inputScale'].map((key): (typeof TENSORS)[number] => [
    `weights.router.${key}`,
    (weights, value) => ({ ...weights, router: { ...weights.router, [key]: value } }),
  ]),
  ...['gate', 'up', 'down', 'gateBias', 'upBias', 'downBias'].flatMap((key): typeof TENSORS => [
    [
      `weights.experts[1].${key}`,
      (weights, value) => ({
        ...weights,
        experts: [weights.experts[0]!, { ...weights.experts[1]!, [key]: value }],
      }),
    ],
    [
      `weights.shared.${key}`,
      (weights, value) => ({ ...weights, shared: { ...weights.shared!, [key]: value } as never }),
    ],
  ]),
  ...['sharedGate', 'sharedLogitBias', 'latentDown', 'latentUp', 'latentNorm', 'outputBias'].map(
    (key): (typeof TENSORS)[number] => [`weights.${key}`, (weights, value) => ({ ...weights, [key]: value })],
  ),
]

describe.each(TENSORS)('%s', (name, replaced) => {
  const create = (value: unknown) => () =>
    nativeTensors(resolveConfig(LATENT), replaced(makeWeights(LATENT), value))

  it('is refused with one element too many or too few', () => {
    for (const length of [0, 7, 13]) {
      const expected = { name: 'RangeError', code: 'ERR_MOE_INVALID_ARG_SHAPE' }
      expect(create(new Float32Array(length)), `${length}`).toThrow(expect.objectContaining(expected))
      expect(create(new Float32Array(length)), `${length}`).toThrow(name)
    }
  })

  it('is refused when it is no array that holds floats', () => {
    for (const strange of ['x', 1, {}, new Float64Array(6), [1, 2]]) {
      const expected = { name: 'TypeError', code: 'ERR_MOE_INVALID_ARG_TYPE' }
      expect(create(strange)).toThrow(expect.objectContaining(expected))
      expect(create(strange)).toThrow(name)
    }
  })
})

it.each([
  ['offset', { offset: -1, strides: [H, 1] }],
  ['offset', { offset: 1, strides: [H, 1] }],
  ['strides', { strides: [H + 1, 1] }],
  ['strides', { strides: [-H, 1] }],
  ['strides', { strides: [H, 0.5] }],
])('a view that leaves its array by its %s is refused', (_what, view) => {
  const weights = makeWeights(CONFIG)
  const up = { data: new Float32Array(I * H), ...view } as never
  const experts = [{ ...weights.experts[0]!, up }, weights.experts[1]!]
  const create = () => nativeTensors(resolveConfig(CONFIG), { ...weights, experts })
  expect(create).toThrow(expect.objectContaining({ code: 'ERR_MOE_INVALID_ARG_SHAPE' }))
})

const REFUSED: [string, MoeConfig, Partial<MoeWeights>, string][] = [
  [
    'without its input scale',
    CONFIG,
    { router: { weight: new Float32Array(E * H) } },
    'weights.router.inputScale',
  ],
  ['without the shared MLP', CONFIG, { shared: undefined }, 'weights.shared'],
  ['without the shared gate', CONFIG, { sharedGate: undefined }, 'weights.sharedGate'],
  ['without a latent projection', LATENT, { latentUp: undefined }, 'weights.latentUp'],
  ['without the norm of its latent sum', LATENT, { latentNorm: undefined }, 'weights.latentNorm'],
  ['with a norm and no latent space', CONFIG, { latentNorm: new Float32Array(1) }, 'weights.latentNorm'],
  [
    'with a bias of a gate that it has not',
    { ...CONFIG, sharedGate: 'plain' },
    { sharedGate: undefined },
    'weights.sharedLogitBias',
  ],
  ['with a latent projection too many', CONFIG, { latentDown: new Float32Array(H) }, 'weights.latentDown'],
  ['without experts', CONFIG, { experts: undefined }, 'weights.experts'],
  ['with one expert too few', CONFIG, { experts: [mlp(I, H)] }, 'weights.experts'],
  ['with an expert that is none', CONFIG, { experts: [mlp(I, H), null as never] }, 'weights.experts[1]'],
  ['without a router', CONFIG, { router: undefined }, 'weights.router'],
]
it.each(REFUSED)('a layer %s is refused', (_what, config, change, name) => {
  const create = () => nativeTensors(resolveConfig(config), { ...makeWeights(config), ...change })
  expect(create).toThrow(expect.objectContaining({ code: expect.stringMatching(/^ERR_MOE_INVALID_ARG_/) }))
  expect(create).toThrow(name)
})

it('refuses gates and their biases in families without them', () => {
  const config = resolveConfig({ ...CONFIG, gated: false })
  const weights = makeWeights(CONFIG)
  const without = (keys: string[]) => {
    const strip = (expert: object) =>
      Object.fromEntries(Object.entries(expert).filter(([key]) => !keys.includes(key)))
    return {
      ...weights,
      experts: weights.experts.map(strip),
      shared: strip(weights.shared!),
    } as unknown as MoeWeights
  }
  const refusal = (expected: string) =>
    [expect.objectContaining({ code: 'ERR_MOE_INVALID_ARG_VALUE' }), expected] as const
  for (const error of refusal('weights.experts[0].gate'))
    expect(() => nativeTensors(config, weights)).toThrow(error)
  for (const error of refusal('weights.experts[0].gateBias'))
    expect(() => nativeTensors(config, without(['gate']))).toThrow(error)
  expect(nativeTensors(config, without(['gate', 'gateBias'])).matrices).toHaveLength(6)
})

it.skipIf('error' in tryLoadNative())('lets a comparison show the defect of the oracle', () => {
  const hidden = Float32Array.of(1, -2, 3)
  const outputs = ['cpu', 'reference'].map(device => {
    next = 1
    const weights = makeWeights(CONFIG)
    using layer = MoeLayer.create(CONFIG, weights, { device: device as 'cpu' })
    return layer.forwardSync(hidden).output
  })
  expect(relativeError(outputs[0] as Float32Array, outputs[1] as Float32Array)).toBeGreaterThan(0.01)
})
