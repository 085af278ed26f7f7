/**
 * Every way in which a family's experts may be stored: as published, as transformers holds them in memory (and saves them where it does
 * not convert back), and one by one, as tools that quantise leave them.
 */

import type { ExpertLayout } from './family.js'

/** Names of one expert's three matrices that are in use anywhere. */
const PER_EXPERT = [
  { gate: 'gate_proj', up: 'up_proj', down: 'down_proj' },
  { gate: 'w1', up: 'w3', down: 'w2' },
] as const

/** Places of the experts below a block; ModelOpt keeps Gemma's where the block used to be, and MLX has a name of its own. */
const STEMS = ['experts.', 'moe.experts.', 'switch_mlp.'] as const

/** Whether experts have a gate beside up. */
export const isGated = (layout: ExpertLayout) =>
  layout.kind === 'stackedRows' || layout.gate !== undefined || (layout.kind === 'fused' && !!layout.gateUp)

/**
 * The published layouts of a family, then all others that its experts can have.
 *
 * @param stems places below the block where the others stand
 */
export function expertLayouts(
  published: readonly ExpertLayout[],
  stems: readonly string[] = STEMS,
): ExpertLayout[] {
  const bias = published.flatMap(layout => (layout.kind !== 'stackedRows' && layout.bias) || [])[0]
  const fused = published.flatMap(layout => (layout.kind === 'fused' ? [layout] : []))
  const { major = 'output' } = fused[0] ?? {}
  // Only a tensor of this very name is known to alternate: under another name transformers holds the halves one after the other.
  const interleaved = fused.some(
    ({ gateUp, interleaved }) => gateUp?.endsWith('gate_up_proj') && interleaved === true,
  )
  const gated = published.every(isGated)
  const more = stems.flatMap((stem): ExpertLayout[] => {
    const together: ExpertLayout = {
      kind: 'fused',
      gateUp: `${stem}gate_up_proj`,
      down: `${stem}down_proj`,
      major,
      interleaved,
      bias,
    }
    const apart: ExpertLayout = {
      kind: 'fused',
      gate: gated ? `${stem}gate_proj` : undefined,
      up: `${stem}up_proj`,
      down: `${stem}down_proj`,
      major,
      bias,
    }
    const single = PER_EXPERT.map(
      ({ gate, up, down }): ExpertLayout => ({
        kind: 'perExpert',
        gate: gated ? `${stem}{e}.${gate}` : undefined,
        up: `${stem}{e}.${up}`,
        down: `${stem}{e}.${down}`,
        bias,
      }),
    )
    return [...single, ...(gated ? [together] : []), apart]
  })
  return [...published, ...more]
}
