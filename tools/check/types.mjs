/**
 * `npm run typecheck`: tsc over the library, its tests, benches and examples. Examples take the types that a user would, from dist/, which is
 * compiled first where lib/ is newer.
 */

import { spawnSync } from 'node:child_process'
import { buildTypeScript, isTypeScriptStale, tscPath } from '../build/steps.mjs'
import { root } from '../repository.mjs'

if (isTypeScriptStale() && !buildTypeScript()) process.exit(1)
process.exit(spawnSync(process.execPath, [tscPath], { cwd: root, stdio: 'inherit' }).status ?? 1)
