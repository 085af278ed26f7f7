/** Suites of CUDA devices: where they run, what the devices count, and programs on emulated machines. */

import { setTimeout as sleep } from 'node:timers/promises'
import { describe } from 'vitest'
import { loadNative } from '../../lib/devices/native/addon.js'
import type { NativeCounters } from '../../lib/devices/native/binding-contract.js'
import type { DeviceOption } from '../../lib/index.js'
import { cudaDevices, withoutCuda } from './devices.js'
import { runProgram } from './run-program.js'
import { isEmulated } from './tiny-layer.js'

if (withoutCuda) console.warn(`skipped, no CUDA device: ${withoutCuda}`)

/** Once per CUDA device that is tested; skipped with the reason printed where there is none. */
export function describeCuda(name: string, body: (device: DeviceOption) => void): void {
  if (withoutCuda) describe.skip(name, () => body('cuda:0'))
  else describe.each([...cudaDevices])(`${name} on %s`, device => body(device as DeviceOption))
}

/** Failures can be planned. */
export const onEmulator = cudaDevices.some(isEmulated)

/** For programs on emulated machines of their own. */
export function describeEmulated(name: string, body: () => void): void {
  describe.skipIf(!onEmulator)(name, body)
}

export function counters(device: string): NativeCounters {
  return loadNative().counters(device)
}

/**
 * Bytes that the device holds of what is still in use. Layers and tensors that earlier tests forgot count until they are collected, at
 * whatever moment that is, so a later figure is compared with this one and not with the bare counter.
 */
export async function settledDeviceBytes(device: string): Promise<number> {
  const { gc } = globalThis as { gc?: () => void }
  if (!gc) throw new Error('the suites run with --expose-gc')
  let held = counters(device).deviceBytes
  for (let unchanged = 0; unchanged < 3; ) {
    gc()
    await sleep(5)
    const now = counters(device).deviceBytes
    unchanged = now === held ? unchanged + 1 : 0
    held = now
  }
  return held
}

/** What `body` adds to the device's counters. */
export async function counted(device: string, body: () => unknown): Promise<NativeCounters> {
  await settledDeviceBytes(device)
  const before = counters(device)
  await body()
  const after = counters(device)
  const names = Object.keys(after) as (keyof NativeCounters)[]
  return Object.fromEntries(names.map(name => [name, after[name] - before[name]])) as never
}

/** Runs a program of test/devices/fixtures, which prints one JSON value. */
export async function runFixture<Result>(name: string, env: NodeJS.ProcessEnv): Promise<Result> {
  const { status, stdout, stderr } = await runProgram(`test/devices/fixtures/${name}.ts`, [], {
    ...env,
    SPARSE_EXPERTS_TEST_DEVICES: '',
  })
  if (status !== 0) throw new Error(`${name} ended with ${status}: ${stderr}\n${stdout}`)
  return JSON.parse(stdout) as Result
}
