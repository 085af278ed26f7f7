import { expect, it } from 'vitest'
import { environment } from '../../bench/harness/machine.js'
import { isDisturbed, leastDisturbed } from '../../bench/harness/other-load.js'
import { machineLines } from '../../bench/harness/result-lines.js'

it('names the instruction set that the kernels take: one CPU name stands for several', () => {
  expect(environment().architecture).toMatch(/^\w+$/)
})

it('says when the limits themselves were measured in company', () => {
  const machine = { fmaInstruction: null, bf16Instruction: null, threads: [] }
  expect(machineLines({ ...machine, foreignCores: 0.1 })).toEqual([])
  expect(machineLines({ ...machine, foreignCores: null })).toEqual([])
  expect(machineLines({ ...machine, foreignCores: 0.8 })[0]).toContain('~ limits measured beside 0.800 cores')
})

it('repeats what other load disturbed, and keeps the least disturbed', async () => {
  const measured = async (loads: (number | null)[], retries: number) => {
    const attempts: number[] = []
    const best = await leastDisturbed(retries, attempt => {
      attempts.push(attempt)
      return { foreignCores: loads[attempt]! }
    })
    return { attempts: attempts.length, load: best.foreignCores }
  }
  expect(await measured([0.9, 0.3, 0.5], 2)).toEqual({ attempts: 3, load: 0.3 })
  expect(await measured([0.9, 0, 0.5], 2)).toEqual({ attempts: 2, load: 0 })
  expect(await measured([0.9, 0], 0)).toEqual({ attempts: 1, load: 0.9 })
  expect(await measured([null, 0], 2)).toEqual({ attempts: 1, load: null })
  expect(isDisturbed(null)).toBe(false)
})
