/**
 * y = x Wᵀ on typed arrays, sums in double precision.
 *
 * Blocks of two tokens and four outputs: six loads feed eight products, and eight independent sums hide the latency of the addition,
 * which a single one would wait for. A last odd token and the last outputs go one by one.
 */

/**
 * @param x `[numTokens, inSize]`
 * @param weight `[outSize, inSize]`, as checkpoints store it
 * @returns `[numTokens, outSize]`
 */
export function linear(x: Float32Array, weight: Float32Array, inSize: number, outSize: number): Float32Array {
  const numTokens = x.length / inSize
  const y = new Float32Array(numTokens * outSize)
  const pairs = numTokens - (numTokens % 2)
  for (let token = 0; token < pairs; token += 2) twoRows(x, weight, inSize, outSize, token, y)
  if (pairs < numTokens) oneRow(x, weight, inSize, outSize, pairs, y)
  return y
}

function twoRows(
  x: Float32Array,
  weight: Float32Array,
  inSize: number,
  outSize: number,
  token: number,
  y: Float32Array,
): void {
  const x0 = token * inSize
  const x1 = x0 + inSize
  const y0 = token * outSize
  const y1 = y0 + outSize
  const whole = outSize - (outSize % 4)
  for (let o = 0; o < whole; o += 4) {
    const w0 = o * inSize
    const w1 = w0 + inSize
    const w2 = w1 + inSize
    const w3 = w2 + inSize
    let [a0, a1, a2, a3, b0, b1, b2, b3] = [0, 0, 0, 0, 0, 0, 0, 0]
    for (let i = 0; i < inSize; i++) {
      const a = x[x0 + i]!
      const b = x[x1 + i]!
      const v0 = weight[w0 + i]!
      const v1 = weight[w1 + i]!
      const v2 = weight[w2 + i]!
      const v3 = weight[w3 + i]!
      a0 += a * v0
      a1 += a * v1
      a2 += a * v2
      a3 += a * v3
      b0 += b * v0
      b1 += b * v1
      b2 += b * v2
      b3 += b * v3
    }
    y[y0 + o] = a0
    y[y0 + o + 1] = a1
    y[y0 + o + 2] = a2
    y[y0 + o + 3] = a3
    y[y1 + o] = b0
    y[y1 + o + 1] = b1
    y[y1 + o + 2] = b2
    y[y1 + o + 3] = b3
  }
  for (let o = whole; o < outSize; o++) {
    y[y0 + o] = dot(x, x0, weight, o * inSize, inSize)
    y[y1 + o] = dot(x, x1, weight, o * inSize, inSize)
  }
}

function oneRow(
  x: Float32Array,
  weight: Float32Array,
  inSize: number,
  outSize: number,
  token: number,
  y: Float32Array,
): void {
  const row = token * inSize
  const out = token * outSize
  const whole = outSize - (outSize % 4)
  for (let o = 0; o < whole; o += 4) {
    const w0 = o * inSize
    const w1 = w0 + inSize
    const w2 = w1 + inSize
    const w3 = w2 + inSize
    let [sum0, sum1, sum2, sum3] = [0, 0, 0, 0]
    for (let i = 0; i < inSize; i++) {
      const value = x[row + i]!
      sum0 += value * weight[w0 + i]!
      sum1 += value * weight[w1 + i]!
      sum2 += value * weight[w2 + i]!
      sum3 += value * weight[w3 + i]!
    }
    y[out + o] = sum0
    y[out + o + 1] = sum1
    y[out + o + 2] = sum2
    y[out + o + 3] = sum3
  }
  for (let o = whole; o < outSize; o++) y[out + o] = dot(x, row, weight, o * inSize, inSize)
}

function dot(a: Float32Array, aAt: number, b: Float32Array, bAt: number, size: number): number {
  let sum = 0
  for (let i = 0; i < size; i++) sum += a[aAt + i]! * b[bAt + i]!
  return sum
}
