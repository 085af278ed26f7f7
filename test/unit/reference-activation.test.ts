import { describe, expect, it } from 'vitest'
import type { Activation } from '../../lib/block/config.js'
import { gateOfSilu } from '../../lib/families/parts/activation.js'
import { type ActivationSpec, activate, activateElement, erf, erfc } from '../../lib/reference/activation.js'
import { sigmoid, softmax, softplus } from '../../lib/reference/scores.js'
import { expectClose } from '../helpers/relative-error.js'

const plain: ActivationSpec = {
  activation: 'silu',
  gated: true,
  swigluLimit: 0,
  swigluAlpha: 1,
  swigluUpOffset: 0,
}

describe('error function', () => {
  // Values of a correctly rounded library.
  it.each([
    [0, 0],
    [0.1, 0.1124629160182849],
    [0.5, 0.5204998778130465],
    [1, 0.8427007929497149],
    [1.9, 0.9927904292352575],
    [2, 0.9953222650189527],
    [2.5, 0.9995930479825551],
    [3, 0.9999779095030014],
    [4, 0.9999999845827421],
  ])('erf(%f)', (x, expected) => {
    expect(Math.abs(erf(x) - expected)).toBeLessThanOrEqual(1e-15)
    expect(erf(-x) + expected).toBeCloseTo(0, 15)
    expect(Math.abs(erfc(-x) - (1 + expected))).toBeLessThanOrEqual(1e-15)
  })

  it.each([
    [2.5, 0.00040695201744495897],
    [3, 2.2090496998585445e-5],
    [5, 1.5374597944280347e-12],
    [10, 2.088487583762545e-45],
    [26, 5.663192408856143e-296],
  ])('erfc(%f) without cancellation', (x, expected) => {
    expectClose([erfc(x)], [expected], 1e-13)
  })

  it('has its limits', () => {
    expect([erf(Number.POSITIVE_INFINITY), erf(Number.NEGATIVE_INFINITY)]).toEqual([1, -1])
    expect([erfc(Number.POSITIVE_INFINITY), erfc(Number.NEGATIVE_INFINITY)]).toEqual([0, 2])
    expect(erf(Number.NaN)).toBeNaN()
    expect(erfc(Number.NaN)).toBeNaN()
  })
})

describe('activations', () => {
  it.each<[Activation, number, number]>([
    ['silu', 1, 0.7310585786300049],
    ['silu', -1, -0.2689414213699951],
    ['gelu', 1, 0.8413447460685429],
    ['gelu', -1, -0.15865525393145705],
    ['gelu', -5, -1.4332578593959695e-6],
    ['gelu_pytorch_tanh', 1, 0.8411919906082768],
    ['gelu_pytorch_tanh', -1, -0.15880800939172324],
    ['relu', 3, 3],
    ['relu', -3, 0],
    ['relu2', 3, 9],
    ['relu2', -3, 0],
    ['identity', -3, -3],
  ])('%s(%f)', (kind, v, expected) => {
    expectClose([activate(kind, v)], [expected], 1e-13)
  })

  it('take silu with alpha as v * sigmoid(alpha * v)', () => {
    expect(activate('silu', 2, 1.702)).toBe(2 / (1 + Math.exp(-3.404)))
  })

  it('take situ with alpha as alpha * tanh(v / alpha) * sigmoid(v)', () => {
    expectClose([activate('situ', 2, 4)], [(4 * Math.tanh(0.5)) / (1 + Math.exp(-2))], 1e-15)
    expect([activate('situ', -1e4, 4), activate('situ', 1e4, 4)]).toEqual([-0, 4])
  })

  it.each<Activation>(['silu', 'gelu', 'gelu_pytorch_tanh', 'relu', 'relu2', 'identity', 'situ'])(
    '%s keeps NaN',
    kind => {
      expect(activate(kind, Number.NaN)).toBeNaN()
    },
  )

  it('stay finite far out', () => {
    expect([activate('silu', -1e4), activate('silu', 1e4)]).toEqual([-0, 1e4])
    expect([activate('gelu', -1e4), activate('gelu', 1e4)]).toEqual([-0, 1e4])
    expect([activate('gelu_pytorch_tanh', -1e4), activate('gelu_pytorch_tanh', 1e4)]).toEqual([-0, 1e4])
  })
})

describe('gate and up', () => {
  it('multiply', () => {
    expect(activateElement({ ...plain, activation: 'relu' }, 3, -2)).toBe(-6)
  })

  it('cap the gate from above only and up on both sides', () => {
    const capped: ActivationSpec = { ...plain, activation: 'identity', swigluLimit: 7 }
    expect(activateElement(capped, 9, 1)).toBe(7)
    expect(activateElement(capped, -9, 1)).toBe(-9)
    expect(activateElement(capped, 1, 9)).toBe(7)
    expect(activateElement(capped, 1, -9)).toBe(-7)
  })

  it('cap the gate after silu as before it, at the gate whose silu is the cap (Step-3.5)', () => {
    const spec: ActivationSpec = { ...plain, swigluLimit: 7, swigluGateLimit: gateOfSilu(7) }
    for (const gate of [-9, 0.5, 6.9, 7.004, 12]) {
      const expected = Math.min(gate / (1 + Math.exp(-gate)), 7) * 7
      expectClose([activateElement(spec, gate, 9)], [expected], 1e-14)
    }
  })

  it('follow gpt-oss: (up + 1) * gate * sigmoid(1.702 * gate)', () => {
    const spec: ActivationSpec = { ...plain, swigluLimit: 7, swigluAlpha: 1.702, swigluUpOffset: 1 }
    expect(activateElement(spec, 2, 3)).toBe((2 / (1 + Math.exp(-1.702 * 2))) * 4)
    expect(activateElement(spec, 100, 100)).toBe((7 / (1 + Math.exp(-1.702 * 7))) * 8)
  })

  it('follow Kimi-K3: beta * tanh(gate / beta) * sigmoid(gate) * linearBeta * tanh(up / linearBeta)', () => {
    const spec: ActivationSpec = { ...plain, activation: 'situ', swigluLimit: 25, swigluAlpha: 4 }
    const gate = (4 * Math.tanh(7.5)) / (1 + Math.exp(-30))
    expectClose([activateElement(spec, 30, -50)], [gate * 25 * Math.tanh(-2)], 1e-15)
    // Without a bound up is as it is.
    expectClose([activateElement({ ...spec, swigluLimit: 0 }, 30, -50)], [gate * -50], 1e-15)
  })

  it('leave the gate out when there is none', () => {
    expect(activateElement({ ...plain, activation: 'relu2', gated: false }, Number.NaN, 3)).toBe(9)
  })
})

describe('scores', () => {
  it('are stable for either sign', () => {
    expect([sigmoid(800), sigmoid(-800)]).toEqual([1, 0])
    expect(sigmoid(-700)).toBe(Math.exp(-700))
    expect([softplus(800), softplus(-700)]).toEqual([800, Math.exp(-700)])
    expect(softplus(0)).toBe(Math.LN2)
    expect(softmax([1000, 1000, -1000])).toEqual([0.5, 0.5, 0])
  })
})
