/** `node tools/build/program.mjs TARGET`: builds a program of the native tree that a benchmark runs, and prints its path last. */

import path from 'node:path'
import { buildPreset } from './tree.mjs'

const [target] = process.argv.slice(2)
console.log(path.join(buildPreset('native', [target]), target))
