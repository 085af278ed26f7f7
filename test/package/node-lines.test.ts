/** One prebuild serves every supported line of Node, under its permission model too. */

import path from 'node:path'
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

  it.each(NODE_VERSIONS)('runs under the permission model of Node %s', async version => {
    const node = await nodeExecutable(version)
    const model = version.startsWith('20.') ? '--experimental-permission' : '--permission'
    const read = `--allow-fs-read=${path.join(project, '*')}`
    expectCpu(await program(project, [model, read, '--allow-addons', 'esm.mjs', 'cpu'], node))
    const { device, warnings } = await program(project, [model, read, 'esm.mjs', 'auto'], node)
    expect(device).toBe('reference')
    expect(warnings).toEqual([expect.stringContaining(`'${model} --allow-fs-read=`)])
  })
})
