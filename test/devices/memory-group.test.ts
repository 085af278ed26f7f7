/**
 * A checkpoint several times as large as the control group that the process runs in: refused with a code where all of it is asked for, run with the
 * cache that `plan` names, and never ended by the kernel. With each version of control groups that this process may make one of.
 */

import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { Random } from '../cases/random.js'
import { nativeDevices } from '../helpers/devices.js'
import { makeMemoryGroup } from '../helpers/memory-group.js'
import { runProgram } from '../helpers/run-program.js'
import { removeDirectories, temporaryDirectory } from '../helpers/scratch.js'
import type { LimitedReport } from './fixtures/limited-memory.js'

const LIMIT = 192 * 2 ** 20
const LAYERS = 4
const EXPERTS = 32
const TOP_K = 4
const WIDTH = 1024
/** gate, up and down in bf16. */
const EXPERT_BYTES = 3 * WIDTH * WIDTH * 2

afterAll(removeDirectories)

/** A checkpoint of Qwen3's layout whose experts are zeros that take no place on the disk; its routers are not. */
async function hollowCheckpoint(): Promise<string> {
  const directory = await temporaryDirectory()
  const header: Record<string, unknown> = {}
  let end = 0
  const add = (name: string, dtype: string, shape: number[], bytes: number): number => {
    header[name] = { dtype, shape, data_offsets: [end, end + bytes] }
    end += bytes
    return end - bytes
  }
  const routers: number[] = []
  for (let layer = 0; layer < LAYERS; layer++) {
    const base = `model.layers.${layer}.mlp.`
    routers.push(add(`${base}gate.weight`, 'F32', [EXPERTS, WIDTH], 4 * EXPERTS * WIDTH))
    for (let expert = 0; expert < EXPERTS; expert++)
      for (const name of ['gate_proj', 'up_proj', 'down_proj'])
        add(`${base}experts.${expert}.${name}.weight`, 'BF16', [WIDTH, WIDTH], 2 * WIDTH * WIDTH)
  }
  const text = JSON.stringify(header)
  const begin = 8 + Buffer.byteLength(text)
  const file = openSync(path.join(directory, 'model.safetensors'), 'w')
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(begin - 8))
  writeSync(file, Buffer.concat([length, Buffer.from(text)]))
  ftruncateSync(file, begin + end)
  for (const [layer, offset] of routers.entries()) {
    const values = new Random(layer + 1).normals(EXPERTS * WIDTH)
    writeSync(
      file,
      new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
      0,
      null,
      begin + offset,
    )
  }
  closeSync(file)
  await writeFile(
    path.join(directory, 'config.json'),
    JSON.stringify({
      ...{ model_type: 'qwen3_moe', torch_dtype: 'bfloat16', hidden_size: WIDTH, hidden_act: 'silu' },
      ...{ num_hidden_layers: LAYERS, num_experts: EXPERTS, num_experts_per_tok: TOP_K },
      ...{ intermediate_size: WIDTH, moe_intermediate_size: WIDTH, norm_topk_prob: true },
      ...{ decoder_sparse_step: 1, mlp_only_layers: [] },
    }),
  )
  return directory
}

/** Why no process can be run in such a group; undefined where one can. */
function whyNot(): string | undefined {
  if (!nativeDevices.includes('cpu')) return 'there is no native backend'
  // It takes three quarters of the group for itself, so that no cache is left to be planned.
  if (process.env.SPARSE_EXPERTS_SANITIZED) return 'AddressSanitizer needs the memory'
  return undefined
}

describe.each([1, 2] as const)('version %i', version => {
  const group = whyNot() ?? makeMemoryGroup(LIMIT, [version])
  const reason = typeof group === 'string' ? ` (skipped: ${group})` : ''

  it.skipIf(typeof group === 'string')(
    `a checkpoint of four times the memory of a group of ${LIMIT >> 20} MiB${reason}`,
    async () => {
      if (typeof group === 'string') return
      try {
        expect(group.version).toBe(version)
        const source = await hollowCheckpoint()
        const args = [source, group.file, String(LAYERS)]
        const { status, stdout, stderr } = await runProgram('test/devices/fixtures/limited-memory.ts', args)
        expect(stderr).toBe('')
        expect(status).toBe(0)
        expect(group.kills()).toBe(0)
        const report = JSON.parse(stdout) as LimitedReport
        expect(LAYERS * EXPERTS * EXPERT_BYTES).toBeGreaterThanOrEqual(4 * LIMIT)
        expect(report.before.totalBytes).toBeLessThanOrEqual(LIMIT)
        expect(report.whole.code).toBe('ERR_MOE_OUT_OF_MEMORY')
        expect(Number(report.whole.details!.freeBytes)).toBeLessThanOrEqual(LIMIT)
        expect(report.plan.fits).toBe(false)
        expect(report.plan.reasons.join()).toContain('`cache`')
        expect(report.planned.options.cache!.hostBytes).toBeLessThan(LIMIT)
        expect(report.hostBytes).toBeLessThan(LIMIT)
        expect(Math.min(report.cache!.hits, report.cache!.misses)).toBeGreaterThan(0)
      } finally {
        group.remove()
      }
    },
  )
})
