/** Finds and loads the native addon, once, at first use. */

import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { MoeError } from '../../block/errors.js'
import { NATIVE_ABI_VERSION, type NativeAddon } from './binding-contract.js'

type Loaded = { readonly addon: NativeAddon } | { readonly error: MoeError }

/** From lib/ under a TypeScript runner, or from dist/: both lie at the same depth below the package. */
const packageRoot = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../..')
const requireHere = createRequire(import.meta.url)

/** Names the addon's file itself, before any search. */
const PATH_VARIABLE = 'SPARSE_EXPERTS_NATIVE_PATH'
/** node-gyp-build's own: a directory with build/Release or prebuilds in it. */
const DIRECTORY_VARIABLE = 'SPARSE_EXPERTS_PREBUILD'

let loaded: Loaded | undefined

/**
 * @internal The addon. A failure is remembered: later calls throw the same error.
 *
 * @throws {@link MoeError} ERR_MOE_NATIVE_LOAD, with what was tried and what to do; ERR_MOE_NATIVE_VERSION
 */
export function loadNative(): NativeAddon {
  const result = tryLoadNative()
  if ('error' in result) throw result.error
  return result.addon
}

/** @internal As {@link loadNative}, never throws. */
export function tryLoadNative(): Loaded {
  loaded ??= load()
  return loaded
}

/** What a runtime may refuse to tell, as Deno does without its permission; then it counts as unknown. */
function told<Value>(ask: () => Value, unknown: Value): Value {
  try {
    return ask()
  } catch {
    return unknown
  }
}

const variable = (name: string) => told(() => process.env[name], undefined)

function load(): Loaded {
  let file: string | undefined
  let addon: NativeAddon
  let version: string
  try {
    file = findAddon()
    addon = requireHere(file) as NativeAddon
    version = (requireHere(path.join(packageRoot, 'package.json')) as { version: string }).version
  } catch (cause) {
    return {
      error: new MoeError('ERR_MOE_NATIVE_LOAD', loadMessage(file, cause), {
        cause,
        details: environment(file),
      }),
    }
  }
  if (addon.version !== version || addon.abiVersion !== NATIVE_ABI_VERSION) {
    return {
      error: new MoeError(
        'ERR_MOE_NATIVE_VERSION',
        `The native addon ${file} is version ${addon.version} (interface ${addon.abiVersion}), the package is ${version} ` +
          `(interface ${NATIVE_ABI_VERSION}). Rebuild it with 'npx sparse-experts build', or install the package again.`,
        { details: { ...environment(file), addonVersion: addon.version, packageVersion: version } },
      ),
    }
  }
  return { addon }
}

function findAddon(): string {
  const named = variable(PATH_VARIABLE)
  if (named) return path.resolve(named)
  const { path: find } = requireHere('node-gyp-build') as { path(directory: string): string }
  return find(packageRoot)
}

function libc(): string {
  if (process.platform !== 'linux') return ''
  const report = told(() => process.report?.getReport(), undefined)
  const header = (report as { header?: { glibcVersionRuntime?: string } } | undefined)?.header
  return header?.glibcVersionRuntime ? `glibc ${header.glibcVersionRuntime}` : 'musl'
}

function environment(file: string | undefined) {
  return {
    file: file ?? null,
    platform: process.platform,
    arch: process.arch,
    libc: libc(),
    node: process.version,
    searched: [
      path.join(packageRoot, 'build/Release'),
      path.join(packageRoot, 'prebuilds', `${process.platform}-${process.arch}`),
    ],
  }
}

/** One message that a person can act on: what was tried, on what, what went wrong, what helps. */
function loadMessage(file: string | undefined, cause: unknown): string {
  const { platform, arch, libc: libcName, node, searched } = environment(file)
  const reason = cause instanceof Error ? (cause.message.split('\n')[0] ?? '') : String(cause)
  const named = variable(DIRECTORY_VARIABLE)
  const tried = file ? [file] : named ? [named] : searched
  return [
    `The native addon of sparse-experts did not load on ${platform}-${arch}${libcName ? ` (${libcName})` : ''}, Node ${node}: ${reason}`,
    `Tried: ${tried.join(', ')}`,
    'Possible solutions:',
    ...solutions(file, cause, reason).map(text => `- ${text}`),
  ].join('\n')
}

function solutions(file: string | undefined, cause: unknown, reason: string): string[] {
  const code = (cause as NodeJS.ErrnoException | null)?.code
  if (code === 'ERR_DLOPEN_DISABLED') {
    return [
      'Node was started with --no-addons, or with --permission without --allow-addons: start it with addons allowed.',
    ]
  }
  if (/\b(NotCapable|PermissionDenied|requires \w+ access)\b/i.test(`${(cause as Error)?.name} ${reason}`)) {
    return [
      'This is Deno without permissions: start it with --allow-read --allow-env --allow-sys --allow-ffi.',
    ]
  }
  const named = [PATH_VARIABLE, DIRECTORY_VARIABLE].find(variable)
  if (named) return [`${named} is set to '${variable(named)}': correct or unset it.`]
  const build =
    "Build it here: 'npx sparse-experts build'. It needs CMake 3.24 or newer, make or ninja, and a C++17 compiler."
  const meanwhile = "Until then everything runs on the device 'reference', which is exact but slow."
  if (/GLIBC(XX)?_\d/.test(reason)) {
    return [`The binary was built for a newer Linux than this one. ${build}`, meanwhile]
  }
  if (file && /invalid ELF header|wrong architecture|not a valid Win32|mach-o/i.test(reason)) {
    return [
      `${file} is for another platform; was node_modules copied from another machine? Install the package here, or: ${build}`,
      meanwhile,
    ]
  }
  if (!told(() => existsSync(path.join(packageRoot, 'CMakeLists.txt')), true)) {
    return [
      'The package was bundled or moved without its native files: mark sparse-experts as external in the bundler.',
      meanwhile,
    ]
  }
  return [
    build,
    ...(process.platform === 'linux'
      ? ["Debian or Ubuntu: 'apt-get install cmake g++ make'; Alpine: 'apk add cmake g++ make'."]
      : []),
    meanwhile,
  ]
}
