/** Which devices serve here, which one a layer gets, and why not another. */

import type { LayerRuntime } from './backends/runtime.js'
import type { NativeAddon } from './binding-contract.js'
import type { ResolvedMoeConfig } from './config.js'
import type { DType } from './dtype.js'
import { invalidArgType, invalidArgValue, MoeError } from './errors.js'
import { log } from './log.js'
import { tryLoadNative } from './native.js'

/** `auto`: the first CUDA device that works, else `cpu`, else `reference`. */
export type DeviceOption = 'auto' | 'cuda' | `cuda:${number}` | 'cpu' | 'reference'

/** One device, usable or not. */
export interface DeviceInfo {
  /** 'reference', 'cpu', 'cuda:0' …; 'cuda' alone where no CUDA device can be listed. */
  id: string
  name: string
  /** CPU: instruction set in use; CUDA: sm_XY; reference: 'javascript'. */
  architecture: string
  available: boolean
  /** Why not, where it is not. */
  reason?: string
  totalBytes: number
  freeBytes: number
  /** Threads or multiprocessors. */
  computeUnits: number
}

/** @internal A device that was chosen; `addon` is null for the reference. */
export interface ChosenDevice {
  id: string
  addon: NativeAddon | null
  architecture: string
}

/** Kernel names by stage. */
export type StageKernels = ReturnType<LayerRuntime['kernels']>

/** Lists every device that this build knows, with the reason for each one that cannot serve. Never throws. */
export function devices(): DeviceInfo[] {
  const reference: DeviceInfo = {
    id: 'reference',
    name: 'pure TypeScript, double precision',
    architecture: 'javascript',
    available: true,
    totalBytes: 0,
    freeBytes: 0,
    computeUnits: 1,
  }
  const native = tryLoadNative()
  if ('error' in native) {
    const missing = (id: string, name: string): DeviceInfo => ({
      ...reference,
      id,
      name,
      architecture: '',
      available: false,
      reason: native.error.message,
      computeUnits: 0,
    })
    return [missing('cuda', 'CUDA'), missing('cpu', 'native CPU backend'), reference]
  }
  const listed: DeviceInfo[] = native.addon.devices().map(({ unavailable, ...info }) => ({
    ...info,
    available: unavailable === '',
    ...(unavailable === '' ? {} : { reason: unavailable }),
  }))
  if (!listed.some(info => info.id.startsWith('cuda'))) {
    listed.unshift({
      ...reference,
      id: 'cuda',
      name: 'CUDA',
      architecture: '',
      available: false,
      reason: native.addon.cudaReason() || 'no CUDA device was found',
      computeUnits: 0,
    })
  }
  const order = (id: string) => (id.startsWith('cuda') ? 0 : 1)
  listed.sort((a, b) => order(a.id) - order(b.id))
  return [...listed, reference]
}

let warnedFallback = false

/**
 * @internal Resolves a `device` option.
 *
 * @throws {@link MoeError} ERR_MOE_DEVICE_UNAVAILABLE with the reason when a device asked for by name cannot serve
 */
export function chooseDevice(option: DeviceOption): ChosenDevice {
  if (typeof option !== 'string') throw invalidArgType('device', 'a string', option)
  if (!/^(auto|cpu|reference|cuda(:\d+)?)$/.test(option)) {
    throw invalidArgValue('device', "'auto', 'cuda', 'cuda:N', 'cpu' or 'reference'", option)
  }
  if (option === 'reference') return { id: 'reference', addon: null, architecture: 'javascript' }
  const known = devices()
  const matches = known.filter(
    info =>
      option === 'auto' ||
      info.id === option ||
      (option.startsWith('cuda') && info.id === 'cuda') ||
      (option === 'cuda' && info.id.startsWith('cuda:')),
  )
  const chosen = matches.find(info => info.available)
  if (chosen && chosen.id !== 'reference') {
    const native = tryLoadNative()
    if ('addon' in native) return { id: chosen.id, addon: native.addon, architecture: chosen.architecture }
  }
  if (option === 'auto') {
    const reason = known.find(info => info.id === 'cpu')?.reason ?? 'no native device'
    if (!warnedFallback) log('warn', `running on 'reference' (slow): ${reason.split('\n')[0]}`)
    warnedFallback = true
    return { id: 'reference', addon: null, architecture: 'javascript' }
  }
  const reason =
    matches[0]?.reason ?? `there is no device '${option}'; known: ${known.map(info => info.id).join(', ')}`
  const native = tryLoadNative()
  throw new MoeError('ERR_MOE_DEVICE_UNAVAILABLE', `Device '${option}' cannot serve: ${reason}`, {
    ...('error' in native ? { cause: native.error } : {}),
    details: { device: option, reason },
  })
}

/** @internal The kernels that a device uses, before anything is loaded. */
export function describeKernels(device: ChosenDevice, dtype: DType, gated: boolean): StageKernels {
  const where = device.id === 'reference' ? 'double-precision loop' : device.architecture
  const matmul =
    device.id === 'reference'
      ? where
      : `${where} ${dtype === 'bf16' && where === 'avx512bf16' ? 'bf16 dot' : `${dtype} widened, f32 FMA`}`
  return {
    gate: device.id === 'reference' ? where : `${where} f32 FMA`,
    select: device.id === 'reference' ? where : 'partial selection per token',
    dispatch: device.id === 'reference' ? where : 'stable counting sort',
    gateUp: `${matmul}, activation of ${gated ? 'gate and up' : 'up'} in the same pass`,
    down: matmul,
    combine: device.id === 'reference' ? where : `${where}, fixed order over k`,
  }
}

/** @internal Scratch that a forward takes on a device, before anything is loaded. */
export function workspaceBytes(
  device: ChosenDevice,
  config: ResolvedMoeConfig,
  dtype: DType,
  numTokens: number,
): number {
  return device.addon ? device.addon.workspaceBytes(device.id, config, dtype, numTokens) : 0
}
