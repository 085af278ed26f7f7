/** The tensors of one stored matrix: those of a linear, or the slices that one expert has of tensors with all experts. */

import type { LocatedTensor } from '../checkpoint.js'
import type { Segment } from '../segment.js'
import type { TensorLookup } from '../tensor-lookup.js'
import { HELP } from './help.js'

/** One tensor, or a slice of one, as if it were a tensor of its own. */
export interface Part {
  tensor: LocatedTensor
  dtype: string
  shape: readonly number[]
  segment: Segment
}

/** Which expert's slice, of how many. */
interface Slice {
  expert: number
  numExperts: number
  /** Upper or lower half of the rows: gate or up. */
  half?: 0 | 1
  /** The experts are below each other, `[E * rows, …]`. */
  stacked?: boolean
}

/** Finds the parts of one matrix by what they are (`weight`, `weight_scale` …), whatever the tensors are called. */
export class MatrixParts {
  readonly tensors: TensorLookup
  /** The file holds `[in, out]`. */
  readonly transposed: boolean
  private readonly namesOf: (part: string) => readonly string[]
  private readonly slice: Slice | null

  private constructor(
    tensors: TensorLookup,
    namesOf: (part: string) => readonly string[],
    transposed: boolean,
    slice: Slice | null,
  ) {
    this.tensors = tensors
    this.namesOf = namesOf
    this.transposed = transposed
    this.slice = slice
  }

  /** A linear; `stem` is its name without `.weight`. */
  static linear(tensors: TensorLookup, stem: string): MatrixParts {
    return new MatrixParts(tensors, part => [`${stem}.${part}`], false, null)
  }

  /**
   * One expert's part of `[E, …]`. `name` is the tensor's own, with or without `.weight`; its scales stand beside it as `name_scale`,
   * `name_weight_scale` or `name.weight_scale`.
   */
  static fused(
    tensors: TensorLookup,
    name: string,
    slice: Slice,
    major: 'output' | 'input' = 'output',
  ): MatrixParts {
    const stem = name.replace(/\.weight$/, '')
    const namesOf = (part: string) =>
      part === 'weight'
        ? [name, `${stem}.weight`, `${stem}_weight`]
        : [`${stem}_${part}`, `${stem}_${part.replace(/^weight_/, '')}`, `${stem}.${part}`]
    return new MatrixParts(tensors, namesOf, major === 'input', slice)
  }

  /** No tensor of the checkpoint has such a part, so that this linear has none: most are asked for in vain, and of every matrix. */
  private isUnheardOf(part: string): boolean {
    return this.slice === null && !this.tensors.checkpoint.names.hasSegment(part)
  }

  has(part: string): boolean {
    if (this.isUnheardOf(part)) return false
    return this.namesOf(part).some(name => this.tensors.has(name))
  }

  find(part: string): Part | undefined {
    if (this.isUnheardOf(part)) return undefined
    for (const name of this.namesOf(part)) {
      const tensor = this.tensors.vectors.has(name) ? undefined : this.tensors.find(name)
      if (tensor) return this.view(tensor)
    }
    return undefined
  }

  /** A part with elements: exporters leave an empty tensor where there is none. */
  findFilled(part: string): Part | undefined {
    const found = this.find(part)
    return found?.shape.includes(0) ? undefined : found
  }

  /** The first of `parts` that is there; none is ERR_MOE_MISSING_TENSOR. */
  require(...parts: string[]): Part {
    for (const part of parts) {
      const found = this.find(part)
      if (found) return found
    }
    throw this.missing(...parts)
  }

  missing(...parts: string[]): Error {
    return this.tensors.missing(parts.flatMap(part => this.namesOf(part)))
  }

  private view(tensor: LocatedTensor): Part {
    const { tensors, slice } = this
    const { dtype, shape } = tensor
    const numElements = shape.reduce((product, length) => product * length, 1)
    if (!slice || (numElements === 1 && slice.numExperts !== 1)) {
      return { tensor, dtype, shape, segment: tensors.segment(tensor) }
    }
    const { expert, numExperts, half, stacked } = slice
    if (stacked) {
      const [rows = 0, ...rest] = shape
      if (rows % numExperts !== 0)
        throw tensors.mismatch(tensor, `of ${numExperts} experts, [${numExperts} * rows, …],`)
      const segment = tensors.segment(tensor, expert, numExperts)
      return { tensor, dtype, shape: [rows / numExperts, ...rest], segment }
    }
    if (shape[0] !== numExperts)
      throw tensors.mismatch(tensor, `of ${numExperts} experts, [${numExperts}, …],`)
    const [rows = 1, ...rest] = shape.slice(1)
    if (half === undefined || shape.length === 1 || rows % 2 !== 0) {
      return { tensor, dtype, shape: shape.slice(1), segment: tensors.segment(tensor, expert, numExperts) }
    }
    return {
      tensor,
      dtype,
      shape: [rows / 2, ...rest],
      segment: tensors.segment(tensor, 2 * expert + half, 2 * numExperts),
    }
  }

  /** Dtype and exact shape of a part. */
  expect(part: Part, dtypes: readonly string[], shape: readonly number[]): Part {
    const sameShape =
      part.shape.length === shape.length && shape.every((length, i) => part.shape[i] === length)
    this.expectType(part, dtypes)
    if (!sameShape) throw this.mismatch(part, dtypes, shape)
    return part
  }

  /** Elements of another kind are another format, whatever the shape. */
  private expectType({ tensor, dtype }: Part, dtypes: readonly string[]): void {
    if (dtypes.includes(dtype)) return
    throw this.tensors.unsupported(
      tensor,
      `${dtype} is no form that is read here, ${dtypes.join(' or ')} is; ${HELP}`,
    )
  }

  /** `length` elements along one dimension, all others being 1. */
  expectVector(part: Part, dtypes: readonly string[], length: number): Part {
    const others = part.shape.filter(size => size !== 1)
    const fits = length === 1 ? others.length === 0 : others.length === 1 && others[0] === length
    this.expectType(part, dtypes)
    if (!fits) throw this.mismatch(part, dtypes, [length])
    return part
  }

  private mismatch(part: Part, dtypes: readonly string[], shape: readonly number[]): Error {
    const { slice } = this
    const whole = part.tensor.shape.length > part.shape.length ? [slice?.numExperts, ...shape] : shape
    const full = slice?.stacked ? [slice.numExperts * (shape[0] ?? 1), ...shape.slice(1)] : whole
    return this.tensors.mismatch(part.tensor, `${dtypes.join(' or ')} [${full.join(', ')}]`)
  }
}
