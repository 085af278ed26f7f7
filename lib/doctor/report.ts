/** What the doctor reports: facts of this machine and this installation, and a verdict on each thing that can go wrong. */

import type { DeviceInfo } from '../devices/device.js'
import type { LibcInfo, NeededVersions } from '../devices/native/libc.js'
import type { CpuInfo, MemoryInfo, NvidiaInfo } from './machine.js'
import type { SelfTestResult } from './self-test.js'

/** One verdict. */
export interface DoctorCheck {
  name: string
  ok: boolean
  /** What was found. */
  detail: string
  /** What to do about it; only where it is not ok. */
  fix?: string
}

/** Plain data: prints as JSON. */
export interface DoctorReport {
  package: {
    version: string
    /** Its directory; of a bundle that it is part of, the place where that would be. */
    root: string
    /** The package's code is part of a bundle. */
    isBundled: boolean
  }
  node: {
    version: string
    napi: string
    /** '' outside of Electron. */
    electron: string
    /** False under `--no-addons` or the permission model. */
    addonsAllowed: boolean
  }
  os: { platform: string; arch: string; release: string }
  libc: LibcInfo
  cpu: CpuInfo & {
    /** The set in use, null without the addon. */
    instructionSet: string | null
  }
  threads: {
    count: number
    limitedBy: string
    /** CPUs that the container may use, null without a limit. */
    quota: number | null
  }
  memory: MemoryInfo
  container: boolean
  native: {
    found: boolean
    /** The addon's file, also one that did not load. */
    path?: string
    /** The newest versions of the C and C++ library's symbols that the file asks for. */
    needs?: NeededVersions
    /** Compiler, flags and sanitizers. */
    build?: string
    abiVersion?: number
    error?: { code: string; message: string; fix?: string }
  }
  cuda: NvidiaInfo & {
    /** Of this build, 'sm_90', 'compute_90' (which later GPUs compile for themselves) …; empty without a CUDA backend. */
    compiledArchitectures: string[]
    /** Why the first CUDA device cannot serve, or why there is none; '' where it serves. */
    reason: string
  }
  devices: DeviceInfo[]
  /** SPARSE_EXPERTS_* variables in force. */
  environment: Record<string, string>
  selfTest: SelfTestResult[]
  checks: DoctorCheck[]
  /** Every check passed. */
  ok: boolean
}
