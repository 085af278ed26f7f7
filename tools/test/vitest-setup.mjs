/** Vitest's global setup: what tests start as processes of their own is compiled before the first of them, and before each rerun. */

import { buildPrograms, buildTypeScript, isTypeScriptStale } from '../build/steps.mjs'

function build() {
  if (isTypeScriptStale() && !buildTypeScript()) throw new Error('lib/ does not compile (errors above)')
  if (!buildPrograms()) throw new Error('tsconfig.programs.json does not compile (errors above)')
}

export function setup(project) {
  build()
  project.onTestsRerun(build)
}
