/** What a figure was measured on. */

import os from 'node:os'
import { isDisturbed } from '../../bench/harness/other-load.js'
import type { Decoder } from './decoder/index.js'

export interface Machine {
  cpu: string
  cores: number
  node: string
  device: string
  dtype: string
  kernel: string
  /** Cores' worth of other work while times were taken; null where nobody can say. */
  otherCores: number | null
}

export function describeMachine(decoder: Decoder, otherCores: number | null): Machine {
  const layer = decoder.feedForwards.at(-1)!
  return {
    cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
    cores: os.availableParallelism(),
    otherCores,
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
export function loadNote({ otherCores, cores }: Machine): string[] {
  if (otherCores === null || !isDisturbed(otherCores)) return []
  return [
    `  Taken while other processes had ${otherCores.toFixed(1)} of ${cores} cores: the times are not those of the models.`,
  ]
}
