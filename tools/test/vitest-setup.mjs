/** Vitest's global setup: what tests start as processes of their own is compiled before the first of them, and before each rerun. */

import { buildPrograms, buildTypeScript, isTypeScriptStale } from '../build/steps.mjs'

function build() {
  // On another machine than this (tools/test/platform.mjs) everything has been compiled before.
  if (process.env.SE_TEST_PLATFORM) return
  if (isTypeScriptStale() && !buildTypeScript()) throw new Error('lib/ does not compile (errors above)')
  if (!buildPrograms()) throw new Error('tsconfig.programs.json does not compile (errors above)')
}

export function setup(project) {
  build()
  project.onTestsRerun(build)
}
