/** A layer small enough for any machine, on every device that serves, against the reference. */

import { MoeLayer } from '../api/moe-layer.js'
import type { MoeConfig } from '../block/config.js'
import { DTYPES, type DType } from '../block/dtype.js'
import type { ExpertWeights, MoeWeights } from '../block/weights.js'
import { ERROR_BOUNDS, relativeError, rowsWithOtherIds } from '../devices/accuracy.js'
import type { DeviceInfo, DeviceOption } from '../devices/device.js'

/** One device in one dtype. */
export interface SelfTestResult {
  device: string
  dtype: DType
  ok: boolean
  relativeError: number
  bound: number
  /** Why it did not run, or what differed. */
  problem?: string
}

const NUM_TOKENS = 5

/** Odd sizes, so that every kernel's remainder paths run. */
const CONFIG: MoeConfig = {
  family: 'self-test',
  scoringFunc: 'sigmoid',
  normTopkProb: true,
  routedScalingFactor: 2.5,
  numExperts: 8,
  topK: 3,
  numExpertGroups: 4,
  topkGroup: 2,
  groupScore: 'top2_sum',
  hiddenSize: 67,
  intermediateSize: 45,
  numSharedExperts: 1,
}

function values(length: number, seed: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => Math.sin(1.7 * i + i * i * 0.013 + seed) / 2)
}

function testWeights(): MoeWeights {
  const { hiddenSize, intermediateSize, numExperts } = CONFIG
  const size = hiddenSize * intermediateSize
  const expert = (seed: number): ExpertWeights => ({
    gate: values(size, seed),
    up: values(size, seed + 0.3),
    down: values(size, seed + 0.6),
  })
  return {
    router: { weight: values(numExperts * hiddenSize, 0.5), selectionBias: values(numExperts, 7) },
    experts: Array.from({ length: numExperts }, (_, index) => expert(index + 1)),
    shared: expert(numExperts + 1),
  }
}

function forward(device: string, dtype: DType) {
  const layer = MoeLayer.create(CONFIG, testWeights(), { device: device as DeviceOption, dtype })
  try {
    return layer.forwardSync(values(NUM_TOKENS * CONFIG.hiddenSize, 3))
  } finally {
    layer.dispose()
  }
}

/** Runs the test on each usable device but the reference, in each dtype; on the reference alone where there is no other. Never throws. */
export function selfTest(devices: readonly DeviceInfo[]): SelfTestResult[] {
  const usable = devices.filter(device => device.available)
  const tested = usable.length > 1 ? usable.filter(device => device.id !== 'reference') : usable
  return tested.flatMap(({ id }) => DTYPES.map(dtype => testDevice(id, dtype)))
}

function testDevice(device: string, dtype: DType): SelfTestResult {
  const bound = ERROR_BOUNDS[dtype]
  try {
    const actual = forward(device, dtype)
    const expected = forward('reference', dtype)
    const error = relativeError(actual.output, expected.output)
    const others = rowsWithOtherIds(actual.topkIds, expected.topkIds, CONFIG.topK)
    const ok = error <= bound && others.length === 0
    const problem =
      others.length > 0 ? 'it chose other experts' : `relative error ${error} is beyond ${bound}`
    return { device, dtype, ok, relativeError: error, bound, ...(ok ? {} : { problem }) }
  } catch (error) {
    return { device, dtype, ok: false, relativeError: Number.NaN, bound, problem: (error as Error).message }
  }
}
