/**
 * Which experts a layer will need, told from those that the layer before it has just needed: the oracle of csrc/engine/expert_affinity.h, whose
 * head says how. It keeps the pairs in a map, where the engine has a table.
 */

/** Pairs of two experts at which those of the two layers are halved. */
const MOST_PAIRS = 65_535

/** What calls one after another have shown. */
export class ExpertAffinity {
  readonly #numExperts: readonly number[]
  /** Of each layer: how often an expert of the layer before it (key: 'before,expert') was followed by this one. */
  readonly #pairs: Map<string, number>[]
  #last: { layer: number; experts: readonly number[] } | null = null

  /** @param numExperts of each layer, in the order in which they run */
  constructor(numExperts: readonly number[]) {
    this.#numExperts = numExperts
    this.#pairs = numExperts.map(() => new Map())
  }

  /** The experts of the next layer that are expected after a call of the layer that needs these: the likeliest first. */
  saw(layer: number, experts: readonly number[]): number[] {
    if (this.#last?.layer === layer - 1) this.#count(layer, this.#last.experts, experts)
    this.#last = { layer, experts }
    const pairs = this.#pairs[layer + 1]
    if (!pairs) return []
    const sum = (expert: number) =>
      experts.reduce((total, before) => total + (pairs.get(`${before},${expert}`) ?? 0), 0)
    const next = Array.from({ length: this.#numExperts[layer + 1]! }, (_, expert) => expert)
    return next.filter(expert => sum(expert) > 0).sort((a, b) => sum(b) - sum(a) || a - b)
  }

  /** A call that says nothing of the next. */
  pause(): void {
    this.#last = null
  }

  #count(layer: number, before: readonly number[], experts: readonly number[]): void {
    const pairs = this.#pairs[layer]!
    const touched = before.flatMap(from => experts.map(to => `${from},${to}`))
    for (const pair of touched) pairs.set(pair, (pairs.get(pair) ?? 0) + 1)
    if (touched.some(pair => pairs.get(pair) === MOST_PAIRS))
      for (const [pair, count] of pairs) pairs.set(pair, Math.floor(count / 2))
  }
}
