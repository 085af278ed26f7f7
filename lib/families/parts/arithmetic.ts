/**
 * Fields of configs that change what a block computes. A row reads those that its family has; one that stands in a config with a value that
 * matters, and that the row has not read, is of a model that this row does not describe.
 */

import { describeValue } from '../../block/errors.js'
import type { RoutingRule } from '../../block/routing.js'
import type { ConfigReader } from './config-reader.js'
import type { FamilyRow } from './family.js'

/** Values that change nothing. */
type Neutral = (value: unknown, rule: RoutingRule) => boolean

const one: Neutral = value => value === 1 || value === 0 || value === false
const none: Neutral = value => value === 0 || value === false
const allNone: Neutral = value => Array.isArray(value) && value.every(item => item === 0 || item === null)

/** The same scores, by whichever name. */
const sameScores: Neutral = (value, { scoringFunc }) =>
  typeof value === 'string' && scoringFunc.endsWith(value.toLowerCase().replace(/[^a-z]/g, ''))

const FIELDS: Readonly<Record<string, Neutral>> = {
  ...fields(
    one,
    'routed_scaling_factor',
    'router_scaling_factor',
    'route_scale',
    'moe_routed_scaling_factor',
    'moe_router_scaling_factor',
    'n_group',
    'topk_group',
    'num_expert_group',
    'num_expert_groups',
    'num_limited_groups',
  ),
  ...fields(
    none,
    'swiglu_limit',
    'moe_router_logit_softcapping',
    'router_logit_softcapping',
    'zero_expert_num',
    'moe_latent_size',
    'routed_expert_hidden_size',
    'num_hash_layers',
    'moe_apply_router_weight_on_input',
    'multi_gate',
  ),
  ...fields(allNone, 'swiglu_limits', 'swiglu_limits_shared'),
  ...fields(
    sameScores,
    'scoring_func',
    'score_func',
    'score_function',
    'moe_router_activation_func',
    'expert_selection_fn',
  ),
  shared_expert_combination_strategy: value => value === 'sum',
}

function fields(neutral: Neutral, ...names: string[]): Record<string, Neutral> {
  return Object.fromEntries(names.map(name => [name, neutral]))
}

/**
 * Called when a row has read what it reads.
 * @throws {@link MoeError} ERR_MOE_INVALID_CONFIG
 */
export function checkArithmetic(row: FamilyRow, config: ConfigReader, rule: RoutingRule): void {
  for (const [field, isNeutral] of Object.entries(FIELDS)) {
    if (config.wasRead(field) || row.ignored?.includes(field)) continue
    const value = config.raw(field)
    if (value === undefined || isNeutral(value, rule)) continue
    config.fail(
      field,
      `is ${describeValue(value)}, which ${row.modelTypes[0]} does not compute with: the model is another one, or newer than this package`,
    )
  }
}
