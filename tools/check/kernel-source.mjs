/**
 * Holds kernel source to the rules that let nvcc and the emulator take the same files and see the same things (CONTRIBUTING.md lists
 * them). Prints every breach; exits 1 on any. `--directory DIR` checks another folder than csrc/cuda.
 */

import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { root } from '../repository.mjs'

const { values } = parseArgs({ options: { directory: { type: 'string' } } })
const base = path.resolve(root, values.directory ?? 'csrc/cuda')

const PTX = /(^|\/)common\/ptx\w*\.cuh$/
const LAUNCH = /(^|\/)common\/launch\.cuh$/
const PTX_OR_NUM = /(^|\/)common\/(num|ptx\w*)\.cuh$/
const VARIANTS = /(^|\/)(variants\.(h|cc)|ops\/limits\.h|runtime\/(device|availability)\.(h|cc))$/
const DRIVER = /(^|\/)runtime\/tensor_map\.cc$/
const DEVICE = /\.(cu|cuh)$/
const nowhere = /(?!)/

/** What no line may hold, but in the files that `home` names. Comments and strings are not looked at. */
const RULES = [
  // R1: the emulator has a twin of each wrapper; anything else would be opaque to it.
  {
    pattern: /\basm\b\s*(volatile\b\s*)?\(/,
    home: PTX,
    marker: 'ptx-ok',
    text: 'inline PTX belongs in common/ptx*.cuh',
  },
  // R2
  {
    pattern: /\b__shared__\b/,
    home: LAUNCH,
    text: 'shared memory only through SE_SHARED and SE_DYNAMIC_SHARED',
  },
  { pattern: /<<</, home: nowhere, text: 'kernels are launched by launch() only' },
  {
    pattern: /\bcudaLaunch\w+/,
    home: LAUNCH,
    except: /\bcudaLaunchHostFunc\b/,
    text: 'kernels are launched by launch() only',
  },
  // R3
  { pattern: /\b__cvta_\w+/, home: PTX, text: 'shared addresses only from ptx::smem_u32' },
  // R4
  {
    pattern: /\b__(shfl(_up|_down|_xor)?|ballot|any|all)\s*\(/,
    home: nowhere,
    text: 'warp intrinsics take an explicit mask (_sync)',
  },
  {
    pattern: /\b__activemask\b/,
    home: nowhere,
    text: 'a mask says which lanes take part, not which happen to be there',
  },
  // R5
  {
    pattern: /\b__nanosleep\b|\bcooperative_groups\b|\bcuda::barrier\b/,
    home: nowhere,
    text: 'no waiting between blocks',
  },
  {
    pattern: /\bwhile\s*\([^)]*\batomic\w+\s*\(/,
    home: nowhere,
    text: 'no spin loops: waits are wrappers in common/ptx*.cuh',
  },
  { pattern: /\bvolatile\b/, home: PTX, marker: 'ptx-ok', text: 'nothing may be polled' },
  // R6
  {
    pattern: /\b(threadIdx|blockIdx|blockDim|gridDim)\b(?!\s*\.)/,
    home: LAUNCH,
    text: 'is a name of CUDA (a macro in the emulator)',
  },
  // R7
  {
    pattern:
      /\b(__half2?|half2|__nv_bfloat16\w*|nv_bfloat16\w*|__h(add|sub|mul|div|fma|max|min|neg)\w*|__(float|bfloat16|half)\d?2\w*(half|bfloat16)\w*)\b/,
    home: nowhere,
    text: 'half types and intrinsics belong in common/num.cuh, as bit patterns',
  },
  // R8
  {
    pattern: /\b__CUDA_ARCH\w*/,
    home: PTX_OR_NUM,
    text: 'no branches on the architecture: it is a row of cuda/variants.cc',
  },
  {
    pattern: /\bcompute_capability\b/,
    home: VARIANTS,
    text: 'only the table of variants chooses by the architecture',
  },
  { pattern: /\bwarpSize\b/, home: nowhere, text: 'the warp width is 32' },
  // Numerics: what the emulator computes is what the GPU computes.
  {
    pattern:
      /\b(__fdividef|__(exp|exp10|log|log2|log10|sin|cos|tan|pow)f|__saturatef|__f(add|mul|maf?|sqrt|rcp|div)_\w+|use_fast_math)\b/,
    home: nowhere,
    text: 'accurate functions only',
  },
  {
    pattern: /\batomic(Add|Sub)\s*\(\s*(&\s*)?reinterpret_cast<(float|double)/,
    home: nowhere,
    text: 'no floating-point sum by atomics',
  },
]
/** Device code only. */
const DEVICE_RULES = [
  { pattern: /\b(printf|assert|malloc|free|abort|exit)\s*\(/, home: nowhere, text: 'not in device code' },
  {
    pattern: /\batomic(?!Add\b|Min\b|Max\b|CAS\b|Exch\b|Or\b|And\b)[A-Z]\w*/,
    home: nowhere,
    text: 'an atomic that the emulator does not have',
  },
]
const SYNC = /\b__(?:shfl(?:_up|_down|_xor)?|ballot|any|all|match_any|reduce_\w+)_sync\s*\(\s*([^,]*),/g

/** Blanks comments, strings and characters, keeping lines and columns. */
function blank(text) {
  return text.replace(/\/\/[^\n]*|\/\*[\s\S]*?\*\/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])'/g, match =>
    match.startsWith('"') ? `"${' '.repeat(match.length - 2)}"` : match.replace(/[^\n]/g, ' '),
  )
}

function sourcesBelow(directory) {
  return readdirSync(directory, { withFileTypes: true }).flatMap(entry => {
    const file = path.join(directory, entry.name)
    if (entry.isDirectory()) return sourcesBelow(file)
    return /\.(cu|cuh|cc|h)$/.test(entry.name) ? [file] : []
  })
}

const breaches = []
let numKernels = 0
const files = sourcesBelow(base).sort()
for (const file of files) {
  const name = path.relative(root, file)
  const raw = readFileSync(file, 'utf8')
  const rawLines = raw.split('\n')
  const code = blank(raw)
  const rules = DEVICE.test(file) ? [...RULES, ...DEVICE_RULES] : RULES
  code.split('\n').forEach((line, index) => {
    for (const { pattern, home, except, marker, text } of rules) {
      if (home.test(file)) continue
      const found = pattern.exec(except ? line.replace(except, '') : line)
      if (!found || (marker && rawLines[index].includes(marker))) continue
      breaches.push(`${name}:${index + 1}: ${found[0].trim()}: ${text}`)
    }
  })
  const lineOf = offset => code.slice(0, offset).split('\n').length
  for (const match of code.matchAll(SYNC)) {
    if (match[1].trim() === '') breaches.push(`${name}:${lineOf(match.index)}: an explicit mask`)
  }
  // The emulator has the toolkit's runtime header, and of the driver's what describes tensors.
  for (const [, header] of raw.matchAll(
    /^[ \t]*#[ \t]*include[ \t]*<((?:cuda|cub|thrust|cooperative|mma|nv)[^>]*)>/gm,
  )) {
    if (header !== 'cuda_runtime.h' && !(header === 'cuda.h' && DRIVER.test(file)))
      breaches.push(`${name}: <${header}>: only <cuda_runtime.h> of the toolkit`)
  }
  // Without bounds the compiler plans registers for 1024 threads, or for too many.
  for (const match of code.matchAll(/\b__global__\b([^;{]*)([;{])/g)) {
    if (match[2] === ';') continue // a declaration or an instantiation
    numKernels++
    if (!match[1].includes('__launch_bounds__'))
      breaches.push(`${name}:${lineOf(match.index)}: a kernel has __launch_bounds__`)
    // Launched early, a kernel that does not wait would read what the one before has yet to write.
    if (!/^\s*await_launches\(\);/.test(code.slice(match.index + match[0].length)))
      breaches.push(`${name}:${lineOf(match.index)}: a kernel begins with await_launches()`)
  }
}

if (breaches.length > 0) {
  console.error(`${breaches.join('\n')}\n\n${breaches.length} breaches of the kernel rules`)
  process.exit(1)
}
console.log(`kernel-source: ${files.length} files with ${numKernels} kernels keep the rules`)
