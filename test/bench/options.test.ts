import { describe, expect, it } from 'vitest'
import { UsageError } from '../../bench/harness/command-line.js'
import { groupsOf } from '../../bench/layer/cell-groups.js'
import { parseOptions } from '../../bench/layer/layer-options.js'
import { parsePeersOptions } from '../../bench/peers/peers-options.js'

describe('the command line of the benchmark', () => {
  it('means all shapes, devices, dtypes and both kinds of cells by default', () => {
    const options = parseOptions([])
    expect(options.shapes).toContain('DeepSeek-V3-EP8')
    expect(options.devices).toEqual(['reference', 'cpu', 'cuda'])
    expect(options.dtypes).toEqual(['f32', 'bf16', 'f16', 'q4_0', 'q4_K', 'mxfp4', 'q8_0', 'fp8'])
    expect(options.tokens).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 512, 2048])
    expect([options.stages, options.dense, options.quick]).toEqual([true, true, false])
  })

  it('takes lists without repeats, and shapes by part of their name', () => {
    const options = parseOptions([
      '--filter',
      'qwen3',
      '--tokens',
      '8,1,8',
      '--threads',
      '2',
      '--stages',
      'off',
    ])
    expect(options.shapes).toEqual(['Qwen3-30B-A3B', 'Qwen3-Next-80B'])
    expect(options.tokens).toEqual([8, 1])
    expect(options.threads).toEqual([2])
    expect(options.stages).toBe(false)
  })

  it('sweeps the number of experts instead of the models', () => {
    expect(parseOptions(['--sweep', 'experts']).shapes).toEqual([
      'E8',
      'E16',
      'E32',
      'E64',
      'E128',
      'E256',
      'E512',
    ])
  })

  it.each([
    ['a device that is none', ['--device', 'gpu']],
    ['a dtype that is none', ['--dtype', 'f64']],
    ['a filter that matches nothing', ['--filter', 'nonesuch']],
    ['no tokens', ['--tokens', '0']],
    ['tokens that are no number', ['--tokens', 'x']],
    ['an empty list', ['--load', '']],
    ['an option that is none', ['--fast']],
    ['a switch that is neither', ['--dense', 'yes']],
  ])('refuses %s', (_, args) => {
    expect(() => parseOptions(args)).toThrow(UsageError)
  })
})

describe('the command line of the peers', () => {
  it('means four shapes and all groups by default, never a rank that has no gate', () => {
    const { shapes, parts, forms, tokens, rounds } = parsePeersOptions([])
    expect(shapes.map(({ name }) => name)).toEqual([
      'DeepSeek-V2-Lite',
      'OLMoE-1B-7B',
      'Qwen3-30B-A3B',
      'small',
    ])
    expect(parts).toEqual(['f32', 'bf16', 'int8', 'int4', 'activations', 'context'])
    expect(forms).toEqual(['bf16', 'q4_0', 'q4_K', 'mxfp4', 'q8_0'])
    expect(tokens).toEqual([1, 8, 64, 512])
    expect(rounds).toBe(5)
    expect(() => parsePeersOptions(['--filter', 'EP8'])).toThrow(UsageError)
  })

  it('is short with --quick, and still does what else is asked', () => {
    const { shapes, rounds, tokens } = parsePeersOptions(['--quick', '--tokens', '3'])
    expect([shapes.length, rounds, tokens]).toEqual([1, 1, [3]])
  })

  it.each([
    ['--only', 'f16'],
    ['--rounds', '0'],
    ['--filter', 'nonesuch'],
    ['--fast', 'on'],
  ])('refuses %s %s', (...args) => {
    expect(() => parsePeersOptions(args)).toThrow(UsageError)
  })
})

describe('the cells', () => {
  const trace = {
    layer: 1,
    numExperts: 32,
    numTokens: 1,
    topK: 4,
    topkIds: new Int32Array(4),
    topkWeights: new Float32Array(4),
  }

  it('are one group per shape, dtype, device and number of threads', () => {
    const options = parseOptions([
      '--filter',
      'small',
      '--dtype',
      'f32',
      '--threads',
      '0,1',
      '--tokens',
      '1,64',
    ])
    const groups = groupsOf(options, ['cpu'], 2, [])
    expect(groups.map(({ threads }) => threads)).toEqual([2, 1])
    expect(groups[0]!.layerCells).toEqual([
      { load: 'gate', numTokens: 1 },
      { load: 'gate', numTokens: 64 },
      { load: 'uniform', numTokens: 1 },
      { load: 'uniform', numTokens: 64 },
      { load: 'zipf', numTokens: 1 },
      { load: 'zipf', numTokens: 64 },
    ])
    expect(groups[0]!.stageTokens).toEqual([1, 64])
  })

  it('count threads that come to the same once', () => {
    const options = parseOptions(['--filter', 'small', '--dtype', 'f32', '--threads', '0,2'])
    expect(groupsOf(options, ['cpu'], 2, [])).toHaveLength(1)
  })

  it('leave out what would take the reference minutes', () => {
    const options = parseOptions(['--filter', 'Mixtral', '--dtype', 'f32', '--tokens', '1,2048'])
    const tokens = groupsOf(options, ['reference'], 2, []).flatMap(group => group.layerCells)
    expect(tokens.map(({ numTokens }) => numTokens)).toEqual([1])
  })

  it('replay a trace only on shapes with as many experts', () => {
    const options = parseOptions([
      '--filter',
      'gpt-oss,OLMoE',
      '--dtype',
      'bf16',
      '--tokens',
      '1',
      '--load',
      'traced',
    ])
    expect(groupsOf(options, ['cpu'], 2, [trace]).map(({ shape }) => shape.name)).toEqual(['gpt-oss-20b'])
    expect(groupsOf(options, ['cpu'], 2, [])).toEqual([])
  })

  it('hand an expert-parallel rank its ids: no gate, no stages', () => {
    const options = parseOptions([
      '--filter',
      'EP8',
      '--dtype',
      'bf16',
      '--tokens',
      '1',
      '--load',
      'gate,uniform',
    ])
    const [group] = groupsOf(options, ['cpu'], 2, [])
    expect(group!.layerCells).toEqual([{ load: 'uniform', numTokens: 1 }])
    expect(group!.stageTokens).toEqual([])
  })
})
