/**
 * Holds the dependencies between directories one way, and the native sources in one list. Prints every breach; exits 1 on any.
 *
 * Native: binding → engine → cpu | cuda → ops → formats → core; abi/, the C ABI, is the floor that all stand on.
 * TypeScript: cli → index → api → devices → families, checkpoint, reference → types; LAYERS below is that order.
 */

import { readFileSync } from 'node:fs'
import path from 'node:path'
import { repositoryFiles, root } from '../repository.mjs'

const breaches = []
const files = repositoryFiles()
const read = file => readFileSync(path.join(root, file), 'utf8')
const breach = (file, text) => breaches.push(`${file}: ${text}`)

// ---- native -----------------------------------------------------------------------------------------------------------------

/** Directory of csrc → directories that it may include, the C ABI among them. */
const NATIVE_MAY_INCLUDE = {
  abi: ['abi'],
  core: ['core', 'abi'],
  formats: ['formats', 'core', 'abi'],
  ops: ['ops', 'formats', 'core', 'abi'],
  cpu: ['cpu', 'ops', 'formats', 'core', 'abi'],
  cuda: ['cuda', 'ops', 'formats', 'core', 'abi'],
  engine: ['engine', 'cpu', 'ops', 'formats', 'core', 'abi'],
  binding: ['binding', 'engine', 'ops', 'formats', 'core', 'abi'],
}
/** System headers that only one directory may know. */
const SYSTEM_HEADER_HOME = [
  [/^(napi|node_api|js_native_api)/, 'binding'],
  [/^(cuda|cublas|cooperative_groups|nv)/, 'cuda'],
  [/^(immintrin|x86intrin|arm_neon)\.h$/, 'cpu'],
]
const NODE_INTERNALS = /^(v8|node|node_buffer|uv)\.h$/

const nativeFiles = files.filter(file => /^csrc\/.*\.(h|cc|cu|cuh)$/.test(file))
for (const file of nativeFiles) {
  const home = file.split('/')[1]
  const allowed = NATIVE_MAY_INCLUDE[home]
  if (!allowed) {
    breach(file, `csrc/${home} has no place in the order of directories`)
    continue
  }
  const text = read(file)
  for (const [, quote, header] of text.matchAll(/^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]/gm)) {
    if (quote === '"') {
      const target = header.split('/')[0]
      if (!header.includes('/') || !files.includes(`csrc/${header}`)) {
        breach(file, `#include "${header}" is not a path below csrc/`)
      } else if (!allowed.includes(target))
        breach(file, `csrc/${home} must not include csrc/${target} ("${header}")`)
    } else {
      for (const [pattern, owner] of SYSTEM_HEADER_HOME) {
        if (pattern.test(header) && home !== owner) breach(file, `<${header}> belongs to csrc/${owner} only`)
      }
      if (NODE_INTERNALS.test(header)) breach(file, `<${header}> is not part of Node-API`)
    }
  }
  // A reference that outlives its environment crashes the second worker thread that loads the addon.
  for (const [found] of text.matchAll(/^[ \t]*(?:static|thread_local)\b[^;(=]*Napi::\w*Reference\b.*$/gm)) {
    breach(file, `no static Napi reference: ${found.trim()}`)
  }
}

// Every source stands once in CMake, and nowhere else.
const cmakeText = files
  .filter(file => file === 'CMakeLists.txt' || /^cmake\/.*\.cmake$/.test(file))
  .map(file =>
    read(file)
      .replace(/#.*$/gm, '')
      .replace(/set_source_files_properties\([^)]*\)/g, ''),
  )
  .join('\n')
if (/\bfile\s*\(\s*GLOB[^)]*csrc/i.test(cmakeText))
  breach('CMakeLists.txt', 'lists sources, never globs them')
for (const file of files.filter(name => /^csrc\/.*\.(cc|cu)$/.test(name))) {
  const count = cmakeText.split(/[\s()"]+/).filter(word => word === file).length
  if (count !== 1) breach(file, `stands ${count} times in CMakeLists.txt and cmake/ instead of once`)
}
if (files.includes('binding.gyp') && /\.(cc|cu|cpp)\b/.test(read('binding.gyp'))) {
  breach('binding.gyp', 'must not list sources: CMake does')
}

// ---- TypeScript -------------------------------------------------------------------------------------------------------------

/** Pattern of a library file → patterns that it must not import (types included). */
const LIBRARY_RULES = [
  [/^lib\/(?!cli\/)/, [/^lib\/cli\//], 'the library must not know its command line'],
  [/^lib\/(?!cli\/)/, [/^lib\/index\.ts$/], 'only the command line and tests import the entry point'],
  [/^lib\/block\/(errors|dtype)\.ts$/, [/./], 'is the floor: it imports nothing of the library'],
  [/^lib\/block\//, [/^lib\/(?!(block|spec)\/)/], 'is a description'],
  [/^lib\/reference\//, [/^lib\/(?!block\/|reference\/)/], 'the oracle stands alone'],
  [/^lib\/checkpoint\//, [/^lib\/(devices|reference)\//], 'checkpoints do not know devices'],
  [/^lib\/families\//, [/^lib\/(devices|reference)\//], 'families are data'],
]
const libraryFiles = files.filter(file => /^lib\/.*\.ts$/.test(file))
/** file → files whose code it runs on import (types apart), for the search for cycles. */
const runs = new Map()
for (const file of libraryFiles) {
  const text = read(file).replace(/\/\*[\s\S]*?\*\//g, '')
  const statements = text.matchAll(
    /^[ \t]*(?:import|export)\s+(type\s)?(?:([^'"`;=]*?)\s*from\s*)?['"]([^'"]+)['"]|import\(\s*['"]([^'"]+)['"]\s*\)/gm,
  )
  const targets = []
  for (const [statement, isType, names, specifier, lazy] of statements) {
    const name = specifier ?? lazy
    if (!name.startsWith('.')) {
      if (name === 'node-gyp-build' && file !== 'lib/devices/native/addon.ts')
        breach(file, 'only devices/native/addon.ts loads the addon')
      continue
    }
    const target = path.posix.join(path.posix.dirname(file), name).replace(/\.js$/, '.ts')
    if (!libraryFiles.includes(target)) {
      breach(file, `imports ${name}, which is not a file of lib/`)
      continue
    }
    for (const [from, banned, why] of LIBRARY_RULES) {
      if (from.test(file) && banned.some(pattern => pattern.test(target))) {
        // A description of a device or a tensor is no dependency on it.
        if (isType && !/^lib\/(index\.ts|cli\/)/.test(target) && why !== 'the oracle stands alone') continue
        breach(file, `must not import ${target}: ${why}`)
      }
    }
    const onlyTypes = isType || /^\{(\s*type\s[^,}]+,?)+\s*\}$/.test(names ?? '')
    if (specifier && !onlyTypes && !/^export\s+type/.test(statement)) targets.push(target)
  }
  runs.set(file, targets)
}
const state = new Map()
function visit(file, trail) {
  if (state.get(file) === 'done') return
  if (state.get(file) === 'open') {
    breach(file, `import cycle: ${[...trail.slice(trail.indexOf(file)), file].join(' → ')}`)
    return
  }
  state.set(file, 'open')
  for (const target of runs.get(file) ?? []) visit(target, [...trail, file])
  state.set(file, 'done')
}
for (const file of libraryFiles) visit(file, [])

if (breaches.length > 0) {
  console.error(`${breaches.join('\n')}\n\n${breaches.length} breaches of the house's rules`)
  process.exit(1)
}
console.log(`includes: ${nativeFiles.length} native and ${libraryFiles.length} library files keep the rules`)
