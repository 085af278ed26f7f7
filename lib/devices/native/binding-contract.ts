/** The typed contract of the native addon: what csrc/binding exports and this folder relies on. */

import type { CacheSettings, CacheStats } from '../../block/cache-options.js'
import type { ResolvedMoeConfig } from '../../block/config.js'
import type { DType, FloatArray } from '../../block/dtype.js'
import type { ResolvedRouting, RoutingVectors } from '../../block/routing.js'
import type { WeightsOption } from '../../block/weight-format.js'
import type { EncodedBuffers } from '../../checkpoint/load/encoded.js'
import type { MatrixEncoding, MatrixItem } from '../../checkpoint/plan/layer-plan.js'
import type { MatrixCode } from '../../spec/enums.js'
import type { VectorName, VectorTensors } from '../../spec/vectors.js'
import type {
  ExpertMatmulRequest,
  ForwardRequest,
  GateInputs,
  MemoryUse,
  PhaseSeconds,
  StageKernels,
} from '../contract.js'
import type { NativeBuffer, Stored } from '../device-array.js'

/** `abiVersion` of the addon that this code speaks to: SE_BACKEND_ABI_VERSION of csrc/abi/backend.h. */
export const NATIVE_ABI_VERSION = 15

/** An error of the addon: a plain Error with these properties, which `errors.ts` turns into a MoeError. */
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
    | 'CACHE_TOO_SMALL'
  neededBytes?: number
  freeBytes?: number
}

export interface NativeDeviceInfo {
  /** 'cpu', 'cuda:0' … */
  id: string
  kind: 'cpu' | 'gpu'
  /** Its memory is this process's: arrays on it are typed arrays. */
  isHost: boolean
  name: string
  /** CPU: instruction set in use; CUDA: sm_XY. */
  architecture: string
  /** '' = usable, else the reason. */
  unavailable: string
  totalBytes: number
  freeBytes: number
  computeUnits: number
}

/** A backend that the addon knows, there or not. */
export interface NativeBackend {
  /** 'cpu', 'cuda': the device id, or its part before the number. */
  name: string
  /** In messages: 'CPU', 'CUDA'. */
  title: string
  /** Its devices' ids carry a number: 'cuda:0'. */
  isNumbered: boolean
  /** `auto` takes the usable device of the highest. */
  priority: number
  /** Why it lists no device; '' where it does. */
  reason: string
  /** Compiler and its flags; '' where the backend is not here. */
  build: string
  /** What it is compiled for, separated by spaces: instruction sets or sm_XY. */
  architectures: string
  devices: NativeDeviceInfo[]
}

/** A format of matrices: SeMatrixFormat of csrc/abi/backend.h, its enums by name. */
export interface NativeMatrixFormat {
  code: MatrixCode
  table: string
  scale: string
  offset: string
  blockRows: number
  blockCols: number
  superCols: number
  flags: number
}

/** How matrices are held: an index into `formats` for each, and whether its weights are those of its source, exactly. */
export interface ChosenFormats {
  formats: NativeMatrixFormat[]
  formatOf: number[]
  /** By format: whether rows of int8 codes are multiplied by it. `null`: by none on this device. */
  takesInt8: boolean[] | null
  isStored: boolean[]
}

/** SeLayerOptions of csrc/abi/backend.h. */
export interface NativeForwardOptions {
  /** A row's bits never depend on the rows beside it. */
  batchInvariant: boolean
  /** Rows become codes of 8 bits before they meet matrices that {@link ChosenFormats.takesInt8} names. */
  int8Activations: boolean
}

/** {@link CacheSettings} with every default written out. */
export interface NativeCacheOptions
  extends Required<Omit<CacheSettings, 'directIo' | 'prefetch' | 'prefetchBytesPerCall'>> {
  /** Past the page cache where the file system can. */
  directReads: boolean
  /** A layer with a cache of the same policy, whose experts are of the same size: both compete for the slots of both. Not for measuring. */
  sharedWith?: NativeLayer
  /** Calls of the layer before this one have experts of it read ahead, of so many bytes at most; 0 bytes: half of a token's experts. */
  prefetches: boolean
  prefetchBytes: number
  /** The layer before this one, if there is one. Not for measuring. */
  behind?: NativeLayer
}

export interface NativeLayerDescription extends Partial<HeldMatrices>, NativeForwardOptions {
  /** 'cpu', 'cuda:0' … */
  device: string
  config: ResolvedMoeConfig
  dtype: DType
  vectors: VectorTensors
  gateUpInterleaved: boolean
  /** Absent or null: all experts stay in memory. */
  cache?: NativeCacheOptions | null
  /** Participants in a forward at most; 0: all. */
  threads: number
  /** Rows of waiting calls that run as one, where no row's bits depend on the rows beside it; 0: each call runs alone. */
  maxJointTokens: number
}

/** A layer that is not there yet. */
export interface NativeLayerMeasure
  extends Omit<HeldMatrices, 'matrices'>,
    Pick<NativeLayerDescription, 'device' | 'config' | 'dtype' | 'gateUpInterleaved' | 'threads' | 'cache'> {
  matrices: readonly MatrixItem[]
  /** Elements of its small tensors. */
  vectorLengths: Partial<Record<VectorName, number>>
}

/** One layer's part of a load. */
export interface NativeLayerLoad {
  layer: NativeLayer
  /** What the items' segments count. */
  files: readonly string[]
  items: readonly MatrixItem[]
  /** Rows of calls for which the layer's device gets its scratch before anything is read. @defaultValue 0 */
  reservedTokens?: number
  /** Of a layer with a cache: experts that are read now, the first ones, as many as have slots. @defaultValue none */
  warm?: Int32Array | null
}

/** Formats of `matrices`, an index each; the others hold values of the layer's dtype. */
export interface HeldMatrices {
  formats: readonly NativeMatrixFormat[]
  formatOf: readonly number[]
  matrices: readonly Pick<MatrixItem, 'role' | 'expert' | 'matrix'>[]
  /** See {@link ChosenFormats}. Not read by the addon. */
  takesInt8?: readonly boolean[] | null
}

/** What a device has done since it was opened, and what it holds. Zeros on 'cpu'. */
export interface NativeCounters {
  /** Calls of the driver's allocator, pinned memory included. */
  deviceAllocations: number
  deviceBytes: number
  pinnedBytes: number
  /** Outside of graphs. */
  kernelLaunches: number
  graphCaptures: number
  graphReplays: number
  copiedToDeviceBytes: number
  copiedToHostBytes: number
}

/** Of a cache of experts: slots of each pool; of each layer its number of experts, and the pool that it takes slots of. */
export interface NativeCacheShape {
  rule: 'lru' | 'lfu' | 'lfru' | 'static'
  poolSlots: readonly number[]
  layers: readonly { numExperts: number; pool: number }[]
  /** Experts of each layer that a call of the layer before it has read ahead at most. @defaultValue nothing is read ahead */
  mostPrefetched?: readonly number[] | null
  /** Experts of each layer that memory of the host holds behind the slots of a GPU, by csrc/engine/host_policy.h. @defaultValue there is no such memory */
  hostBlocks?: readonly number[] | null
}

/** What became of the experts of a layer that were read ahead, all in time; and how many of its experts made room for such. */
export interface NativePrefetchCounts {
  prefetched: number
  used: number
  wasted: number
  evicted: number
}

/** The decisions of a cache that does not exist, by the engine's own code: the rules stand in csrc/engine/cache_policy.h. */
export interface NativeCachePolicy {
  /**
   * Calls one after another, on the calling thread. Call c is of layer `layers[c]`, an index into the shape's layers, and needs
   * `experts[offsets[c]]` to `experts[offsets[c + 1]]`, distinct and by rising number. For each expert `slots` gets the slot or -1 (it
   * passes through the ring), `hits` 1 (its slot has it), 2 (the host's memory has it) or 0, `evicted` the layer and the expert that had the slot, or twice
   * -1.
   */
  planCalls(
    layers: Int32Array,
    offsets: Int32Array,
    experts: Int32Array,
    slots: Int32Array,
    hits: Uint8Array,
    evicted: Int32Array | null,
  ): void
  prefetchCounts(layer: number): NativePrefetchCounts
  /** Puts an expert into the free slot of the lowest number; -1 where there is none. */
  warm(layer: number, expert: number): number
  /** The expert's weights did not arrive: its slot is free. */
  forget(layer: number, expert: number): void
}

/** The addon's module object. */
export interface NativeAddon {
  /** Must equal package.json's version. */
  readonly version: string
  /** SE_BACKEND_ABI_VERSION. */
  readonly abiVersion: number
  /** Compiler, flags and sanitizers of the build. */
  readonly build: string
  /** The highest priority first. */
  backends(): NativeBackend[]
  /** Why a device of this process is lost for good, else ''. */
  deviceLoss(device: string): string
  counters(device: string): NativeCounters
  /** Contents are arbitrary. Throws OUT_OF_MEMORY, DEVICE_UNAVAILABLE or DEVICE_LOST. */
  allocate(device: string, bytes: number): NativeBuffer
  /** The formats in which a device would hold matrices; of a fused gateUp, those of both halves. Reads headers only. */
  chooseFormats(
    device: string,
    dtype: DType,
    weights: WeightsOption,
    gateUpInterleaved: boolean,
    items: readonly MatrixItem[],
  ): ChosenFormats
  /** Memory of a matrix in a format that the device holds. */
  matrixBytes(device: string, dtype: DType, format: NativeMatrixFormat, rows: number, cols: number): number
  /**
   * Allocates all weight memory; throws OUT_OF_MEMORY, DEVICE_UNAVAILABLE or INVALID_ARGUMENT. Matrices count as zero until they are
   * written, but their memory is not touched before (the first forward zeroes what nobody wrote).
   */
  createLayer(description: NativeLayerDescription): NativeLayer
  /** What `createLayer` would allocate, and what loading would take besides; nothing is allocated. */
  measureLayer(description: NativeLayerMeasure): {
    /** Of all weights, on the device. */
    bytes: number
    /** Of the host, behind the cache of a device with memory of its own. */
    pinnedBytes: number
    /** Memory of an expert in a cache; 0: the device keeps all experts in its memory. */
    expertBytes: number
    /** Host memory of each thread that loads: for the largest of the matrices. */
    scratchBytes: number
    /** And of each thread that reads experts for a cache. */
    readerScratchBytes: number
    loadThreads: number
  }
  /**
   * Reads, decodes and packs all items of all layers on threads of its own, in the order in which they lie in the files (scratch per thread: at
   * most one matrix as stored and as decoded). `progress` gets the bytes read so far and the index of the layer that is being read, at most
   * ~30 times a second; `done` gets null or an error, once, on the JS thread. Returns a cancel function; a cancelled load ends with CANCELLED.
   * Until `done` the layers refuse forwards, and after a load that failed they refuse them for good (another load may be tried).
   */
  loadLayers(
    layers: readonly NativeLayerLoad[],
    progress: ((loadedBytes: number, layer: number) => void) | null,
    done: (error: NativeError | null) => void,
  ): () => void
  /** Scratch of a forward of numTokens on a layer of this config, before there is one. */
  workspaceBytes(
    device: string,
    config: ResolvedMoeConfig,
    dtype: DType,
    numTokens: number,
    options: NativeForwardOptions,
    held?: HeldMatrices,
  ): number
  /** What that forward runs. */
  describeForward(
    device: string,
    config: ResolvedMoeConfig,
    dtype: DType,
    numTokens: number,
    options: NativeForwardOptions,
    held?: HeldMatrices,
  ): StageKernels

  createCachePolicy(shape: NativeCacheShape): NativeCachePolicy

  gate(device: string, ...inputs: [...GateInputs, routerLogits: Stored<Float32Array>]): void
  /** nonFinite may be null: nobody reads it. */
  selectExperts(
    device: string,
    routing: ResolvedRouting,
    vectors: RoutingVectors,
    routerLogits: Stored<Float32Array>,
    numTokens: number,
    tokenIds: Int32Array | null,
    topK: number | Uint8Array,
    topP: number | Float64Array,
    sequenceLengths: Int32Array | null,
    topkIds: Stored<Int32Array>,
    topkWeights: Stored<Float32Array>,
    nonFinite: Uint8Array | null,
  ): void
  dispatch(
    device: string,
    topkIds: Stored<Int32Array>,
    numSlots: number,
    numExperts: number,
    expertOffsets: Stored<Int32Array>,
    sortedSlots: Stored<Int32Array>,
  ): void
  expertMatmul(device: string, request: ExpertMatmulRequest, output: Stored<Float32Array>): void
  combine(
    device: string,
    expertOutput: Stored<Float32Array>,
    expertOffsets: Stored<Int32Array>,
    sortedSlots: Stored<Int32Array>,
    topkWeights: Stored<Float32Array>,
    numExperts: number,
    numTokens: number,
    topK: number,
    hiddenSize: number,
    output: Stored<Float32Array>,
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
  /** Copies one matrix in a stored form, whose parts are in memory. Refused as {@link setMatrix} is. */
  setEncoded(
    role: MatrixItem['role'],
    expert: number,
    matrix: MatrixItem['matrix'],
    encoding: MatrixEncoding,
    parts: EncodedBuffers,
  ): void
  /**
   * Queues a forward. `done` is called once, on the JS thread, never synchronously, with the figures of CallTimes. Returns a job id > 0.
   * Index arrays are copied at once; hidden, routerInput and output up to 1 MiB are copied or staged; larger ones are used in place and
   * must not be transferred before `done` (DETACHED tells when one was). These three are refused where they lie in resizable
   * buffers, and may be blocks of the layer's device instead, which are used in place.
   */
  forward(
    request: ForwardRequest,
    done: (
      error: NativeError | null,
      waitedMs: number,
      ranMs: number,
      batchTokens: number,
      isFirst: 0 | 1,
      fetchedBytes: number,
    ) => void,
  ): number
  /** See RuntimeCall.cancel. After 'dropped', `done` is not called. */
  cancel(jobId: number): 'dropped' | 'stopping' | 'done'
  /**
   * Blocks until the device is free, then runs on this thread and the pool. In a thread that may be terminated (`canEnd`) it runs on the
   * device's thread, while this one looks whether it is to end.
   */
  forwardSync(request: ForwardRequest, canEnd?: boolean): number
  workspaceBytes(numTokens: number): number
  /** What a forward of numTokens runs, stage by stage. */
  describeForward(numTokens: number): StageKernels
  /** workspaceBytes: held by the device at present, shared by all its layers. After dispose: what accepted calls still hold. */
  memory(): MemoryUse
  /** Null where all experts lie in memory, and after dispose. */
  cache(): CacheStats | null
  /** Null where the backend does not measure it, and after dispose. */
  phases(): PhaseSeconds | null
  /** Idempotent. Queued and running forwards finish first, a load is cancelled; new calls throw DISPOSED. */
  dispose(): void
}
