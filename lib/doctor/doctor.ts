/** What runs on this machine, what does not, and why: the facts and verdicts behind `sparse-experts doctor`. */

import os from 'node:os'
import { type DeviceInfo, type KnownDevice, knownDevices } from '../devices/device.js'
import { tryLoadNative } from '../devices/native/addon.js'
import { libc, neededVersions } from '../devices/native/libc.js'
import { location } from '../devices/native/location.js'
import { PACKAGE_VERSION } from '../spec/version.js'
import { judge } from './checks.js'
import { guarded, probeContainer, probeCpu, probeCpuQuota, probeMemory, probeNvidia } from './machine.js'
import type { DoctorReport } from './report.js'
import { selfTest } from './self-test.js'

/** The backend that the report's part on NVIDIA's driver and GPUs is about. */
const CUDA = 'cuda'

/**
 * Examines the installation: Node, addon, processor, threads, memory, CUDA, and a small layer on every device against the reference.
 * Takes well under a second. Never throws.
 *
 * @example
 * const { ok, checks } = doctor()
 * if (!ok) console.error(checks.filter(check => !check.ok))
 */
export function doctor(): DoctorReport {
  const { root, isBundled } = location()
  const known = guarded(knownDevices, [] as KnownDevice[])
  const devices = known.map(({ info }) => info)
  const cpuDevice = known.find(({ kind, info }) => kind === 'cpu' && info.available)?.info
  const cuda = known.find(({ backend }) => backend.name === CUDA)?.info
  const facts = {
    package: { version: PACKAGE_VERSION, root, isBundled },
    node: {
      version: process.versions.node,
      napi: process.versions.napi ?? '',
      electron: process.versions.electron ?? '',
      addonsAllowed: guarded(areAddonsAllowed, true),
    },
    os: { platform: process.platform, arch: process.arch, release: guarded(() => os.release(), '') },
    libc: libc(),
    cpu: { ...probeCpu(), instructionSet: cpuDevice?.architecture ?? null },
    threads: probeThreads(cpuDevice),
    memory: probeMemory(),
    container: guarded(probeContainer, false),
    native: probeNative(),
    cuda: { ...probeNvidia(), compiledArchitectures: probeArchitectures(), reason: cuda?.reason ?? '' },
    devices,
    environment: probeEnvironment(),
    selfTest: selfTest(devices),
  }
  const checks = judge(facts)
  return { ...facts, checks, ok: checks.every(check => check.ok) }
}

function areAddonsAllowed(): boolean {
  const options = [...process.execArgv, ...(process.env.NODE_OPTIONS ?? '').split(/\s+/)]
  if (options.includes('--no-addons')) return false
  const permission = (process as { permission?: { has(scope: string): boolean } }).permission
  if (!permission) return true
  // Releases that cannot be asked about addons still forbid them without the flag.
  return guarded(() => permission.has('addon'), false) || options.includes('--allow-addons')
}

function probeArchitectures(): string[] {
  const native = guarded(tryLoadNative, null)
  if (!native || 'error' in native) return []
  const { addon } = native
  const backends = guarded(() => addon.backends(), [])
  return (
    backends
      .find(({ name }) => name === CUDA)
      ?.architectures.split(' ')
      .filter(Boolean) ?? []
  )
}

function probeEnvironment(): Record<string, string> {
  const found: Record<string, string> = {}
  for (const [key, value] of Object.entries(process.env)) {
    if (key.startsWith('SPARSE_EXPERTS_') && value !== undefined) found[key] = value
  }
  return found
}

function probeThreads(cpu: DeviceInfo | undefined): DoctorReport['threads'] {
  const asked = process.env.SPARSE_EXPERTS_THREADS
  const available = guarded(() => os.availableParallelism(), 1)
  const cores = guarded(() => os.cpus().length, available)
  const quota = guarded(probeCpuQuota, null)
  if (!cpu) return { count: 1, limitedBy: 'the reference, which has one thread', quota }
  const count = cpu.computeUnits
  if (asked) return { count, limitedBy: `SPARSE_EXPERTS_THREADS=${asked}`, quota }
  if (quota !== null && count === Math.ceil(quota) && count < cores) {
    return { count, limitedBy: `this container's quota of ${quota} CPUs`, quota }
  }
  if (count < cores) return { count, limitedBy: `the process's affinity to ${count} of ${cores} CPUs`, quota }
  return { count, limitedBy: `the machine's ${cores} logical CPUs`, quota }
}

function probeNative(): DoctorReport['native'] {
  return guarded(
    () => {
      const native = tryLoadNative()
      if ('error' in native) {
        const { code, message, details } = native.error
        const { file, fix } = details as { file: string | null; fix: string }
        const tried = file === null ? {} : { path: file, needs: neededVersions(file) }
        return { found: false, ...tried, error: { code, message, fix } }
      }
      const { addon, file } = native
      const { build, abiVersion } = addon
      return { found: true, path: file, needs: neededVersions(file), build, abiVersion }
    },
    { found: false, error: { code: 'ERR_MOE_NATIVE_LOAD', message: 'the loader itself failed' } },
  )
}
