import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { MoeConfig } from '../../lib/block/config.js'
import { allocateArray, type DType, type FloatArray, fromFloat32, toFloat32 } from '../../lib/block/dtype.js'
import { resolveConfig } from '../../lib/block/resolve.js'
import type { MoeWeights } from '../../lib/block/weights.js'
import { CANCELLED, type ForwardRequest } from '../../lib/devices/contract.js'
import { ReferenceLayerRuntime } from '../../lib/devices/reference/runtime.js'
import { reference } from '../../lib/reference/index.js'
import { Random } from '../cases/random.js'
import { turnsUntil, withClock } from '../helpers/liveness.js'
import { expectClose } from '../helpers/relative-error.js'

const random = new Random(3)
const [hiddenSize, intermediateSize, numExperts, topK] = [16, 12, 6, 2]
const size = intermediateSize * hiddenSize
const expert = () => ({
  gate: random.normals(size, 0.25),
  up: random.normals(size, 0.25),
  down: random.normals(size, 0.25),
  upBias: random.normals(intermediateSize),
  downBias: random.normals(hiddenSize),
})
const config = resolveConfig({
  scoringFunc: 'sigmoid',
  numExperts,
  topK,
  normTopkProb: true,
  hiddenSize,
  intermediateSize,
  numSharedExperts: 1,
  sharedGate: 'sigmoid',
})
const weights: MoeWeights = {
  router: { weight: random.normals(numExperts * hiddenSize), selectionBias: random.normals(numExperts, 0.1) },
  experts: Array.from({ length: numExperts }, expert),
  shared: expert(),
  sharedGate: random.normals(hiddenSize),
}

type HostRequest = ForwardRequest & { hidden: FloatArray; output: FloatArray }

function request(numTokens: number, dtype: DType = 'f32', change: Partial<HostRequest> = {}): HostRequest {
  return {
    numTokens,
    dtype,
    hidden: fromFloat32(new Random(7).normals(numTokens * hiddenSize), dtype),
    output: allocateArray(dtype, numTokens * hiddenSize).fill(dtype === 'f32' ? Number.NaN : 0x7fff),
    routerInput: null,
    tokenIds: null,
    topK,
    topP: 1,
    sequenceLengths: null,
    inPlace: 0,
    replay: false,
    topkIds: new Int32Array(numTokens * topK).fill(99),
    topkWeights: new Float32Array(numTokens * topK).fill(Number.NaN),
    nonFinite: new Uint8Array(numTokens),
    ...change,
  }
}

let runtime: ReferenceLayerRuntime
beforeEach(() => {
  runtime = ReferenceLayerRuntime.fromWeights(config, 'f32', weights)
})
afterEach(() => {
  runtime.dispose()
})

describe('results', () => {
  it('are those of the reference, rounded once', async () => {
    const call = request(9)
    await runtime.forward(call).settled
    const exact = reference.forward(config, weights, call.hidden as Float32Array)
    expect(call.topkIds).toEqual(exact.topkIds)
    expect(call.topkWeights).toEqual(Float32Array.from(exact.topkWeights))
    expectClose(call.output, exact.output, 1e-7)
    expect([...call.nonFinite]).toEqual(new Array(9).fill(0))
  })

  it.each(['f32', 'f16', 'bf16'] as const)('are the same bits sync, async and replayed (%s)', async dtype => {
    const layer = ReferenceLayerRuntime.fromWeights(config, dtype, weights)
    const [sync, async] = [request(5, dtype), request(5, dtype)]
    layer.forwardSync(sync)
    await layer.forward(async).settled
    expect(async).toEqual(sync)
    const { topkIds, topkWeights } = sync
    const replayed = request(5, dtype, {
      replay: true,
      topkIds: topkIds.slice(),
      topkWeights: topkWeights.slice(),
    })
    layer.forwardSync(replayed)
    expect(replayed.output).toEqual(sync.output)
    expect(layer.dtype).toBe(dtype)
  })

  it('round matrices, but not the router, to the dtype', () => {
    const layer = ReferenceLayerRuntime.fromWeights(config, 'bf16', weights)
    const call = request(9, 'bf16')
    layer.forwardSync(call)
    const round = (values: Float32Array) => toFloat32(fromFloat32(values, 'bf16'), 'bf16')
    const rounded = (e: ReturnType<typeof expert>) => ({
      ...e,
      gate: round(e.gate),
      up: round(e.up),
      down: round(e.down),
    })
    const exact = reference.forward(
      config,
      {
        ...weights,
        experts: weights.experts.map(e => rounded(e as never)),
        shared: rounded(weights.shared as never),
      },
      call.hidden as Uint16Array,
    )
    expect(call.topkIds).toEqual(exact.topkIds)
    // One rounding to 8 significant bits: half a unit in the last place.
    expectClose(toFloat32(call.output, 'bf16'), exact.output, 2 ** -8)
    expectClose(call.topkWeights, exact.topkWeights, 1e-7)
  })

  it('hold a copy of the weights', () => {
    const own = structuredClone(weights)
    const layer = ReferenceLayerRuntime.fromWeights(config, 'f32', own)
    own.experts.forEach(e => {
      ;(e.down as Float32Array).fill(0)
      e.downBias!.fill(0)
    })
    ;(own.router.weight as Float32Array).fill(0)
    const [before, after] = [request(4), request(4)]
    runtime.forwardSync(before)
    layer.forwardSync(after)
    expect(after.output).toEqual(before.output)
  })

  it('flag rows whose output overflows the dtype', () => {
    const call = request(3, 'f16')
    const layer = ReferenceLayerRuntime.fromWeights(
      resolveConfig({ ...config, routedScalingFactor: 1e6 }),
      'f16',
      weights,
    )
    layer.forwardSync(call)
    expect([...call.nonFinite]).toEqual([1, 1, 1])
  })

  it('of no tokens settle too', async () => {
    const times = await runtime.forward(request(0)).settled
    expect(times).toMatchObject({ batchTokens: 0, isFirst: true })
  })
})

describe('queue', () => {
  it('runs calls in order', async () => {
    const settled: number[] = []
    const calls = [40, 1, 1].map((numTokens, i) =>
      runtime.forward(request(numTokens)).settled.then(() => settled.push(i)),
    )
    await Promise.all(calls)
    expect(settled).toEqual([0, 1, 2])
  })

  it('drops a waiting call at once, without touching its buffers', async () => {
    const first = runtime.forward(request(3))
    const call = request(2)
    const waiting = runtime.forward(call)
    expect(waiting.cancel()).toBe('dropped')
    await expect(waiting.settled).rejects.toBe(CANCELLED)
    await first.settled
    expect(call).toEqual(request(2))
    expect(first.cancel()).toBe('done')
    expect(waiting.cancel()).toBe('done')
  })

  it('stops a running call between experts, and runs the next', async () => {
    await withClock(1e3, async () => {
      const long = runtime.forward(request(40))
      await new Promise(resolve => setImmediate(resolve))
      // It has taken the one step that a slice has by this clock.
      expect(long.cancel()).toBe('stopping')
      const next = request(2)
      const after = runtime.forward(next)
      await expect(long.settled).rejects.toBe(CANCELLED)
      await after.settled
      const alone = request(2)
      runtime.forwardSync(alone)
      expect(next).toEqual(alone)
    })
  })

  it('rejects the call that fails, and runs the next', async () => {
    const hashed = ReferenceLayerRuntime.fromWeights(
      resolveConfig({
        scoringFunc: 'softmax',
        numExperts,
        topK,
        normTopkProb: true,
        hashRouted: true,
        hiddenSize,
        intermediateSize,
      } as MoeConfig),
      'f32',
      { router: { weight: weights.router.weight, hashTable: Int32Array.of(0, 1) }, experts: weights.experts },
    )
    const failing = hashed.forward(request(1, 'f32', { tokenIds: Int32Array.of(5) }))
    const next = hashed.forward(request(1, 'f32', { tokenIds: Int32Array.of(0) }))
    await expect(failing.settled).rejects.toBeInstanceOf(RangeError)
    await next.settled
  })

  it('gives the event loop a turn whenever a slice of time is used up', async () => {
    const numTokens = 40
    // Each step ends a slice of its own: one per router row, per expert of a token and per token at least.
    const forward = () => turnsUntil(runtime.forward(request(numTokens)).settled)
    expect(await withClock(1e3, forward)).toBeGreaterThanOrEqual(numTokens * (topK + 2))
    // No slice ends, so nothing is slowed down by turns.
    expect(await withClock(0, forward)).toBeLessThanOrEqual(2)
  })

  it('takes more steps for a wider matrix, so that none is long', async () => {
    const wide = 512
    const matrix = () => random.normals(wide * wide)
    const layer = ReferenceLayerRuntime.fromTensors(
      resolveConfig({
        scoringFunc: 'topk_softmax',
        numExperts: 2,
        topK: 2,
        hiddenSize: wide,
        intermediateSize: wide,
      }),
      'f32',
      { routerWeight: random.normals(2 * wide) },
      { experts: [0, 1].map(() => ({ gate: matrix(), up: matrix(), down: matrix() })) },
    )
    const call = {
      ...request(0),
      numTokens: 2,
      hidden: random.normals(2 * wide),
      output: new Float32Array(2 * wide),
      topkIds: new Int32Array(4),
      topkWeights: new Float32Array(4),
      nonFinite: new Uint8Array(2),
    }
    // Two tokens, two experts, three matrices of 512 × 512: no step does more than half of a matrix.
    const turns = await withClock(1e3, () => turnsUntil(layer.forward(call).settled))
    expect(turns).toBeGreaterThanOrEqual(2 * 2 * 3 * 2)
  })
})

describe('lifetime', () => {
  it('finishes accepted calls after dispose, refuses later ones and frees the weights', async () => {
    const call = request(4)
    const accepted = runtime.forward(call)
    expect(runtime.memory().hostBytes).toBeGreaterThan(numExperts * 3 * size * 4)
    runtime.dispose()
    runtime.dispose()
    const disposed = expect.objectContaining({ code: 'ERR_MOE_DISPOSED' })
    await expect(runtime.forward(request(1)).settled).rejects.toEqual(disposed)
    expect(() => runtime.forwardSync(request(1))).toThrow(disposed)
    await accepted.settled
    expect(call.output.every(Number.isFinite)).toBe(true)
    expect(runtime.memory().hostBytes).toBe(0)
  })

  it('counts shared buffers once', () => {
    const data = random.normals(3 * size)
    const view = (part: number, cols: number) => ({
      data,
      offset: part * size,
      strides: [cols, 1] as const,
    })
    const experts = [
      {
        gate: view(0, hiddenSize),
        up: view(1, hiddenSize),
        down: view(2, intermediateSize),
      },
    ]
    const one = resolveConfig({
      scoringFunc: 'topk_softmax',
      numExperts: 1,
      topK: 1,
      hiddenSize,
      intermediateSize,
    })
    const layer = ReferenceLayerRuntime.fromTensors(
      one,
      'f32',
      { routerWeight: random.normals(hiddenSize) },
      { experts },
    )
    expect(layer.memory().hostBytes).toBe((3 * size + hiddenSize) * 4)
  })
})
