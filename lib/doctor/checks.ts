/** From facts to verdicts: one row for each thing that goes wrong on users' machines. */

import { ARCHITECTURES } from '../checkpoint/gguf/architectures.js'
import { isOlder } from '../devices/native/libc.js'
import { knownModelTypes } from '../families/index.js'
import { GGUF_TYPES } from '../spec/formats.js'
import { GLIBC_FLOOR } from './glibc.js'
import type { DoctorCheck, DoctorReport } from './report.js'

/** Facts of a report, before it is judged. */
export type Facts = Omit<DoctorReport, 'checks' | 'ok'>

const pass = (name: string, detail: string): DoctorCheck => ({ name, ok: true, detail })
const fail = (name: string, detail: string, fix: string): DoctorCheck => ({ name, ok: false, detail, fix })

/** Variables that the package reads. */
export const KNOWN_VARIABLES: readonly string[] = [
  'SPARSE_EXPERTS_THREADS',
  'SPARSE_EXPERTS_CPU_ISA',
  'SPARSE_EXPERTS_CHECK',
  'SPARSE_EXPERTS_DEBUG',
  'SPARSE_EXPERTS_NATIVE_PATH',
  'SPARSE_EXPERTS_PREBUILD',
  'SPARSE_EXPERTS_CUDA_LIBRARY',
  'SPARSE_EXPERTS_CUDA_EARLY_LAUNCHES',
  'SPARSE_EXPERTS_CUDA_WARP_GROUPS',
  'SPARSE_EXPERTS_CUDA_GRAPHS',
  'SPARSE_EXPERTS_CUDA_WAVE_BYTES',
  'SPARSE_EXPERTS_TEST_DEVICES',
  'SPARSE_EXPERTS_EMULATED',
  'SPARSE_EXPERTS_SANITIZED',
]

const BUILD_FIX = "run 'npx sparse-experts build'; it names the tools that it needs"

/** All rows, the most basic first. */
export function judge(facts: Facts): DoctorCheck[] {
  return [
    checkNode(facts),
    checkPackageFiles(facts),
    ...checkAddonsAllowed(facts),
    ...checkLibc(facts),
    checkCheckpoints(),
    checkNative(facts),
    ...checkElectron(facts),
    checkProcessor(facts),
    checkThreads(facts),
    checkMemory(facts),
    checkEnvironment(facts),
    ...checkCuda(facts),
    ...checkSelfTest(facts),
  ]
}

function checkNode({ node }: Facts): DoctorCheck {
  const [major = 0, minor = 0] = node.version.split('.').map(Number)
  const supported = (major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22
  return supported
    ? pass('Node.js', `${node.version}, Node-API ${node.napi}`)
    : fail('Node.js', `${node.version} is not supported`, 'install Node.js 20.19 or newer, or 22.12 or newer')
}

function checkPackageFiles({ package: { root, isBundled }, native }: Facts): DoctorCheck {
  const name = 'package files'
  if (!isBundled) return pass(name, root)
  if (native.found) return pass(name, `part of a bundle, with the addon ${native.path}`)
  return fail(name, 'part of a bundle, without the addon', native.error?.fix ?? BUILD_FIX)
}

/** What is read is the same everywhere. */
function checkCheckpoints(): DoctorCheck {
  const counts = `${knownModelTypes().length} model types; GGUF, ${ARCHITECTURES.length} architectures`
  return pass('checkpoints', `safetensors, ${counts} in ${GGUF_TYPES.size} types of tensors`)
}

function checkAddonsAllowed({ node }: Facts): DoctorCheck[] {
  if (node.addonsAllowed) return []
  return [
    fail(
      'addons allowed',
      'this process must not load native addons',
      "drop '--no-addons', or add '--allow-addons' to '--permission'",
    ),
  ]
}

/** Whether the addon's symbols are here; where there is no addon, whether those of a prebuild would be. */
function checkLibc({ libc, native }: Facts): DoctorCheck[] {
  const name = 'C library'
  if (libc.name === 'none') return []
  if (libc.name === 'unknown') return [pass(name, 'unknown: this process may not read /proc/self/maps')]
  if (libc.name === 'musl') return [pass(name, 'musl (CPU only: NVIDIA has no CUDA for musl)')]
  const here = `glibc ${libc.version}`
  const { glibc, glibcxx } = native.needs ?? { glibc: GLIBC_FLOOR, glibcxx: null }
  const subject = native.needs ? 'the addon' : 'a prebuild'
  if (glibc !== null && libc.version !== null && isOlder(libc.version, glibc))
    return [fail(name, `${here} is older than ${glibc}, which ${subject} needs`, BUILD_FIX)]
  if (glibcxx !== null && libc.glibcxx !== null && isOlder(libc.glibcxx, glibcxx)) {
    const detail = `libstdc++ has GLIBCXX_${libc.glibcxx}, and ${subject} needs GLIBCXX_${glibcxx}`
    return [fail(name, detail, BUILD_FIX)]
  }
  return [pass(name, glibc === null ? here : `${here}; ${subject} needs ${glibc}`)]
}

function checkNative({ native }: Facts): DoctorCheck {
  const name = 'native addon'
  if (native.found) return pass(name, native.path ?? 'loaded')
  const [reason = ''] = (native.error?.message ?? 'not found').split('\n')
  return fail(name, reason, native.error?.fix ?? BUILD_FIX)
}

function checkElectron({ node }: Facts): DoctorCheck[] {
  if (!node.electron) return []
  return [
    pass(
      'Electron',
      `${node.electron}; results are copied, because its memory cage forbids external buffers`,
    ),
  ]
}

function checkProcessor({ cpu, devices, environment, native }: Facts): DoctorCheck {
  const name = 'processor'
  const forced = environment.SPARSE_EXPERTS_CPU_ISA
  const found = cpu.instructionSets?.join(', ') || 'no SIMD set with kernels'
  const device = devices.find(info => info.id === 'cpu')
  if (native.found && device && !device.available) {
    const fix = forced ? 'unset SPARSE_EXPERTS_CPU_ISA' : 'correct the variable that it names'
    return fail(name, device.reason ?? 'the CPU backend does not start', fix)
  }
  if (cpu.instructionSet === 'scalar' && (forced || cpu.instructionSets?.length !== 0)) {
    return fail(
      name,
      `${cpu.model}: kernels without SIMD are used although the processor has ${found}`,
      forced ? 'unset SPARSE_EXPERTS_CPU_ISA' : BUILD_FIX,
    )
  }
  const used = cpu.instructionSet ? `, uses ${cpu.instructionSet}${forced ? ' (forced)' : ''}` : ''
  return pass(name, `${cpu.model}: ${found}${used}`)
}

function checkThreads({ threads }: Facts): DoctorCheck {
  const name = 'threads'
  const { count, limitedBy, quota } = threads
  if (quota !== null && count > Math.ceil(quota)) {
    return fail(
      name,
      `${count}, by ${limitedBy}, but this container may use ${quota} CPUs: the threads are stopped in turn`,
      `set SPARSE_EXPERTS_THREADS=${Math.ceil(quota)}`,
    )
  }
  return pass(name, `${count}, by ${limitedBy}`)
}

function checkMemory({ memory }: Facts): DoctorCheck {
  const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`
  const limit =
    memory.limitBytes === null ? '' : `, this container's limit is ${gigabytes(memory.limitBytes)}`
  const detail = `${gigabytes(memory.freeBytes)} free of ${gigabytes(memory.totalBytes)}${limit}`
  if (memory.freeBytes > 0 && memory.freeBytes < 500e6) {
    return fail('memory', detail, "free some: even a small model's layer takes hundreds of megabytes")
  }
  return pass('memory', detail)
}

function checkEnvironment({ environment }: Facts): DoctorCheck {
  const name = 'environment'
  const unknown = Object.keys(environment).filter(key => !KNOWN_VARIABLES.includes(key))
  if (unknown.length > 0) {
    return fail(name, `nothing reads ${unknown.join(', ')}`, `known variables: ${KNOWN_VARIABLES.join(', ')}`)
  }
  const set = Object.entries(environment).map(([key, value]) => `${key}=${value}`)
  return pass(name, set.length > 0 ? set.join(' ') : 'no SPARSE_EXPERTS_ variable is set')
}

/** CUDA: driver, container, and GPU architecture. A machine without an NVIDIA GPU has no fault. */
function checkCuda({ cuda, devices, container, native }: Facts): DoctorCheck[] {
  const name = 'CUDA'
  const listed = devices.filter(device => device.id.startsWith('cuda:'))
  const working = listed.filter(device => device.available)
  const reasons = listed.filter(device => !device.available).map(info => `${info.id}: ${info.reason}`)
  const driver = cuda.driver ? `driver ${cuda.driver}` : 'no NVIDIA driver'
  if (working.length > 0) {
    const names = working.map(device => `${device.id} ${device.name} (${device.architecture})`)
    return [pass(name, oneLine([...names, driver, ...reasons].join(', ')))]
  }
  if (listed.length === 0 && cuda.driver === null && cuda.cards.length === 0) {
    const asked = process.env.NVIDIA_VISIBLE_DEVICES
    if (container && asked && asked !== 'void' && asked !== 'none') {
      return [
        fail(
          name,
          'this container expects an NVIDIA GPU (NVIDIA_VISIBLE_DEVICES is set) but sees no driver',
          "start it with '--gpus all' and the NVIDIA container toolkit on the host",
        ),
      ]
    }
    return [pass(name, 'no NVIDIA driver or GPU here')]
  }
  const gpus =
    cuda.cards.map(gpu => `${gpu.name} (compute ${gpu.computeCapability})`).join(', ') || 'an NVIDIA GPU'
  // Without the addon its absence is the reason, which has a row of its own.
  const because = native.found ? reasons.join('; ') || cuda.reason : ''
  const compiled = cuda.compiledArchitectures
  if (!compiled || compiled.length === 0) {
    const why = because || 'the native addon is missing'
    return [
      fail(
        name,
        oneLine(`${gpus}, ${driver}; ${why}`),
        "layers run on 'cpu' meanwhile; use a build of the package with a CUDA backend",
      ),
    ]
  }
  return [
    fail(
      name,
      oneLine(`${gpus}, ${driver}; compiled for ${compiled.join(', ')}; ${because}`),
      /lost/.test(because)
        ? 'restart the process: a lost device stays lost in it'
        : 'update the NVIDIA driver, or build from source for this GPU',
    ),
  ]
}

function oneLine(text: string): string {
  return text.replaceAll('\n', ' ')
}

function checkSelfTest({ selfTest }: Facts): DoctorCheck[] {
  const devices = [...new Set(selfTest.map(result => result.device))]
  return devices.map(device => {
    const results = selfTest.filter(result => result.device === device)
    const bad = results.filter(result => !result.ok)
    const name = `self-test ${device}`
    if (bad.length > 0) {
      const problems = bad.map(result => `${result.dtype}: ${result.problem}`).join('; ')
      return fail(name, problems, 'report it with the output of this command')
    }
    return pass(
      name,
      results.map(result => `${result.dtype} ${result.relativeError.toExponential(1)}`).join(', '),
    )
  })
}
