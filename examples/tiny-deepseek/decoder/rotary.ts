/** Rotary position embedding: interleaved pairs (2i, 2i + 1) turned by position · theta^(−2i / size), as DeepSeek publishes its weights. */

/** Turns vectors of one size, from a table of all positions. */
export class Rotary {
  readonly #cos: Float64Array
  readonly #sin: Float64Array
  readonly #pairs: number

  constructor(size: number, theta: number, maxPositions: number) {
    this.#pairs = size / 2
    const angle = (_: unknown, index: number) =>
      Math.floor(index / this.#pairs) * theta ** ((-2 * (index % this.#pairs)) / size)
    const angles = Float64Array.from({ length: maxPositions * this.#pairs }, angle)
    this.#cos = angles.map(Math.cos)
    this.#sin = angles.map(Math.sin)
  }

  /** Turns the vector that begins at `offset`, in place. */
  turn(values: Float32Array, offset: number, position: number): void {
    for (let pair = 0; pair < this.#pairs; pair++) {
      const cos = this.#cos[position * this.#pairs + pair]!
      const sin = this.#sin[position * this.#pairs + pair]!
      const at = offset + 2 * pair
      const [a, b] = [values[at]!, values[at + 1]!]
      values[at] = a * cos - b * sin
      values[at + 1] = a * sin + b * cos
    }
  }
}
