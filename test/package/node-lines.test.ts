/** One prebuild serves every supported line of Node. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  barePath,
  cleanUp,
  expectCpu,
  installedProject,
  NODE_VERSIONS,
  nodeExecutable,
  packBoth,
  program,
} from './workbench.js'

afterAll(cleanUp)

describe('with a prebuild', () => {
  let project: string
  beforeAll(async () => {
    project = await installedProject((await packBoth()).withPrebuild, barePath)
  })

  it.each(NODE_VERSIONS)('runs on Node %s', async version => {
    const node = await nodeExecutable(version)
    for (const name of ['esm.mjs', 'commonjs.cjs']) {
      const result = await program(project, [name, 'cpu'], node)
      expect(result.node).toBe(version)
      expectCpu(result)
    }
  })
})
