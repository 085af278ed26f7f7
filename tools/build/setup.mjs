/** Makes `npm test` and `npm run demo` enough on a bare clone: installs and builds what is missing or stale, else returns at once. */

import { spawnSync } from 'node:child_process'
import { root } from '../repository.mjs'
import {
  areDependenciesStale,
  buildNative,
  buildTypeScript,
  isNativeStale,
  isTypeScriptStale,
  missingTools,
  missingToolsText,
} from './steps.mjs'

function orExit(succeeded) {
  if (!succeeded) process.exit(1)
}

if (areDependenciesStale()) {
  orExit(
    spawnSync('npm', ['ci'], { cwd: root, stdio: 'inherit', shell: process.platform === 'win32' }).status ===
      0,
  )
}
if (isTypeScriptStale()) orExit(buildTypeScript())
if (isNativeStale()) {
  const missing = missingTools()
  if (missing.length === 0) orExit(buildNative())
  else {
    console.error(`\n${missingToolsText(missing)}\n`)
    // A CI without a compiler would be green on half of the tests.
    if (process.env.CI) process.exit(1)
  }
}
