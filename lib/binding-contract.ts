/** The typed contract of the native addon: what csrc/binding exports and lib/backends/native.ts relies on. */

import type { ExpertMatmulRequest, ForwardRequest, VectorTensors } from './backends/runtime.js'
import type { MatrixItem } from './checkpoint/plan.js'
import type { ResolvedMoeConfig } from './config.js'
import type { DType, FloatArray } from './dtype.js'
import type { ResolvedRouting, RoutingVectors } from './routing.js'

/** `abiVersion` of the addon that this code speaks to: SE_BACKEND_ABI_VERSION of csrc/backend/backend.h. */
export const NATIVE_ABI_VERSION = 1

/** An error of the addon: a plain Error with these properties, which `native.ts` turns into a MoeError. */
export interface NativeError extends Error {
  moeCode:
    | 'INVALID_ARGUMENT'
    | 'OUT_OF_MEMORY'
    | 'CANCELLED'
    | 'DEVICE_UNAVAILABLE'
    | 'DEVICE_LOST'
    | 'INTERNAL'
    | 'IO'
    | 'DISPOSED'
    | 'DETACHED'
  neededBytes?: number
  freeBytes?: number
}

export interface NativeDeviceInfo {
  /** 'cpu', 'cuda:0' … */
  id: string
  name: string
  /** CPU: instruction set in use; CUDA: sm_XY. */
  architecture: string
  /** '' = usable, else the reason. */
  unavailable: string
  totalBytes: number
  freeBytes: number
  computeUnits: number
}

export interface NativeLayerDescription {
  /** 'cpu', 'cuda:0' … */
  device: string
  config: ResolvedMoeConfig
  dtype: DType
  vectors: VectorTensors
  gateUpInterleaved: boolean
  /** Participants in a forward at most; 0: all. */
  threads: number
}

/** The addon's module object. */
export interface NativeAddon {
  /** Must equal package.json's version. */
  readonly version: string
  /** SE_BACKEND_ABI_VERSION. */
  readonly abiVersion: number
  /** Compiler, flags and sanitizers of the build. */
  readonly build: string
  devices(): NativeDeviceInfo[]
  /** Why there is no CUDA backend, or '' when one is loaded. */
  cudaReason(): string
  /**
   * Allocates all weight memory; throws OUT_OF_MEMORY, DEVICE_UNAVAILABLE or INVALID_ARGUMENT. Matrices count as zero until they are
   * written, but their memory is not touched before (the first forward zeroes what nobody wrote).
   */
  createLayer(description: NativeLayerDescription): NativeLayer
  /** Scratch of a forward of numTokens on a layer of this config, before there is one. */
  workspaceBytes(device: string, config: ResolvedMoeConfig, dtype: DType, numTokens: number): number

  gate(
    device: string,
    hidden: FloatArray,
    hiddenDtype: DType,
    routerWeight: FloatArray,
    weightDtype: DType,
    bias: Float32Array | null,
    numTokens: number,
    hiddenSize: number,
    numExperts: number,
    routerLogits: Float32Array,
  ): void
  selectExperts(
    device: string,
    routing: ResolvedRouting,
    vectors: RoutingVectors,
    routerLogits: Float32Array,
    numTokens: number,
    tokenIds: Int32Array | null,
    topK: number | Uint8Array,
    topP: number,
    sequenceLengths: Int32Array | null,
    topkIds: Int32Array,
    topkWeights: Float32Array,
    nonFinite: Uint8Array,
  ): void
  dispatch(
    device: string,
    topkIds: Int32Array,
    numExperts: number,
    expertOffsets: Int32Array,
    sortedSlots: Int32Array,
  ): void
  expertMatmul(device: string, request: ExpertMatmulRequest, output: Float32Array): void
  combine(
    device: string,
    expertOutput: Float32Array,
    topkIds: Int32Array | null,
    topkWeights: Float32Array,
    numTokens: number,
    topK: number,
    hiddenSize: number,
    output: Float32Array,
  ): void
}

/** A layer in native memory. Methods called on anything but a NativeLayer throw (type tag). */
export interface NativeLayer {
  /**
   * Copies one matrix `[rows, cols]` from a typed array, element (r, c) at `data[offset + r*rowStride + c*colStride]`, rounded to the
   * layer's dtype. Refused while forwards or a load are under way.
   */
  setMatrix(
    role: MatrixItem['role'],
    expert: number,
    matrix: MatrixItem['matrix'],
    data: FloatArray,
    dtype: DType,
    offset: number,
    rowStride: number,
    colStride: number,
  ): void
  /**
   * Reads and decodes all items on a thread of its own, each straight into its final place (at most one encoded matrix of scratch).
   * `progress` gets the bytes read so far, at most ~30 times a second; `done` gets null or an error, once, on the JS thread.
   * Returns a cancel function; a cancelled load ends with CANCELLED. Until `done` the layer refuses forwards, and after a load that
   * failed it refuses them for good (another load may be tried).
   */
  load(
    files: readonly string[],
    items: readonly MatrixItem[],
    progress: ((loadedBytes: number) => void) | null,
    done: (error: NativeError | null) => void,
  ): () => void
  /**
   * Queues a forward. `done` is called once, on the JS thread, never synchronously. Returns a job id > 0.
   * Index arrays are copied at once; hidden, routerInput and output up to 1 MiB are copied or staged; larger ones are used in place and
   * must not be transferred before `done` (DETACHED tells when one was). Arrays in resizable buffers are refused.
   */
  forward(request: ForwardRequest, done: (error: NativeError | null) => void): number
  /** See RuntimeCall.cancel. After 'dropped', `done` is not called. */
  cancel(jobId: number): 'dropped' | 'stopping' | 'done'
  /** Blocks until the device is free, then runs on this thread and the pool. */
  forwardSync(request: ForwardRequest): void
  workspaceBytes(numTokens: number): number
  /** workspaceBytes: held by the device at present, shared by all its layers. After dispose: what accepted calls still hold. */
  memory(): { hostBytes: number; deviceBytes: number; workspaceBytes: number }
  /** Idempotent. Queued and running forwards finish first, a load is cancelled; new calls throw DISPOSED. */
  dispose(): void
}
