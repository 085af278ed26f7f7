/** The largest cache with which the layers of a checkpoint fit into so many bytes. */

import type { Checkpoint } from '../api/checkpoint.js'
import type { ModelOptions } from '../api/model-options.js'
import type { ModelPlan } from '../api/model-plan.js'
import { MoeError } from '../block/errors.js'
import { type CachedLayer, leastCacheBytes } from '../block/expert-cache.js'
import { isHostDevice } from '../devices/device.js'
import type { SimulatedMemory } from './simulate-rows.js'

/** How layers run in a memory. */
export interface MemoryFit {
  /** Where their experts are computed: 'host', or a device with memory of its own. */
  place: string
  /** Of the place. */
  placeBytes: number
  /** With all experts in memory. */
  whole: ModelPlan
  /** With a cache that takes what the rest leaves of the memory; null: all experts fit. */
  cached: { memory: SimulatedMemory; plan: ModelPlan } | null
  /** What a cache would divide, layer by layer. */
  layers: readonly CachedLayer[]
}

/**
 * @param options of `plan`, without a cache; of one device
 * @param memoryBytes of the host
 * @param deviceBytes of a device with memory of its own, given what is free there
 * @throws {@link MoeError} ERR_MOE_OUT_OF_MEMORY, with `details` {memory, neededBytes, freeBytes}, where the memory does not hold the least that the
 * layers run with
 */
export async function fitMemory(
  checkpoint: Checkpoint,
  options: Omit<ModelOptions, 'cache' | 'module' | 'config'>,
  memoryBytes: number,
  deviceBytes: (freeBytes: number) => number,
): Promise<MemoryFit> {
  const whole = await checkpoint.plan(options)
  const layers = whole.layers.map(({ index, expertBytes }) => {
    const { config } = checkpoint.layers.find(layer => layer.index === index)!
    return { numExperts: config.numExperts, topK: config.topK, expertBytes }
  })
  const { device } = whole.layers[0]!
  const isHost = isHostDevice(device)
  const place = isHost ? 'host' : device
  const placeBytes = isHost ? memoryBytes : deviceBytes(memoryOf(whole, place).freeBytes)
  const found = { place, placeBytes, whole, layers }
  const needs = (plan: ModelPlan, where: string) => memoryOf(plan, where).neededBytes
  if (needs(whole, place) <= placeBytes && needs(whole, 'host') <= memoryBytes)
    return { ...found, cached: null }

  // What is no expert takes the same beside any cache.
  const least = leastCacheBytes(layers)
  const withLeast = await checkpoint.plan({ ...options, cache: ofPlace(isHost, least) })
  const restBytes = needs(withLeast, place) - heldBytes(layers, least)
  const given = placeBytes - restBytes
  if (given < least)
    throw new MoeError(
      'ERR_MOE_OUT_OF_MEMORY',
      `The layers do not run in ${placeBytes} bytes${isHost ? '' : ` of ${place}`}: the experts of one token, and one more, of each of ` +
        `${layers.length} layer(s) take ${least}, and what is no expert ${restBytes}. Give them ${least + restBytes}, or hold the weights in fewer bits`,
      { details: { memory: place, neededBytes: least + restBytes, freeBytes: placeBytes } },
    )
  const hostBytes = needs(withLeast, 'host')
  if (hostBytes > memoryBytes)
    throw new MoeError(
      'ERR_MOE_OUT_OF_MEMORY',
      `The layers do not run in ${memoryBytes} bytes of the host: loading them to ${place} takes ${hostBytes}`,
      { details: { memory: 'host', neededBytes: hostBytes, freeBytes: memoryBytes } },
    )
  const memory = {
    ...ofPlace(isHost, wholeExperts(layers, given)),
    ...(!isHost && behind(layers, memoryBytes - hostBytes)),
  }
  return { ...found, cached: { memory, plan: await checkpoint.plan({ ...options, cache: memory }) } }
}

export const memoryOf = ({ memory }: ModelPlan, name: string) => memory.find(({ memory }) => memory === name)!

const ofPlace = (isHost: boolean, bytes: number): SimulatedMemory =>
  isHost ? { hostBytes: bytes } : { deviceBytes: bytes }

/** Memory of the host behind a device: none where `given` does not hold an expert of each layer. */
function behind(layers: readonly CachedLayer[], given: number): { hostBytes?: number } {
  const least = layers.length * Math.max(...layers.map(({ expertBytes }) => expertBytes))
  return given < least ? {} : { hostBytes: wholeExperts(layers, given) }
}

/** Bytes of the experts that the share of one layer pays for. */
const heldOf = ({ numExperts, expertBytes }: CachedLayer, share: number): number =>
  Math.min(numExperts, Math.floor(share / expertBytes)) * expertBytes

/** What caches of all layers take of `bytes`. */
function heldBytes(layers: readonly CachedLayer[], bytes: number): number {
  const share = Math.floor(bytes / layers.length)
  return layers.reduce((sum, layer) => sum + heldOf(layer, share), 0)
}

/** The fewest bytes that hold as many experts of each layer as `bytes` do. */
function wholeExperts(layers: readonly CachedLayer[], bytes: number): number {
  const share = Math.floor(bytes / layers.length)
  return layers.length * Math.max(...layers.map(layer => heldOf(layer, share)))
}
