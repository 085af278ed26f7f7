/** Machines on which something is wrong, emulated: no driver, an old card, a card that fails for good, calls that fail once. */

import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { describeEmulated, runFixture } from '../helpers/cuda.js'
import type { FaultSweepReport } from './fixtures/fault-sweep.js'
import type { FaultReport } from './fixtures/faults.js'
import type { LossReport } from './fixtures/loss.js'
import type { MachineReport } from './fixtures/machine.js'
import type { TwoCardsReport } from './fixtures/two-cards.js'

describeEmulated('a machine', () => {
  it('without a driver: cuda says so, auto takes the CPU', async () => {
    const report = await runFixture<MachineReport>('machine', { SIMT_DRIVER: 'none' })
    expect(report.devices).toMatchObject([{ id: 'cuda', available: false, reason: 'no NVIDIA driver' }])
    expect(report.auto).toBe('cpu')
    expect(report.asked).toMatch(/^ERR_MOE_DEVICE_UNAVAILABLE: .*no NVIDIA driver/)
    expect(report.tensor).toMatch(/^ERR_MOE_DEVICE_UNAVAILABLE: .*no NVIDIA driver/)
    expect(report.logged.join()).toMatch(/running on 'cpu'.*no NVIDIA driver/)
    expect(report.doctor.ok).toBe(true)
  })

  it('without a card', async () => {
    const report = await runFixture<MachineReport>('machine', { SIMT_DEVICES: '0' })
    expect(report.devices).toMatchObject([{ id: 'cuda', available: false, reason: 'no NVIDIA GPU' }])
    expect(report.auto).toBe('cpu')
  })

  it('with a driver that is too old', async () => {
    const report = await runFixture<MachineReport>('machine', { SIMT_DRIVER: '11040' })
    expect(report.devices[0]!.reason).toMatch(/serves CUDA 11\.4.*update the driver/)
    expect(report.auto).toBe('cpu')
  })

  it('with a card that this build has no code for', async () => {
    const report = await runFixture<MachineReport>('machine', { SIMT_COMPUTE_CAPABILITY: '75' })
    expect(report.devices).toMatchObject([
      {
        id: 'cuda:0',
        available: false,
        architecture: 'sm_75',
        reason: expect.stringMatching(/no code for sm_75/),
      },
    ])
    expect(report.auto).toBe('cpu')
    expect(report.logged.join()).toMatch(/running on 'cpu'; cuda:0: .*sm_75/)
    expect(report.doctor).toMatchObject({
      ok: false,
      detail: expect.stringMatching(/sm_75.*sm_80|sm_80.*sm_75/),
    })
  })

  it('with an old card before a good one: auto and cuda take the good one', async () => {
    const env = { SIMT_DEVICES: '2', SIMT_COMPUTE_CAPABILITY: '75,80' }
    const report = await runFixture<MachineReport>('machine', env)
    expect(report.devices.map(({ id, available }) => [id, available])).toEqual([
      ['cuda:0', false],
      ['cuda:1', true],
    ])
    expect(report).toMatchObject({ auto: 'cuda:1', asked: 'cuda:1', tensor: 'cuda:1' })
    expect(report.doctor).toMatchObject({
      ok: true,
      detail: expect.stringMatching(/cuda:1 .*cuda:0: .*sm_75/),
    })
  })

  it('with two cards: both serve, tensors stay on their own', async () => {
    const report = await runFixture<TwoCardsReport>('two-cards', { SIMT_DEVICES: '2' })
    expect(report).toEqual({
      devices: ['cuda:0', 'cuda:1'],
      sameBits: true,
      foreignForward: 'ERR_MOE_INVALID_ARG_VALUE',
      foreignStage: 'ERR_MOE_INVALID_ARG_VALUE',
      launchedByForeign: 0,
      countersApart: true,
    })
  })
})

describeEmulated('a card that fails for good', () => {
  // The kernel that faults: in the first forward, in its replays, with calls queued behind it, in a stage.
  it.each([1, 4, 9, 15, 40, 90, 200])(
    'at kernel %i: everything on it says so, the CPU goes on',
    async kernel => {
      const env = { SIMT_FAIL: `sticky:${kernel}`, SIMT_DEVICES: '2' }
      const report = await runFixture<LossReport>('loss', env)
      const { outcomes } = report
      const first = outcomes.indexOf('ERR_MOE_DEVICE_LOST')
      expect(first).toBeGreaterThanOrEqual(0)
      expect(outcomes.slice(0, first).every(outcome => outcome === 'ok')).toBe(true)
      expect(outcomes.slice(first).every(outcome => outcome === 'ERR_MOE_DEVICE_LOST')).toBe(true)
      expect(report.causes).toHaveLength(1)
      expect(report.causes[0]).toMatch(/cudaErrorIllegalAddress/)
      expect(report.health).toEqual(['failed', 'failed'])
      expect(report.healthCauses).toEqual(report.causes)
      expect(report.device).toMatchObject({ available: false, reason: expect.stringMatching(/lost/) })
      expect(report.created).toBe('ERR_MOE_DEVICE_LOST')
      expect(report).toMatchObject({ cpu: 'ok', cpuHealth: 'ready', otherCard: 'ok', auto: 'cuda:1' })
    },
  )
})

describeEmulated('calls of the driver that fail once', () => {
  it.each([
    ['memory', { malloc: 3, host: 2 }],
    ['copies', { copy: 7 }],
    ['launches', { launch: 5 }],
    ['streams, events and graphs', { stream: 1, event: 2, graph: 1 }],
    ['all together', { malloc: 11, copy: 23, launch: 17, graph: 2, host: 3 }],
  ] as [string, Record<string, number>][])(
    '%s: every outcome is right or a typed error',
    async (_name, periods) => {
      const plan = Object.entries(periods).flatMap(([kind, period]) =>
        Array.from({ length: 16 }, (_, i) => `${kind}:${period * (i + 1)}`),
      )
      const report = await runFixture<FaultReport>('faults', { SIMT_FAIL: plan.join(',') })
      expect(report.wrong).toEqual([])
      const allowed = ['ok', 'ERR_MOE_OUT_OF_MEMORY', 'ERR_MOE_INTERNAL']
      expect(Object.keys(report.outcomes).filter(outcome => !allowed.includes(outcome))).toEqual([])
      expect(report.failures).toBeGreaterThan(2)
      // The plan runs out: from then on everything works, and nothing is held.
      expect(report.lastRoundOk).toBe(true)
      expect(report.grownBytes).toBeLessThanOrEqual(0)
    },
  )
})

describeEmulated('the life of a layer', () => {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'sparse-experts-switch-'))
  const addon = path.join(directory, 'fault_switch.node')
  beforeAll(() => {
    const { LD_PRELOAD: _, ...env } = process.env
    const headers = createRequire(import.meta.url)('node-api-headers').include_dir
    const source = path.join(import.meta.dirname, 'fixtures/fault_switch.cc')
    const flags = ['-std=c++17', '-shared', '-fPIC', '-I', headers, source, '-o', addon, '-ldl']
    execFileSync(process.env.CXX ?? 'c++', flags, { env })
  })
  afterAll(() => rmSync(directory, { recursive: true, force: true }))

  // The race detector looks at kernels, and these are the same over and over.
  it.skipIf(process.env.SPARSE_EXPERTS_EMULATED === 'race').each([
    // Page-locked memory is the device's, which has it from the first life on: test/cuda/backend_failures_test.cc fails it.
    ['with all experts in memory', '', { malloc: 4, host: 0, copy: 12, launch: 8, graph: 1 }],
    ['whose experts come and go', '1', { malloc: 4, host: 1, copy: 12, launch: 8, graph: 0 }],
  ])('%s survives the failure of each of its calls of the driver', async (_, cache, least) => {
    const report = await runFixture<FaultSweepReport>('fault-sweep', {
      FAULT_SWITCH: addon,
      FAULT_CACHE: cache,
    })
    expect(report.wrong).toEqual([])
    // Each sweep went past the last call of its kind, and there were as many as a load with its forwards makes at least.
    const { calls, most, codes } = report
    for (const [kind, atLeast] of Object.entries(least)) {
      expect(calls[kind], kind).toBeGreaterThanOrEqual(atLeast)
      expect(calls[kind], kind).toBeLessThan(most)
    }
    const memory = ['ERR_MOE_OUT_OF_MEMORY']
    expect(codes).toMatchObject({
      malloc: memory,
      copy: ['ERR_MOE_INTERNAL'],
      launch: ['ERR_MOE_INTERNAL'],
    })
    // Graphs can be done without.
    expect(codes.graph).toEqual([])
    const typed = [...memory, 'ERR_MOE_INTERNAL']
    expect(
      Object.values(codes)
        .flat()
        .filter(code => !typed.includes(code)),
    ).toEqual([])
  })
})
