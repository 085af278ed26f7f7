/** sparse-experts: sparse mixture-of-experts execution for Node.js. */

export type { CacheOptions } from './api/cache-options.js'
export { type Checkpoint, openCheckpoint } from './api/checkpoint.js'
export type { HiddenStates } from './api/float-input.js'
export type { ForwardOptions, RecordedRouting } from './api/forward-arguments.js'
export { type ForwardPlan, plan, type StagePlan } from './api/forward-plan.js'
export type { ForwardResult } from './api/forward-result.js'
export type { LayerOptions, LoadOptions } from './api/layer-options.js'
export type { LayerStats } from './api/layer-stats.js'
export { metrics } from './api/metrics.js'
export type { LayerSelection, ModelOptions } from './api/model-options.js'
export type { MemoryPlan, ModelLayerPlan, ModelPlan } from './api/model-plan.js'
export type { ModelStats } from './api/model-stats.js'
export { type ForwardEvent, type LayerHealth, MoeLayer } from './api/moe-layer.js'
export { MoeModel } from './api/moe-model.js'
export { dequantize, quantize } from './api/quantize.js'
export type { Recorder, RecordOptions } from './api/recorder.js'
export { type SimulatedCache, type SimulateOptions, simulate } from './api/simulate.js'
export * as stages from './api/stages.js'
export {
  type QuantizedTensor,
  Tensor,
  type TensorData,
  type TensorDType,
  type TensorOptions,
} from './api/tensor.js'
export type { CacheSettings, CacheShape, CacheStats } from './block/cache-options.js'
export type { Activation, MoeConfig, MoeShape, ResolvedMoeConfig } from './block/config.js'
export type { Work } from './block/cost.js'
export {
  bf16ToNumber,
  type DType,
  type FloatArray,
  f16ToNumber,
  fromFloat32,
  numberToBf16,
  numberToF16,
  toFloat32,
} from './block/dtype.js'
export { ERROR_CODES, type MoeArgumentError, MoeError, type MoeErrorCode } from './block/errors.js'
export type { CachePolicyName, CachePrefetch, CacheScope } from './block/expert-cache.js'
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
} from './block/routing.js'
export type {
  ExpertsWeightFormat,
  LayerWeightFormat,
  MatrixWeightFormat,
  MlpWeightFormat,
  WeightsOption,
} from './block/weight-format.js'
export type {
  ExpertMatrix,
  ExpertWeights,
  MoeWeights,
  QuantizedFormat,
  QuantizedMatrix,
  RouterWeights,
  ScaleType,
  StridedMatrix,
  WeightMatrix,
} from './block/weights.js'
export type { CheckpointLayer, OpenOptions } from './checkpoint/plan/opened-model.js'
export type { PhaseSeconds } from './devices/contract.js'
export { type DeviceInfo, type DeviceOption, devices } from './devices/device.js'
export type { LoadProgress } from './devices/load.js'
export { type Logger, type LogLevel, setLogger } from './devices/log.js'
export { doctor } from './doctor/doctor.js'
export type { DoctorCheck, DoctorReport } from './doctor/report.js'
export { reference } from './reference/index.js'
export type { SimulationRates } from './trace/call-time.js'
export type { TraceLayer } from './trace/format.js'
export { readTrace } from './trace/read-trace.js'
export type { LayerSimulation, Simulation } from './trace/simulate.js'
export type { Trace } from './trace/trace.js'
