/** `metrics()`: Prometheus' text format, line by line. */

import { expect, it } from 'vitest'
import { type MoeLayer, metrics } from '../../lib/index.js'
import { tinyLayer } from '../helpers/tiny-layer.js'

const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\} (\S+)$/

/** Samples by name and labels; checks that each metric is described before its samples, and once. */
function parse(text: string): Map<string, number> {
  expect(text.endsWith('\n')).toBe(true)
  const samples = new Map<string, number>()
  const described = new Set<string>()
  let type = ''
  for (const line of text.slice(0, -1).split('\n')) {
    const comment = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line)
    if (comment) {
      const [, kind, name, rest] = comment
      if (kind === 'HELP') expect(described.has(name!)).toBe(false)
      else type = rest!
      described.add(name!)
      continue
    }
    const [, name, labels, value] = SAMPLE.exec(line) ?? expect.fail(`no sample: ${line}`)
    expect(described.has(name!), line).toBe(true)
    expect(type === 'counter', line).toBe(name!.endsWith('_total'))
    expect(samples.has(`${name} ${labels}`)).toBe(false)
    expect(Number.isFinite(Number(value)), line).toBe(true)
    samples.set(`${name} ${labels}`, Number(value))
  }
  return samples
}

it('counts calls, failures, refusals, the balance of experts, bytes and health', async () => {
  const { layer, hidden } = tinyLayer({ device: 'reference', maxQueuedTokens: 12 })
  using _ = layer
  const empty = parse(metrics(layer))
  const labels = 'layer="0",device="reference"'
  expect(empty.get(`sparse_experts_request_success_total ${labels}`)).toBe(0)
  expect(empty.get(`sparse_experts_expert_load_max_ratio ${labels}`)).toBe(0)
  expect(empty.get(`sparse_experts_experts_unused ${labels}`)).toBe(8)

  const accepted = [layer.forward(hidden), layer.forward(hidden)]
  await expect(layer.forward(hidden)).rejects.toMatchObject({ code: 'ERR_MOE_QUEUE_FULL' })
  const busy = parse(metrics(layer))
  expect(busy.get(`sparse_experts_num_requests ${labels}`)).toBe(2)
  expect(busy.get(`sparse_experts_num_tokens ${labels}`)).toBe(12)
  expect(busy.get(`sparse_experts_request_rejected_total ${labels}`)).toBe(1)
  const results = await Promise.all(accepted)
  await layer.forward(hidden, { signal: AbortSignal.abort() }).catch(() => {})

  const idle = parse(metrics(layer))
  const stats = layer.stats()
  expect(idle.get(`sparse_experts_num_requests ${labels}`)).toBe(0)
  expect(idle.get(`sparse_experts_request_success_total ${labels}`)).toBe(2)
  expect(idle.get(`sparse_experts_batches_total ${labels}`)).toBe(2)
  expect(idle.get(`sparse_experts_tokens_total ${labels}`)).toBe(12)
  expect(idle.get(`sparse_experts_flops_total ${labels}`)).toBe(2 * results[0]!.work.flops)
  expect(idle.get(`sparse_experts_weights_host_bytes ${labels}`)).toBe(stats.hostBytes)
  const tokens = [...stats.tokensPerExpert]
  // 12 rows of 3 experts each, over 8 experts: 4.5 on average.
  expect(idle.get(`sparse_experts_expert_load_max_ratio ${labels}`)).toBeCloseTo(Math.max(...tokens) / 4.5)
  expect(idle.get(`sparse_experts_experts_unused ${labels}`)).toBe(tokens.filter(count => count === 0).length)
  expect(idle.get('sparse_experts_device_healthy device="reference"')).toBe(1)
})

it('labels layers by place or by name, and has as many samples whatever the number of experts', () => {
  using first = tinyLayer({ device: 'reference' }).layer
  using second = tinyLayer({ device: 'reference' }).layer
  const names = (text: string) => [...parse(text).keys()]
  expect(names(metrics([first, second]))).toContain(
    'sparse_experts_tokens_total layer="1",device="reference"',
  )
  const named = names(metrics({ 'decoder.1': first, 'a "b"\\\n': second }))
  expect(named).toContain('sparse_experts_tokens_total layer="decoder.1",device="reference"')
  expect(named).toContain('sparse_experts_tokens_total layer="a \\"b\\"\\\\\\n",device="reference"')
  expect(named.filter(name => name.startsWith('sparse_experts_workspace_bytes'))).toHaveLength(1)
  expect(names(metrics(first)).length).toBeLessThan(30)
  expect(metrics([])).toBe('')
})

it('refuses what is no layer', () => {
  for (const wrong of [null, undefined, 1, 'x', [{}], { a: null }]) {
    expect(() => metrics(wrong as unknown as MoeLayer)).toThrow(
      expect.objectContaining({ code: 'ERR_MOE_INVALID_ARG_TYPE' }),
    )
  }
})
