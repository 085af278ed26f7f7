/**
 * npm's `prepare`: what `npm ci` in a clone builds. It never fails an install: without a toolchain the package works on the reference,
 * and a source that does not compile must not leave a developer without node_modules. `npm test` fails on it instead.
 *
 * npm also runs it for a dependency from git, twice: in its clone, then before it packs that by `files` of package.json. `build/` is none of
 * them and would be thrown away, so there the addon goes into `prebuilds/`.
 */

import {
  buildNative,
  buildTypeScript,
  hasDevelopmentDependencies,
  isNativeStale,
  missingTools,
  missingToolsText,
  PACKED,
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

/** npm's own variable against endless chains of git dependencies; the second run is told by what the first has left. */
const isGitDependency = process.env._PACOTE_NO_PREPARE_ !== undefined
const directory = isGitDependency ? PACKED : undefined
const missing = missingTools()
if (missing.length > 0) {
  console.error(`\n${missingToolsText(missing)}\n`)
} else if (isNativeStale(PACKED) && isNativeStale(directory) && !buildNative(directory)) {
  shout(
    'sparse-experts: the native addon does not compile (errors above) although a compiler is here. The install goes on, everything ' +
      "runs on the 'reference' device, and 'npm test' will fail.",
  )
}
