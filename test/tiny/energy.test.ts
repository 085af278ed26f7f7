/** The counters of energy: the processor's, and a GPU's by a stand-in for nvidia-smi. */

import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest'
import { EnergyMeter } from '../../examples/tiny-deepseek/energy.js'
import { GpuEnergyMeter, joulesBetween } from '../../examples/tiny-deepseek/gpu-energy.js'
import { skippedOnWindows } from '../helpers/platform.js'
import { removeDirectories, temporaryDirectory } from '../helpers/scratch.js'

afterAll(removeDirectories)

describe('the counter of the processor', () => {
  it('is null where there is none', async () => {
    expect(await EnergyMeter.open('/nowhere')).toBeNull()
    expect(await EnergyMeter.open(await temporaryDirectory())).toBeNull()
  })

  it('adds packages, not their parts, and knows that counters begin again', async () => {
    const directory = await temporaryDirectory()
    const set = async (name: string, microjoules: number) => {
      await mkdir(path.join(directory, name), { recursive: true })
      await writeFile(path.join(directory, name, 'energy_uj'), `${microjoules}\n`)
      await writeFile(path.join(directory, name, 'max_energy_range_uj'), '10000000\n')
    }
    await set('intel-rapl:0', 1_000_000)
    await set('intel-rapl:1', 9_000_000)
    await set('intel-rapl:0:0', 0)
    const meter = (await EnergyMeter.open(directory))!
    const joules = await meter.measure(async () => {
      await set('intel-rapl:0', 3_000_000)
      await set('intel-rapl:1', 500_000)
      await set('intel-rapl:0:0', 5_000_000)
    })
    expect(joules).toBeCloseTo(3.5, 10)
  })
})

const noShell = skippedOnWindows('the energy of a GPU', 'its nvidia-smi is a script of a POSIX shell')
describe.skipIf(noShell)('the energy of a GPU', () => {
  afterEach(() => {
    vi.unstubAllEnvs()
  })

  /** An nvidia-smi that lists `rows`, and tells `watts` every 20 ms, `count` times. */
  async function stubSmi(rows: string, watts: string, count = 1000) {
    const directory = await temporaryDirectory()
    const script = `#!/bin/sh
case "$*" in
  *--loop-ms=20*) i=0; while [ $i -lt ${count} ]; do echo '${watts}'; i=$((i + 1)); sleep 0.02; done ;;
  *) printf '${rows}' ;;
esac
`
    await writeFile(path.join(directory, 'nvidia-smi'), script, { mode: 0o755 })
    vi.stubEnv('PATH', `${directory}${path.delimiter}${process.env.PATH}`)
  }

  it('is the integral of power over exactly the time of the run', () => {
    const samples = [
      { at: 0, watts: 100 },
      { at: 1000, watts: 100 },
      { at: 2000, watts: 200 },
    ]
    expect(joulesBetween(samples, 0, 2000)).toBeCloseTo(250, 10)
    expect(joulesBetween(samples, 500, 1500)).toBeCloseTo(50 + 62.5, 10)
    expect(() => joulesBetween([{ at: 0, watts: Number.NaN }, samples[1]!], 0, 1000)).toThrow('no power')
  })

  it('is read while the run runs', async () => {
    await stubSmi('0, Some GPU, 30.00\\n1, Another, 50.00\\n', '100.00')
    const meter = GpuEnergyMeter.open('Another')!
    let inside = 0
    const began = performance.now()
    const joules = await meter.measure(async () => {
      const begin = performance.now()
      await sleep(150)
      inside = performance.now() - begin
    })
    // A tenth of a joule per millisecond of the run, which is shorter than the measurement around it.
    expect(joules).toBeGreaterThan(0.0999 * inside)
    expect(joules).toBeLessThan(0.1 * (performance.now() - began))
  })

  it('is not measured where the GPU is absent, not alone of its name, or silent', async () => {
    await stubSmi('0, Twin, 30.00\\n1, Twin, 50.00\\n2, Quiet, [N/A]\\n', '1')
    for (const name of ['Absent', 'Twin', 'Quiet']) expect(GpuEnergyMeter.open(name)).toBeNull()
    vi.stubEnv('PATH', await temporaryDirectory())
    expect(GpuEnergyMeter.open('Twin')).toBeNull()
  })

  it('fails where nvidia-smi ends too early', async () => {
    await stubSmi('0, Some GPU, 30.00\\n', '100.00', 1)
    await expect(GpuEnergyMeter.open('Some GPU')!.measure(async () => {})).rejects.toThrow('ended')
  })
})
