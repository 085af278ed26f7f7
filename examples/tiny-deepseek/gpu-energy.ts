/** Joules of one NVIDIA GPU: its power, which nvidia-smi reads from NVML every few milliseconds, summed over time. */

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { EnergyCounter } from './energy.js'

const INTERVAL_MS = 20
/** power.draw alone is a mean over the last second on newer cards. */
const FIELD = 'power.draw.instant'
const FORMAT = '--format=csv,noheader,nounits'

interface PowerSample {
  /** Milliseconds on any clock. */
  at: number
  watts: number
}

export class GpuEnergyMeter implements EnergyCounter {
  readonly #index: string

  private constructor(index: string) {
    this.#index = index
  }

  /**
   * @param name of the device. NVML numbers GPUs otherwise than CUDA does, so that only the one GPU of its name is surely meant.
   * @returns null where there is no such GPU, more than one, or one that does not tell its power: then nothing is measured
   */
  static open(name: string): GpuEnergyMeter | null {
    const { status, stdout } = spawnSync('nvidia-smi', [`--query-gpu=index,name,${FIELD}`, FORMAT], {
      encoding: 'utf8',
    })
    if (status !== 0) return null
    const named = stdout
      .split('\n')
      .map(line => line.split(', '))
      .filter(cells => cells[1] === name)
    const [index, , watts] = named[0] ?? []
    if (named.length !== 1 || !Number.isFinite(Number.parseFloat(watts!))) return null
    return new GpuEnergyMeter(index!)
  }

  /** Joules of the GPU while `run` runs, and nothing of the processor's. */
  async measure(run: () => Promise<void>): Promise<number> {
    const child = spawn(
      'nvidia-smi',
      [`--id=${this.#index}`, `--query-gpu=${FIELD}`, FORMAT, `--loop-ms=${INTERVAL_MS}`],
      { stdio: ['ignore', 'pipe', 'ignore'] },
    )
    const ended = once(child, 'close')
    const lines = createInterface({ input: child.stdout })
    const samples: PowerSample[] = []
    const next = () =>
      Promise.race([
        once(lines, 'line'),
        ended.then(() => {
          throw new Error('nvidia-smi ended while power was measured')
        }),
      ])
    lines.on('line', line => samples.push({ at: performance.now(), watts: Number.parseFloat(line) }))
    try {
      await next()
      const begin = performance.now()
      await run()
      const end = performance.now()
      // One sample behind the end, so that power is known all the way.
      await next()
      return joulesBetween(samples, begin, end)
    } finally {
      child.kill()
      await ended
    }
  }
}

/** The integral of power between two times, straight from sample to sample. @throws Error where a sample is no number */
export function joulesBetween(samples: readonly PowerSample[], begin: number, end: number): number {
  let joules = 0
  for (let i = 1; i < samples.length; i++) {
    const [a, b] = [samples[i - 1]!, samples[i]!]
    const [from, to] = [Math.max(a.at, begin), Math.min(b.at, end)]
    if (to <= from) continue
    const wattsAt = (at: number) => a.watts + ((b.watts - a.watts) * (at - a.at)) / (b.at - a.at)
    joules += ((wattsAt(from) + wattsAt(to)) / 2) * ((to - from) / 1000)
  }
  if (!Number.isFinite(joules)) throw new Error('nvidia-smi told no power')
  return joules
}
