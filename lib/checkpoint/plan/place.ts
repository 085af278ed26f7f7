/**
 * Which layer is asked for, and where its tensors stand. What comes before `layers.N` differs by how a language model is wrapped: it is
 * found as the place under which the layer's router stands.
 */

import { invalidArgValue, MoeError } from '../../block/errors.js'
import type { ResolvedFamily } from '../../families/index.js'
import type { Naming, Stack } from '../../families/parts/family.js'
import type { CheckpointDirectory, Container } from '../checkpoint.js'
import { TensorLookup } from '../tensor-lookup.js'

const MAX_LAYERS = 4096

/** Fields that count the layers for multi-token prediction behind the last one. */
const EXTRA_FIELDS = [
  'num_nextn_predict_layers',
  'mtp_num_hidden_layers',
  'num_mtp_modules',
  'num_mtp_layers',
]

/** What stands for `.weight` where a router is quantised. */
const STORED_SUFFIXES = ['weight', 'qweight', 'weight_packed']

/** One layer of a stack. */
export interface Place {
  stack: Stack
  /** Index within the stack. */
  layer: number
  /** Of the layers for multi-token prediction, from 0; undefined: an ordinary layer. */
  extra?: number
}

/** Where a layer's tensors are. */
export interface Location {
  naming: Naming
  /** Of every name of the layer. */
  prefix: string
  /** What a user should know about the choice between several language models. */
  notice?: string
}

/** 0 where the config has no experts at all. */
function numExpertsOf({ row, config }: ResolvedFamily, layer: number): number {
  return config.integerOfLayer(row.numExperts, layer, 0, 0)
}

function isSparse(family: ResolvedFamily, { stack, layer, extra }: Place): boolean {
  if (numExpertsOf(family, layer) === 0) return false
  // Layers for multi-token prediction are in no list of layers.
  return extra !== undefined || stack.sparse(family.config, layer)
}

/** Layers of a stack; a list of all blocks has one entry per layer. */
function numLayersOf({ config }: ResolvedFamily, { numLayers }: Stack): number {
  const blocks = config.has(numLayers) ? undefined : config.list('layers_block_type', 'string')
  const count = blocks ? blocks.length : config.integer(numLayers, 0)
  if (count > MAX_LAYERS) config.fail(numLayers, `is ${count}, above the cap of ${MAX_LAYERS}`)
  return count
}

/** All layers in their order, those of an encoder first. */
function placesOf(family: ResolvedFamily): Place[] {
  return family.row.stacks.flatMap(stack =>
    Array.from({ length: numLayersOf(family, stack) }, (_, layer): Place => ({ stack, layer })),
  )
}

/** How many layers a model has, and the indices of those with experts. Layers for multi-token prediction are in neither. */
export function listLayers(family: ResolvedFamily): { numLayers: number; sparse: number[] } {
  const places = placesOf(family)
  return {
    numLayers: places.length,
    sparse: places.flatMap((place, index) => (isSparse(family, place) ? [index] : [])),
  }
}

/**
 * The place of a layer by its index; encoder-decoder models count the encoder's first. Without one, the first layer with experts.
 * @throws {@link MoeError} ERR_MOE_NOT_SPARSE; RangeError with ERR_MOE_INVALID_ARG_VALUE for a layer that does not exist
 */
export function chooseLayer(
  family: ResolvedFamily,
  asked: number | undefined,
): { layer: number; place: Place } {
  const { row, config, modelType } = family
  const places = placesOf(family)
  const dense = (message: string) =>
    new MoeError('ERR_MOE_NOT_SPARSE', `${config.file}: ${message}`, {
      details: { file: config.file, family: modelType, layer: asked },
    })
  if (asked === undefined) {
    const layer = places.findIndex(place => isSparse(family, place))
    if (layer < 0) throw dense(`no layer of this ${modelType} model has experts`)
    return { layer, place: places[layer]! }
  }
  const extra = asked - places.length
  const [stack] = row.stacks
  if (extra >= 0 && extra < MAX_LAYERS && row.stacks.length === 1) {
    return { layer: asked, place: { stack: stack!, layer: asked, extra } }
  }
  const place = places[asked]
  if (!place) throw noSuchLayer(family, places.length, asked)
  if (!isSparse(family, place)) {
    const { sparse } = listLayers(family)
    const first = sparse.slice(0, 16).join(', ')
    throw dense(
      `layer ${asked} is dense; ` +
        (sparse.length === 0
          ? 'no layer has experts'
          : `layers with experts: ${first}${sparse.length > 16 ? ', …' : ''}`),
    )
  }
  return { layer: asked, place }
}

/** How many layers for multi-token prediction config.json names. */
function numExtra({ config }: ResolvedFamily): number {
  return Math.max(...EXTRA_FIELDS.map(field => config.integer(field, 0, 0)))
}

function noSuchLayer(family: ResolvedFamily, count: number, asked: unknown): Error {
  return invalidArgValue('layer', `an integer from 0 to ${count - 1} (${family.modelType})`, asked)
}

/** One way to the router of a layer: `tail` is what the layer's names begin with, below the language model. */
interface Candidate {
  naming: Naming
  tail: string
  router: string
}

function candidatesOf({ stack, layer, extra }: Place, container: Container | undefined): Candidate[] {
  const namings = container ? stack.naming.slice(0, 1).map(container.naming) : stack.naming
  return namings.flatMap(naming => {
    const tails = [naming.layer.replace('{L}', String(layer))]
    // Behind the last layer, or in a module of their own: `mtp.layers.0`, DeepSeek-V4 `mtp.0`.
    if (extra !== undefined) tails.push(`mtp.layers.${extra}.`, `mtp.${extra}.`)
    return tails.flatMap(tail =>
      naming.router.weight.flatMap(name =>
        STORED_SUFFIXES.map(suffix => ({
          naming,
          tail,
          router: tail + naming.block + name.replace(/weight$/, suffix),
        })),
      ),
    )
  })
}

/** Layers for multi-token prediction are counted from 0 in modules of their own. */
const isExtraModule = (root: string) => root.split('.').includes('mtp')

/**
 * Finds the layer's router among all tensors, and with it the prefix of all of the layer's names.
 * @throws {@link MoeError} ERR_MOE_MISSING_TENSOR; ERR_MOE_INVALID_CHECKPOINT where two language models have such a layer; RangeError
 * with ERR_MOE_INVALID_ARG_VALUE where none is in `options.module`; or
 * rejects with `signal.reason`
 */
export async function locate(
  checkpoint: CheckpointDirectory,
  family: ResolvedFamily,
  place: Place,
  options: { module?: string; signal?: AbortSignal } = {},
): Promise<Location> {
  const candidates = candidatesOf(place, checkpoint.container)
  const found = new Map<string, Found>()
  for (const { naming, tail, router } of candidates) {
    for (const name of checkpoint.names.endingWith(router)) {
      const root = name.slice(0, name.length - router.length)
      const prefix = root + tail
      // The first way to a layer that is there counts.
      if (isExtraModule(root) || found.has(prefix)) continue
      found.set(prefix, { location: { naming, prefix }, router: name, root })
    }
  }
  const all = [...found.values()]
  if (!isFilled(all)) throw notFound(checkpoint, family, place, candidates)
  const { module } = options
  const places = module === undefined ? preferred(all, family) : ofModule(all, module)
  const [first, second] = places
  if (second) {
    throw new MoeError(
      'ERR_MOE_INVALID_CHECKPOINT',
      `${checkpoint.directory} has two layers ${place.layer} with experts: '${first.router}' and '${second.router}'; ` +
        `choose one with the option module: '${moduleOf(first)}' or '${moduleOf(second)}'`,
      { details: { directory: checkpoint.directory, tensors: places.map(({ router }) => router) } },
    )
  }
  await checkpoint.prepare(first.location.prefix, options.signal)
  if (module !== undefined || all.length === 1) return first.location
  const notice =
    `${checkpoint.directory} holds several language models whose layer ${place.layer} has experts, in ${listOf(all)}: ` +
    `'${moduleOf(first)}' is taken, which config.json describes first; the option module chooses`
  return { ...first.location, notice }
}

/** Where a layer of a language model stands; `root` is what comes before its layers, a dot at its end. */
interface Found {
  location: Location
  router: string
  root: string
}

type AtLeastOne<T> = readonly [T, ...T[]]

const isFilled = <T>(list: readonly T[]): list is AtLeastOne<T> => list.length > 0

/** What the option `module` calls a language model. */
const moduleOf = ({ root }: Found) => root.replace(/\.$/, '')
const listOf = (found: readonly Found[]) =>
  found
    .map(item => `'${moduleOf(item)}'`)
    .sort()
    .join(', ')

/** A model with several language models inside names its sections as its modules: `thinker_config` is that of `thinker.`. */
function preferred(found: AtLeastOne<Found>, family: ResolvedFamily): AtLeastOne<Found> {
  const section = family.path[0]?.replace(/_config$/, '')
  const own = found.filter(({ root }) => section && root.split('.').includes(section))
  return isFilled(own) ? own : found
}

/** The language models that a user means: an empty name is that of layers without anything before them. */
function ofModule(found: readonly Found[], module: string): AtLeastOne<Found> {
  const own = found.filter(({ root }) => (module === '' ? root === '' : root.startsWith(`${module}.`)))
  if (isFilled(own)) return own
  throw invalidArgValue('module', `what the names of a language model begin with: ${listOf(found)}`, module)
}

function notFound(
  checkpoint: CheckpointDirectory,
  family: ResolvedFamily,
  place: Place,
  candidates: readonly Candidate[],
): Error {
  const { layer, extra } = place
  if (extra !== undefined) {
    const tails = [...new Set(candidates.map(({ tail }) => tail))]
    const isThere = [...checkpoint.names].some(name =>
      tails.some(tail => name.startsWith(tail) || name.includes(`.${tail}`)),
    )
    const { file } = family.config
    if (isThere) {
      return new MoeError(
        'ERR_MOE_NOT_SPARSE',
        `${file}: layer ${layer}, for multi-token prediction, is dense`,
        {
          details: { file, family: family.modelType, layer },
        },
      )
    }
    const promised = numExtra(family)
    if (extra >= promised) return noSuchLayer(family, layer - extra + promised, layer)
  }
  return new TensorLookup(checkpoint).missing(
    rootsOf(checkpoint, candidates).flatMap(root => candidates.map(({ router }) => root + router)),
  )
}

/** Where other tensors of the layer stand: the router is expected there. */
function rootsOf(checkpoint: CheckpointDirectory, candidates: readonly Candidate[]): string[] {
  const roots = new Set<string>()
  const tails = [...new Set(candidates.map(({ tail }) => tail))]
  for (const name of checkpoint.names) {
    for (const tail of tails) {
      const at = name.startsWith(tail) ? 0 : name.indexOf(`.${tail}`) + 1
      if (at > 0 || name.startsWith(tail)) roots.add(name.slice(0, at))
    }
  }
  const language = [...roots].filter(root => !isExtraModule(root)).slice(0, 2)
  return language.length > 0 ? language : ['model.']
}
