/** Golden checkpoints held as they are stored: the same numbers as expanded, in less memory, and an account of each matrix. */

import { describe, expect, it } from 'vitest'
import type { DType } from '../../lib/block/dtype.js'
import type { WeightsOption } from '../../lib/block/weight-format.js'
import type { DeviceOption } from '../../lib/devices/device.js'
import { type LayerWeightFormat, type MatrixWeightFormat, MoeLayer } from '../../lib/index.js'
import { MATRIX_CODE_BITS } from '../../lib/spec/enums.js'
import { BOUNDS } from '../cases/index.js'
import { nativeDevices } from '../helpers/devices.js'
import { relativeError } from '../helpers/relative-error.js'
import { type GoldenCase, goldenCases } from './cases.js'

/** What the first matrix of a checkpoint is stored as, and its code. */
const HELD: Readonly<Record<string, readonly [stored: string, held: string]>> = {
  deepseek_v3_fp8: ['fp8 128x128', 'e4m3'],
  deepseek_v3_nvfp4_modelopt: ['nvfp4', 'u4'],
  deepseek_v4_fp4: ['mxfp4', 'u4'],
  gpt_oss_mxfp4: ['mxfp4', 'u4'],
  kimi_k2_int4: ['int4 g32', 'u4'],
  mixtral_fp8_modelopt: ['fp8 per tensor', 'e4m3'],
  qwen3_5_moe_fp8_fused: ['fp8 32x32', 'e4m3'],
  qwen3_moe_awq: ['awq int4 g32', 'u4'],
  qwen3_moe_ct_mixed: ['int2 g32', 'u2'],
  qwen3_moe_fp8_channel: ['fp8 per channel', 'e4m3'],
  qwen3_moe_gptq: ['gptq int4 g32', 'u4'],
  qwen3_moe_gptq3: ['gptq int3 g32', 'u3'],
  qwen3_moe_gptq_desc_act: ['gptq int4 g16', 'u4'],
  qwen3_moe_gptq_mixed: ['gptq int8 g32', 'i8'],
  qwen3_moe_gptq_v2_desc_act: ['gptq int4 g16', 'u4'],
  qwen3_moe_int4_actorder: ['int4 g16', 'u4'],
  qwen3_moe_int4_asym: ['int4 g32', 'u4'],
  qwen3_moe_int8_channel: ['int8 per channel', 'i8'],
  qwen3_moe_mxfp8: ['mxfp8', 'e4m3'],
}

/** Columns in an order of their own, and experts whose matrices differ. */
const EXPANDED_ON_GPU: readonly string[] = [
  'qwen3_moe_ct_mixed',
  'qwen3_moe_gptq_desc_act',
  'qwen3_moe_gptq_mixed',
  'qwen3_moe_gptq_v2_desc_act',
  'qwen3_moe_int4_actorder',
]

/** Only the order of a sum differs, and one rounding to f32 of each weight. */
const BOUND = 1e-6

const formats = ({ shared, latent, ...experts }: LayerWeightFormat): MatrixWeightFormat[] =>
  [...Object.values(experts), ...Object.values(shared ?? {}), ...Object.values(latent ?? {})].flat()

async function run({ directory, expected }: GoldenCase, options: Parameters<typeof MoeLayer.load>[1]) {
  const layer = await MoeLayer.load(directory, { layer: expected.layer, module: expected.module, ...options })
  try {
    const { output, work } = await layer.forward(Float32Array.from(expected.input), {
      tokenIds: expected.tokenIds && Int32Array.from(expected.tokenIds),
      routerInput: expected.routerInput && Float32Array.from(expected.routerInput),
      sequenceLengths: expected.sequenceLengths && Int32Array.from(expected.sequenceLengths),
    })
    const { hostBytes, deviceBytes } = layer.stats()
    const { residentBytes } = layer.explain(1)
    return { output, work, heldBytes: hostBytes + deviceBytes, residentBytes, format: layer.weightFormat }
  } finally {
    layer.dispose()
  }
}

describe.each(nativeDevices)('%s', device => {
  it.each(goldenCases())('$name', async golden => {
    const options = { device: device as DeviceOption, dtype: 'f32' } as const
    const expanded = await run(golden, { ...options, weights: 'expand' })
    const stored = await run(golden, options)
    expect(relativeError(stored.output, expanded.output)).toBeLessThanOrEqual(BOUND)
    for (const { held, bitsPerWeight } of formats(expanded.format)) {
      expect(held).toBe('f32')
      expect(bitsPerWeight).toBe(32)
    }
    for (const { held, bitsPerWeight } of formats(stored.format))
      expect(bitsPerWeight).toBeGreaterThanOrEqual(MATRIX_CODE_BITS[held])
    expect(stored.heldBytes).toBeLessThanOrEqual(expanded.heldBytes)
    expect(stored.work.denseWeightBytes).toBe(stored.residentBytes)
  })

  // What the stored forms become on the CPU.
  it.skipIf(device !== 'cpu').each(Object.entries(HELD))('%s: %s', async (name, [stored, held]) => {
    const golden = goldenCases().find(golden => golden.name === name)!
    const options = { device: device as DeviceOption, dtype: 'f32' } as const
    const { format, output } = await run(golden, { ...options, weights: 'stored' })
    const [up] = [format.up].flat()
    expect([up!.stored, up!.held]).toEqual([stored, held])
    const expanded = await run(golden, { ...options, weights: 'expand' })
    expect(relativeError(output, expanded.output)).toBeLessThanOrEqual(BOUND)
  })

  it.skipIf(device !== 'cpu')('what has no form of its own is refused as it is stored', async () => {
    const golden = goldenCases().find(({ name }) => name === 'qwen3_moe_fp8_e5m2')!
    const loading = run(golden, { device: device as DeviceOption, weights: 'stored' })
    await expect(loading).rejects.toMatchObject({
      code: 'ERR_MOE_UNSUPPORTED_FORMAT',
      message: expect.stringContaining('fp8 e5m2'),
    })
  })

  // What they become on a GPU in 16 bits, and that it is multiplied there.
  it.skipIf(device === 'cpu').each(Object.entries(HELD).filter(([name]) => !EXPANDED_ON_GPU.includes(name)))(
    '%s in 16 bits: %s',
    async (name, [stored, held]) => {
      const golden = goldenCases().find(golden => golden.name === name)!
      // Its shared expert is stored in bf16, which f16 does not hold.
      for (const dtype of name === 'kimi_k2_int4' ? (['bf16'] as const) : (['bf16', 'f16'] as const)) {
        const options = { device: device as DeviceOption, dtype, weights: 'stored' } as const
        const { format, output, work, residentBytes } = await run(golden, options)
        const [up] = [format.up].flat()
        expect([up!.stored, up!.held]).toEqual([stored, held])
        expect(relativeError(output, Float32Array.from(golden.expected.output))).toBeLessThanOrEqual(
          BOUNDS[dtype],
        )
        expect(work.denseWeightBytes).toBe(residentBytes)
      }
    },
  )

  it.skipIf(device === 'cpu')('what a GPU does not multiply so is refused', async () => {
    const refused = async (name: string, options: { dtype: DType; weights: WeightsOption }) => {
      const golden = goldenCases().find(golden => golden.name === name)!
      const loading = run(golden, { device: device as DeviceOption, ...options })
      await expect(loading).rejects.toMatchObject({ code: 'ERR_MOE_UNSUPPORTED_FORMAT' })
    }
    for (const weights of ['stored', 'int4'] as const)
      await refused('gpt_oss_mxfp4', { dtype: 'f32', weights })
    for (const name of EXPANDED_ON_GPU) await refused(name, { dtype: 'bf16', weights: 'stored' })
  })
})
