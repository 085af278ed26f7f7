/** What every opened checkpoint gives, whatever it is stored in. */

import type { Naming } from '../families/parts/family.js'
import type { OpenFiles } from './open-files.js'
import type { TensorEntry } from './safetensors.js'
import type { TensorNames } from './tensor-names.js'

/** A tensor and the file (absolute path) that holds it. */
export interface LocatedTensor extends TensorEntry {
  readonly file: string
}

/** What a container has of its own where it does not name tensors as models are published. */
export interface Container {
  /** A row's naming in the names of the container. */
  naming(published: Naming): Naming
  /** Names, below a layer, of tensors that change what its block computes. */
  readonly decisive: RegExp
  /** Those of them that layers without scores of their own may hold all the same. */
  readonly decisiveBias: RegExp
}

/** An opened checkpoint: names of all tensors, headers of the shards that were asked for, and those shards, which stay open. */
export interface CheckpointDirectory {
  /** The directory, or the GGUF file. */
  readonly directory: string
  /** Path of config.json, or of the GGUF file, for messages. */
  readonly configFile: string
  /** Absent: tensors have their published names. */
  readonly container?: Container
  /** The parsed config.json, or what a GGUF file says in its place. */
  readonly config: Readonly<Record<string, unknown>>
  /** What a user should know about how the directory was read. */
  readonly notices: readonly string[]
  readonly names: TensorNames
  /** The files whose headers were read. Whoever opened the checkpoint closes them. */
  readonly files: OpenFiles
  has(name: string): boolean
  /** Reads the headers of all files that hold a tensor whose name begins with `prefix`; rejects with `signal.reason`. */
  prepare(prefix: string, signal?: AbortSignal): Promise<void>
  /** A tensor of a prepared file. */
  get(name: string): LocatedTensor | undefined
}
