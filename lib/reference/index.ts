/** The oracle: every stage and the whole block in plain TypeScript and double precision, naive and readable. */

import { activate } from './activation.js'
import { combine } from './combine.js'
import { dispatch } from './dispatch.js'
import { expertMatmul } from './expert.js'
import { forward } from './forward.js'
import { gate } from './gate.js'
import { selectionMargins } from './margins.js'
import { selectExperts } from './stage-select.js'

export type { ActivationSpec } from './activation.js'
export type { Dispatch as ReferenceDispatch } from './dispatch.js'
export type { ExpertMatmulOptions as ReferenceExpertMatmulOptions } from './expert.js'
export type { ReferenceForwardOptions, ReferenceForwardResult } from './forward.js'
export type { SelectionMargins } from './margins.js'
export type { Numbers } from './matrix.js'
export type { ReferenceSelectOptions } from './stage-select.js'
export { selectionMargins }

/**
 * The pure-TypeScript implementation of the five stages and of the whole block, in double precision: what every device is
 * measured against. Needs neither the native addon nor Node.
 */
export const reference = Object.freeze({
  gate,
  selectExperts,
  selectionMargins,
  dispatch,
  expertMatmul,
  activate,
  combine,
  forward,
})
