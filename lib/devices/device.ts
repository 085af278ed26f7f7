/** Which devices serve here, which one a layer gets, and why not another. */

import type { ResolvedMoeConfig } from '../block/config.js'
import type { DType } from '../block/dtype.js'
import { invalidArgType, invalidArgValue, MoeError } from '../block/errors.js'
import type { StageKernels } from './contract.js'
import { log } from './log.js'
import { tryLoadNative } from './native/addon.js'
import type { NativeAddon } from './native/binding-contract.js'
import { fromNativeError } from './native/errors.js'
import { REFERENCE_KERNELS } from './reference/stages.js'

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
}

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

const warned = new Set<string>()

/** Says once why `auto` did not take a better device. A card that cannot serve is worth a warning, a machine without one is not. */
function logFallback(id: string, known: readonly DeviceInfo[]): void {
  const better = known.find(info => (id === 'cpu' ? info.id.startsWith('cuda') : info.id === 'cpu'))
  const reason = `${better?.id ?? 'no native device'}: ${better?.reason?.split('\n')[0] ?? 'not found'}`
  const message = `running on '${id}'${id === 'reference' ? ' (slow)' : ''}; ${reason}`
  if (warned.has(message)) return
  warned.add(message)
  log(id === 'cpu' && better?.id === 'cuda' ? 'info' : 'warn', message)
}

/**
 * @internal Resolves a `device` option.
 *
 * @throws {@link MoeError} ERR_MOE_DEVICE_UNAVAILABLE with the reason when a device asked for by name cannot serve, ERR_MOE_DEVICE_LOST
 * when it has failed in this process
 */
export function chooseDevice(option: DeviceOption): ChosenDevice {
  if (typeof option !== 'string') throw invalidArgType('device', 'a string', option)
  if (!/^(auto|cpu|reference|cuda(:\d+)?)$/.test(option)) {
    throw invalidArgValue('device', "'auto', 'cuda', 'cuda:N', 'cpu' or 'reference'", option)
  }
  if (option === 'reference') return { id: 'reference', addon: null }
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
    if ('addon' in native) {
      if (option === 'auto' && chosen.id === 'cpu') logFallback('cpu', known)
      return { id: chosen.id, addon: native.addon }
    }
  }
  if (option === 'auto') {
    logFallback('reference', known)
    return { id: 'reference', addon: null }
  }
  const reason =
    matches[0]?.reason ?? `there is no device '${option}'; known: ${known.map(info => info.id).join(', ')}`
  const native = tryLoadNative()
  const loss = 'addon' in native ? native.addon.deviceLoss(option) : ''
  if (loss) throw new MoeError('ERR_MOE_DEVICE_LOST', loss, { details: { device: option } })
  throw new MoeError('ERR_MOE_DEVICE_UNAVAILABLE', `Device '${option}' cannot serve: ${reason}`, {
    ...('error' in native ? { cause: native.error } : {}),
    details: { device: option, reason },
  })
}

/** @internal What a forward takes on a device, before anything is loaded. */
export function forwardNeeds(
  { id, addon }: ChosenDevice,
  config: ResolvedMoeConfig,
  dtype: DType,
  numTokens: number,
  batchInvariant: boolean,
): { kernels: StageKernels; workspaceBytes: number } {
  if (!addon) return { kernels: REFERENCE_KERNELS, workspaceBytes: 0 }
  try {
    return {
      kernels: addon.describeForward(id, config, dtype, numTokens, batchInvariant),
      workspaceBytes: addon.workspaceBytes(id, config, dtype, numTokens, batchInvariant),
    }
  } catch (error) {
    throw fromNativeError(error, 'run')
  }
}
