/** Plans the matrices of a layer. Sizes that config.json does not name come from the tensors; every shape is checked. */

import { MoeError } from '../../block/errors.js'
import type { ConfigReader } from '../../families/parts/config-reader.js'
import { expertLayouts } from '../../families/parts/expert-layouts.js'
import type { ExpertLayout, SharedLayout } from '../../families/parts/family.js'
import type { TensorLookup } from '../tensor-lookup.js'
import { EncodingReader } from './encoding.js'
import type { EncodedSource, MatrixItem } from './layer-plan.js'
import { MatrixParts } from './parts.js'
import type { Quantization } from './quantization.js'

/** Makes the full name of a tensor from its place in a row. */
export type NameOf = (name: string) => string

type Fused = Extract<ExpertLayout, { kind: 'fused' }>
type Major = Fused['major']

/** Where matrices come from. */
export class MatrixPlanner {
  readonly items: MatrixItem[] = []
  private readonly reader: EncodingReader
  private readonly tensors: TensorLookup
  private readonly nameOf: NameOf

  constructor(tensors: TensorLookup, quantization: Quantization, nameOf: NameOf) {
    this.tensors = tensors
    this.nameOf = nameOf
    this.reader = new EncodingReader(quantization)
  }

  private linear(name: string): MatrixParts {
    return MatrixParts.linear(this.tensors, this.nameOf(name))
  }

  private fused(name: string, numExperts: number, major: Major, expert = 0, half?: 0 | 1): MatrixParts {
    return MatrixParts.fused(this.tensors, this.nameOf(name), { expert, numExperts, half }, major)
  }

  private add(
    role: MatrixItem['role'],
    expert: number,
    matrix: MatrixItem['matrix'],
    rows: number,
    cols: number,
    parts: MatrixParts,
  ): void {
    this.items.push({ role, expert, matrix, rows, cols, ...this.reader.read(parts, rows, cols) })
  }

  /** Rows that hold gate and up: an odd number cannot. */
  private half(rows: number, name: string): number {
    if (rows % 2 === 0 && rows > 0) return rows / 2
    throw new MoeError(
      'ERR_MOE_TENSOR_MISMATCH',
      `Tensor '${name}' should hold gate and up, has ${rows} rows`,
      {
        details: { tensor: name, expected: 'an even number of rows', found: rows },
      },
    )
  }

  /** The first layout whose tensors are there; a fused one the way round that its shapes tell. */
  chooseLayout(
    published: readonly ExpertLayout[],
    numExperts: number,
    size: number,
    stems?: readonly string[],
  ): ExpertLayout {
    const anchors: string[] = []
    for (const layout of expertLayouts(published, stems)) {
      const anchor = layout.kind === 'fused' ? (layout.gateUp ?? layout.up!) : layout.up.replace('{e}', '0')
      const name = this.nameOf(anchor)
      anchors.push(layout.kind === 'perExpert' ? `${name}.weight` : name)
      if (layout.kind === 'perExpert' && this.reader.has(this.linear(anchor))) return layout
      if (layout.kind === 'stackedRows' && this.reader.has(this.stacked(layout.up, 'up', numExperts)))
        return layout
      if (layout.kind === 'fused' && this.reader.has(this.fused(anchor, numExperts, layout.major)))
        return { ...layout, major: this.majorOf(layout, numExperts, size) }
    }
    throw this.tensors.missing(anchors)
  }

  /** Libraries save fused tensors of some families the other way round: the shapes tell, or else the family. */
  private majorOf(layout: Fused, numExperts: number, size: number): Major {
    // A container of its own names has one order.
    if (this.tensors.checkpoint.container) return layout.major
    const fits = (major: Major) => {
      const [rows, cols] = this.reader.size(this.fused(layout.gateUp ?? layout.up!, numExperts, major))
      const [downRows, downCols] = this.reader.size(this.fused(layout.down, numExperts, major))
      const width = layout.gateUp === undefined ? rows : rows / 2
      return cols === size && downRows === size && downCols === width
    }
    const other: Major = layout.major === 'output' ? 'input' : 'output'
    return !fits(layout.major) && fits(other) ? other : layout.major
  }

  /** Intermediate size of the experts. */
  intermediateSize(layout: ExpertLayout, numExperts: number): number {
    if (layout.kind === 'perExpert') return this.reader.size(this.linear(layout.up.replace('{e}', '0')))[0]
    if (layout.kind === 'fused') {
      const name = layout.gateUp ?? layout.up!
      const [rows] = this.reader.size(this.fused(name, numExperts, layout.major))
      return layout.gateUp === undefined ? rows : this.half(rows, this.nameOf(name))
    }
    return this.reader.size(this.stacked(layout.up, 'up', numExperts))[0]
  }

  /** All experts of a layout, numbered from `first`; `size` is the dimension they work in. */
  experts(layout: ExpertLayout, numExperts: number, intermediateSize: number, size: number, first = 0): void {
    if (layout.kind === 'stackedRows') this.stackedExperts(layout, numExperts, intermediateSize, size)
    else if (layout.kind === 'fused') this.fusedExperts(layout, numExperts, intermediateSize, size, first)
    else {
      for (let e = 0; e < numExperts; e++) {
        const nameOf = (name: string) => name.replace('{e}', String(e))
        this.triple('expert', first + e, layout, nameOf, intermediateSize, size)
      }
    }
  }

  private fusedExperts(layout: Fused, numExperts: number, width: number, size: number, first: number): void {
    const { gateUp, major } = layout
    const add = (name: string, matrix: MatrixItem['matrix'], rows: number, cols: number, half?: 0 | 1) => {
      for (let e = 0; e < numExperts; e++)
        this.add('expert', first + e, matrix, rows, cols, this.fused(name, numExperts, major, e, half))
    }
    if (gateUp !== undefined) {
      if (this.hasPairedScales(gateUp, numExperts, layout)) {
        add(gateUp, 'gate', width, size, 0)
        add(gateUp, 'up', width, size, 1)
      } else add(gateUp, 'gateUp', 2 * width, size)
    } else {
      if (layout.gate !== undefined) add(layout.gate, 'gate', width, size)
      add(layout.up!, 'up', width, size)
    }
    add(layout.down, 'down', size, width)
  }

  /** Gate and up have one scale each, `[E, 2]`: the halves are read apart. */
  private hasPairedScales(name: string, numExperts: number, { major, interleaved }: Fused): boolean {
    if (major === 'input' || interleaved) return false
    const parts = this.fused(name, numExperts, major)
    const isPair = (part: string) => {
      const shape = parts.find(part)?.shape
      return shape?.length === 1 && shape[0] === 2
    }
    return ['weight_scale', 'weight_scale_2', 'weight_global_scale'].some(isPair)
  }

  /** DBRX: `[E * rows, cols]`, the slices of down as `[cols, rows]` below each other. */
  private stacked(name: string, matrix: 'gate' | 'up' | 'down', numExperts: number, expert = 0): MatrixParts {
    const slice = { expert, numExperts, stacked: true }
    return MatrixParts.fused(this.tensors, this.nameOf(name), slice, matrix === 'down' ? 'input' : 'output')
  }

  private stackedExperts(
    layout: Extract<ExpertLayout, { kind: 'stackedRows' }>,
    numExperts: number,
    width: number,
    size: number,
  ): void {
    for (const matrix of ['gate', 'up', 'down'] as const) {
      const [rows, cols] = matrix === 'down' ? [size, width] : [width, size]
      for (let expert = 0; expert < numExperts; expert++) {
        const parts = this.stacked(layout[matrix], matrix, numExperts, expert)
        this.add('expert', expert, matrix, rows, cols, parts)
      }
    }
  }

  private triple(
    role: 'expert' | 'shared',
    expert: number,
    names: { gate?: string; up?: string; down: string },
    nameOf: NameOf,
    width: number,
    size: number,
  ): void {
    for (const matrix of ['gate', 'up', 'down'] as const) {
      const name = names[matrix]
      if (name === undefined) continue
      const [rows, cols] = matrix === 'down' ? [size, width] : [width, size]
      this.add(role, expert, matrix, rows, cols, this.linear(nameOf(name)))
    }
  }

  /** The first of a family's shared layouts whose tensors are there, whatever its config says. */
  chooseShared(layouts: readonly SharedLayout[]): SharedLayout | undefined {
    return layouts.find(layout =>
      [layout.gateUp ?? layout.up!, layout.down].every(name => this.reader.has(this.linear(name))),
    )
  }

  /** The shared MLP; returns its width. */
  shared(layout: SharedLayout, hiddenSize: number): number {
    if (layout.gateUp === undefined) {
      const [width] = this.reader.size(this.linear(layout.up!))
      this.triple('shared', 0, layout, name => name, width, hiddenSize)
      return width
    }
    const gateUp = this.linear(layout.gateUp)
    const [rows] = this.reader.size(gateUp)
    const width = this.half(rows, this.nameOf(layout.gateUp))
    this.add('shared', 0, 'gateUp', rows, hiddenSize, gateUp)
    this.add('shared', 0, 'down', hiddenSize, width, this.linear(layout.down))
    return width
  }

  /** The projections into and out of the dimension in which the experts work. */
  latent(names: { down: string; up: string }, latentSize: number, hiddenSize: number): void {
    this.add('latent', 0, 'down', latentSize, hiddenSize, this.linear(names.down))
    this.add('latent', 0, 'up', hiddenSize, latentSize, this.linear(names.up))
  }

  /** A matrix that is read with the small tensors: a router. */
  small(name: string, rows: number, cols: number): EncodedSource {
    return this.reader.read(this.linear(name), rows, cols)
  }

  /** Whether a linear is there, in whichever form. */
  hasLinear(name: string): boolean {
    return this.reader.has(this.linear(name))
  }
}

/** True where an optional part of a row applies. */
export function applies(
  condition: ((config: ConfigReader, layer: number) => boolean) | undefined,
  config: ConfigReader,
  layer: number,
): boolean {
  return condition === undefined || condition(config, layer)
}
