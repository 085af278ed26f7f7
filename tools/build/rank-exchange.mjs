/** Builds the program that exchanges messages over UCX for `npm run bench:parallel`, and prints its path last. */

import path from 'node:path'
import { buildPreset } from './tree.mjs'

console.log(path.join(buildPreset('native', ['rank_exchange']), 'rank_exchange'))
