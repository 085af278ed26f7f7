/** Formats the native sources (`--write`) or checks them (default): every file must be as clang-format prints it. Takes file names too. */

import { spawnSync } from 'node:child_process'
import { chmodSync } from 'node:fs'
import { createRequire } from 'node:module'
import { repositoryFiles, root } from '../repository.mjs'

const named = process.argv.slice(2).filter(argument => !argument.startsWith('-'))
const files = repositoryFiles().filter(
  file =>
    /^(csrc|emulator|bench|test\/(conformance|cpp|cuda|engine|native|oracle))\/.*\.(h|cc|cu|cuh)$/.test(
      file,
    ) &&
    (named.length === 0 || named.includes(file)),
)
if (files.length === 0) process.exit(0)

const { clangFormatPath } = createRequire(import.meta.url)('clang-format-node')
// The package sets the mode in an install script, which npm may have blocked.
if (process.platform !== 'win32') chmodSync(clangFormatPath, 0o755)

const mode = process.argv.includes('--write') ? ['-i'] : ['--dry-run', '-Werror']
process.exit(spawnSync(clangFormatPath, [...mode, ...files], { cwd: root, stdio: 'inherit' }).status ?? 1)
