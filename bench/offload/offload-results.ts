/** What `npm run bench:offload` leaves behind. */

import type { Environment } from '../harness/machine.js'
import type { FetchRow, HitRow } from './cached-calls.js'
import type { ModelLoadRow } from './model-load.js'
import type { PredictionRow } from './predictions.js'
import type { SimulationRow } from './simulated-calls.js'

export interface OffloadResults {
  benchmark: 'sparse-experts offload'
  date: string
  revision: string
  environment: Environment
  modelLoads: ModelLoadRow[]
  hits: HitRow[]
  fetches: FetchRow[]
  predictions: PredictionRow[]
  simulations: SimulationRow[]
}
