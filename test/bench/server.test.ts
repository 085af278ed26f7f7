import { describe, expect, it } from 'vitest'
import { batchRows } from '../../bench/server/row-batcher.js'
import { runNode } from '../helpers/run-program.js'
import { tinyLayer } from '../helpers/tiny-layer.js'

describe('bench:server', () => {
  it('asks three servers, and only the first one runs each call alone', async () => {
    const { status, stdout, stderr } = await runNode([
      ...['--import', 'tsx', 'bench/server/measure-server.ts'],
      ...['--quick', '--clients', '20'],
    ])
    expect(stderr).toBe('')
    expect(status).toBe(0)
    const rowsPerForward = (server: string) => {
      const line = stdout.split('\n').find(text => text.includes(`calls ${server} `))
      return Number(line?.trim().split(/\s+/).at(-1))
    }
    expect(rowsPerForward('alone')).toBe(1)
    expect(rowsPerForward('batched by the server')).toBeGreaterThan(1)
    expect(rowsPerForward('as one')).toBeGreaterThan(1)
  })

  it('refuses options that mean nothing', async () => {
    const { status, stderr } = await runNode([
      '--import',
      'tsx',
      'bench/server/measure-server.ts',
      '--clients',
      'x',
    ])
    expect(status).toBe(2)
    expect(stderr).toContain('--clients takes whole numbers')
  })

  it('its own batching answers each row with the row’s own output, and fails those of a batch together', async () => {
    const { layer, hidden } = tinyLayer({ device: 'reference' })
    const forward = batchRows(layer, 4)
    const rows = Array.from({ length: 6 }, (_, t) => hidden.slice(t * 32, (t + 1) * 32))
    const expected = layer.forwardSync(hidden).output
    const outputs = await Promise.all(rows.map(forward))
    for (const [t, output] of outputs.entries())
      expect([...output]).toEqual([...expected.subarray(t * 32, (t + 1) * 32)])
    layer.dispose()
    await expect(forward(rows[0]!)).rejects.toMatchObject({ code: 'ERR_MOE_DISPOSED' })
  })
})
