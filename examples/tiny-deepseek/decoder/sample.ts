/** Draws the next token from logits: temperature, then the nucleus of probability `topP`, then one draw. */

export interface SamplingOptions {
  /** Divides the logits; 0 takes the likeliest token. */
  temperature: number
  /** In (0, 1]: the fewest likeliest tokens whose probabilities reach it are drawn from. */
  topP: number
}

/** @throws RangeError for a temperature below 0, or a `topP` outside of (0, 1] */
export function checkSampling({ temperature, topP }: SamplingOptions): void {
  if (!(temperature >= 0 && temperature < Number.POSITIVE_INFINITY))
    throw new RangeError(`temperature is ${temperature}; it must be a number from 0 on`)
  if (!(topP > 0 && topP <= 1)) throw new RangeError(`topP is ${topP}; it must be in (0, 1]`)
}

/** Probabilities of `logits`, in double precision. */
export function softmax(logits: ArrayLike<number>, temperature = 1): Float64Array {
  const p = Float64Array.from(logits, logit => logit / temperature)
  const max = p.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)
  let sum = 0
  for (let i = 0; i < p.length; i++) sum += p[i] = Math.exp(p[i]! - max)
  for (let i = 0; i < p.length; i++) p[i]! /= sum
  return p
}

/** Ids by falling logit, ties to the lower id. */
function byLogit(logits: ArrayLike<number>): number[] {
  return Array.from({ length: logits.length }, (_, id) => id).sort((a, b) => logits[b]! - logits[a]! || a - b)
}

/**
 * @param uniform numbers in [0, 1); one is used, none at temperature 0
 * @throws RangeError for options out of range; Error where a logit is not finite
 */
export function sampleToken(
  logits: ArrayLike<number>,
  options: SamplingOptions,
  uniform: () => number,
): number {
  checkSampling(options)
  for (let id = 0; id < logits.length; id++)
    if (!Number.isFinite(logits[id]!)) throw new Error(`the logit of token ${id} is ${logits[id]}`)
  const order = byLogit(logits)
  if (options.temperature === 0) return order[0]!
  const p = softmax(logits, options.temperature)
  let count = 0
  let mass = 0
  while (count < order.length && (count === 0 || mass < options.topP)) mass += p[order[count++]!]!
  let rest = uniform() * mass
  for (let i = 0; i < count; i++) {
    rest -= p[order[i]!]!
    if (rest < 0) return order[i]!
  }
  // Rounding may leave a hair of the last one.
  return order[count - 1]!
}
