/** The command line of the goals, and what it gives to the benchmarks that it runs. */

import { describe, expect, it } from 'vitest'
import { parseGoalsOptions } from '../../bench/goals/goals-options.js'
import { commandOf, runPart } from '../../bench/goals/parts.js'
import { UsageError } from '../../bench/harness/command-line.js'
import { parseOptions } from '../../bench/layer/layer-options.js'
import { parsePeersOptions } from '../../bench/peers/peers-options.js'

describe('the command line of the goals', () => {
  it('takes shapes by part of a name', () => {
    expect(parseGoalsOptions(['--filter', 'deepseek-v2,olmoe']).shapes).toEqual([
      'DeepSeek-V2-Lite',
      'OLMoE-1B-7B',
    ])
    expect(parseGoalsOptions([]).shapes).toHaveLength(4)
    expect(parseGoalsOptions(['--quick']).shapes).toEqual(['small'])
  })

  it.each([
    ['--filter', 'Mixtral'],
    ['--only', 'speed'],
    ['--rounds', '0'],
    ['--from', 'a', '--out', 'b'],
  ])('refuses %s %s', (...args) => {
    expect(() => parseGoalsOptions(args)).toThrow(UsageError)
  })

  it.each([[[]], [['--quick']], [['--dtype', 'f32']], [['--dtype', 'f32,q4_0,fp8']]])(
    'gives each benchmark words that it takes: %s',
    args => {
      const options = parseGoalsOptions(args)
      for (const part of ['cells', 'sweep'] as const) {
        expect(() => parseOptions(commandOf(part, options)!.args)).not.toThrow()
      }
      for (const part of ['peers', 'engine'] as const) {
        const command = commandOf(part, options)
        if (command) expect(() => parsePeersOptions(command.args)).not.toThrow()
      }
      for (const part of ['shares', 'load'] as const) {
        expect(parseGoalsOptions(commandOf(part, options)!.args)).toMatchObject({
          ...{ parts: [part], dtypes: options.dtypes, shapes: options.shapes, quick: options.quick },
        })
      }
    },
  )

  it('measures codes in what knows them', () => {
    const options = parseGoalsOptions(['--dtype', 'q4_0,fp8'])
    for (const part of ['contention', 'cells', 'sweep'] as const) expect(commandOf(part, options)).toBeNull()
    expect(parsePeersOptions(commandOf('peers', options)!.args).parts).toEqual(['int4', 'activations'])
    expect(parsePeersOptions(commandOf('engine', options)!.args)).toMatchObject({
      ...{ parts: ['context'], forms: ['q4_0'], threads: [0, 1] },
    })
  })

  it('has no peer for f16', () => {
    const options = parseGoalsOptions(['--dtype', 'f16'])
    expect(commandOf('peers', options)).toBeNull()
    runPart('peers', options, '/nonexistent')
  })
})
