import { describe, expect, it } from 'vitest'
import type { MoeConfig } from '../../lib/block/config.js'
import { fromFloat32, toFloat32 } from '../../lib/block/dtype.js'
import type { ExpertWeights, MoeWeights, StridedMatrix } from '../../lib/block/weights.js'
import { reference } from '../../lib/reference/index.js'
import { Random } from '../cases/random.js'
import { expectClose } from '../helpers/relative-error.js'

const f32 = (...values: number[]) => Float32Array.from(values)
const sigmoid = (v: number) => 1 / (1 + Math.exp(-v))

/** Two experts of width 1 over H = 2: E_0 = relu(x_0) * [1, 2], E_1 = relu(x_1) * [10, 20]. Router: logits = x. */
const config: MoeConfig = {
  scoringFunc: 'topk_sigmoid',
  numExperts: 2,
  topK: 2,
  hiddenSize: 2,
  intermediateSize: 1,
  activation: 'relu',
  gated: false,
}
const weights: MoeWeights = {
  router: { weight: f32(1, 0, 0, 1) },
  experts: [
    { up: f32(1, 0), down: f32(1, 2) },
    { up: f32(0, 1), down: f32(10, 20) },
  ],
}
const x = [3, 1]
const [w0, w1] = [sigmoid(3), sigmoid(1)]

function run(change: Partial<MoeConfig>, added: Partial<MoeWeights> = {}, hidden = x, options = {}) {
  return reference.forward({ ...config, ...change } as MoeConfig, { ...weights, ...added }, hidden, options)
}

describe('a block by hand', () => {
  it('sums expert outputs by their weights', () => {
    const result = run({})
    expectClose(result.output, [w0 * 3 + w1 * 10, w0 * 6 + w1 * 20], 1e-15)
    expect([...result.routerLogits]).toEqual([3, 1])
    expect([...result.topkIds]).toEqual([0, 1])
    expectClose(result.topkWeights, [w0, w1], 1e-15)
    expect([...result.nonFiniteRows]).toEqual([])
  })

  it('weighs the input instead (Llama 4)', () => {
    const squared = { activation: 'relu2', weightOn: 'input' } as const
    const y = (3 * w0) ** 2 + 10 * w1 ** 2
    expectClose(run(squared).output, [y, 2 * y], 1e-15)
    const after = w0 * 9 + 10 * w1
    expectClose(run({ activation: 'relu2' }).output, [after, 2 * after], 1e-15)
  })

  it('multiplies act(gate) by up', () => {
    const experts = weights.experts.map(expert => ({ ...expert, gate: f32(0, -2) }))
    const result = run({ gated: true, activation: 'identity' }, { experts })
    expectClose(result.output, [w0 * 3 * -2 + w1 * 10 * -2, w0 * 6 * -2 + w1 * 20 * -2], 1e-15)
  })

  it('adds biases inside the weighted expert and to the logits', () => {
    const experts = [
      { up: f32(1, 0), down: f32(1, 2), upBias: f32(-1), downBias: f32(0.5, 0.25) },
      weights.experts[1]!,
    ]
    const router = { weight: f32(1, 0, 0, 1), bias: f32(-3, 0) }
    const result = run({}, { experts, router })
    expect([...result.routerLogits]).toEqual([0, 1])
    expect([...result.topkIds]).toEqual([1, 0])
    expectClose(result.output, [0.5 * 2.5 + w1 * 10, 0.5 * 4.25 + w1 * 20], 1e-15)
  })

  it('adds the gate bias before the activation', () => {
    const experts = weights.experts.map(expert => ({ ...expert, gate: f32(0, 0), gateBias: f32(5) }))
    const result = run({ gated: true, activation: 'identity' }, { experts })
    expectClose(result.output, [5 * (w0 * 3 + w1 * 10), 5 * (w0 * 6 + w1 * 20)], 1e-15)
  })

  it('adds an output bias', () => {
    const result = run({}, { outputBias: f32(0.5, -0.5) }, x, { topK: 0 })
    expect([...result.output]).toEqual([0.5, -0.5])
  })

  it('lets identity experts give the input', () => {
    const router = { weight: f32(1, 0, 0, 1, 1, 1) }
    const result = run({ numIdentityExperts: 1, topK: 1 }, { router })
    expect([...result.topkIds]).toEqual([2])
    expectClose(result.output, [3 * sigmoid(4), sigmoid(4)], 1e-15)
  })

  it('runs experts in a latent space', () => {
    const latent: Partial<MoeWeights> = {
      experts: [
        { up: f32(1), down: f32(1) },
        { up: f32(2), down: f32(1) },
      ],
      latentDown: f32(1, 1),
      latentUp: f32(1, -1),
    }
    const y = w0 * 4 + w1 * 8
    expectClose(run({ latentSize: 1 }, latent).output, [y, -y], 1e-15)
    // RMSNorm of one number is its sign, but for epsilon.
    const normalised = run({ latentSize: 1, latentNormEpsilon: 9 }, { ...latent, latentNorm: f32(3) }).output
    const row = (3 * y) / Math.sqrt(y * y + 9)
    expectClose(normalised, [row, -row], 1e-15)
  })

  it('reads the router input of its own, normalised when told to', () => {
    const separate = { routerInput: 'separate' } as const
    expect(() => run(separate)).toThrow(expect.objectContaining({ code: 'ERR_MOE_MISSING_INPUT' }))
    expect([...run(separate, {}, x, { routerInput: [-3, 4] }).routerLogits]).toEqual([-3, 4])
    const router = { weight: f32(1, 0, 0, 1), inputScale: f32(1, 2) }
    const normalized = run({ ...separate, routerNormEpsilon: 1e-6 }, { router }, x, { routerInput: [3, 4] })
    const rms = Math.sqrt(12.5 + 1e-6) * Math.SQRT2
    expectClose(normalized.routerLogits, [3 / rms, 8 / rms], 1e-15)
  })
})

describe('shared experts', () => {
  const shared = { up: f32(1, 1, 0, 1), down: f32(1, 0, 0, 1) }
  const parts = { numSharedExperts: 2 }
  const routed = [w0 * 3 + w1 * 10, w0 * 6 + w1 * 20]

  it('are added as they are', () => {
    const scaled = run({ ...parts, routedScalingFactor: 2 }, { shared })
    expectClose(scaled.output, [2 * routed[0]! + 4, 2 * routed[1]! + 1], 1e-15)
  })

  it('are gated by a sigmoid (Qwen2-MoE)', () => {
    const c = sigmoid(0.5)
    const gated = run({ ...parts, sharedGate: 'sigmoid' }, { shared, sharedGate: f32(0, 0.5) })
    expectClose(gated.output, [routed[0]! + c * 4, routed[1]! + c], 1e-15)
  })

  it('are mixed with the routed part (MiniMax-Text-01)', () => {
    const c = sigmoid(0.5)
    const mixed = run({ ...parts, sharedGate: 'mix' }, { shared, sharedGate: f32(0, 0.5) })
    expectClose(mixed.output, [(1 - c) * routed[0]! + c * 4, (1 - c) * routed[1]! + c], 1e-15)
  })

  it('are mixed with a bias (Klear)', () => {
    const c = sigmoid(0.5 + 0.75)
    const mixed = run(
      { ...parts, sharedGate: 'mix' },
      { shared, sharedGate: f32(0, 0.5), sharedLogitBias: f32(0.75) },
    )
    expectClose(mixed.output, [(1 - c) * routed[0]! + c * 4, (1 - c) * routed[1]! + c], 1e-15)
  })

  it('have a clamp of their own', () => {
    const gate = f32(1, 1)
    const gated: Partial<MoeWeights> = {
      experts: weights.experts.map(expert => ({ ...expert, gate })),
      shared: { ...shared, gate: f32(1, 1, 1, 1) },
    }
    const change = { ...parts, gated: true, activation: 'relu', swigluLimit: 2 } as const
    const base = [w0 * 2 * 2 + w1 * 2 * 10, w0 * 2 * 4 + w1 * 2 * 20]
    expectClose(run(change, gated).output, [base[0]! + 16, base[1]! + 4], 1e-15)
    const clamped = run({ ...change, sharedSwigluLimit: 3 }, gated)
    expectClose(clamped.output, [base[0]! + 9, base[1]! + 3], 1e-15)
  })

  it('are all that is left with topK 0', () => {
    expect([...run(parts, { shared }, x, { topK: 0 }).output]).toEqual([4, 1])
  })
})

describe('replay', () => {
  it('runs the recorded experts and weights, not the gate', () => {
    const routing = { topkIds: [1, -1], topkWeights: [0.5, 0] }
    const result = run({}, {}, x, { routing })
    expect([...result.output]).toEqual([5, 10])
    expect(result.routerLogits).toHaveLength(0)
    expect([...result.topkIds]).toEqual([1, -1])
  })

  it('of a result gives that result, bit for bit', () => {
    const first = run({})
    expect(run({}, {}, x, { routing: first }).output).toEqual(first.output)
  })

  it('refuses ids that do not exist', () => {
    expect(() => run({}, {}, x, { routing: { topkIds: [2, 0], topkWeights: [1, 1] } })).toThrow(RangeError)
    expect(() => run({}, {}, x, { routing: { topkIds: [0], topkWeights: [1] } })).toThrow(RangeError)
  })
})

describe('rows that are not finite', () => {
  const alone = run({}).output

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('%f in a row touches that row alone', bad => {
    const result = run({}, {}, [...x, bad, 1, ...x])
    expect([...result.nonFiniteRows]).toEqual([1])
    expect([...result.topkIds.slice(2, 4)]).toEqual([0, 1])
    expect([...result.output.slice(2, 4)]).toEqual([Number.NaN, Number.NaN])
    expect(result.output.slice(0, 2)).toEqual(alone)
    expect(result.output.slice(4)).toEqual(alone)
  })

  it('are flagged when only the output is not finite', () => {
    const options = { routerInput: [...x, ...x] }
    const result = run({ routerInput: 'separate' }, {}, [...x, 1.7e308, 1], options)
    expect([...result.nonFiniteRows]).toEqual([1])
    expect([...result.topkIds]).toEqual([0, 1, 0, 1])
    expect(result.output.slice(0, 2)).toEqual(alone)
    expect(result.output[3]).toBe(Number.POSITIVE_INFINITY)
  })
})

describe('layouts', () => {
  const [hiddenSize, width, numExperts] = [5, 3, 4]
  const random = new Random(11)
  const gated: MoeConfig = {
    scoringFunc: 'softmax',
    numExperts,
    topK: 2,
    normTopkProb: true,
    hiddenSize,
    intermediateSize: width,
  }
  const experts = Array.from({ length: numExperts }, () => ({
    gate: random.normals(width * hiddenSize),
    up: random.normals(width * hiddenSize),
    down: random.normals(hiddenSize * width),
  }))
  const router = { weight: random.normals(numExperts * hiddenSize) }
  const hidden = random.normals(7 * hiddenSize)
  const dense = reference.forward(gated, { router, experts }, hidden).output

  /** Places each matrix into one array: element (r, c) of `matrix` of expert e at `at(e, matrix, r, c)`. */
  function fused(
    size: number,
    at: (e: number, part: 'gate' | 'up' | 'down', r: number, c: number) => number,
  ) {
    const data = new Float32Array(size).fill(Number.NaN)
    const view = (e: number, part: 'gate' | 'up' | 'down', rows: number, cols: number): StridedMatrix => {
      for (let r = 0; r < rows; r++)
        for (let c = 0; c < cols; c++) data[at(e, part, r, c)] = experts[e]![part][r * cols + c]!
      const offset = at(e, part, 0, 0)
      return { data, offset, strides: [at(e, part, 1, 0) - offset, at(e, part, 0, 1) - offset] }
    }
    return experts.map<ExpertWeights>((_, e) => ({
      gate: view(e, 'gate', width, hiddenSize),
      up: view(e, 'up', width, hiddenSize),
      down: view(e, 'down', hiddenSize, width),
    }))
  }
  const matrix = width * hiddenSize
  const size = numExperts * 3 * matrix
  const layouts: Record<string, ExpertWeights[]> = {
    'fused halves [E, 2I, H]': fused(size, (e, part, r, c) =>
      part === 'down'
        ? (numExperts * 2 + e) * matrix + r * width + c
        : (e * 2 + (part === 'up' ? 1 : 0)) * matrix + r * hiddenSize + c,
    ),
    'interleaved rows [E, 2I, H]': fused(size, (e, part, r, c) =>
      part === 'down'
        ? (numExperts * 2 + e) * matrix + r * width + c
        : e * 2 * matrix + (2 * r + (part === 'up' ? 1 : 0)) * hiddenSize + c,
    ),
    'input-major [E, H, 2I]': fused(size, (e, part, r, c) =>
      part === 'down'
        ? (numExperts * 2 + e) * matrix + c * hiddenSize + r
        : e * 2 * matrix + c * 2 * width + (part === 'up' ? width : 0) + r,
    ),
  }

  it.each(Object.entries(layouts))('%s give the bits of dense matrices', (_, strided) => {
    expect(reference.forward(gated, { router, experts: strided }, hidden).output).toEqual(dense)
  })

  it('of 16 bits are read as their dtype', () => {
    for (const dtype of ['bf16', 'f16'] as const) {
      const bits = (values: Float32Array) => fromFloat32(values, dtype)
      const wide = (values: Float32Array) => toFloat32(bits(values), dtype)
      const convert = (how: (values: Float32Array) => Float32Array | Uint16Array): MoeWeights => ({
        dtype,
        router: { weight: how(router.weight) },
        experts: experts.map(({ gate, up, down }) => ({ gate: how(gate), up: how(up), down: how(down) })),
      })
      const fromBits = reference.forward(gated, convert(bits), bits(hidden))
      expect(fromBits.output).toEqual(reference.forward(gated, convert(wide), wide(hidden)).output)
      expect(fromBits.output).not.toEqual(dense)
    }
  })

  it.each<[string, MoeWeights, string]>([
    [
      'a missing gate',
      { router, experts: experts.map(({ up, down }) => ({ up, down })) },
      'ERR_MOE_INVALID_ARG_TYPE',
    ],
    ['too few experts', { router, experts: experts.slice(1) }, 'ERR_MOE_INVALID_ARG_SHAPE'],
    ['a short matrix', { router: { weight: router.weight.slice(1) }, experts }, 'ERR_MOE_INVALID_ARG_SHAPE'],
    [
      'strides past the end',
      { router: { weight: { data: router.weight, offset: 1, strides: [hiddenSize, 1] } }, experts },
      'ERR_MOE_INVALID_ARG_SHAPE',
    ],
    ['shared experts of no config', { router, experts, shared: experts[0]! }, 'ERR_MOE_INVALID_ARG_VALUE'],
    ['a latent projection of no config', { router, experts, latentUp: f32(1) }, 'ERR_MOE_INVALID_ARG_VALUE'],
    [
      'a gate of shared experts of no config',
      { router, experts, sharedGate: f32(1) },
      'ERR_MOE_INVALID_ARG_VALUE',
    ],
    ['no router', { experts } as never, 'ERR_MOE_INVALID_ARG_TYPE'],
  ])('%s are refused', (_, wrong, code) => {
    expect(() => reference.forward(gated, wrong, hidden)).toThrow(expect.objectContaining({ code }))
  })
})

describe('tokens', () => {
  it('may be none', () => {
    const result = run({}, {}, [])
    expect([result.output.length, result.topkIds.length, result.nonFiniteRows.length]).toEqual([0, 0, 0])
  })

  it('must be whole rows', () => {
    expect(() => run({}, {}, [1, 2, 3])).toThrow(
      expect.objectContaining({ code: 'ERR_MOE_INVALID_ARG_SHAPE' }),
    )
  })
})
