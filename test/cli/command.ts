/** Runs the command line and the examples as child processes, and makes the small checkpoint that they load. */

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { type CheckpointShape, writeCheckpoint } from '../../examples/demo/write-checkpoint.js'

export const repository = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..')

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

export interface CommandResult {
  status: number | null
  stdout: string
  stderr: string
}

/** A TypeScript file of the repository as a child process. */
export function startScript(
  file: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): ChildProcess {
  const { FORCE_COLOR: _, ...inherited } = process.env
  return spawn(process.execPath, ['--import', 'tsx', path.join(repository, file), ...args], {
    cwd: repository,
    env: { ...inherited, NO_COLOR: '1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

/** Collects what a child says until it ends. */
export function finished(child: ChildProcess): Promise<CommandResult> {
  let stdout = ''
  let stderr = ''
  child.stdout?.setEncoding('utf8').on('data', text => {
    stdout += text
  })
  child.stderr?.setEncoding('utf8').on('data', text => {
    stderr += text
  })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', status => resolve({ status, stdout, stderr }))
  })
}

export function runScript(
  file: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<CommandResult> {
  return finished(startScript(file, args, env))
}

/** `sparse-experts …` from the sources. */
export function command(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<CommandResult> {
  return runScript('lib/cli/main.ts', args, env)
}

/** An empty directory that {@link removeDirectories} deletes. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(path.join(os.tmpdir(), 'sparse-experts-test-'))
  made.push(directory)
  return directory
}

const made: string[] = []

export async function removeDirectories(): Promise<void> {
  await Promise.all(made.splice(0).map(directory => rm(directory, { recursive: true, force: true })))
}

/** A checkpoint in DeepSeek-V3's layout. */
export async function tinyCheckpoint(shape: CheckpointShape = TINY): Promise<string> {
  const directory = await temporaryDirectory()
  await writeCheckpoint(directory, shape)
  return directory
}
