/** What `npm run bench:offload` leaves behind. */

import type { Environment } from '../harness/machine.js'
import type { FetchRow, HitRow } from './cached-calls.js'
import type { MappedModelRow } from './mapped-model.js'
import type { ModelLoadRow } from './model-load.js'
import type { PlainRow } from './plain-calls.js'
import type { PredictionRow } from './predictions.js'
import type { PrefetchRow } from './prefetched-calls.js'
import type { SimulationRow } from './simulated-calls.js'

export interface OffloadResults {
  benchmark: 'sparse-experts offload'
  date: string
  revision: string
  environment: Environment
  modelLoads: ModelLoadRow[]
  hits: HitRow[]
  fetches: FetchRow[]
  /** With `--before`. */
  plains: PlainRow[]
  /** With `llama` among the parts. */
  mapped: MappedModelRow[]
  predictions: PredictionRow[]
  prefetches: PrefetchRow[]
  simulations: SimulationRow[]
}
