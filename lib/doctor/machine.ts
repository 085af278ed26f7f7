/** Probes of the machine: processor, memory, GPU driver. None throws, because the doctor has to work on a broken machine. */

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import os from 'node:os'
import { hostMemory } from '../devices/host-memory.js'

export interface CpuInfo {
  model: string
  /** Logical processors of the machine. */
  cores: number
  /** Those of the sets with kernels that this processor has; null where the system does not tell. */
  instructionSets: string[] | null
}

export interface MemoryInfo {
  totalBytes: number
  /** What this process can still get. */
  freeBytes: number
  /** The container's limit, where there is one. */
  limitBytes: number | null
}

/** An NVIDIA GPU as the driver lists it. */
export interface NvidiaGpu {
  name: string
  /** '9.0' … */
  computeCapability: string
}

export interface NvidiaInfo {
  /** Driver version, null without a driver. */
  driver: string | null
  cards: NvidiaGpu[]
}

/** The result of a probe, or the fallback when it throws. */
export function guarded<T, F>(probe: () => T, fallback: F): T | F {
  try {
    return probe()
  } catch {
    return fallback
  }
}

function readText(file: string): string | null {
  return guarded(() => readFileSync(file, 'utf8'), null)
}

const AVX2 = ['avx2', 'fma', 'f16c']
const AVX512 = ['avx512f', 'avx512bw', 'avx512vl', 'avx512dq']

/** Of x64: the kernel's names of the flags that each set needs. */
const FLAGS: [string, string[]][] = [
  ['avx2', AVX2],
  ['avxvnni', [...AVX2, 'avx_vnni']],
  ['avx512', AVX512],
  ['avx512vnni', [...AVX512, 'avx512_vnni']],
  ['avx512bf16', ['avx512_bf16']],
]

/** Of arm64. */
const ARM_FLAGS: [string, string[]][] = [
  ['neon', []],
  ['neondotprod', ['asimddp']],
  ['neoni8mm', ['asimddp', 'i8mm']],
]

export function probeCpu(): CpuInfo {
  const cpus = guarded(() => os.cpus(), [])
  return {
    model: cpus[0]?.model.trim() || 'unknown',
    cores: cpus.length,
    instructionSets: guarded(probeInstructionSets, null),
  }
}

/** What the kernel says of the first processor, as words. */
function processorFlags(line: 'flags' | 'Features'): string[] | undefined {
  return new RegExp(`^${line}\\s*:\\s*(.*)$`, 'm').exec(readText('/proc/cpuinfo') ?? '')?.[1]?.split(' ')
}

function probeInstructionSets(): string[] | null {
  const isArm = process.arch === 'arm64'
  const flags = isArm ? armFlags() : processorFlags('flags')
  if (!flags) return null
  const sets = isArm ? ARM_FLAGS : FLAGS
  return sets.filter(([, needed]) => needed.every(flag => flags.includes(flag))).map(([name]) => name)
}

/** As Linux names them; none where the system does not tell. */
function armFlags(): string[] {
  if (process.platform !== 'darwin') return processorFlags('Features') ?? []
  // Every processor of Apple's has dot products.
  const { stdout } = spawnSync('sysctl', ['-n', 'hw.optional.arm.FEAT_I8MM'], {
    encoding: 'utf8',
    timeout: 5000,
  })
  return stdout?.trim() === '1' ? ['asimddp', 'i8mm'] : ['asimddp']
}

/** CPUs that the container's quota allows, or null. */
export function probeCpuQuota(): number | null {
  const [quota, period] = (readText('/sys/fs/cgroup/cpu.max') ?? '').trim().split(' ')
  if (quota && period && quota !== 'max') return Number(quota) / Number(period)
  const oldQuota = Number(readText('/sys/fs/cgroup/cpu/cpu.cfs_quota_us') ?? '-1')
  const oldPeriod = Number(readText('/sys/fs/cgroup/cpu/cpu.cfs_period_us') ?? '0')
  return oldQuota > 0 && oldPeriod > 0 ? oldQuota / oldPeriod : null
}

export function probeMemory(): MemoryInfo {
  const machineBytes = guarded(() => os.totalmem(), 0)
  const { totalBytes, freeBytes } = guarded(hostMemory, { totalBytes: machineBytes, freeBytes: 0 })
  return { totalBytes: machineBytes, freeBytes, limitBytes: totalBytes < machineBytes ? totalBytes : null }
}

export function probeNvidia(): NvidiaInfo {
  const query = guarded(
    () =>
      spawnSync('nvidia-smi', ['--query-gpu=name,compute_cap,driver_version', '--format=csv,noheader'], {
        encoding: 'utf8',
        timeout: 5000,
        windowsHide: true,
      }),
    null,
  )
  const lines = query?.status === 0 ? query.stdout.split('\n').filter(line => line.includes(',')) : []
  const rows = lines.map(line => line.split(',').map(cell => cell.trim()))
  const cards = rows.map(([name = '', computeCapability = '']) => ({ name, computeCapability }))
  const fromKernel = /Kernel Module(?: for \S+)?\s+(\d[\d.]+)/.exec(
    readText('/proc/driver/nvidia/version') ?? '',
  )?.[1]
  return { driver: rows[0]?.[2] ?? fromKernel ?? null, cards }
}

/** Inside a container, as far as files tell. */
export function probeContainer(): boolean {
  return (
    existsSync('/.dockerenv') ||
    existsSync('/run/.containerenv') ||
    process.env.KUBERNETES_SERVICE_HOST !== undefined
  )
}
