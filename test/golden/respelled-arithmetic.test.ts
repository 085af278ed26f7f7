/** A config or a tensor that asks for arithmetic that a family does not have is refused. */

import { afterAll, describe, expect, it } from 'vitest'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import { goldenCase } from './cases.js'
import { expectSame, removeRespelled, respell } from './respelled.js'

afterAll(removeRespelled)

describe('arithmetic of another model', () => {
  const f32 = (name: string, ...shape: number[]) => ({
    ...{ name, dtype: 'F32', shape },
    data: new Float32Array(shape.reduce((product, length) => product * length, 1)),
  })
  it.each<[string, Record<string, unknown>, string]>([
    ['qwen3_moe', { routed_scaling_factor: 2.5 }, 'routed_scaling_factor'],
    ['qwen3_moe', { scoring_func: 'sigmoid' }, 'scoring_func'],
    ['mixtral', { n_group: 4, topk_group: 2 }, 'n_group'],
    ['olmoe', { swiglu_limit: 7 }, 'swiglu_limit'],
    ['bailing_moe', { routed_scaling_factor: 2.5 }, 'routed_scaling_factor'],
    ['bailing_moe_v2', { score_function: 'softmax' }, 'score_function'],
    ['minimax_m2', { moe_latent_size: 8 }, 'moe_latent_size'],
    ['hy_v3', { route_norm: false }, 'route_norm'],
    ['hunyuan_v1_moe', { norm_topk_prob: false }, 'norm_topk_prob'],
  ])('%s with %o is refused', async (name, change, field) => {
    const item = goldenCase(name)
    const directory = await respell(item, { config: config => ({ ...config, ...change }) })
    await expect(planLayer(directory, { layer: item.expected.layer })).rejects.toMatchObject({
      code: 'ERR_MOE_INVALID_CONFIG',
      message: expect.stringContaining(field),
    })
  })

  it.each<[string, Record<string, unknown>]>([
    ['qwen3_moe', { routed_scaling_factor: 1, n_group: 1, scoring_func: 'softmax', swiglu_limit: null }],
    ['deepseek_v2_greedy', { n_group: 4, topk_group: 2 }],
    ['granitemoe', { score_function: 'softmax' }],
    ['glm4_moe', { n_group: 1, topk_group: 4 }],
  ])('%s with %o is not', async (name, change) =>
    expectSame(goldenCase(name), { config: config => ({ ...config, ...change }) }),
  )

  it.each([
    ['qwen3_moe', f32('model.layers.0.mlp.gate.e_score_correction_bias', 8)],
    ['qwen3_moe', f32('model.layers.0.mlp.shared_expert.up_proj.weight', 4, 4)],
    ['mixtral', f32('model.layers.0.block_sparse_moe.shared_experts.up_proj.weight', 4, 4)],
  ])('%s with a tensor that it does not read is refused', async (name, tensor) => {
    const item = goldenCase(name)
    const directory = await respell(item, { tensors: tensors => [...tensors, tensor] })
    await expect(planLayer(directory, { layer: item.expected.layer })).rejects.toMatchObject({
      code: 'ERR_MOE_INVALID_CONFIG',
      message: expect.stringContaining(tensor.name),
    })
  })
})
