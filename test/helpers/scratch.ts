/** Directories that a suite writes into, and the small checkpoint that programs load. */

import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { type CheckpointShape, writeCheckpoint } from '../../examples/demo/write-checkpoint.js'

/** Ragged fp8 blocks in both directions, groups, a shared expert, a dense layer 0. */
export const TINY: CheckpointShape = {
  hiddenSize: 132,
  moeIntermediateSize: 130,
  numExperts: 16,
  topK: 4,
  numGroups: 4,
  topkGroup: 2,
  intermediateSize: 40,
  numShards: 2,
}

const made: string[] = []

/** An empty directory that {@link removeDirectories} deletes. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(path.join(os.tmpdir(), 'sparse-experts-test-'))
  made.push(directory)
  return directory
}

export async function removeDirectories(): Promise<void> {
  await Promise.all(made.splice(0).map(directory => rm(directory, { recursive: true, force: true })))
}

/** A checkpoint in DeepSeek-V3's layout. */
export async function tinyCheckpoint(shape: CheckpointShape = TINY): Promise<string> {
  const directory = await temporaryDirectory()
  await writeCheckpoint(directory, shape)
  return directory
}
