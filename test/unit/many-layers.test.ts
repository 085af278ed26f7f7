/** A checkpoint of many layers is parsed once, and what each of them costs does not grow with their number. */

import { readdirSync, readlinkSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { OpenFiles } from '../../lib/checkpoint/open-files.js'
import type { LayerPlan } from '../../lib/checkpoint/plan/layer-plan.js'
import { OpenedModel, summaryOf } from '../../lib/checkpoint/plan/opened-model.js'
import { TensorNames } from '../../lib/checkpoint/tensor-names.js'
import { openCheckpoint } from '../../lib/index.js'
import { writeManyTensors } from '../helpers/checkpoint-many.js'
import { removeCheckpoints, temporaryDirectory } from '../helpers/checkpoint-tiny.js'

const SIZES = { numLayers: 58, numExperts: 256, numShards: 40 }
let directory: string
let numTensors: number

beforeAll(async () => {
  directory = temporaryDirectory()
  numTensors = await writeManyTensors(directory, SIZES)
})
afterEach(() => vi.restoreAllMocks())
afterAll(removeCheckpoints)

/** Files of the checkpoint that this process has open. */
function openFiles(): number {
  return readdirSync('/proc/self/fd').filter(fd => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(directory)
    } catch {
      return false
    }
  }).length
}

function usedHeap(): number {
  globalThis.gc!()
  return process.memoryUsage().heapUsed
}

describe('an index of 58 layers and 44,000 tensors', () => {
  it('is large enough to say something', () => {
    expect(numTensors).toBeGreaterThan(44_000)
  })

  it('each header is read once, and each name looked at a few times, not once for each layer', async () => {
    const reads = vi.spyOn(OpenFiles.prototype, 'use')
    const opened = await OpenedModel.open(directory)
    const scans = vi.spyOn(TensorNames.prototype, Symbol.iterator)
    let seen = 0
    for (const find of ['below', 'endingWith'] as const) {
      const original = TensorNames.prototype[find]
      vi.spyOn(TensorNames.prototype, find).mockImplementation(function (this: TensorNames, part: string) {
        const found = original.call(this, part)
        seen += found.length
        return found
      })
    }
    const plans: LayerPlan[] = []
    for (const index of opened.sparse) plans.push(await opened.plan(index))
    expect(scans).not.toHaveBeenCalled()
    expect(seen).toBeLessThan(4 * numTensors)
    // What planning leaves behind is headers: the plans are many times a line for each layer.
    const withPlans = usedHeap()
    const summaries = plans.splice(0).map(summaryOf)
    const withSummaries = usedHeap()
    expect(summaries.at(-1)).toMatchObject({ index: SIZES.numLayers - 1, storedFormat: 'bf16' })
    plans.push(await opened.plan(0))
    const planBytes = usedHeap() - withSummaries
    expect(withPlans - withSummaries).toBeGreaterThan(0.8 * SIZES.numLayers * planBytes)
    await opened.plan(SIZES.numLayers - 1)
    expect(reads).toHaveBeenCalledTimes(SIZES.numShards)
    expect(new Set(reads.mock.calls.map(([file]) => file)).size).toBe(SIZES.numShards)
    await opened.close()
  })

  it.runIf(process.platform === 'linux')('its files are open once until close', async () => {
    const checkpoint = await openCheckpoint(directory)
    expect(checkpoint.layers).toHaveLength(SIZES.numLayers)
    expect(openFiles()).toBe(SIZES.numShards)
    await checkpoint.close()
    await checkpoint.close()
    expect(openFiles()).toBe(0)
  })
})
