/** Types of tensors that a GGUF file may name and that are not read, with the reason. */

const REMOVED = 'ggml has removed it'
const ACTIVATIONS = 'it is for activations, no model stores weights in it'
const TERNARY = 'a ternary type, which no published mixture of experts has'

const REFUSED: Readonly<Record<number, readonly [name: string, reason: string]>> = {
  4: ['Q4_2', REMOVED],
  5: ['Q4_3', REMOVED],
  9: ['Q8_1', ACTIVATIONS],
  15: ['Q8_K', ACTIVATIONS],
  31: ['Q4_0_4_4', `${REMOVED}: use a file in Q4_0`],
  32: ['Q4_0_4_8', `${REMOVED}: use a file in Q4_0`],
  33: ['Q4_0_8_8', `${REMOVED}: use a file in Q4_0`],
  34: ['TQ1_0', TERNARY],
  35: ['TQ2_0', TERNARY],
  36: ['IQ4_NL_4_4', `${REMOVED}: use a file in IQ4_NL`],
  37: ['IQ4_NL_4_8', `${REMOVED}: use a file in IQ4_NL`],
  38: ['IQ4_NL_8_8', `${REMOVED}: use a file in IQ4_NL`],
  41: ['Q1_0', TERNARY],
  42: ['Q2_0', 'forks of ggml use its number for types of their own'],
}

/** From here on are the numbers of ik_llama.cpp, a fork of llama.cpp. */
const FIRST_OF_FORK = 97

/** What to say of a type that is not read. */
export function refusedType(number: number): string {
  const refused = REFUSED[number]
  if (refused) return `is stored as ${refused[0]}, which is not read: ${refused[1]}`
  return number >= FIRST_OF_FORK
    ? `is stored as type ${number}, one of ik_llama.cpp's own: use a file that llama.cpp reads`
    : `is stored as type ${number}, which is unknown: the file is damaged, of a fork, or newer than this package`
}
