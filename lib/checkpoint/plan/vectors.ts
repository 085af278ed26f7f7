/** Plans the small tensors of a layer: router, biases, scales, gates. */

import type { ResolvedMoeConfig } from '../../block/config.js'
import { MoeError } from '../../block/errors.js'
import type { ConfigReader } from '../../families/parts/config-reader.js'
import type { ExpertLayout, NamedTensor, Naming, SharedLayout } from '../../families/parts/family.js'
import { FLOAT_TYPES } from '../../spec/formats.js'
import type { VectorName } from '../../spec/vectors.js'
import type { Segment } from '../segment.js'
import type { TensorLookup } from '../tensor-lookup.js'
import { partsOf, type VectorItem } from './layer-plan.js'
import { applies, type MatrixPlanner, type NameOf } from './matrices.js'

/** Far above the scores of routed experts, and small enough that steps of 16 are exact in f32. */
const CONSTANT_BIAS = 2 ** 16

/** Collects {@link VectorItem}s. */
export class VectorPlanner {
  readonly items: VectorItem[] = []
  private readonly tensors: TensorLookup
  private readonly nameOf: NameOf
  private readonly config: ConfigReader
  private readonly layer: number

  constructor(tensors: TensorLookup, nameOf: NameOf, config: ConfigReader, layer: number) {
    this.tensors = tensors
    this.nameOf = nameOf
    this.config = config
    this.layer = layer
  }

  private add(
    target: VectorName,
    length: number,
    sources: Segment[],
    step: 1 | 2 = 1,
    start: 0 | 1 = 0,
  ): void {
    this.items.push({ target, step, start, length, sources })
  }

  /** One float tensor of `length` elements. */
  private vector(target: VectorName, names: readonly string[], length: number): void {
    const tensor = this.tensors.require(...names.map(this.nameOf))
    this.tensors.expectVector(tensor, FLOAT_TYPES, length)
    this.tensors.vectors.add(tensor.name)
    this.add(target, length, [this.tensors.segment(tensor)])
  }

  private optional(target: VectorName, tensor: NamedTensor | undefined, length: number): void {
    if (tensor && applies(tensor.when, this.config, this.layer)) this.vector(target, tensor.names, length)
  }

  /** @param numConstant of the router's outputs, the last ones: experts that every token uses */
  router(
    router: Naming['router'],
    moe: ResolvedMoeConfig,
    matrices: MatrixPlanner,
    numConstant: number,
  ): void {
    const { hiddenSize, topK } = moe
    const numOutputs = moe.numExperts + moe.numIdentityExperts
    // Before the weights: llama.cpp's names for them are those of scales beside the weights.
    this.optional('perExpertScale', router.perExpertScale, numOutputs)
    this.optional('routerInputScale', router.inputScale, hiddenSize)
    this.routerWeight(router.weight, numOutputs, hiddenSize, matrices)
    this.optional('routerBias', router.bias, numOutputs)
    this.selectionBias(router.selectionBias, numOutputs, numConstant)
    this.commonScale(router.commonScale, numOutputs)
    const { hashTable } = router
    if (hashTable && applies(hashTable.when, this.config, this.layer)) {
      const table = this.tensors.require(...hashTable.names.map(this.nameOf))
      this.tensors.expect(table, ['I64', 'I32'], [table.shape[0] ?? 0, topK])
      this.add('hashTable', table.shape[0]! * topK, [this.tensors.segment(table)])
    }
  }

  /** Constant experts are selected before all others by a bias that no score comes near, in the order of their numbers. */
  private selectionBias(tensor: NamedTensor | undefined, numOutputs: number, numConstant: number): void {
    const target = 'selectionBias'
    this.optional(target, tensor, numOutputs - numConstant)
    if (numConstant === 0) return
    const tail = Array.from({ length: numConstant }, (_, i) => CONSTANT_BIAS - 16 * i)
    const item = this.items.at(-1)
    if (item?.target === target) Object.assign(item, { length: numOutputs, tail })
    else throw new MoeError('ERR_MOE_INTERNAL', 'constant experts need a selection bias')
  }

  private commonScale(tensor: NamedTensor | undefined, numOutputs: number): void {
    if (!tensor) return
    this.vector('perExpertScale', tensor.names, 1)
    Object.assign(this.items.at(-1)!, { length: numOutputs, made: 'repeated' })
  }

  /** Routers are rarely quantised; one that is, is decoded with the small tensors. */
  private routerWeight(names: readonly string[], rows: number, cols: number, matrices: MatrixPlanner): void {
    const stems = names.map(name => name.replace(/\.weight$/, ''))
    const stem = stems.find(name => matrices.hasLinear(name))
    if (stem === undefined) throw this.tensors.missing(names.map(this.nameOf))
    const source = matrices.small(stem, rows, cols)
    const length = rows * cols
    if (source.encoding.codec === 'float' && partsOf(source).length === 1) {
      this.add('routerWeight', length, [source.data])
      return
    }
    const sources = partsOf(source).map(([, segment]) => segment)
    this.items.push({
      target: 'routerWeight',
      step: 1,
      start: 0,
      length,
      sources,
      encoded: { ...source, rows, cols },
    })
  }

  outputBias(tensor: NamedTensor | undefined, hiddenSize: number): void {
    this.optional('outputBias', tensor, hiddenSize)
  }

  /** The norm of the sum over the experts. */
  latentNorm(name: string, latentSize: number): void {
    this.vector('latentNorm', [`${name}.weight`], latentSize)
  }

  private sharedGate(layout: SharedLayout, hiddenSize: number): void {
    if (layout.weight?.mode === 'softmax') {
      const part = (target: VectorName, names: readonly string[], shape: number[], length: number) => {
        const tensor = this.tensors.require(...names.map(this.nameOf))
        this.tensors.expect(tensor, FLOAT_TYPES, shape)
        const sources = [this.tensors.segment(tensor)]
        this.items.push({ target, step: 1, start: 0, length: 2 * length, sources, made: 'difference' })
      }
      const { names } = layout.weight
      part('sharedGate', names, [2, hiddenSize], hiddenSize)
      part(
        'sharedLogitBias',
        names.map(name => name.replace(/weight$/, 'bias')),
        [2],
        1,
      )
    } else if (layout.weight) {
      this.vector('sharedGate', layout.weight.names, hiddenSize)
    } else if (layout.averaged?.(this.config, this.layer)) {
      // The sigmoid of 0.
      this.items.push({
        target: 'sharedGate',
        step: 1,
        start: 0,
        length: hiddenSize,
        sources: [],
        made: 'zeros',
      })
    }
  }

  shared(layout: SharedLayout, width: number, hiddenSize: number): void {
    this.sharedGate(layout, hiddenSize)
    if (!layout.bias?.(this.config, this.layer)) return
    if (layout.gate) this.vector('sharedGateBias', [`${layout.gate}.bias`], width)
    if (layout.up) this.vector('sharedUpBias', [`${layout.up}.bias`], width)
    this.vector('sharedDownBias', [`${layout.down}.bias`], hiddenSize)
  }

  /** The bias of a tensor that holds all experts: beside it, or in the place of its weight. */
  private biasNames(name: string): string[] {
    const full = this.nameOf(name)
    return full.endsWith('.weight') ? [full.replace(/weight$/, 'bias'), `${full}_bias`] : [`${full}_bias`]
  }

  /** Biases of the experts, halves apart. */
  experts(layout: ExpertLayout, numExperts: number, width: number, size: number): void {
    if (layout.kind === 'stackedRows' || !layout.bias?.(this.config, this.layer)) return
    if (layout.kind === 'perExpert') {
      const gather = (target: VectorName, stem: string | undefined, length: number) => {
        if (stem === undefined) return
        const sources = Array.from({ length: numExperts }, (_, e) => {
          const tensor = this.tensors.require(`${this.nameOf(stem.replace('{e}', String(e)))}.bias`)
          return this.tensors.segment(this.tensors.expectVector(tensor, FLOAT_TYPES, length))
        })
        this.add(target, numExperts * length, sources)
      }
      gather('gateBias', layout.gate, width)
      gather('upBias', layout.up, width)
      gather('downBias', layout.down, size)
      return
    }
    const down = this.tensors.require(...this.biasNames(layout.down))
    if (layout.gateUp === undefined) {
      const whole = (target: VectorName, name: string | undefined) => {
        if (name === undefined) return
        const bias = this.tensors.require(...this.biasNames(name))
        this.tensors.expect(bias, FLOAT_TYPES, [numExperts, width])
        this.add(target, numExperts * width, [this.tensors.segment(bias)])
      }
      this.tensors.expect(down, FLOAT_TYPES, [numExperts, size])
      whole('gateBias', layout.gate)
      whole('upBias', layout.up)
      this.add('downBias', numExperts * size, [this.tensors.segment(down)])
      return
    }
    const gateUp = this.tensors.require(...this.biasNames(layout.gateUp))
    this.tensors.expect(gateUp, FLOAT_TYPES, [numExperts, 2 * width])
    this.tensors.expect(down, FLOAT_TYPES, [numExperts, size])
    if (layout.interleaved) {
      this.add('gateBias', numExperts * width, [this.tensors.segment(gateUp)], 2, 0)
      this.add('upBias', numExperts * width, [this.tensors.segment(gateUp)], 2, 1)
    } else {
      const halves = (half: 0 | 1) =>
        Array.from({ length: numExperts }, (_, e) =>
          this.tensors.segment(gateUp, 2 * e + half, 2 * numExperts),
        )
      this.add('gateBias', numExperts * width, halves(0))
      this.add('upBias', numExperts * width, halves(1))
    }
    this.add('downBias', numExperts * size, [this.tensors.segment(down)])
  }
}
