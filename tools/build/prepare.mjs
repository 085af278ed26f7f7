/**
 * npm's `prepare`: what `npm ci` in a clone builds. It never fails an install: without a toolchain the package works on the reference,
 * and a source that does not compile must not leave a developer without node_modules. `npm test` fails on it instead.
 */

import {
  buildNative,
  buildTypeScript,
  hasDevelopmentDependencies,
  isNativeStale,
  missingTools,
  missingToolsText,
} from './steps.mjs'

function shout(text) {
  const line = '!'.repeat(100)
  console.error(`\n${line}\n${text}\n${line}\n`)
}

if (!hasDevelopmentDependencies()) {
  console.error('sparse-experts: development dependencies are not installed, so nothing was built.')
  process.exit(0)
}
if (!buildTypeScript()) {
  shout(
    "sparse-experts: the TypeScript sources do not compile (errors above). The install goes on; 'npm test' will fail.",
  )
}

const missing = missingTools()
if (missing.length > 0) {
  console.error(`\n${missingToolsText(missing)}\n`)
} else if (isNativeStale() && !buildNative()) {
  shout(
    'sparse-experts: the native addon does not compile (errors above) although a compiler is here. The install goes on, everything ' +
      "runs on the 'reference' device, and 'npm test' will fail.",
  )
}
