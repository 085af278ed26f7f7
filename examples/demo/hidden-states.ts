/**
 * Turns text into hidden states without a model, deterministically, so that like words in like company get like vectors:
 * 1. words and punctuation marks are the tokens;
 * 2. a token's embedding is the sum of pseudo-random vectors, one for the whole token (weight 2) and one for each byte trigram of `<token>`;
 * 3. four times, each row takes on a part of the row before it: what attention and earlier layers do, in caricature;
 * 4. each row is normalised to a root mean square of 1, as by the norm in front of an MoE block.
 */

const MIXING_STEPS = 4
const MIXING_WEIGHT = 0.25

/** Words and punctuation marks, in order. */
export function tokenize(text: string): string[] {
  return text.match(/[\p{L}\p{N}]+(?:['’-][\p{L}\p{N}]+)*|[^\s\p{L}\p{N}]/gu) ?? []
}

/** FNV-1a over bytes. */
function hashBytes(bytes: Uint8Array, salt: number): number {
  let hash = 0x811c9dc5 ^ salt
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193)
  return hash
}

/** Adds a pseudo-random vector of ±weight that belongs to `seed`. */
function addSigns(row: Float32Array, seed: number, weight: number): void {
  let state = seed || 1
  for (let i = 0; i < row.length; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    row[i]! += state & 1 ? weight : -weight
  }
}

function normalize(row: Float32Array): void {
  let sum = 0
  for (const value of row) sum += value * value
  const scale = Math.sqrt(row.length / sum)
  for (let i = 0; i < row.length; i++) row[i]! *= scale
}

/** `[tokens.length, hiddenSize]` */
export function hiddenStatesOf(tokens: readonly string[], hiddenSize: number): Float32Array {
  const states = new Float32Array(tokens.length * hiddenSize)
  const rowOf = (token: number) => states.subarray(token * hiddenSize, (token + 1) * hiddenSize)
  const known = new Map<string, number>()
  tokens.forEach((token, index) => {
    const word = token.toLowerCase()
    const row = rowOf(index)
    const same = known.get(word)
    if (same !== undefined) {
      row.set(rowOf(same))
      return
    }
    known.set(word, index)
    const bytes = new TextEncoder().encode(`<${word}>`)
    addSigns(row, hashBytes(bytes, 1), 2)
    for (let i = 0; i + 3 <= bytes.length; i++) addSigns(row, hashBytes(bytes.subarray(i, i + 3), 2), 1)
    normalize(row)
  })
  for (let step = 0; step < MIXING_STEPS; step++) {
    for (let token = tokens.length - 1; token > 0; token--) {
      const row = rowOf(token)
      const before = rowOf(token - 1)
      for (let i = 0; i < hiddenSize; i++) row[i]! += MIXING_WEIGHT * before[i]!
    }
  }
  for (let token = 0; token < tokens.length; token++) normalize(rowOf(token))
  return states
}
