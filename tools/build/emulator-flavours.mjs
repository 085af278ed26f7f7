/** The emulated CUDA backend's flavours, each built in a tree of its own, and what a process needs to open one. */

import path from 'node:path'
import { sanitizerEnvironment } from '../test/sanitizers.mjs'
import { buildPreset } from './tree.mjs'

/**
 * - plain: optimised; what the emulator itself sees (NaN-poisoned shared memory, barriers, asynchronous copies, deadlocks)
 * - address: AddressSanitizer and UndefinedBehaviorSanitizer in kernels, host code and emulator
 * - race: kernels instrumented for the emulator's race detector
 */
export const FLAVOURS = ['plain', 'address', 'race']
export const SCHEDULES = ['forward', 'reverse', 'random', 'skewed']

/** Options that every script about the emulator takes. */
export const EMULATOR_OPTIONS = {
  flavour: { type: 'string', default: 'plain' },
  schedule: { type: 'string' },
  seed: { type: 'string' },
  /** Compute capability of the emulated device, 80 by default: on 90 many tokens per expert run on wgmma. */
  capability: { type: 'string' },
}

/** Ends the process on a value that no flavour, schedule, seed or capability has. */
export function checkEmulatorOptions(script, { flavour, schedule, seed, capability }) {
  const refuse = text => {
    console.error(`${script}: ${text}`)
    process.exit(2)
  }
  if (!FLAVOURS.includes(flavour)) refuse(`--flavour takes ${FLAVOURS.join(', ')}, received '${flavour}'`)
  if (schedule !== undefined && !SCHEDULES.includes(schedule))
    refuse(`--schedule takes ${SCHEDULES.join(', ')}, received '${schedule}'`)
  if (seed !== undefined && !/^\d+$/.test(seed)) refuse(`--seed takes a whole number, received '${seed}'`)
  if (capability !== undefined && !/^\d{2,3}$/.test(capability))
    refuse(`--capability takes a number such as 80 or 90, received '${capability}'`)
}

/** Builds targets of a flavour, incrementally. Ends the process where they do not compile. */
export function buildEmulator(flavour, targets) {
  const tree = buildPreset(flavour === 'plain' ? 'emulator' : `emulator-${flavour}`, targets)
  return { tree, library: path.join(tree, 'Release/libsparse_experts_cuda.so') }
}

/** Environment of a run: the schedule, the device, and for the address flavour where its reports go. */
export function emulatorEnvironment({ flavour, schedule, seed, capability }, tree) {
  const sanitizer = flavour === 'address' ? sanitizerEnvironment(path.join(tree, 'reports')) : {}
  // Every emulated thread has a stack of its own, and a second one of AddressSanitizer's for each makes runs many times as long.
  if (sanitizer.ASAN_OPTIONS) sanitizer.ASAN_OPTIONS += ':detect_stack_use_after_return=0'
  return {
    ...(schedule && { SIMT_SCHEDULE: schedule }),
    ...(seed && { SIMT_SEED: seed }),
    ...(capability && { SIMT_COMPUTE_CAPABILITY: capability }),
    ...sanitizer,
  }
}
