/**
 * Holds the dependencies between directories one way, and the native sources in one list. Prints every breach; exits 1 on any.
 *
 * Native: binding → engine → cpu | cuda | transport → ops → formats → core → platform; abi/, the C ABI, is the floor that all stand on. Only platform/
 * knows systems: their headers and their compilers' names for them stand nowhere else.
 * TypeScript: LAYERS of library-layers.mjs.
 */

import { readFileSync } from 'node:fs'
import path from 'node:path'
import { repositoryFiles, root } from '../repository.mjs'
import { libraryBreaches } from './library-layers.mjs'

const breaches = []
const files = repositoryFiles()
const read = file => readFileSync(path.join(root, file), 'utf8')
const breach = (file, text) => breaches.push(`${file}: ${text}`)

// ---- native -----------------------------------------------------------------------------------------------------------------

/** Directory of csrc → directories that it may include, the C ABI among them. */
const NATIVE_MAY_INCLUDE = {
  abi: ['abi'],
  platform: ['platform'],
  core: ['core', 'platform', 'abi'],
  formats: ['formats', 'core', 'platform', 'abi'],
  ops: ['ops', 'formats', 'core', 'platform', 'abi'],
  cpu: ['cpu', 'ops', 'formats', 'core', 'platform', 'abi'],
  cuda: ['cuda', 'ops', 'formats', 'core', 'platform', 'abi'],
  transport: ['transport', 'ops', 'formats', 'core', 'platform', 'abi'],
  engine: ['engine', 'transport', 'cpu', 'ops', 'formats', 'core', 'platform', 'abi'],
  binding: ['binding', 'engine', 'ops', 'formats', 'core', 'platform', 'abi'],
}
/** System headers that only one directory may know. */
const SYSTEM_HEADER_HOME = [
  [/^(napi|node_api|js_native_api)/, 'binding'],
  [/^(cuda|cublas|cooperative_groups|nv)/, 'cuda'],
  [/^(immintrin|x86intrin|arm_neon)\.h$/, 'cpu'],
  [/^(sys\/.*|unistd|fcntl|dlfcn|sched|pthread|signal|windows|psapi|malloc)(\.h)?$/, 'platform'],
]
/** What compilers define for a system. */
const SYSTEM_MACRO = /\b(_WIN32|_WIN64|__MINGW\w*|__linux__|__APPLE__|__unix__)\b/
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
  const [macro] = home === 'platform' ? [] : (SYSTEM_MACRO.exec(text) ?? [])
  if (macro) breach(file, `asks for ${macro}: what a system is asked for belongs to csrc/platform`)
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

for (const [file, text] of libraryBreaches(files, read)) breach(file, text)

if (breaches.length > 0) {
  console.error(`${breaches.join('\n')}\n\n${breaches.length} breaches of the house's rules`)
  process.exit(1)
}
console.log(`includes: ${nativeFiles.length} native files and those of lib/ keep the rules`)
