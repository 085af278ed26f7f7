/** Joules of the processor packages, from the counters that Linux shows for RAPL; most virtual machines and containers show none. */

import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'

const POWERCAP = '/sys/class/powercap'

/** A counter of one package: microjoules that begin at 0 again behind `maxMicrojoules`. */
interface PackageCounter {
  file: string
  maxMicrojoules: number
}

/** Anything that tells what a run took. */
export interface EnergyCounter {
  measure(run: () => Promise<void>): Promise<number>
}

export class EnergyMeter implements EnergyCounter {
  readonly #counters: readonly PackageCounter[]

  private constructor(counters: readonly PackageCounter[]) {
    this.#counters = counters
  }

  /** @returns null where no counter can be read: then nothing is measured */
  static async open(directory = POWERCAP): Promise<EnergyMeter | null> {
    try {
      // intel-rapl:0 is a package (AMD's as well); intel-rapl:0:1 a part of it.
      const packages = (await readdir(directory)).filter(name => /^intel-rapl:\d+$/.test(name))
      const counters = await Promise.all(
        packages.map(async name => {
          const file = path.join(directory, name, 'energy_uj')
          await readFile(file, 'utf8')
          const max = await readFile(path.join(directory, name, 'max_energy_range_uj'), 'utf8')
          return { file, maxMicrojoules: Number(max) }
        }),
      )
      return counters.length > 0 ? new EnergyMeter(counters) : null
    } catch {
      return null
    }
  }

  /** Joules of the whole machine while `run` runs; it must be shorter than a counter's round (minutes). */
  async measure(run: () => Promise<void>): Promise<number> {
    const before = await this.#read()
    await run()
    const after = await this.#read()
    return (
      this.#counters.reduce((sum, { maxMicrojoules }, i) => {
        const difference = after[i]! - before[i]!
        return sum + (difference < 0 ? difference + maxMicrojoules : difference)
      }, 0) / 1e6
    )
  }

  #read(): Promise<number[]> {
    return Promise.all(this.#counters.map(async ({ file }) => Number(await readFile(file, 'utf8'))))
  }
}
