/** How far logits may be from the same model in double precision, ‖out − ref‖ / ‖ref‖, by the dtype of the feed-forwards. */

import type { DType } from 'sparse-experts'

/**
 * Rows are f32 between the layers. The weights are bf16 in the file, so that bf16 loses nothing where a device keeps activations in f32; one
 * that rounds them to bf16 as well sends some tokens to another expert, where two scores were close.
 */
export const LOGIT_BOUND: Readonly<Record<DType, number>> = { f32: 5e-6, f16: 5e-3, bf16: 2e-2 }
