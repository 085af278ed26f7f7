/** What a figure was measured on. */

import os from 'node:os'
import type { Decoder } from './decoder/index.js'

export interface Machine {
  cpu: string
  cores: number
  node: string
  device: string
  dtype: string
  kernel: string
  /** Processes that wanted a core in the minute before; absent in older records. */
  load?: number
}

export function describeMachine(decoder: Decoder): Machine {
  const layer = decoder.feedForwards.at(-1)!
  return {
    cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
    cores: os.availableParallelism(),
    load: os.loadavg()[0]!,
    node: process.version,
    device: layer.device,
    dtype: layer.dtype,
    kernel: layer.explain(1).stages.find(({ stage }) => stage === 'gateUp')?.kernel ?? 'unknown',
  }
}

/** The device with its processor, where it is one that Node can name. */
export function machineText({ cpu, cores, device, dtype }: Machine): string {
  return `${device}${device.startsWith('cuda') ? '' : ` (${cpu}, ${cores} cores)`}, ${dtype}`
}

/** What to say below times that were taken while others had the cores; nothing on a machine that was left alone. */
export function loadNote({ load, cores }: Machine): string[] {
  if (load === undefined || load < cores / 2) return []
  return [
    `  Taken while other processes had the cores (load ${load.toFixed(1)} on ${cores}): the times are not those of the models.`,
  ]
}
