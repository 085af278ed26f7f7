/** Builds the program that measures the machine for the benchmarks (bench/harness), and prints its path last. */

import path from 'node:path'
import { buildPreset } from './tree.mjs'

console.log(path.join(buildPreset('native', ['machine_limits']), 'machine_limits'))
