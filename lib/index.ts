/** sparse-experts: sparse mixture-of-experts execution for Node.js. */

export type { PhaseSeconds } from './backends/runtime.js'
export type { Activation, MoeConfig, MoeShape, ResolvedMoeConfig } from './config.js'
export { type DeviceInfo, type DeviceOption, devices } from './device.js'
export { type DoctorCheck, type DoctorReport, doctor } from './doctor.js'
export {
  bf16ToNumber,
  type DType,
  type FloatArray,
  f16ToNumber,
  fromFloat32,
  numberToBf16,
  numberToF16,
  toFloat32,
} from './dtype.js'
export { ERROR_CODES, type MoeArgumentError, MoeError, type MoeErrorCode } from './errors.js'
export type { ForwardOptions, HiddenStates, RecordedRouting } from './forward-arguments.js'
export { type Logger, type LogLevel, setLogger } from './log.js'
export type { LayerStats } from './metrics.js'
export {
  type ForwardEvent,
  type ForwardResult,
  type LayerHealth,
  type LayerOptions,
  type LoadOptions,
  type LoadProgress,
  MoeLayer,
} from './moe-layer.js'
export { type ForwardPlan, plan, type StagePlan } from './plan.js'
export { reference } from './reference/index.js'
export type {
  CapacityRouting,
  Grouping,
  HashRouting,
  Normalization,
  ResolvedRouting,
  RoutingConfig,
  RoutingRule,
  RoutingVectors,
  ScoredRouting,
  SparsemixerRouting,
  TopkSigmoidRouting,
  TopkSoftmaxRouting,
} from './routing.js'
export * as stages from './stages.js'
export { Tensor, type TensorData, type TensorDType, type TensorOptions } from './tensor.js'
export type { ExpertWeights, MoeWeights, RouterWeights, StridedMatrix, WeightMatrix } from './weights.js'
export type { Work } from './work.js'
