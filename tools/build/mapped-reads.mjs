/** Builds the program that touches mapped files for `npm run bench:offload`, and prints its path last. */

import path from 'node:path'
import { buildPreset } from './tree.mjs'

console.log(path.join(buildPreset('native', ['mapped_reads']), 'mapped_reads'))
