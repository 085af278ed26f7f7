/** Fuzz targets of a checkpoint's files: config.json, the index, headers. A case is a golden checkpoint of which one file is damaged. */

import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import fc from 'fast-check'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import { ERROR_CODES, MoeLayer } from '../../lib/index.js'
import { goldenCases } from '../golden/cases.js'
import { type Mutation, mutate, mutations } from './mutations.js'

const CONFIG = 'config.json'
const INDEX = 'model.safetensors.index.json'
const LENGTH_BYTES = 8
/** By name. */
const CHECKPOINTS = new Map(goldenCases().map(golden => [golden.name, golden]))
/** Weights of a golden checkpoint are some thousand; one that is damaged may ask for more than is worth waiting for. */
const MAX_LOADED_BYTES = 2 ** 24

export const TARGETS = ['config', 'index', 'header'] as const
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
      steps: mutations,
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

  /** {@link outcomeOf} the checkpoint as the case has it. */
  async outcome(damage: FileCase): Promise<string> {
    const directory = path.join(this.#root, damage.checkpoint)
    if (!this.#copied.has(directory)) {
      cpSync(CHECKPOINTS.get(damage.checkpoint)!.directory, directory, { recursive: true })
      this.#copied.add(directory)
    }
    const file = path.join(directory, damage.file)
    const whole = readFileSync(file)
    try {
      writeFileSync(file, damaged(whole, damage))
      return await outcomeOf(directory, damage.device)
    } finally {
      writeFileSync(file, whole)
    }
  }

  remove(): void {
    rmSync(this.#root, { recursive: true, force: true })
  }
}

/** How a case ended: 'loaded', 'planned' where it was too large to load, or the code of the error. Throws where an error has none. */
async function outcomeOf(directory: string, device: 'auto' | 'reference'): Promise<string> {
  const { layer: index, tokenIds, routerInput } = CHECKPOINTS.get(path.basename(directory))!.expected
  try {
    const { totalBytes, config } = await planLayer(directory, { layer: index })
    if (totalBytes > MAX_LOADED_BYTES || config.hiddenSize > MAX_LOADED_BYTES) return 'planned'
    using layer = await MoeLayer.load(directory, { layer: index, device })
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
