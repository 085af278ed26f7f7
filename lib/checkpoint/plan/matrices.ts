/** Plans the matrices of a layer. Sizes that config.json does not name come from the tensors; every shape is checked. */

import { MoeError } from '../../block/errors.js'
import type { ConfigReader } from '../../families/parts/config-reader.js'
import type { ExpertLayout, SharedLayout } from '../../families/parts/family.js'
import type { TensorLookup } from '../tensor-lookup.js'
import { type EncodedSource, LinearReader } from './encoding.js'
import { FusedReader } from './encoding-fused.js'
import type { MatrixItem } from './layer-plan.js'
import type { Quantization } from './quantization.js'

/** Makes the full name of a tensor from its place in a row. */
export type NameOf = (name: string) => string

/** Where matrices come from. */
export class MatrixPlanner {
  readonly items: MatrixItem[] = []
  private readonly linear: LinearReader
  private readonly fused: FusedReader
  private readonly tensors: TensorLookup
  private readonly nameOf: NameOf

  constructor(tensors: TensorLookup, quantization: Quantization, nameOf: NameOf) {
    this.tensors = tensors
    this.nameOf = nameOf
    this.linear = new LinearReader(tensors, quantization)
    this.fused = new FusedReader(tensors, quantization)
  }

  private add(
    role: MatrixItem['role'],
    expert: number,
    matrix: MatrixItem['matrix'],
    rows: number,
    cols: number,
    source: EncodedSource,
  ): void {
    this.items.push({ role, expert, matrix, rows, cols, ...source })
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

  /** The first layout whose tensors are there. */
  chooseLayout(layouts: readonly ExpertLayout[]): ExpertLayout {
    const anchors: string[] = []
    for (const layout of layouts) {
      const anchor = this.nameOf((layout.kind === 'fused' ? layout.gateUp : layout.up).replace('{e}', '0'))
      anchors.push(layout.kind === 'perExpert' ? `${anchor}.weight` : anchor)
      const there =
        layout.kind === 'perExpert'
          ? this.linear.has(anchor)
          : layout.kind === 'fused'
            ? this.fused.has(anchor)
            : this.tensors.has(anchor)
      if (there) return layout
    }
    throw this.tensors.missing(anchors)
  }

  /** Intermediate size of the experts. */
  intermediateSize(layout: ExpertLayout, numExperts: number): number {
    if (layout.kind === 'perExpert') return this.linear.numRows(this.nameOf(layout.up.replace('{e}', '0')))
    if (layout.kind === 'fused') {
      const name = this.nameOf(layout.gateUp)
      return this.half(this.fused.numRows(name, layout.major), name)
    }
    const tensor = this.tensors.require(this.nameOf(layout.up))
    const rows = tensor.shape[0] ?? 0
    if (tensor.shape.length !== 2 || rows % numExperts !== 0) {
      throw this.tensors.mismatch(tensor, `[${numExperts} * intermediateSize, hiddenSize]`)
    }
    return rows / numExperts
  }

  /** All experts; `size` is the dimension they work in. */
  experts(layout: ExpertLayout, numExperts: number, intermediateSize: number, size: number): void {
    if (layout.kind === 'fused') {
      const gateUp = this.nameOf(layout.gateUp)
      const down = this.nameOf(layout.down)
      const rows = 2 * intermediateSize
      for (const [e, source] of this.fused.read(gateUp, numExperts, rows, size, layout.major).entries()) {
        this.add('expert', e, 'gateUp', rows, size, source)
      }
      for (const [e, source] of this.fused
        .read(down, numExperts, size, intermediateSize, layout.major)
        .entries()) {
        this.add('expert', e, 'down', size, intermediateSize, source)
      }
      return
    }
    if (layout.kind === 'stackedRows') {
      const part = (matrix: 'gate' | 'up' | 'down', rows: number, cols: number) => {
        const sources = this.fused.readRows(
          this.nameOf(layout[matrix]),
          numExperts,
          rows,
          cols,
          matrix === 'down',
        )
        for (const [e, source] of sources.entries()) this.add('expert', e, matrix, rows, cols, source)
      }
      part('gate', intermediateSize, size)
      part('up', intermediateSize, size)
      part('down', size, intermediateSize)
      return
    }
    for (let e = 0; e < numExperts; e++) {
      this.triple(
        'expert',
        e,
        layout,
        name => this.nameOf(name.replace('{e}', String(e))),
        intermediateSize,
        size,
      )
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
      this.add(role, expert, matrix, rows, cols, this.linear.read(nameOf(name), rows, cols))
    }
  }

  /** Whether the checkpoint has a shared MLP, whatever its config says. */
  hasShared(layout: SharedLayout): boolean {
    return this.linear.has(this.nameOf(layout.down))
  }

  /** The shared MLP; returns its width. */
  shared(layout: SharedLayout, hiddenSize: number): number {
    if (layout.gateUp === undefined) {
      const width = this.linear.numRows(this.nameOf(layout.up!))
      this.triple('shared', 0, layout, this.nameOf, width, hiddenSize)
      return width
    }
    const gateUp = this.nameOf(layout.gateUp)
    const rows = this.linear.numRows(gateUp)
    const width = this.half(rows, gateUp)
    this.add('shared', 0, 'gateUp', rows, hiddenSize, this.linear.read(gateUp, rows, hiddenSize))
    const down = this.nameOf(layout.down)
    this.add('shared', 0, 'down', hiddenSize, width, this.linear.read(down, hiddenSize, width))
    return width
  }

  /** The projections into and out of the dimension in which the experts work. */
  latent(names: { down: string; up: string }, latentSize: number, hiddenSize: number): void {
    const part = (matrix: 'down' | 'up', rows: number, cols: number) =>
      this.add('latent', 0, matrix, rows, cols, this.linear.read(this.nameOf(names[matrix]), rows, cols))
    part('down', latentSize, hiddenSize)
    part('up', hiddenSize, latentSize)
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
