/** What a device gives the API: layers that run forwards, and the five stages. Implemented by `reference/` and `native/`. */

import type { ActivationsOption } from '../block/activations.js'
import type { CacheStats } from '../block/cache-options.js'
import type { ResolvedMoeConfig } from '../block/config.js'
import type { DType, FloatArray } from '../block/dtype.js'
import type { MoeError } from '../block/errors.js'
import type { ResolvedRouting, RoutingVectors } from '../block/routing.js'
import type { LayerWeightFormat } from '../block/weight-format.js'
import type { InMemoryMatrix } from '../checkpoint/load/quantized-matrix.js'
import type { Stored } from './device-array.js'

/**
 * One forward. T = numTokens, H = hiddenSize, K = topK. All arrays are validated by the caller (lengths, dtypes, ids of a replay in
 * −1 … E−1, per-row topK ≤ K); the runtime may rely on that and must still not crash.
 */
export interface ForwardRequest {
  readonly numTokens: number
  /** Of hidden, routerInput and output. */
  readonly dtype: DType
  /** `[T, H]` */
  readonly hidden: Stored<FloatArray>
  /** `[T, H]`, every element written. */
  readonly output: Stored<FloatArray>
  /** `[T, H]`, or null: the router reads hidden. */
  readonly routerInput: Stored<FloatArray> | null
  /** `[T]` */
  readonly tokenIds: Int32Array | null
  /** Experts kept for every row, or per row `[T]`. */
  readonly topK: number | Uint8Array
  /** In (0, 1], for every row, or per row `[T]`; 1 keeps all. */
  readonly topP: number | Float64Array
  /** Tokens per sequence, summing to T; null: one sequence. Read by capacity families only. */
  readonly sequenceLengths: Int32Array | null
  /** Bits of {@link IN_PLACE}: arrays whose memory nobody can take away while the call runs. All others are copied. */
  readonly inPlace: number
  /** What is still missing in inputs that are used in place: copied by `forward` before it returns. */
  readonly copies?: readonly ArrayCopy[]
  /** `true`: topkIds and topkWeights are inputs and the gate does not run. */
  readonly replay: boolean
  /** `[T, K]`; −1 in dropped slots. */
  readonly topkIds: Int32Array
  /** `[T, K]`; 0 in dropped slots. */
  readonly topkWeights: Float32Array
  /** `[T]`, zeroed by the caller; 1 where router logits or output are not finite. */
  readonly nonFinite: Uint8Array
}

/** Copies elements of `from` to the same places of `to`, from element `first` on. Both are of the request's dtype and length. */
export interface ArrayCopy {
  readonly from: FloatArray
  readonly to: FloatArray
  readonly first: number
}

/** Arrays that only the library holds, or that lie in shared memory. */
export const IN_PLACE = { hidden: 1, routerInput: 2, output: 4 } as const

/** How a call ran. */
export interface CallTimes {
  /** From its acceptance until it began. */
  waitedMs: number
  /** Until its results were there. */
  ranMs: number
  /** Rows that ran with it in one forward of the device, its own included. */
  batchTokens: number
  /** The first call of that forward. */
  isFirst: boolean
  /** Bytes of experts that were read for that forward; 0 but for its first call. */
  fetchedBytes: number
}

/** A forward under way. */
export interface RuntimeCall {
  /** Resolves when all outputs are written; rejects with a MoeError, or with {@link CANCELLED} after {@link cancel}. */
  readonly settled: Promise<CallTimes>
  /**
   * `dropped`: it had not begun, no buffer will be touched, and `settled` rejects at once; `stopping`: it stops between experts and
   * then rejects; `done`: too late.
   */
  cancel(): 'dropped' | 'stopping' | 'done'
}

/** The rejection of a cancelled call; the API replaces it by `signal.reason`. */
export const CANCELLED: unique symbol = Symbol('cancelled')

/** Bytes held. */
export interface MemoryUse {
  hostBytes: number
  deviceBytes: number
  workspaceBytes: number
}

/** Seconds of a layer's forwards so far. */
export interface PhaseSeconds {
  /** Gate and selection. */
  routing: number
  /** Slots sorted by expert, and rows converted for the matmuls. */
  dispatch: number
  /** The matmuls of routed and shared experts, and latent projections. */
  experts: number
  combine: number
}

/** What runs, by stage: kernel, and its instruction set or architecture and tile. */
export type StageKernels = Record<'gate' | 'select' | 'dispatch' | 'gateUp' | 'down' | 'combine', string>

/** A layer that lives on a device. */
export interface LayerRuntime {
  /** 'reference', 'cpu', 'cuda:0' … */
  readonly device: string
  readonly config: ResolvedMoeConfig
  /** Arithmetic of the expert matmuls. */
  readonly dtype: DType
  readonly activations: ActivationsOption
  /** How its matrices are held. */
  readonly weightFormat: LayerWeightFormat
  /** Queues a forward behind those before it; never blocks, never throws synchronously. */
  forward(request: ForwardRequest): RuntimeCall
  /** Runs on the calling thread as soon as the device is free. Returns the bytes of experts that were read for it. */
  forwardSync(request: ForwardRequest): number
  memory(): MemoryUse
  /** Null where nobody measures it. */
  phases(): PhaseSeconds | null
  /** Null where all experts lie in memory. */
  cache(): CacheStats | null
  /** The kernels that a forward of numTokens uses. */
  kernels(numTokens: number): StageKernels
  /** Why the device is lost for good; null while it works. */
  loss(): MoeError | null
  workspaceBytes(numTokens: number): number
  /** Idempotent; accepted calls still finish, then the memory is freed. */
  dispose(): void
}

/** Inputs of `StageRuntime.gate`: `[T, H]`, `[E, H]`, `[E]`. */
export type GateInputs = [
  hidden: Stored<FloatArray>,
  hiddenDtype: DType,
  routerWeight: Stored<FloatArray>,
  weightDtype: DType,
  bias: Stored<Float32Array> | null,
  numTokens: number,
  hiddenSize: number,
  numExperts: number,
]

/** Options of `StageRuntime.expertMatmul`. */
export interface ExpertMatmulRequest {
  /** gather: `[T, K']`, else `[T*K, K']`, f32, f16 or bf16. */
  x: Stored<FloatArray>
  xDtype: DType
  xRows: number
  /** `[E, N', K']`, or `[N', K']` of each expert as it is stored; N' = 2N when gated. */
  weights: Stored<FloatArray> | readonly InMemoryMatrix[]
  /** 'f32' where they are stored otherwise: what they are decoded to. */
  weightsDtype: DType
  numExperts: number
  rows: number
  cols: number
  /** `[E, N']` */
  bias: Stored<Float32Array> | null
  gather: boolean
  topK: number
  interleaved: boolean
  /** null: out = x Wᵀ + b. */
  activation: Pick<
    ResolvedMoeConfig,
    'activation' | 'gated' | 'swigluLimit' | 'swigluGateLimit' | 'swigluAlpha' | 'swigluUpOffset'
  > | null
  /** `[E+1]` and `[T*K]`. */
  expertOffsets: Stored<Int32Array>
  sortedSlots: Stored<Int32Array>
}

/** The five stages on arrays of one device, synchronous; results are new arrays there. */
export interface StageRuntime {
  readonly device: string
  /** f32 `[T, E]`. */
  gate(...inputs: GateInputs): Stored<Float32Array>
  selectExperts(
    routerLogits: Stored<Float32Array>,
    numTokens: number,
    routing: ResolvedRouting,
    vectors: RoutingVectors,
    call: {
      tokenIds: Int32Array | null
      topK: number | Uint8Array
      topP: number | Float64Array
      sequenceLengths: Int32Array | null
    },
  ): { topkIds: Stored<Int32Array>; topkWeights: Stored<Float32Array> }
  dispatch(
    topkIds: Stored<Int32Array>,
    numSlots: number,
    numExperts: number,
  ): { expertOffsets: Stored<Int32Array>; sortedSlots: Stored<Int32Array> }
  /** f32 `[T*K, N]`. */
  expertMatmul(request: ExpertMatmulRequest): Stored<Float32Array>
  /** f32 `[T, H]`. */
  combine(
    expertOutput: Stored<Float32Array>,
    dispatched: { expertOffsets: Stored<Int32Array>; sortedSlots: Stored<Int32Array> },
    topkWeights: Stored<Float32Array>,
    sizes: { numExperts: number; numTokens: number; topK: number; hiddenSize: number },
  ): Stored<Float32Array>
}
