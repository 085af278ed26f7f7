/** A seeded generator, so that every run of a test sees the same numbers. */

/** xoshiro128** (Blackman & Vigna), its state filled by splitmix32. */
export class Random {
  readonly #state = new Uint32Array(4)

  constructor(seed: number) {
    let s = seed >>> 0
    for (let i = 0; i < 4; i++) {
      s = (s + 0x9e3779b9) >>> 0
      let z = s
      z = Math.imul(z ^ (z >>> 16), 0x85ebca6b)
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35)
      this.#state[i] = z ^ (z >>> 16)
    }
  }

  /** 32 random bits, unsigned. */
  bits(): number {
    const s = this.#state
    const product = Math.imul(s[1]!, 5)
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0
    const shifted = s[1]! << 9
    s[2]! ^= s[0]!
    s[3]! ^= s[1]!
    s[1]! ^= s[2]!
    s[0]! ^= s[3]!
    s[2]! ^= shifted
    s[3] = (s[3]! << 11) | (s[3]! >>> 21)
    return result
  }

  /** In [0, 1). */
  uniform(): number {
    return this.bits() / 2 ** 32
  }

  /** In 0 … limit − 1. */
  integer(limit: number): number {
    return Math.floor(this.uniform() * limit)
  }

  /** Mean 0, standard deviation 1. */
  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform())
  }

  /** An array of normal numbers times `scale`. */
  normals(length: number, scale = 1): Float32Array {
    // `from` with a function takes twice as long.
    const values = new Float32Array(length)
    for (let i = 0; i < length; i++) values[i] = this.normal() * scale
    return values
  }

  /** 0 … length − 1 in random order. */
  permutation(length: number): number[] {
    const order = Array.from({ length }, (_, i) => i)
    for (let i = length - 1; i > 0; i--) {
      const j = this.integer(i + 1)
      ;[order[i], order[j]] = [order[j]!, order[i]!]
    }
    return order
  }
}
