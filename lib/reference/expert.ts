/** One expert on one row, and the expert matmul as a stage of its own. */

import { allocate } from '../block/allocate.js'
import { invalidArgShape } from '../block/errors.js'
import { fieldsOf } from '../block/option-fields.js'
import { MAX_SIZE } from '../block/resolve-routing.js'
import type { WeightMatrix } from '../block/weights.js'
import { ACTIVATIONS } from '../spec/enums.js'
import { type ActivationSpec, activateElement } from './activation.js'
import { checkInteger, checkIntegers, checkNumbers } from './arguments.js'
import type { Dispatch } from './dispatch.js'
import { drain, type Matrix, makeWiden, multiply, type Numbers, viewMatrix } from './matrix.js'

/** Matrices and biases of one expert. D = width of its input and output, I = width between its matmuls. */
export interface ExpertTensors {
  /** `[I, D]`; null in families whose experts are not gated. */
  readonly gate: Matrix | null
  /** `[I, D]` */
  readonly up: Matrix
  /** `[D, I]` */
  readonly down: Matrix
  /** `[I]` */
  readonly gateBias: ArrayLike<number> | null
  /** `[I]` */
  readonly upBias: ArrayLike<number> | null
  /** `[D]` */
  readonly downBias: ArrayLike<number> | null
}

/** `down · act(gate · x + b_g, up · x + b_u) + b_d` for one row x `[D]`, into `out` `[D]`. */
export function* runExpert(
  tensors: ExpertTensors,
  spec: ActivationSpec,
  x: Numbers,
  out: Float64Array,
): Generator<void, Float64Array, void> {
  const width = tensors.up.rows
  const up = yield* multiply(tensors.up, x, tensors.upBias, allocate(Float64Array, width))
  const gate =
    tensors.gate && (yield* multiply(tensors.gate, x, tensors.gateBias, allocate(Float64Array, width)))
  for (let i = 0; i < width; i++) up[i] = activateElement(spec, gate ? gate[i]! : 0, up[i]!)
  return yield* multiply(tensors.down, up, tensors.downBias, out)
}

/** Sizes and choices of {@link expertMatmul}. N' = rows = 2N when the activation is gated, else N. */
export interface ExpertMatmulOptions {
  /** N', rows of each expert's matrix. */
  rows: number
  /** K', columns. */
  cols: number
  /** `true`: x is `[T, K']` and slot / topK its row; `false`: x is `[S, K']`. @defaultValue false */
  gather?: boolean
  /** Slots per token, with `gather`. @defaultValue 1 */
  topK?: number
  /** `[E, N']` */
  bias?: Numbers | null
  /** Applied to each row; absent or null: the plain product. */
  activation?: ActivationSpec | null
  /** Gated: even rows are gate and odd rows up; else the first half is gate. @defaultValue false */
  interleaved?: boolean
}

/**
 * One grouped matmul: row s of the result `[S, N]` is `act(W_e · x_s + b_e)`, e the expert that owns slot s; rows of slots without
 * an expert are 0.
 *
 * @param weights `[E, N', K']` dense, or one `[N', K']` matrix per expert
 */
export function expertMatmul(
  x: Numbers,
  weights: Numbers | readonly WeightMatrix[],
  slots: Dispatch,
  options: ExpertMatmulOptions,
): Float64Array {
  const { rows, cols, gather, topK, bias, activation, interleaved } = checkMatmulOptions(options)
  const { expertOffsets, sortedSlots } = checkSlots(slots)
  checkNumbers('x', x)
  const numExperts = expertOffsets.length - 1
  const gated = activation?.gated ?? false
  if (gated && rows % 2 !== 0) throw invalidArgShape('rows', 'an even number (gate and up)', `${rows}`)
  if (bias && bias.length !== numExperts * rows)
    throw invalidArgShape('bias', `[${numExperts}, ${rows}] elements`, `${bias.length}`)
  const numInputs = gather ? sortedSlots.length / topK : sortedSlots.length
  if (x.length !== numInputs * cols)
    throw invalidArgShape('x', `[${numInputs}, ${cols}] elements`, `${x.length}`)
  const matrixOf = expertMatrices(weights, numExperts, rows, cols)
  const size = gated ? rows / 2 : rows
  const out = allocate(Float64Array, sortedSlots.length * size)
  for (let e = 0; e < numExperts; e++) {
    for (let i = expertOffsets[e]!; i < expertOffsets[e + 1]!; i++) {
      const slot = sortedSlots[i]!
      const row = gather ? Math.floor(slot / topK) : slot
      const product = drain(
        multiply(
          matrixOf(e),
          x.slice(row * cols, (row + 1) * cols),
          bias?.slice(e * rows, (e + 1) * rows) ?? null,
          allocate(Float64Array, rows),
        ),
      )
      for (let n = 0; n < size; n++) {
        const gate = gated ? product[interleaved ? 2 * n : n]! : 0
        const up = gated ? product[interleaved ? 2 * n + 1 : size + n]! : product[n]!
        out[slot * size + n] = activation ? activateElement(activation, gate, up) : up
      }
    }
  }
  return out
}

function checkMatmulOptions(options: ExpertMatmulOptions) {
  const fields = fieldsOf(options, 'options')
  const { bias = null, activation = null } = options
  if (bias !== null) checkNumbers('options.bias', bias)
  if (activation !== null) {
    const spec = fieldsOf(activation, 'options.activation')
    spec.oneOf('activation', ACTIVATIONS)
    spec.boolean('gated')
    for (const key of ['swigluLimit', 'swigluAlpha', 'swigluUpOffset'])
      spec.number(key, 'a finite number', () => true)
    spec.nonNegative('swigluGateLimit', 0)
  }
  return {
    rows: fields.integer('rows', 1, MAX_SIZE),
    cols: fields.integer('cols', 1, MAX_SIZE),
    gather: fields.boolean('gather', false),
    topK: fields.integer('topK', 1, MAX_SIZE, 1),
    interleaved: fields.boolean('interleaved', false),
    bias,
    activation,
  }
}

/** What {@link dispatch} gives, whoever made it: offsets that rise within the slots, and slots that exist. */
function checkSlots(slots: Dispatch): Dispatch {
  const { expertOffsets, sortedSlots } = slots ?? {}
  const offsets = checkIntegers('slots.expertOffsets', expertOffsets)
  const sorted = checkIntegers('slots.sortedSlots', sortedSlots)
  if (offsets.length < 2)
    throw invalidArgShape('slots.expertOffsets', 'at least 2 elements', `${offsets.length}`)
  for (let e = 0; e < offsets.length; e++)
    checkInteger(`slots.expertOffsets[${e}]`, offsets[e], e === 0 ? 0 : offsets[e - 1]!, sorted.length)
  for (let i = 0; i < offsets[offsets.length - 1]!; i++)
    checkInteger(`slots.sortedSlots[${i}]`, sorted[i], 0, sorted.length - 1)
  return slots
}

function expertMatrices(
  weights: Numbers | readonly WeightMatrix[],
  numExperts: number,
  rows: number,
  cols: number,
): (expert: number) => Matrix {
  const widen = makeWiden('bf16')
  if (Array.isArray(weights) && typeof weights[0] !== 'number') {
    const list = weights as readonly WeightMatrix[]
    if (list.length !== numExperts)
      throw invalidArgShape('weights', `${numExperts} matrices`, `${list.length}`)
    return e => viewMatrix(list[e]!, rows, cols, `weights[${e}]`, widen)
  }
  const all = viewMatrix(weights as Numbers, numExperts * rows, cols, 'weights', widen)
  return e => ({ ...all, rows, offset: e * rows * cols })
}
