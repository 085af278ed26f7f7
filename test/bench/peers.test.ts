import { describe, expect, it } from 'vitest'
import { inputOf, type Peer, type PeerLayer, windowStart } from '../../bench/harness/peer.js'
import { callsOfBlock, median, ratioOf, runRounds, TOO_SLOW_MS } from '../../bench/harness/rounds.js'
import { interleave } from '../../bench/peers/layer-files.js'
import { naiveForward } from '../../bench/peers/naive.js'
import { quantize } from '../../bench/peers/quantize.js'
import { reference, toFloat32 } from '../../lib/index.js'
import { BOUNDS } from '../cases/index.js'
import { makeLayerData } from '../cases/layer-data.js'
import { Random } from '../cases/random.js'
import { expectClose } from '../helpers/relative-error.js'

function fakePeer(name: string, ms: number, log: string[]): Peer {
  return {
    name,
    dtype: 'f32',
    async times(_, first, calls) {
      log.push(`${name}${first}+${calls}`)
      return Array.from({ length: calls }, () => ms)
    },
    output: async () => new Float32Array(),
    async close() {},
  }
}

describe('rounds', () => {
  it('go forth and back, with the next inputs each time', async () => {
    const log: string[] = []
    const peers = [fakePeer('a', 50, log), fakePeer('b', 100, log)]
    expect(await runRounds(peers, 1, { rounds: 3, blockMs: 100 })).toEqual([
      { rounds: [50, 50, 50], callMs: 50 },
      { rounds: [100, 100, 100], callMs: 100 },
    ])
    expect(log.slice(4)).toEqual(['a3+3', 'b3+2', 'b5+2', 'a6+3', 'a9+3', 'b7+2'])
  })

  it('leave out a peer that nobody would wait for', async () => {
    const log: string[] = []
    const slow = [fakePeer('slow', 2 * TOO_SLOW_MS + 1, log)]
    expect(await runRounds(slow, 1, { rounds: 3, blockMs: 10 })).toEqual([
      { rounds: [], callMs: 2 * TOO_SLOW_MS + 1 },
    ])
    expect(log).toEqual(['slow0+1'])
  })

  it('have the first call of a block for warming up', () => {
    expect(callsOfBlock(10, 100)).toBe(11)
    expect(callsOfBlock(1000, 100)).toBe(2)
    expect(callsOfBlock(0.001, 100)).toBe(501)
  })

  it('give the median of the ratios, not the ratio of the medians', () => {
    expect(ratioOf([4, 3, 100], [1, 3, 50])).toEqual({ median: 2, low: 1, high: 4 })
    expect(median([3, 1, 2, 10])).toBe(2.5)
  })
})

it('gives every peer the same window of the hidden states', () => {
  const hidden = Float32Array.from({ length: 10 }, (_, i) => i)
  const layer = { config: { hiddenSize: 1 }, hidden } as unknown as PeerLayer
  expect([...inputOf(layer, 4, 1)]).toEqual([4, 5, 6, 7])
  for (let call = 0; call < 50; call++) expect(windowStart(10, 4, call)).toBeLessThanOrEqual(6)
})

it('alternates gate and up rows', () => {
  const expert = {
    gate: Uint16Array.of(1, 2, 3, 4),
    up: Uint16Array.of(5, 6, 7, 8),
    down: new Uint16Array(4),
  }
  expect([...interleave(expert, 2)]).toEqual([1, 2, 5, 6, 3, 4, 7, 8])
})

describe('quantized codes', () => {
  const values = new Random(4).normals(256)

  it.each([
    [8, 128],
    [4, 32],
  ] as const)('of %d bits are within half a step', (bits, block) => {
    const { codes, scales } = quantize(values, bits, block)
    expect(codes).toHaveLength((256 * bits) / 8)
    for (const [i, value] of values.entries()) {
      const code = bits === 8 ? codes[i]! : (codes[i >> 1]! >> (4 * (i & 1))) & 15
      const scale = scales[Math.floor(i / block)]!
      expect(Math.abs((code - 2 ** (bits - 1)) * scale - value)).toBeLessThanOrEqual(scale * 0.5001)
    }
  })

  it('of zeros are zero', () => {
    expect([...quantize(new Float32Array(32), 4, 32).codes]).toEqual(new Array(16).fill(0x88))
  })
})

it('compares with a plain loop that computes the same layer', () => {
  const config = {
    ...{ hiddenSize: 24, intermediateSize: 40, numExperts: 6, topK: 2, numSharedExperts: 1 },
    scoringFunc: 'softmax',
    normTopkProb: true,
  } as const
  const data = makeLayerData({ name: 'naive', config, numTokens: 9, load: 'gate' }, 'bf16')
  const widen = (matrix: unknown) => toFloat32(matrix as Uint16Array, 'bf16')
  const matrices = ({ gate, up, down }: { gate?: unknown; up: unknown; down: unknown }) => ({
    gate: widen(gate),
    up: widen(up),
    down: widen(down),
  })
  const { experts, shared, router } = data.weights
  const output = naiveForward(
    data.hidden,
    router!.weight as Float32Array,
    experts.map(matrices),
    matrices(shared!),
    config.topK,
  )
  expectClose(output, reference.forward(data.config, data.weights, data.hidden).output, BOUNDS.f32)
})
