/** How the benchmarks of a GPU read its energy in Python, by a stand-in for NVIDIA's management library. */

import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { compileEnergyCounter } from '../helpers/energy-counter.js'
import { removeDirectories, temporaryDirectory } from '../helpers/scratch.js'

afterAll(removeDirectories)

const has = (command: string) => spawnSync(command, ['--version']).status === 0
const folder = path.join(import.meta.dirname, '../../bench/gpu')

describe.skipIf(!has('python3') || !has('cc') || process.platform !== 'linux')(
  'the energy of a window',
  () => {
    let library: string
    beforeAll(async () => {
      library = compileEnergyCounter(await temporaryDirectory())
    })

    const python = (body: string) =>
      spawnSync(
        'python3',
        [
          '-c',
          `import sys, time\nsys.dont_write_bytecode = True\nsys.path.insert(0, ${JSON.stringify(folder)})\n${body}`,
        ],
        {
          encoding: 'utf8',
        },
      )

    it('is that of its calls, until the time is over', () => {
      const { stdout, stderr, status } = python(`
from energy_counter import EnergyCounter, window
counter = EnergyCounter("0000:01:00.0", ${JSON.stringify(library)})
ran = []
began = counter.joules()
calls, seconds, joules = window(counter, lambda: ran.append(time.sleep(0.001)), lambda: None, 0.1)
print(calls, len(ran), seconds, joules, counter.joules() - began)`)
      expect(status, stderr).toBe(0)
      const [calls, ran, seconds, joules, all] = stdout.trim().split(' ').map(Number) as number[]
      expect(seconds).toBeGreaterThanOrEqual(0.1)
      // 500 W over at least the window, and over no more than all that has gone by: one before it and the time in which clocks settle.
      expect(joules).toBeGreaterThanOrEqual(500 * 0.1 - 0.01)
      expect(joules).toBeLessThan(all!)
      expect(calls).toBeGreaterThan(0)
      expect(calls).toBeLessThan(ran!)
    })

    it.each([
      ['without the library', '"0000:01:00.0", "/nowhere/libnvidia-ml.so.1"'],
      ['of a GPU that it does not know', `"FFFF:01:00.0", LIBRARY`],
    ])('is an OSError %s', (_, args) => {
      const { stdout } = python(`
from energy_counter import EnergyCounter
try:
    EnergyCounter(${args.replace('LIBRARY', JSON.stringify(library))})
except OSError as error:
    print("OSError")`)
      expect(stdout.trim()).toBe('OSError')
    })
  },
)
