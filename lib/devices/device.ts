/** Which devices serve here, which one a layer gets, and why not another. */

import { invalidArgType, invalidArgValue, MoeError } from '../block/errors.js'
import { log } from './log.js'
import { tryLoadNative } from './native/addon.js'
import type { NativeAddon, NativeBackend, NativeDeviceInfo } from './native/binding-contract.js'

/**
 * `auto`: the usable device of the backend with the highest priority: the first CUDA device that works, else `cpu`, else `reference`.
 * Others are the ids that `devices()` lists.
 */
export type DeviceOption = 'auto' | 'cuda' | `cuda:${number}` | 'cpu' | 'reference' | (string & {})

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

/** A device that was chosen; `addon` is null for the reference. */
export interface ChosenDevice {
  id: string
  addon: NativeAddon | null
}

/** @internal A device beside what its backend says of it. */
export interface KnownDevice {
  info: DeviceInfo
  backend: Pick<NativeBackend, 'name' | 'title' | 'isNumbered'>
  kind: NativeDeviceInfo['kind'] | 'reference'
  isHost: boolean
  /** False: no device of the backend was found; `info` stands for the backend, with the reason. */
  isFound: boolean
}

/** Where the callers' own arrays lie. */
export const HOST_DEVICE = 'cpu'

const REFERENCE: KnownDevice = {
  info: {
    id: 'reference',
    name: 'pure TypeScript, double precision',
    architecture: 'javascript',
    available: true,
    totalBytes: 0,
    freeBytes: 0,
    computeUnits: 1,
  },
  backend: { name: 'reference', title: 'reference', isNumbered: false },
  kind: 'reference',
  isHost: true,
  isFound: true,
}

/** What a full build has, for where no addon can be asked. The highest priority first. */
const WITHOUT_ADDON: KnownDevice['backend'][] = [
  { name: 'cuda', title: 'CUDA', isNumbered: true },
  { name: HOST_DEVICE, title: 'native CPU backend', isNumbered: false },
]

/** Ids of devices other than the built-in ones that share this process's memory, once they were listed. */
const hostDevices = new Set(['reference', HOST_DEVICE])

/** @internal The device's arrays are typed arrays of this process. `device` is an id that was listed. */
export function isHostDevice(device: string): boolean {
  return hostDevices.has(device)
}

/** Lists every device that this build knows, with the reason for each one that cannot serve. Never throws. */
export function devices(): DeviceInfo[] {
  return knownDevices().map(({ info }) => info)
}

/** @internal The highest priority first. Never throws. */
export function knownDevices(): KnownDevice[] {
  const native = tryLoadNative()
  const without = (reason: string) => [
    ...WITHOUT_ADDON.map(backend => missingDevice(backend, reason)),
    REFERENCE,
  ]
  if ('error' in native) return without(native.error.message)
  try {
    return [...native.addon.backends().flatMap(devicesOf), REFERENCE]
  } catch (error) {
    return without(error instanceof Error ? error.message : String(error))
  }
}

function devicesOf(backend: NativeBackend): KnownDevice[] {
  if (backend.devices.length === 0) return [missingDevice(backend, backend.reason)]
  return backend.devices.map(({ unavailable, kind, isHost, ...info }) => {
    if (isHost) hostDevices.add(info.id)
    const available = unavailable === ''
    return {
      info: { ...info, available, ...(available ? {} : { reason: unavailable }) },
      backend,
      kind,
      isHost,
      isFound: true,
    }
  })
}

function missingDevice(backend: KnownDevice['backend'], reason: string): KnownDevice {
  const info = { ...REFERENCE.info, id: backend.name, name: backend.title, architecture: '', computeUnits: 0 }
  return {
    info: { ...info, available: false, reason },
    backend,
    kind: backend.isNumbered ? 'gpu' : 'cpu',
    isHost: false,
    isFound: false,
  }
}

const warned = new Set<string>()

/** Says once why `auto` did not take a better device. A GPU that cannot serve is worth a warning, a machine without one is not. */
function logFallback({ info: { id }, backend }: KnownDevice, known: readonly KnownDevice[]): void {
  const nextBest = known[known.findIndex(device => device.backend.name === backend.name) - 1]
  const better = known.find(device => device.backend.name === nextBest?.backend.name)
  if (!better) return
  const native = tryLoadNative()
  const [reason = 'not found'] = better.info.reason?.split('\n') ?? []
  const fix = 'error' in native ? String(native.error.details?.fix) : ''
  // Some reasons end with it.
  const why = fix === '' || reason.endsWith(fix) ? reason : `${reason.replace(/\.$/, '')}. ${fix}`
  const message = `running on '${id}'${id === 'reference' ? ' (slow)' : ''}; ${better.info.id}: ${why}`
  if (warned.has(message)) return
  warned.add(message)
  log(id !== 'reference' && !better.isFound ? 'info' : 'warn', message)
}

/** @internal How a device may be spelled: 'auto', 'cuda', 'cuda:N', 'cpu', 'reference'. */
export function deviceSpellings(known: readonly KnownDevice[] = knownDevices()): string[] {
  const backends = new Map(known.map(({ backend }) => [backend.name, backend]))
  const names = [...backends.values()].map(({ name, isNumbered }) =>
    isNumbered ? [name, `${name}:N`] : name,
  )
  return ['auto', ...names.flat()]
}

/** @internal `text` is one of the spellings, whether there is such a device or not. */
export function isSpelledAs(spellings: readonly string[], text: string): boolean {
  return !text.endsWith(':N') && spellings.includes(text.replace(/:\d+$/, ':N'))
}

/** @internal Throws unless `option` is a spelling. */
export function checkDeviceOption(option: unknown, spellings: readonly string[]): string {
  if (typeof option !== 'string') throw invalidArgType('device', 'a string', option)
  if (isSpelledAs(spellings, option)) return option
  const quoted = spellings.map(name => `'${name}'`)
  throw invalidArgValue('device', `${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1)}`, option)
}

/**
 * @internal Resolves a `device` option.
 *
 * @throws {@link MoeError} ERR_MOE_DEVICE_UNAVAILABLE with the reason when a device asked for by name cannot serve, ERR_MOE_DEVICE_LOST
 * when it has failed in this process
 */
export function chooseDevice(option: DeviceOption): ChosenDevice {
  if (option === 'reference') return { id: 'reference', addon: null }
  const known = knownDevices()
  checkDeviceOption(option, deviceSpellings(known))
  const [name] = option.split(':')
  const matches = known.filter(
    ({ info, backend, isFound }) =>
      option === 'auto' || info.id === option || (backend.name === name && (option === name || !isFound)),
  )
  const chosen = matches.find(({ info }) => info.available)
  const native = tryLoadNative()
  if (chosen) {
    if (option === 'auto') logFallback(chosen, known)
    const { id } = chosen.info
    if (id === 'reference') return { id, addon: null }
    if ('addon' in native) return { id, addon: native.addon }
  }
  const reason =
    matches[0]?.info.reason ??
    `there is no device '${option}'; known: ${known.map(({ info }) => info.id).join(', ')}`
  const loss = 'addon' in native ? native.addon.deviceLoss(option) : ''
  if (loss) throw new MoeError('ERR_MOE_DEVICE_LOST', loss, { details: { device: option } })
  throw new MoeError('ERR_MOE_DEVICE_UNAVAILABLE', `Device '${option}' cannot serve: ${reason}`, {
    ...('error' in native ? { cause: native.error } : {}),
    details: { device: option, reason },
  })
}
