/**
 * Fuzz targets of a checkpoint's files: config.json, the index, headers, and headers of GGUF files. A case is a golden checkpoint of which
 * one file is damaged.
 */

import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import fc from 'fast-check'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import { ERROR_CODES, MoeLayer } from '../../lib/index.js'
import { type GoldenCase, goldenCases } from '../golden/cases.js'
import { GGUF_CASES } from '../golden/gguf-cases.js'
import { ggufOf } from '../golden/gguf-layer.js'
import { ggufBytes } from '../helpers/gguf-writer.js'
import { binaryMutations, type Mutation, mutate, mutations } from './mutations.js'

const CONFIG = 'config.json'
const INDEX = 'model.safetensors.index.json'
const GGUF = 'model.gguf'
const LENGTH_BYTES = 8
/** By name. */
const CHECKPOINTS = new Map(goldenCases().map(golden => [golden.name, golden]))
/** Weights of a golden checkpoint are some thousand; one that is damaged may ask for more than is worth waiting for. */
const MAX_LOADED_BYTES = 2 ** 24

export const TARGETS = ['config', 'index', 'header', 'gguf'] as const
export type Target = (typeof TARGETS)[number]

/** One damaged checkpoint. */
export interface FileCase {
  /** Of test/golden/cases. */
  checkpoint: string
  /** Of its files. */
  file: string
  steps: Mutation[]
  /** Of a header: the length before it is that of the damaged text, as it otherwise never gets further than that. */
  keepsLength: boolean
  /** That it is loaded on. */
  device: 'auto' | 'reference'
}

const isShard = (name: string) => name.endsWith('.safetensors')

/** The files that a target damages, with their checkpoints. */
function filesOf(target: Target): Pick<FileCase, 'checkpoint' | 'file'>[] {
  if (target === 'gguf') return GGUF_CASES.map(({ golden: checkpoint }) => ({ checkpoint, file: GGUF }))
  return [...CHECKPOINTS.values()].flatMap(({ name: checkpoint, directory }) => {
    const names = readdirSync(directory)
    const wanted = {
      config: (name: string) => name === CONFIG,
      index: (name: string) => name === INDEX,
      header: isShard,
    }
    return names.filter(wanted[target]).map(file => ({ checkpoint, file }))
  })
}

export function fileCases(target: Target): fc.Arbitrary<FileCase> {
  return fc
    .record({
      of: fc.constantFrom(...filesOf(target)),
      steps: target === 'gguf' ? binaryMutations : mutations,
      keepsLength: fc.boolean(),
      device: fc.constantFrom('auto', 'reference'),
    })
    .map(({ of, ...rest }) => ({ ...of, ...rest }))
}

function damaged(bytes: Buffer, { file, steps, keepsLength }: FileCase): Buffer {
  if (!isShard(file)) return mutate(bytes, steps)
  const begin = keepsLength ? LENGTH_BYTES : 0
  const end = LENGTH_BYTES + Number(bytes.readBigUInt64LE(0))
  const header = mutate(bytes.subarray(begin, end), steps)
  const data = bytes.subarray(end)
  if (!keepsLength) return Buffer.concat([header, data])
  const length = Buffer.alloc(LENGTH_BYTES)
  length.writeBigUInt64LE(BigInt(header.byteLength))
  return Buffer.concat([length, header, data])
}

/** Golden checkpoints in a directory of their own, one of them with a damaged file. */
export class DamagedCheckpoints {
  readonly #root = mkdtempSync(path.join(tmpdir(), 'sparse-experts-hostile-'))
  readonly #copied = new Set<string>()
  /** By name; the header ends where the tensors begin. */
  readonly #gguf = new Map<string, { bytes: Buffer; headerBytes: number }>()

  /** {@link outcomeOf} the checkpoint as the case has it. */
  async outcome(damage: FileCase): Promise<string> {
    const golden = CHECKPOINTS.get(damage.checkpoint)!
    if (damage.file === GGUF) return this.#ggufOutcome(golden, damage)
    const directory = path.join(this.#root, damage.checkpoint)
    if (!this.#copied.has(directory)) {
      cpSync(golden.directory, directory, { recursive: true })
      this.#copied.add(directory)
    }
    const file = path.join(directory, damage.file)
    const whole = readFileSync(file)
    try {
      writeFileSync(file, damaged(whole, damage))
      return await outcomeOf(directory, golden, damage.device)
    } finally {
      writeFileSync(file, whole)
    }
  }

  /** The header alone is damaged: its tensors lie behind it, as they did or elsewhere. */
  async #ggufOutcome(golden: GoldenCase, { steps, device }: FileCase): Promise<string> {
    if (!this.#gguf.has(golden.name)) {
      const ggufCase = GGUF_CASES.find(candidate => candidate.golden === golden.name)!
      const { file } = await ggufOf(golden, ggufCase)
      const header = ggufBytes({
        ...file,
        tensors: file.tensors?.map(tensor => ({ ...tensor, data: new Uint8Array() })),
      })
      this.#gguf.set(golden.name, { bytes: Buffer.from(ggufBytes(file)), headerBytes: header.byteLength })
    }
    const { bytes, headerBytes } = this.#gguf.get(golden.name)!
    const file = path.join(this.#root, `${golden.name}.gguf`)
    const header = mutate(bytes.subarray(0, headerBytes), steps)
    writeFileSync(file, Buffer.concat([header, bytes.subarray(headerBytes)]))
    return outcomeOf(file, golden, device)
  }

  remove(): void {
    rmSync(this.#root, { recursive: true, force: true })
  }
}

/** How a case ended: 'loaded', 'planned' where it was too large to load, or the code of the error. Throws where an error has none. */
async function outcomeOf(
  source: string,
  { expected }: GoldenCase,
  device: 'auto' | 'reference',
): Promise<string> {
  const { layer: index, tokenIds, routerInput } = expected
  try {
    const { totalBytes, config } = await planLayer(source, { layer: index })
    if (totalBytes > MAX_LOADED_BYTES || config.hiddenSize > MAX_LOADED_BYTES) return 'planned'
    using layer = await MoeLayer.load(source, { layer: index, device })
    const hidden = new Float32Array(config.hiddenSize).fill(0.5)
    await layer.forward(hidden, {
      ...(tokenIds && { tokenIds: Int32Array.of(tokenIds[0]!) }),
      ...(routerInput && { routerInput: hidden }),
    })
    return 'loaded'
  } catch (error) {
    const code = (error as { code?: string } | null)?.code ?? ''
    if (Object.hasOwn(ERROR_CODES, code) && code !== 'ERR_MOE_INTERNAL') return code
    throw error
  }
}
