/** A checkpoint of many layers is parsed once, and what each of them costs does not grow with their number. */

import { readdirSync, readlinkSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { OpenFiles } from '../../lib/checkpoint/open-files.js'
import type { LayerPlan } from '../../lib/checkpoint/plan/layer-plan.js'
import { type CheckpointLayer, OpenedModel, summaryOf } from '../../lib/checkpoint/plan/opened-model.js'
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

  it('each header is read once, however many layers are planned, and from then on no file is opened', async () => {
    const reads = vi.spyOn(OpenFiles.prototype, 'use')
    const opened = await OpenedModel.open(directory)
    for (const index of opened.sparse) await opened.plan(index)
    for (const index of opened.sparse) await opened.plan(index)
    expect(reads).toHaveBeenCalledTimes(SIZES.numShards)
    expect(new Set(reads.mock.calls.map(([file]) => file)).size).toBe(SIZES.numShards)
    await opened.close()
  })

  it('names are looked at a constant number of times, not once for each layer', async () => {
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
    for (const index of opened.sparse) await opened.plan(index)
    expect(scans).not.toHaveBeenCalled()
    expect(seen).toBeLessThan(4 * numTensors)
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

  it('keeps headers and a line for each layer, not the plans', async () => {
    const opened = await OpenedModel.open(directory)
    const summaries: CheckpointLayer[] = []
    const plans: LayerPlan[] = []
    // The headers of all shards, and whatever the first plan of each layer leaves behind.
    for (const index of opened.sparse) await opened.plan(index)
    const before = usedHeap()
    for (const index of opened.sparse) plans.push(await opened.plan(index))
    const planBytes = usedHeap() - before
    for (const plan of plans.splice(0)) summaries.push(summaryOf(plan))
    expect(summaries.at(-1)).toMatchObject({ index: SIZES.numLayers - 1, storedFormat: 'bf16' })
    expect(usedHeap() - before).toBeLessThan(0.1 * planBytes)
    await opened.close()
  })
})
