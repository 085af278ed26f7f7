/** What a person is told where the addon did not load: what was tried, on what, what went wrong, what helps. */

import { readFileSync } from 'node:fs'
import path from 'node:path'
import { MoeError } from '../../block/errors.js'
import { DIRECTORY_VARIABLE, PATH_VARIABLE, platformName, type Search, variable } from './find-addon.js'
import { libc } from './libc.js'
import { isThere, location } from './location.js'

/** A cause in a sentence, and what helps, the best first. */
interface Diagnosis {
  reason: string
  solutions: string[]
}

/** This process and the package in it, as the details of an error. */
export function environment(file: string | undefined, { searched }: Pick<Search, 'searched'>) {
  const { name, version } = libc()
  return {
    file: file ?? null,
    platform: process.platform,
    arch: process.arch,
    libc: /none|unknown/.test(name) ? '' : [name, version].filter(Boolean).join(' '),
    node: process.version,
    searched,
  }
}

/** The error of a search that found nothing (`cause` undefined), or of a file that did not load. */
export function loadError(search: Search, cause?: unknown): MoeError {
  const { file, searched } = search
  const facts = environment(file, search)
  const { reason, solutions } = cause === undefined ? notFound(search) : notLoaded(file!, cause)
  const libcName = facts.libc ? ` (${facts.libc})` : ''
  const message = [
    `The native addon of sparse-experts did not load on ${platformName()}${libcName}, Node ${facts.node}: ${reason}`,
    `Tried: ${(file ? [file] : searched).join(', ')}`,
    'Possible solutions:',
    ...solutions.map(text => `- ${text}`),
  ].join('\n')
  return new MoeError('ERR_MOE_NATIVE_LOAD', message, {
    ...(cause === undefined ? {} : { cause }),
    details: { ...facts, fix: solutions[0] },
  })
}

const MEANWHILE = "Until then everything runs on the device 'reference', which is exact but slow."

/** How to compile the addon here. Which tools that takes, and how to get them, the command itself knows best. */
const BUILD =
  "Build it here: 'npx sparse-experts build'. It names what it needs: CMake, make or ninja, a C++17 compiler."

/** Node's permission model is in force. */
const isRestricted = () => (process as { permission?: object }).permission !== undefined

/** Flags with which Node's permission model loads the addon. */
function permissionFlags(folder: string): string {
  const model = process.version.startsWith('v20.') ? '--experimental-permission' : '--permission'
  return `start Node with '${model} --allow-fs-read=${path.join(folder, '*')} --allow-addons' beside the program's own permissions`
}

const DENO =
  'This is Deno without permissions: start it with --allow-read --allow-env --allow-sys --allow-ffi.'

function named(): string[] {
  const names = [PATH_VARIABLE, DIRECTORY_VARIABLE].filter(variable)
  return names.slice(0, 1).map(name => `${name} is set to '${variable(name)}': correct or unset it.`)
}

function notFound({ searched, denied, others }: Search): Diagnosis {
  const { root, isBundled, beside } = location()
  if (denied.length > 0) {
    const reason = `this process may not read ${denied.join(', ')}`
    if ('Deno' in globalThis) return { reason, solutions: [DENO, MEANWHILE] }
    const help = isRestricted()
      ? `Node's permission model forbids it: ${permissionFlags(root)}.`
      : 'The user of this process has no right to it: change the owner or the mode of these folders.'
    return { reason, solutions: [help, MEANWHILE] }
  }
  const choice = named()
  if (choice.length > 0) return { reason: `there is no addon in ${searched.join(' or ')}`, solutions: choice }
  if (/\.asar([\\/]|$)/.test(root)) {
    const help = "List '**/node_modules/sparse-experts/**' under asarUnpack: an archive cannot hold an addon."
    return { reason: `the package is packed in ${root}`, solutions: [help, MEANWHILE] }
  }
  if (isBundled) {
    return {
      reason: 'the package was bundled or moved without its addon',
      solutions: [
        `Copy the folder node_modules/sparse-experts/prebuilds to ${path.join(beside[0]!, 'prebuilds')}, or name the addon's file in ${PATH_VARIABLE}.`,
        'Or mark sparse-experts as external in the bundler, and deploy it in node_modules.',
        MEANWHILE,
      ],
    }
  }
  const own = platformName()
  if (others.includes('glibc') || others.includes('musl')) {
    const reason = `the prebuild for ${own} is for ${others.find(name => name === 'glibc' || name === 'musl')}, and this system has ${libc().name}`
    return { reason, solutions: [BUILD, MEANWHILE] }
  }
  if (others.length > 0) {
    const reason = `there is no prebuild for ${own}, only for ${others.join(' and ')}`
    return { reason, solutions: [BUILD, MEANWHILE] }
  }
  return { reason: 'it was not built, and no prebuild is here', solutions: [BUILD, MEANWHILE] }
}

/** How libraries begin, byte by byte. */
const MAGIC: Partial<Record<NodeJS.Platform, readonly string[]>> = {
  linux: ['\x7fELF'],
  darwin: ['\xcf\xfa\xed\xfe', '\xca\xfe\xba\xbe'],
  win32: ['MZ'],
}
/** ELF's numbers of processors, and where a library has its own. */
const MACHINE: Partial<Record<NodeJS.Architecture, number>> = { x64: 62, arm64: 183 }
const MACHINE_OFFSET = 18

/**
 * Whether an addon is none of this system and processor, by its first bytes. What the system says may be in any language, and of a library for
 * another processor glibc says that there is no such file.
 */
function isForeign(file: string): boolean {
  const beginnings = MAGIC[process.platform]
  if (beginnings === undefined || !file.endsWith('.node')) return false
  try {
    const bytes = readFileSync(file)
    const begin = bytes.toString('latin1', 0, 4)
    if (!beginnings.some(magic => begin.startsWith(magic))) return true
    const machine = process.platform === 'linux' ? MACHINE[process.arch] : undefined
    return machine !== undefined && bytes.readUInt16LE(MACHINE_OFFSET) !== machine
  } catch {
    return false
  }
}

function notLoaded(file: string, cause: unknown): Diagnosis {
  const error = cause as NodeJS.ErrnoException | null
  // Windows ends its lines with two characters.
  const said = cause instanceof Error ? (cause.message.split(/\r?\n/)[0] ?? '') : String(cause)
  const folder = location().isBundled ? path.dirname(file) : location().root
  if (error?.code === 'ERR_DLOPEN_DISABLED') {
    const help = isRestricted()
      ? `Node's permission model forbids addons: ${permissionFlags(folder)}.`
      : 'Node was started with --no-addons: start it without.'
    return { reason: said, solutions: [help, MEANWHILE] }
  }
  if (error?.code === 'ERR_ACCESS_DENIED') {
    const help = `Node's permission model forbids reading ${file}: ${permissionFlags(folder)}.`
    return { reason: `this process may not read ${file}`, solutions: [help, MEANWHILE] }
  }
  if (/\b(NotCapable|PermissionDenied|requires \w+ access)\b/i.test(`${error?.name} ${said}`)) {
    return { reason: said, solutions: [DENO, MEANWHILE] }
  }
  const choice = named()
  if (!isThere(file)) return { reason: `there is no file ${file}`, solutions: [...choice, BUILD, MEANWHILE] }
  if (/\b(GLIBC|GLIBCXX|CXXABI)_\d|Error relocating .*symbol not found/.test(said)) {
    const help = `The addon was built for a newer Linux than this one, or for another C library. ${BUILD}`
    return { reason: said, solutions: [...choice, help, MEANWHILE] }
  }
  if (
    isForeign(file) ||
    /file too short|wrong ELF class|wrong architecture|not a valid Win32|mach-o|slice is not valid/i.test(
      said,
    )
  ) {
    const help = `${file} is damaged or for another platform; was node_modules copied from another machine? Install the package here, or: ${BUILD}`
    return { reason: said, solutions: [...choice, help, MEANWHILE] }
  }
  return { reason: said, solutions: [...choice, BUILD, MEANWHILE] }
}
