/** Opening a CUDA backend library: what is not one is refused with a reason, and the CPU serves on. */

import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { skippedBesideLinux, skippedWhereEmulated } from '../helpers/platform.js'

const root = path.join(import.meta.dirname, '../..')
const addon = process.env.SPARSE_EXPERTS_NATIVE_PATH ?? path.join(root, 'build/Release/sparse_experts.node')
const directory = mkdtempSync(path.join(os.tmpdir(), 'sparse-experts-cuda-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** What the addon says of a library, and which devices serve, in a process of its own: a library is opened once. */
function probe(library: string): { reason: string; usable: string[] } {
  const program = `
    const addon = require(${JSON.stringify(addon)})
    const backends = addon.backends()
    const usable = backends.flatMap(({ devices }) => devices).filter(({ unavailable }) => unavailable === '').map(({ id }) => id)
    const { reason } = backends.find(({ name }) => name === 'cuda')
    process.stdout.write(JSON.stringify({ reason, usable }))`
  const env = { ...process.env, SPARSE_EXPERTS_CUDA_LIBRARY: library }
  return JSON.parse(execFileSync(process.execPath, ['-e', program], { encoding: 'utf8', env }))
}

/** A shared library with an entry point that returns `body`. */
function compile(name: string, body: string): string {
  const source = path.join(directory, `${name}.cc`)
  const library = path.join(directory, `${name}.so`)
  writeFileSync(
    source,
    `#include "abi/backend.h"
     extern "C" __attribute__((visibility("default"))) const SeBackend* se_backend_entry() {
       static SeBackend backend{};
       backend.abi_version = SE_BACKEND_ABI_VERSION;
       backend.table_bytes = sizeof(SeBackend);
       backend.name = "cuda";
       backend.build = "test";
       ${body}
     }`,
  )
  const { LD_PRELOAD: _, ...env } = process.env
  const flags = ['-std=c++17', '-shared', '-fPIC', '-I', path.join(root, 'csrc'), source, '-o', library]
  execFileSync(process.env.CXX ?? 'c++', flags, { env })
  return library
}

const noLibrary =
  skippedBesideLinux('a CUDA backend library', 'it is compiled as a library of Linux') ||
  skippedWhereEmulated('a CUDA backend library', 'the compiler makes one for another processor')
describe.skipIf(noLibrary)('a CUDA backend library', () => {
  it.each([
    ['is missing', () => path.join(directory, 'nowhere.so'), /nowhere\.so not found/],
    ['is no library', () => path.join(root, 'package.json'), /cannot open .*package\.json/],
    ['is no backend', () => addon, /no se_backend_entry/],
    ['has another ABI', () => compile('abi', 'backend.abi_version = 999; return &backend;'), /999/],
    ['has another table', () => compile('table', 'backend.table_bytes = 8; return &backend;'), /./],
    ['gives nothing', () => compile('nothing', 'return nullptr;'), /./],
  ])('that %s is refused with a reason', (_, library, reason) => {
    const result = probe(library())
    expect(result.reason).toMatch(reason)
    expect(result.usable).toEqual(['cpu'])
  })
})
