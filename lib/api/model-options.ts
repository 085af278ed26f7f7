/** Options of making many layers, and their checks. */

import { invalidArgType, invalidArgValue, MoeError } from '../block/errors.js'
import type { DeviceOption } from '../devices/device.js'
import { type CacheOptions, checkCacheOptions } from './cache-options.js'
import { checkLayerOptions, checkSourceOptions, type LoadOptions, SOURCE_KEYS } from './layer-options.js'

/** Layers by their index. `from` is the first, `to` comes behind the last, as `Array.slice` counts; layers without experts between are passed over. */
export type LayerSelection = 'all' | readonly number[] | { from?: number; to?: number }

/** Options of {@link MoeModel.load} and {@link MoeModel.plan}. All but `layers`, `device`, `maxTokens` and `cache` mean for each layer what they mean for one. */
export interface ModelOptions extends Omit<LoadOptions, 'layer' | 'cache' | 'device' | 'maxQueuedTokens'> {
  /** Which layers. A list that names a layer without experts is ERR_MOE_NOT_SPARSE. @defaultValue 'all' that have experts */
  layers?: LayerSelection
  /** Where they run: one device for all, or several, each of which gets layers in a row, as equal in stored bytes as they come. @defaultValue 'auto' */
  device?: DeviceOption | readonly DeviceOption[]
  /**
   * Rows of a call for which each device gets its scratch at load. Larger calls work too: the scratch grows with the first of them.
   * @defaultValue 256
   */
  maxTokens?: number
  /**
   * Keeps some experts of each layer in memory and reads the others from the checkpoint when a call needs them, with the bits of layers
   * that are whole in memory. `hostBytes` and `deviceBytes` are for all layers together: each gets the same share. Devices of a model with a cache
   * are all `cpu`, or all GPUs. Absent: all experts stay in memory.
   */
  cache?: CacheOptions
  /** Rows that may wait or run at a time in all layers together; a call beyond them rejects with ERR_MOE_QUEUE_FULL. @defaultValue 65536 */
  maxQueuedTokens?: number
}

const DEFAULT_MAX_TOKENS = 256
/** Of no program that means what it says. */
const MAX_DEVICES = 256
const MAX_LAYERS = 65_536

/** Options that the interface names and this version does not carry out, each with what to do instead. */
const NOT_YET: Readonly<Record<string, string>> = {
  parallel: 'layers cannot be spread over processes yet: give several devices of this process as `device`',
}

/**
 * @throws TypeError and RangeError with ERR_MOE_INVALID_ARG_*, ERR_MOE_UNKNOWN_OPTION; {@link MoeError} ERR_MOE_UNSUPPORTED_OPTION
 */
export function checkModelOptions(options: ModelOptions): void {
  const known = ['layers', 'maxTokens', 'cache', ...SOURCE_KEYS]
  checkLayerOptions(options, [...known, ...Object.keys(NOT_YET)])
  for (const [name, instead] of Object.entries(NOT_YET)) {
    if ((options as Record<string, unknown>)[name] === undefined) continue
    throw new MoeError(
      'ERR_MOE_UNSUPPORTED_OPTION',
      `The option ${name} has no effect in this version: ${instead}`,
      {
        details: { option: name },
      },
    )
  }
  checkSourceOptions(options)
  checkCacheOptions(options.cache)
  checkSelection(options.layers)
  const { device, maxTokens } = options
  if (Array.isArray(device) && (device.length === 0 || device.length > MAX_DEVICES))
    throw invalidArgValue('device', `a device, or a list of 1 to ${MAX_DEVICES}`, device)
  if (maxTokens !== undefined && typeof maxTokens !== 'number')
    throw invalidArgType('maxTokens', 'a number', maxTokens)
  if (maxTokens !== undefined && (!Number.isSafeInteger(maxTokens) || maxTokens < 1))
    throw invalidArgValue('maxTokens', 'an integer of at least 1', maxTokens)
}

/** The devices of the options, one or more. */
export function deviceOptions({ device = 'auto' }: ModelOptions): readonly DeviceOption[] {
  return Array.isArray(device) ? device : [device as DeviceOption]
}

export function maxTokensOf({ maxTokens = DEFAULT_MAX_TOKENS }: ModelOptions): number {
  return maxTokens
}

function checkSelection(layers: unknown): void {
  if (layers === undefined || layers === 'all') return
  const expected = "'all', a list of layers, or { from, to }"
  const isIndex = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0
  if (Array.isArray(layers)) {
    if (layers.length === 0 || layers.length > MAX_LAYERS)
      throw invalidArgValue('layers', `from 1 to ${MAX_LAYERS} layers`, layers)
    const wrong = layers.find(index => !isIndex(index))
    if (wrong !== undefined || layers.includes(undefined))
      throw invalidArgValue('layers', 'non-negative integers', wrong)
    if (new Set(layers).size < layers.length) throw invalidArgValue('layers', 'each layer once', layers)
    return
  }
  if (typeof layers === 'string') throw invalidArgValue('layers', expected, layers)
  if (typeof layers !== 'object' || layers === null) throw invalidArgType('layers', expected, layers)
  for (const [name, value] of Object.entries(layers)) {
    if (name !== 'from' && name !== 'to') throw invalidArgValue('layers', expected, layers)
    if (value !== undefined && !isIndex(value))
      throw invalidArgValue(`layers.${name}`, 'a non-negative integer', value)
  }
}

/**
 * The layers that are meant, in rising order.
 *
 * @param sparse the layers of the checkpoint that have experts
 * @throws RangeError ERR_MOE_INVALID_ARG_VALUE where a range holds none
 */
export function selectLayers(layers: LayerSelection = 'all', sparse: readonly number[]): number[] {
  if (layers === 'all') return [...sparse]
  if ('from' in layers || 'to' in layers || !Array.isArray(layers)) {
    const { from = 0, to = Number.POSITIVE_INFINITY } = layers as { from?: number; to?: number }
    const inside = sparse.filter(index => index >= from && index < to)
    if (inside.length > 0) return inside
    throw invalidArgValue(
      'layers',
      `a range that holds one of the layers with experts (${listed(sparse)})`,
      layers,
    )
  }
  // A list that names a layer without experts, or one that does not exist, is refused where that layer is planned.
  return [...layers].sort((a, b) => a - b)
}

function listed(sparse: readonly number[]): string {
  return sparse.length > 16 ? `${sparse.slice(0, 16).join(', ')}, …` : sparse.join(', ')
}
