/** Where the model, its held-out text and what was recorded of it lie. */

import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'

const at = (name: string) => fileURLToPath(new URL(name, import.meta.url))

/** `config.json` and `model.safetensors`. */
export const MODEL_DIRECTORY = at('model')
/** Figures and pictures, each written by a command. */
export const RESULTS_DIRECTORY = at('results')
export const README_FILE = at('README.md')
export const TRACE_DIRECTORY = at('traces/heldout')

/** The text that training never saw. */
export async function readHeldOut(): Promise<Uint8Array> {
  return readFile(at('data/heldout.bin'))
}
