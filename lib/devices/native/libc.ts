/**
 * The C library of this process, and which versions of its symbols a library asks for. Read from files alone: Node's own report knows the
 * version too, but making one waits for every worker, and looks up the name of every peer of an open socket, for seconds each.
 */

import { readFileSync } from 'node:fs'

/** The C library of this process. */
export interface LibcInfo {
  /** 'none' on systems other than Linux; 'unknown' where the process may not read its own memory map. */
  name: 'glibc' | 'musl' | 'unknown' | 'none'
  /** Of glibc: '2.36' …; null where it cannot be told. */
  version: string | null
  /** Newest version of libstdc++'s symbols that are in this process, '3.4.30' …; null where there are none. */
  glibcxx: string | null
}

/** The newest versions of symbols that a library asks for, null where it asks for none. */
export interface NeededVersions {
  glibc: string | null
  glibcxx: string | null
}

function textOf(file: string | undefined): string {
  try {
    return file === undefined ? '' : readFileSync(file, 'latin1')
  } catch {
    return ''
  }
}

/** Whether version `a` is older than `b`, both as '2.34'. */
export function isOlder(a: string, b: string): boolean {
  const [mine, other] = [a, b].map(version => version.split('.').map(Number)) as [number[], number[]]
  const at = other.findIndex((part, index) => part !== (mine[index] ?? 0))
  return at >= 0 && (mine[at] ?? 0) < other[at]!
}

/** The newest version in a library's text: the names of versions stand in its table of strings. */
function newest(text: string, prefix: 'GLIBC' | 'GLIBCXX'): string | null {
  let found: string | null = null
  for (const [, version] of text.matchAll(new RegExp(`\\b${prefix}_(\\d+(?:\\.\\d+)+)\\b`, 'g'))) {
    if (found === null || isOlder(found, version!)) found = version!
  }
  return found
}

/** What a library asks for; of a file that cannot be read, and of what is no library for Linux: nothing. */
export function neededVersions(file: string): NeededVersions {
  const text = textOf(file)
  return { glibc: newest(text, 'GLIBC'), glibcxx: newest(text, 'GLIBCXX') }
}

/** The first library that is mapped into a process under such a name. */
const mapped = (maps: string, name: RegExp) =>
  maps.match(/(?<=\s)\/.*$/gm)?.find(file => name.test(file.slice(file.lastIndexOf('/') + 1)))

const GLIBC = /^libc(\.so\.6|-2\.\d+\.so)$/

/** The libraries that are mapped into this process say which C library it runs on. */
function nameFrom(maps: string): LibcInfo['name'] {
  if (mapped(maps, /^(ld-musl-|libc\.musl-)/)) return 'musl'
  return mapped(maps, GLIBC) ? 'glibc' : 'unknown'
}

/** The same with versions, which stand in the libraries' files: megabytes, so they are read where somebody asks. */
export function libcFrom(maps: string, read: (file: string | undefined) => string = textOf): LibcInfo {
  const name = nameFrom(maps)
  if (name !== 'glibc') return { name, version: null, glibcxx: null }
  const text = read(mapped(maps, GLIBC))
  const banner = /GNU C Library [^\n]*?\bversion (\d+\.\d+)/.exec(text)?.[1]
  const glibcxx = newest(read(mapped(maps, /^libstdc\+\+\.so\.6/)), 'GLIBCXX')
  return { name, version: banner ?? newest(text, 'GLIBC'), glibcxx }
}

const ownMaps = () => textOf('/proc/self/maps')
let knownName: LibcInfo['name'] | undefined
let known: LibcInfo | undefined

/** Which C library this process runs on, looked up once. Never throws. */
export function libcName(): LibcInfo['name'] {
  knownName ??= process.platform === 'linux' ? nameFrom(ownMaps()) : 'none'
  return knownName
}

/** The C library of this process, looked up once. Never throws. */
export function libc(): LibcInfo {
  known ??=
    process.platform === 'linux' ? libcFrom(ownMaps()) : { name: 'none', version: null, glibcxx: null }
  return known
}
