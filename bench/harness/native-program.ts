/** Programs of native code that benchmarks run beside Node. */

import { spawnSync } from 'node:child_process'
import path from 'node:path'

const BUILD_SCRIPT = path.join(import.meta.dirname, '../../tools/build/program.mjs')

/** Builds a target of CMakeLists.txt; its path. @throws where it cannot be built */
export function buildProgram(target: string): string {
  const { status, stdout } = spawnSync(process.execPath, [BUILD_SCRIPT, target], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (status !== 0) throw new Error(`${target} was not built:\n${stdout}`)
  return stdout.trim().split('\n').at(-1)!
}
