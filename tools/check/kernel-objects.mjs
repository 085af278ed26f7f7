/** What nvcc said of the kernels in an object, what stands in their PTX and in their loops: read from the sections that ptxas-log.mjs adds. */

import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { gunzipSync } from 'node:zlib'
import { productLoops } from './machine-code.mjs'

/** Instructions of the census: name → pattern of a PTX line. */
const CENSUS = {
  mma: /^mma\.sync/,
  wgmma: /^wgmma\.mma_async/,
  ldmatrix: /^ldmatrix\./,
  'cp.async': /^cp\.async\.c[ag]/,
  'cp.async.bulk': /^cp\.async\.bulk/,
  mbarrier: /^mbarrier\./,
  'bar.sync': /^bar(rier)?\.(cta\.)?(sync|red)/,
  shfl: /^shfl\.sync/,
  vote: /^(vote|match|redux)\.(sync|any|all)/,
  atom: /^(atom|red)\./,
  fma: /^fma\.rn\.f32/,
  'ld.global': /^ld\.global/,
  'st.global': /^st\.global/,
  'ld.shared': /^ld\.shared/,
  'st.shared': /^st\.shared/,
  local: /^(ld|st)\.local/,
}

const ENTRY =
  /entry function '(\w+)' for 'sm_(\d+)a?'\n.*Function properties for \w+\n\s+(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads\n.*Used (\d+) registers(.*)/g

const REMARK = /^ptxas info\s*: \(C7\d{3}\).*$/gm

/**
 * What the compiler says of wgmma and setmaxnreg where it could not do as the kernel asks: it ignores the registers (C7508), runs products one
 * after the other (C7510 to C7515), waits in between (C7517, C7519). The kernel is right all the same and a fraction as fast.
 */
export const remarksIn = log => log.match(REMARK) ?? []

function shorten(text) {
  const name = text
    .replace(/^void /, '')
    .replace(/\(anonymous namespace\)::|_GLOBAL__N__\w+::|_INTERNAL_\w+::/g, '')
    .replace(/sparse_experts::cuda::/g, '')
  // The arguments begin at the first parenthesis outside of the template's.
  let depth = 0
  for (let i = 0; i < name.length; i++) {
    if (name[i] === '<') depth++
    else if (name[i] === '>') depth--
    else if (name[i] === '(' && depth === 0) return name.slice(0, i).replace(/\((\w+)\)/g, '')
  }
  return name.replace(/\((\w+)\)/g, '')
}

/** Mangled → readable, without namespaces and arguments. */
function demangle(names) {
  const result = spawnSync('c++filt', { input: names.join('\n'), encoding: 'utf8' })
  if (result.status !== 0) throw new Error('c++filt (binutils) is needed')
  const readable = result.stdout.trimEnd().split('\n').map(shorten)
  return new Map(names.map((name, index) => [name, readable[index]]))
}

/** The text of the sections `.se_ptxas`, `.se_ptx` and `.se_code` of an object. */
function readSections(object) {
  const folder = mkdtempSync(path.join(tmpdir(), 'kernel-objects-'))
  try {
    const files = ['se_ptxas', 'se_ptx', 'se_code'].map(name => path.join(folder, name))
    const flags = files.flatMap(file => ['--dump-section', `.${path.basename(file)}=${file}`])
    execFileSync('objcopy', [...flags, object, path.join(folder, 'copy.o')], { stdio: 'pipe' })
    return files.map(file => readFileSync(file, 'utf8'))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/**
 * Adds the figures of each kernel of an object to `kernels`: name → { unit, architectures, threads, leastBlocks, instructions }, and the
 * compiler's remarks to `remarks`.
 */
function readObject(object, kernels, remarks) {
  const [log, ptx, code] = readSections(object)
  for (const text of remarksIn(log)) remarks.push(`${path.basename(object, '.o')}: ${text}`)
  const report = log.replace(REMARK, '').replace(/\n{2,}/g, '\n')
  const entries = [...report.matchAll(ENTRY)]
  const count = report.match(/Compiling entry function/g)?.length ?? 0
  if (entries.length !== count || count === 0)
    throw new Error(`${object}: ${entries.length} of ${count} kernels could be read`)
  const bodies = [...ptx.matchAll(/\.entry (\w+)\(/g)]
  const readable = demangle([...new Set([...entries, ...bodies].map(([, name]) => name))])
  const kernelOf = mangled =>
    (kernels[readable.get(mangled)] ??= { unit: path.basename(object, '.o'), architectures: {} })
  for (const [, name, architecture, stack, stores, loads, registers, rest] of entries) {
    kernelOf(name).architectures[architecture] = {
      registers: Number(registers),
      stack: Number(stack),
      spills: Number(stores) + Number(loads),
      shared: Number(/(\d+) bytes smem/.exec(rest)?.[1] ?? 0),
    }
  }
  for (const [architecture, cubin] of Object.entries(JSON.parse(code))) {
    for (const [name, [longest]] of productLoops(
      gunzipSync(Buffer.from(cubin, 'base64')),
      Number(architecture),
    ))
      kernelOf(name).architectures[architecture].loop = longest
  }
  bodies.forEach(({ index, 1: name }, i) => {
    const body = ptx.slice(index, bodies[i + 1]?.index)
    const kernel = kernelOf(name)
    kernel.threads = Number(/\.maxntid (\d+)/.exec(body)?.[1] ?? 0)
    kernel.leastBlocks = Number(/\.minnctapersm (\d+)/.exec(body)?.[1] ?? 1)
    kernel.instructions = countInstructions(body)
  })
}

function countInstructions(body) {
  const counts = Object.fromEntries(Object.keys(CENSUS).map(key => [key, 0]))
  let all = 0
  for (const line of body.split('\n')) {
    const instruction = line.trim().replace(/^@!?%p\d+\s+/, '')
    if (!/^[a-z][\w.:]*\s.*;$|^[a-z][\w.]*;$/.test(instruction) || instruction.startsWith('.')) continue
    all++
    for (const [key, pattern] of Object.entries(CENSUS)) if (pattern.test(instruction)) counts[key]++
  }
  return { all, ...counts }
}

/**
 * The figures of all kernels of a build tree: name → { unit, architectures, threads, leastBlocks, instructions }; and what the compiler says
 * of kernels that it could not compile as they ask.
 */
export function readKernels(tree) {
  const objects = readdirSync(path.join(tree, 'CMakeFiles'), { recursive: true })
    .filter(file => /^se_kernels_\w+\.dir\/.*\.cu\.o$/.test(file))
    .sort()
  if (objects.length === 0) throw new Error(`no kernels in ${tree}`)
  const kernels = {}
  const remarks = []
  for (const object of objects) readObject(path.join(tree, 'CMakeFiles', object), kernels, remarks)
  return { kernels, remarks }
}
