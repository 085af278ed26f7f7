/** The example server's JSON: rows in slices of the event loop, refusals of everything else. */

import { describe, expect, it } from 'vitest'
import { parseRows, writeRows } from '../../examples/http-server/json-rows.js'
import { Turns } from '../../examples/http-server/turns.js'
import { turnsUntil, withClock } from '../helpers/liveness.js'

const parseBody = (text: string, columns = 2) => parseRows(Buffer.from(text), columns, new Turns())
const parse = async (text: string) => (await parseBody(text)).hiddenStates

async function written(...result: Parameters<typeof writeRows>) {
  let text = ''
  for await (const piece of writeRows(...result)) text += piece
  return text
}

describe('rows in JSON', () => {
  it('are read as JSON.parse reads them, however they are laid out', async () => {
    const hiddenStates = [
      [1, -0.5],
      [Math.fround(1e-30), 3.4e38],
      [-1.7976931348623157e308, 2],
    ]
    for (const indent of [undefined, 2, 8]) {
      const values = await parse(` ${JSON.stringify({ hiddenStates }, null, indent)}\n`)
      expect([...values]).toEqual([...Float32Array.from(hiddenStates.flat())])
    }
    expect(await parse('{"hiddenStates":[]}')).toHaveLength(0)
    expect(await parse('{ "hiddenStates" : [ ] }')).toHaveLength(0)
  })

  it('leave the other fields of a body, wherever they stand, to its schema', async () => {
    const body = await parseBody('{ "topK": 2, "hiddenStates": [[1, 2]], "topP": 0.5, "more": "]" }')
    expect(body).toEqual({ topK: 2, hiddenStates: Float32Array.of(1, 2), topP: 0.5, more: ']' })
  })

  it.each([
    ['begins otherwise', ''],
    ['begins otherwise', 'nonsense'],
    ['begins otherwise', '[[1,2]]'],
    ['begins otherwise', '{"hiddenStates":1}'],
    ['begins otherwise', '{"other":[[1,2]]}'],
    ['ends otherwise', '{"hiddenStates":[[1,2]'],
    ['ends otherwise', '{"hiddenStates":[[1,2]]'],
    ['ends otherwise', '{"hiddenStates":[[1,2]]}}'],
    ['ends otherwise', '{"hiddenStates":[[1,2],]}'],
    ['ends otherwise', '{"hiddenStates":[[1,2]],"more"}'],
    ['ends otherwise', '{"hiddenStates":[[1,2]],"hiddenStates":1}'],
    ['ends otherwise', '{"inner":{"hiddenStates":[[1,2]]}}'],
    ['comma', '{"hiddenStates":[[1,2]],"hiddenStates":[[3,4]]}'],
    ['comma', '{"hiddenStates":[[1,2]],"more":[1]}'],
    ['begins otherwise', '{"more":[1],"hiddenStates":[[1,2]]}'],
    ['comma', '{"hiddenStates":[[1,2] [1,2]]}'],
    ['comma', '{"hiddenStates":[,[1,2]]}'],
    ['row 1', '{"hiddenStates":[[1,2],[1]]}'],
    ['row 0', '{"hiddenStates":[[1,2,3]]}'],
    ['row 0', '{"hiddenStates":[[1,"2"]]}'],
    ['row 0', '{"hiddenStates":[[1,NaN]]}'],
    ['row 0', '{"hiddenStates":[[[1],2]]}'],
    ['row 0', '{"hiddenStates":[[1,2'],
    ['row 0', `{"hiddenStates":[[1,${' '.repeat(1000)}2]]}`],
    ['no row', `{"hiddenStates":[[1,2],${' '.repeat(1000)}[1,2]]}`],
    ['begins otherwise', ' '.repeat(1000)],
    ['no row', `${' '.repeat(1000)}[`],
  ])('anything else is refused: %s', async (problem, text) => {
    await expect(parse(text)).rejects.toMatchObject({
      statusCode: 400,
      code: 'BAD_BODY',
      message: expect.stringContaining(problem),
    })
  })

  it('are written as JSON.stringify writes them', async () => {
    const output = Float32Array.from({ length: 40_000 }, (_, i) => Math.sin(i))
    const tables = {
      output: { array: output, columns: 40 },
      topkIds: { array: Int32Array.of(1, 2, 3, 4), columns: 2 },
      none: { array: new Float32Array(0), columns: 3 },
    }
    const rows = Array.from({ length: 1000 }, (_, row) => [...output.subarray(row * 40, row * 40 + 40)])
    const topkIds = [
      [1, 2],
      [3, 4],
    ]
    expect(await written(tables, { nonFiniteRows: Int32Array.of(5) }, new Turns())).toBe(
      JSON.stringify({ output: rows, topkIds, none: [], nonFiniteRows: [5] }),
    )
  })

  it('give the event loop its turns both ways, and end at a turn when the client has gone', async () => {
    const numRows = 500
    const text = `{"hiddenStates":[${Array(numRows).fill('[1,2]').join()}]}`
    const output = { array: new Float32Array(2 * numRows), columns: 2 }
    await withClock(6, async () => {
      expect(await turnsUntil(parse(text))).toBeGreaterThanOrEqual(numRows)
      expect(await turnsUntil(written({ output }, {}, new Turns()))).toBeGreaterThanOrEqual(numRows)
      const abort = new AbortController()
      const parsing = parseRows(Buffer.from(text), 2, new Turns(abort.signal))
      setTimeout(() => abort.abort(new Error('gone')))
      await expect(parsing).rejects.toThrow('gone')
    })
  })
})
