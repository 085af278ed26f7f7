/** Golden checkpoints written anew under other names, with experts fused or one by one: same numbers, so the same expected values. */

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect } from 'vitest'
import { loadMatrices } from '../../lib/checkpoint/load/matrices.js'
import { readVectors } from '../../lib/checkpoint/load/vectors.js'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import { type WritableTensor, writeSafetensors } from '../../lib/checkpoint/writer.js'
import { assembleWeights } from '../../lib/devices/reference/assemble.js'
import { reference } from '../../lib/reference/index.js'
import { BOUNDS } from '../cases/index.js'
import { expectClose } from '../helpers/relative-error.js'
import type { GoldenCase } from './cases.js'

type Config = Record<string, unknown>

/** What becomes of a checkpoint. */
export interface Respelling {
  tensors?: (tensors: WritableTensor[]) => WritableTensor[]
  config?: (config: Config) => Config
  layer?: number
  module?: string
}

interface Header {
  [name: string]: { dtype: string; shape: number[]; data_offsets: [number, number] }
}

/** All tensors of a golden checkpoint, raw. */
export function tensorsOf(directory: string): WritableTensor[] {
  return readdirSync(directory)
    .filter(name => name.endsWith('.safetensors'))
    .flatMap(name => {
      const bytes = readFileSync(path.join(directory, name))
      const length = Number(bytes.readBigUInt64LE(0))
      const { __metadata__: _, ...header } = JSON.parse(bytes.toString('utf8', 8, 8 + length)) as Header
      return Object.entries(header).map(
        ([
          tensor,
          {
            dtype,
            shape,
            data_offsets: [begin, end],
          },
        ]) => ({
          ...{ name: tensor, dtype, shape },
          data: Uint8Array.from(bytes.subarray(8 + length + begin, 8 + length + end)),
        }),
      )
    })
}

const directories: string[] = []

export function removeRespelled(): void {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true })
}

/** Writes a golden checkpoint anew and returns its directory. */
export async function respell({ directory }: GoldenCase, { tensors, config }: Respelling): Promise<string> {
  const copy = mkdtempSync(path.join(tmpdir(), 'sparse-experts-respelled-'))
  directories.push(copy)
  const old = JSON.parse(readFileSync(path.join(directory, 'config.json'), 'utf8')) as Config
  writeFileSync(path.join(copy, 'config.json'), JSON.stringify(config ? config(old) : old))
  const all = tensorsOf(directory)
  await writeSafetensors(path.join(copy, 'model.safetensors'), tensors ? tensors(all) : all)
  return copy
}

/** Loads the rewritten checkpoint with the oracle and compares with the golden values. */
export async function expectSame(golden: GoldenCase, respelling: Respelling): Promise<void> {
  const { expected } = golden
  const plan = await planLayer(await respell(golden, respelling), {
    layer: respelling.layer ?? expected.layer,
    module: respelling.module ?? expected.module,
  })
  const weights = assembleWeights(
    plan.config,
    'f32',
    await readVectors(plan),
    await loadMatrices(plan, 'f32'),
  )
  const { tokenIds, routerInput, sequenceLengths } = expected
  const result = reference.forward(plan.config, weights, expected.input, {
    ...{ tokenIds, routerInput, sequenceLengths },
  })
  expect(Array.from(result.topkIds)).toEqual(expected.topkIds)
  expectClose(result.topkWeights, expected.topkWeights, BOUNDS.f32, 'weights')
  expectClose(result.output, expected.output, BOUNDS.f32, 'output')
}

/** Names changed by patterns, each once. */
export function renamed(...changes: [RegExp, string][]): NonNullable<Respelling['tensors']> {
  return tensors =>
    tensors.map(tensor => ({
      ...tensor,
      name: changes.reduce((name, [pattern, text]) => name.replace(pattern, text), tensor.name),
    }))
}

const bytesOf = ({ data }: WritableTensor) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength)

/** Parts that lie input-major in every layout. */
const INPUT_MAJOR = ['qweight', 'qzeros', 'scales']

/** Matrices of gate and up as one, side by side. */
function beside(a: WritableTensor, b: WritableTensor): WritableTensor {
  const [rows = 0, cols = 0] = a.shape
  const lines = Array.from({ length: rows }, (_, row) =>
    [a, b].map(part => {
      const bytes = bytesOf(part)
      return bytes.subarray((row * bytes.length) / rows, ((row + 1) * bytes.length) / rows)
    }),
  )
  return { ...a, shape: [rows, 2 * cols], data: Buffer.concat(lines.flat()) }
}

function joined(name: string, shape: number[], parts: WritableTensor[]): WritableTensor {
  return { name, dtype: parts[0]!.dtype, shape, data: Buffer.concat(parts.map(bytesOf)) }
}

/**
 * `stem.{e}.gate_proj.weight` (or w1, w3, w2) of every layer as `stem.gate_up_proj` and `stem.down_proj`, or gate and up apart; scales
 * and what else stands beside a weight likewise.
 */
export function fused(apart = false): NonNullable<Respelling['tensors']> {
  return tensors => {
    const groups = new Map<string, WritableTensor[]>()
    const rest: WritableTensor[] = []
    for (const tensor of tensors) {
      const match = /^(.*experts\.)(\d+)\.(gate_proj|up_proj|down_proj|w1|w2|w3)\.(\w+)$/.exec(tensor.name)
      if (!match) {
        rest.push(tensor)
        continue
      }
      const [, stem = '', expert, matrix = '', part = ''] = match
      const role = { w1: 'gate_proj', w3: 'up_proj', w2: 'down_proj' }[matrix] ?? matrix
      const key = `${stem} ${role} ${part}`
      const group = groups.get(key) ?? []
      group[Number(expert)] = tensor
      groups.set(key, group)
    }
    for (const [key, ups] of groups) {
      const [stem = '', role, part = ''] = key.split(' ')
      if (role !== 'up_proj') continue
      const [gates, downs] = [
        groups.get(`${stem} gate_proj ${part}`),
        groups.get(`${stem} down_proj ${part}`),
      ]
      // The decoys of other layers have no complete experts.
      if (!downs || downs.length !== ups.length) {
        rest.push(...ups)
        continue
      }
      const suffix = part === 'weight' ? '' : `_${part}`
      const [rows, ...inner] = ups[0]!.shape
      const count = ups.length
      const all = (name: string, parts: WritableTensor[]) =>
        rest.push(joined(`${stem}${name}${suffix}`, [count, ...parts[0]!.shape], parts))
      if (!gates || apart) {
        if (gates) all('gate_proj', gates)
        all('up_proj', ups)
      } else if (INPUT_MAJOR.includes(part)) {
        all(
          'gate_up_proj',
          gates.map((gate, e) => beside(gate, ups[e]!)),
        )
      } else if (part === 'g_idx') {
        all('gate_up_proj', gates)
      } else {
        const both = ups.flatMap((up, e) => [gates[e]!, up])
        // One scale of a whole matrix becomes a pair.
        const shape =
          rows === undefined || ups[0]!.data.byteLength <= 4 ? [count, 2] : [count, 2 * rows, ...inner]
        rest.push(joined(`${stem}gate_up_proj${suffix}`, shape, both))
      }
      all('down_proj', downs)
    }
    return rest
  }
}

/** Fused tensors of rows, output-major, one by one; `part` is what each is of its matrix. */
export function unfused(
  gateUp: string,
  down: string,
  stem: string,
  interleaved = false,
  part = 'weight',
): NonNullable<Respelling['tensors']> {
  return tensors =>
    tensors.flatMap(tensor => {
      const isGateUp = tensor.name.endsWith(gateUp)
      if (!isGateUp && !tensor.name.endsWith(down)) return [tensor]
      const [count = 0, rows = 0, cols = 0] = tensor.shape
      if (tensor.shape.length !== 3) return [tensor]
      const root = tensor.name.slice(0, -(isGateUp ? gateUp : down).length)
      const bytes = bytesOf(tensor)
      const rowBytes = bytes.length / (count * rows)
      const slice = (e: number, matrix: string, first: number, step: number, length: number) => ({
        ...{ name: `${root}${stem}${e}.${matrix}.${part}`, dtype: tensor.dtype, shape: [length, cols] },
        data: Buffer.concat(
          Array.from({ length }, (_, row) => {
            const at = (e * rows + first + row * step) * rowBytes
            return bytes.subarray(at, at + rowBytes)
          }),
        ),
      })
      return Array.from({ length: count }, (_, e) => {
        if (!isGateUp) return [slice(e, 'down_proj', 0, 1, rows)]
        const [second, step] = interleaved ? [1, 2] : [rows / 2, 1]
        return [slice(e, 'gate_proj', 0, step, rows / 2), slice(e, 'up_proj', second, step, rows / 2)]
      }).flat()
    })
}

/** Tensors `[E, a, b]` of 16 or 32 bits as `[E, b, a]`. */
export function swapped(pattern: RegExp): NonNullable<Respelling['tensors']> {
  return tensors =>
    tensors.map(tensor => {
      if (!pattern.test(tensor.name) || tensor.shape.length !== 3) return tensor
      const [count = 0, rows = 0, cols = 0] = tensor.shape
      const from = bytesOf(tensor)
      const size = from.length / (count * rows * cols)
      const to = new Uint8Array(from.length)
      for (let e = 0; e < count; e++) {
        for (let i = 0; i < rows; i++) {
          for (let j = 0; j < cols; j++) {
            const at = ((e * rows + i) * cols + j) * size
            to.set(from.subarray(at, at + size), ((e * cols + j) * rows + i) * size)
          }
        }
      }
      return { ...tensor, shape: [count, cols, rows], data: to }
    })
}
