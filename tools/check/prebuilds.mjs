/**
 * Refuses to publish without every released prebuild, or with one that is stale, not portable or does not load.
 *
 *   node tools/check/prebuilds.mjs             every released platform (what `npm publish` runs), and the package's size
 *   node tools/check/prebuilds.mjs --current   this machine's alone
 *   node tools/check/prebuilds.mjs --target T  that of one platform
 */

import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { PLATFORMS } from '../build/cross.mjs'
import { root } from '../repository.mjs'
import { readPortableExecutable } from './portable-executable.mjs'

/** Of a package without a GPU backend, packed: what an install downloads. */
const PACKAGE_LIMIT_BYTES = 10e6
/** What the doctor says of this machine, and users are told. */
const { GLIBC_FLOOR } = await import(pathToFileURL(path.join(root, 'dist/doctor/glibc.js')).href)
const SYMBOLS = ['napi_register_module_v1', 'node_api_module_get_api_version_v1']
/** Libraries that every Windows has. */
const WINDOWS_LIBRARIES = ['advapi32.dll', 'kernel32.dll', 'msvcrt.dll']

const { name, version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'))
const current = `${process.platform}-${process.arch}`

function choose([option, value]) {
  const target = option === '--current' ? current : option === '--target' ? value : undefined
  if (option === undefined) return Object.keys(PLATFORMS)
  if (target in PLATFORMS) return [target]
  console.error(
    `check:prebuilds: ${target ?? option} is no released platform: ${Object.keys(PLATFORMS).join(', ')}`,
  )
  process.exit(1)
}

/** What is wrong with a library for Linux: the version names that it needs stand as plain strings in its dynamic string table. */
function checkElf(bytes, isAddon) {
  const text = bytes.toString('latin1')
  const problems = []
  let newest = 0
  for (const [, minor] of text.matchAll(/\bGLIBC_2\.(\d+)\b/g)) newest = Math.max(newest, Number(minor))
  if (/\blibstdc\+\+\.so\.\d/.test(text)) problems.push('links libstdc++ dynamically')
  if (isAddon) {
    for (const symbol of SYMBOLS) if (!text.includes(symbol)) problems.push(`does not export ${symbol}`)
  }
  return { problems, newest }
}

function checkWindows(bytes) {
  const { imports, exports } = readPortableExecutable(bytes)
  return [
    ...imports
      .filter(library => !WINDOWS_LIBRARIES.includes(library.toLowerCase()))
      .map(library => `needs ${library}, which not every Windows has`),
    ...SYMBOLS.filter(symbol => !exports.includes(symbol)).map(symbol => `does not export ${symbol}`),
    ...exports.filter(symbol => !SYMBOLS.includes(symbol)).map(symbol => `exports ${symbol}`),
  ]
}

/** The version that the binary was built as stands in it as a string; here it is also loaded. */
function checkVersion(target, file, bytes) {
  if (target !== current) {
    return bytes.includes(`${version}\0`) ? [] : [`was not built as version ${version}`]
  }
  const load = `process.stdout.write(require(${JSON.stringify(file)}).version)`
  try {
    const built = execFileSync(process.execPath, ['-e', load], { encoding: 'utf8' })
    return built === version ? [] : [`was built as version ${built}, package.json says ${version}`]
  } catch (error) {
    return [`does not load: ${String(error.stderr ?? error).trim()}`]
  }
}

/** All that is wrong with a platform's folder. */
function checkPlatform(target) {
  const directory = path.join(root, 'prebuilds', target)
  const expected = PLATFORMS[target].file
  const files = existsSync(directory) ? readdirSync(directory) : []
  const addons = files.filter(file => file.endsWith('.node'))
  if (addons.length !== 1 || addons[0] !== expected) {
    const { cross } = PLATFORMS[target]
    const command = `npm run release:prebuild${cross && target !== current ? ` -- --target ${target}` : ''}`
    return [
      `expected exactly ${expected}, found ${addons.join(', ') || 'nothing'}: make it with '${command}'`,
    ]
  }
  const problems = []
  let newest = 0
  for (const file of files) {
    const bytes = readFileSync(path.join(directory, file))
    if (target.startsWith('win32')) {
      problems.push(...checkWindows(bytes).map(problem => `${file} ${problem}`))
    } else {
      const found = checkElf(bytes, file === expected)
      problems.push(...found.problems.map(problem => `${file} ${problem}`))
      newest = Math.max(newest, found.newest)
    }
  }
  if (PLATFORMS[target].libc === 'glibc' && `2.${newest}` !== GLIBC_FLOOR) {
    problems.push(`needs glibc 2.${newest}, and lib/doctor/glibc.ts promises ${GLIBC_FLOOR}`)
  }
  const addon = path.join(directory, expected)
  return [...problems, ...checkVersion(target, addon, readFileSync(addon)).map(text => `${expected} ${text}`)]
}

/** The packed size in bytes, as `npm publish` would send it. */
function packedBytes() {
  const args = ['pack', '--dry-run', '--json', '--ignore-scripts']
  const [{ size }] = JSON.parse(execFileSync('npm', args, { cwd: root, encoding: 'utf8' }))
  return size
}

const wanted = choose(process.argv.slice(2))
const problems = wanted.flatMap(target => checkPlatform(target).map(text => `prebuilds/${target}: ${text}`))
const hasGpu = wanted.some(target => {
  const directory = path.join(root, 'prebuilds', target)
  return existsSync(directory) && readdirSync(directory).some(file => file.includes('cuda'))
})
let size = ''
if (wanted.length === Object.keys(PLATFORMS).length && problems.length === 0) {
  const bytes = packedBytes()
  size = `; the package is ${(bytes / 1e6).toFixed(2)} MB packed${hasGpu ? ' with a GPU backend' : ''}`
  if (!hasGpu && bytes > PACKAGE_LIMIT_BYTES)
    problems.push(`the package is ${bytes} bytes packed, its limit is ${PACKAGE_LIMIT_BYTES}`)
}
if (problems.length > 0) {
  console.error(problems.join('\n'))
  process.exit(1)
}
console.log(`prebuilds of ${name}@${version}: ${wanted.join(', ')}${size}`)
