/** Which C library a process runs on, from its memory map, and which versions a library asks for. */

import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { isOlder, libc, libcFrom, neededVersions } from '../../lib/devices/native/libc.js'
import { GLIBC_FLOOR } from '../../lib/doctor/glibc.js'
import { read as readPage } from '../docs/markdown.js'
import { removeDirectories, temporaryDirectory } from '../helpers/scratch.js'

afterAll(removeDirectories)

const map = (...files: string[]) =>
  files.map(file => `7f7b7c000000-7f7b7c028000 r-xp 00000000 fe:00 260386   ${file}\n`).join('')

it.each([
  [
    'Debian 12',
    map(
      '/usr/bin/node',
      '/usr/lib/x86_64-linux-gnu/libstdc++.so.6.0.30',
      '/usr/lib/x86_64-linux-gnu/libc.so.6',
    ),
    'GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.\n',
    { name: 'glibc', version: '2.36', glibcxx: '3.4.30' },
  ],
  [
    'Ubuntu 20.04, whose file has the version in its name',
    map('/lib/x86_64-linux-gnu/libc-2.31.so'),
    'GNU C Library (Ubuntu GLIBC 2.31-0ubuntu9.17) stable release version 2.31.\n',
    { name: 'glibc', version: '2.31', glibcxx: null },
  ],
  [
    'a libc without its banner',
    map('/lib64/libc.so.6'),
    'GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9\0GLIBC_PRIVATE\0',
    { name: 'glibc', version: '2.34', glibcxx: null },
  ],
  [
    'Alpine',
    map('/usr/local/bin/node', '/lib/ld-musl-x86_64.so.1'),
    '',
    { name: 'musl', version: null, glibcxx: null },
  ],
  [
    'Alpine with glibc names beside',
    map('/usr/glibc-compat/lib/libc.so.6', '/lib/libc.musl-aarch64.so.1'),
    '',
    { name: 'musl', version: null, glibcxx: null },
  ],
  ['a static program', map('/usr/bin/node'), '', { name: 'unknown', version: null, glibcxx: null }],
  ['a map that may not be read', '', '', { name: 'unknown', version: null, glibcxx: null }],
])('knows the C library of %s', (_, maps, text, expected) => {
  const read = (file?: string) =>
    file?.includes('libstdc++') ? 'GLIBCXX_3.4.9\0GLIBCXX_3.4.30\0GLIBCXX_3.4\0' : (file && text) || ''
  expect(libcFrom(maps, read)).toEqual(expected)
})

it('knows that of this process', () => {
  const { name, version } = libc()
  if (process.platform !== 'linux')
    return expect(name).toBe('none')
    // Node says it too, in a report of which the network is no part here.
  ;(process.report as { excludeNetwork?: boolean }).excludeNetwork = true
  const report = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }
  const expected = report.header.glibcVersionRuntime
  expect({ name, version }).toEqual(
    expected ? { name: 'glibc', version: expected } : { name: 'musl', version: null },
  )
})

it.each([
  ['2.9', '2.34', true],
  ['2.34', '2.34', false],
  ['2.36', '2.34', false],
  ['2.2.5', '2.3', true],
  ['3.4', '3.4.9', true],
  ['3.4.9', '3.4', false],
])('compares versions by their numbers: %s, %s', (a, b, older) => expect(isOlder(a, b)).toBe(older))

it('reads what a library asks for', async () => {
  const file = path.join(await temporaryDirectory(), 'addon.node')
  writeFileSync(
    file,
    Buffer.from('\x7fELF\0libc.so.6\0GLIBC_2.2.5\0GLIBC_2.17\0GLIBC_2.4\0GLIBCXX_3.4.21\0', 'latin1'),
  )
  expect(neededVersions(file)).toEqual({ glibc: '2.17', glibcxx: '3.4.21' })
  writeFileSync(file, 'text')
  expect(neededVersions(file)).toEqual({ glibc: null, glibcxx: null })
  expect(neededVersions('/nowhere')).toEqual({ glibc: null, glibcxx: null })
})

it('has one floor for prebuilds, which the docs name', () => {
  const floors = readPage('docs/packaging.md').matchAll(/glibc (\d+\.\d+)/g)
  expect(new Set([...floors].map(([, version]) => version))).toEqual(new Set([GLIBC_FLOOR]))
})
