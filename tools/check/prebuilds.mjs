/**
 * Refuses to publish without every released prebuild, or with one that is stale, not portable or does not load.
 *
 *   node tools/check/prebuilds.mjs            every released target (what `npm publish` runs)
 *   node tools/check/prebuilds.mjs --current  this machine's target only
 */

import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { root } from '../repository.mjs'

/** Directory and libc of each released target. Dropping one is a breaking change. */
const RELEASED = [
  { target: 'linux-x64', libc: 'glibc' },
  { target: 'linux-arm64', libc: 'glibc' },
]
/** What the doctor says of this machine, and users are told. */
const library = file => import(pathToFileURL(path.join(root, 'dist', file)).href)
const { GLIBC_FLOOR } = await library('doctor/glibc.js')
const { isOlder, neededVersions } = await library('devices/native/libc.js')
const SYMBOLS = ['napi_register_module_v1']

const { name, version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'))
const current = `${process.platform}-${process.arch}`
const wanted = process.argv.includes('--current')
  ? RELEASED.filter(({ target }) => target === current)
  : RELEASED
const problems = []
if (wanted.length === 0) problems.push(`${current} is not a released target`)

for (const { target, libc } of wanted) {
  const directory = path.join(root, 'prebuilds', target)
  const files = existsSync(directory) ? readdirSync(directory) : []
  const addons = files.filter(file => file.endsWith('.node'))
  const expected = `${name}.${libc}.node`
  if (addons.length !== 1 || addons[0] !== expected) {
    problems.push(
      `prebuilds/${target}: expected exactly ${expected}, found ${addons.join(', ') || 'nothing'}`,
    )
    continue
  }
  let newest = '0'
  for (const file of files) {
    const text = readFileSync(path.join(directory, file)).toString('latin1')
    const { glibc } = neededVersions(path.join(directory, file))
    if (glibc !== null && isOlder(newest, glibc)) newest = glibc
    if (/\blibstdc\+\+\.so\.\d/.test(text))
      problems.push(`prebuilds/${target}/${file}: links libstdc++ dynamically`)
    if (file === expected) {
      for (const symbol of SYMBOLS) {
        if (!text.includes(symbol)) problems.push(`prebuilds/${target}/${file}: does not export ${symbol}`)
      }
    }
  }
  if (newest !== GLIBC_FLOOR) {
    problems.push(
      `prebuilds/${target}: needs glibc ${newest}, and lib/doctor/glibc.ts promises ${GLIBC_FLOOR}`,
    )
  }
  if (target === current) {
    const load = `const a = require(${JSON.stringify(path.join(directory, expected))}); process.stdout.write(a.version)`
    try {
      const built = execFileSync(process.execPath, ['-e', load], { encoding: 'utf8' })
      if (built !== version) {
        problems.push(`prebuilds/${target}: was built as version ${built}, package.json says ${version}`)
      }
    } catch (error) {
      problems.push(`prebuilds/${target}: does not load: ${String(error.stderr ?? error).trim()}`)
    }
  }
}

if (problems.length > 0) {
  console.error(problems.join('\n'))
  process.exit(1)
}
console.log(
  `prebuilds of ${name}@${version}: ${wanted.map(({ target, libc }) => `${target} (${libc})`).join(', ')}`,
)
