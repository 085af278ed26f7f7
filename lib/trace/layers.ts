/** The layers that the metadata of a trace describe. */

import { MOST_EXPERTS, type TraceLayer } from './format.js'
import { invalidTrace } from './invalid.js'

/** More layers than any model has. */
const MOST_LAYERS = 4096

const KEYS: readonly (keyof TraceLayer)[] = [
  'layer',
  'numExperts',
  'topK',
  'expertBytes',
  'dtype',
  'configHash',
]

const isInteger = (value: unknown, least: number, most: number): boolean =>
  Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most
const isShortText = (value: unknown): boolean =>
  typeof value === 'string' && value !== '' && value.length <= 64

/** @throws {@link MoeError} ERR_MOE_TRACE_INVALID */
export function parseLayers(text: string, file: string): TraceLayer[] {
  let list: unknown
  try {
    list = JSON.parse(text)
  } catch (error) {
    throw invalidTrace(file, "'layers' of the metadata is no JSON", error)
  }
  if (!Array.isArray(list) || list.length === 0 || list.length > MOST_LAYERS)
    throw invalidTrace(file, "'layers' of the metadata is no list of layers")
  const layers = list.map((entry, index) => {
    if (!isLayer(entry)) throw invalidTrace(file, `layer ${index} of the metadata is none`)
    return entry
  })
  if (new Set(layers.map(({ layer }) => layer)).size !== layers.length)
    throw invalidTrace(file, 'the metadata has a layer twice')
  return layers
}

function isLayer(entry: unknown): entry is TraceLayer {
  if (typeof entry !== 'object' || entry === null || Object.keys(entry).length !== KEYS.length) return false
  const { layer, numExperts, topK, expertBytes, dtype, configHash } = entry as Record<
    keyof TraceLayer,
    unknown
  >
  return (
    isInteger(layer, 0, 2 ** 31 - 1) &&
    isInteger(numExperts, 1, MOST_EXPERTS) &&
    isInteger(topK, 1, MOST_EXPERTS) &&
    isInteger(expertBytes, 1, Number.MAX_SAFE_INTEGER) &&
    isShortText(dtype) &&
    isShortText(configHash)
  )
}
