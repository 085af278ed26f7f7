/** RMSNorm: each row divided by its root mean square, then scaled element by element. */

/**
 * @param x `[numTokens, size]`, left alone
 * @param weight `[size]`
 */
export function rmsNorm(x: Float32Array, weight: Float32Array, eps: number): Float32Array {
  const size = weight.length
  const y = new Float32Array(x.length)
  for (let row = 0; row < x.length; row += size) {
    let sum = 0
    for (let i = 0; i < size; i++) sum += x[row + i]! * x[row + i]!
    const scale = 1 / Math.sqrt(sum / size + eps)
    for (let i = 0; i < size; i++) y[row + i] = x[row + i]! * scale * weight[i]!
  }
  return y
}
