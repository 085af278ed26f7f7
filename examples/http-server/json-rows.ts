/**
 * `{ "hiddenStates": [[…], …], … }` as numbers, and results as such text, one row at a time: `JSON.parse` and `JSON.stringify` of a whole
 * body would hold the event loop for a second and take many times the body's memory.
 */

import { HttpError } from './http-error.js'
import type { Turns } from './turns.js'

/** More than a number takes that was written from a double ("-1.7976931348623157e+308"), with comma, line break and indentation. */
const BYTES_OF_NUMBER = 48
/** Most bytes before the first row, between two and after the last: brackets, commas, white space, and the fields beside the rows. */
const BYTES_BETWEEN = 256
/** Characters of an answer that are handed to the connection at a time. */
const PIECE = 16 * 1024

const OPEN = '['.charCodeAt(0)
const CLOSE = ']'.charCodeAt(0)
const HEAD = /"hiddenStates"\s*:\s*\[$/
const COMMA = /^\s*,\s*$/

/** A body: the numbers of all rows in order, and whatever else it has, which a schema is to judge. */
export interface ParsedBody {
  hiddenStates: Float32Array
  [field: string]: unknown
}

/**
 * Reads a body. Its other fields are numbers, strings and the like: a second array is refused.
 * @throws {@link HttpError} 400 BAD_BODY
 */
export async function parseRows(body: Buffer, hiddenSize: number, turns: Turns): Promise<ParsedBody> {
  const refuse = (problem: string) =>
    new HttpError(
      400,
      'BAD_BODY',
      `The body is not { "hiddenStates": [[…], …] } in JSON, with rows of ${hiddenSize} numbers: ${problem}`,
    )
  /** What stands outside of the rows; none of it is long. */
  const between = (from: number, to: number) => {
    if (to - from > BYTES_BETWEEN) throw refuse(`${to - from} bytes from byte ${from} on are no row`)
    return body.toString('latin1', from, to)
  }
  // A number and what ends it take two bytes at least. What is not filled takes no memory.
  const values = new Float32Array(body.byteLength >> 1)
  let numRows = 0
  let at = body.indexOf(OPEN) + 1
  const head = between(0, at)
  if (!HEAD.test(head)) throw refuse('it begins otherwise')
  for (;;) {
    const open = body.indexOf(OPEN, at)
    if (open < 0) break
    const separator = between(at, open)
    const separates = numRows === 0 ? separator.trim() === '' : COMMA.test(separator)
    if (!separates) throw refuse(`a comma is missing or too many before row ${numRows}`)
    // Numbers hold no bracket: the next one ends the row, wherever it stands.
    const most = open + hiddenSize * BYTES_OF_NUMBER + BYTES_BETWEEN
    const length = body.subarray(open, most).indexOf(CLOSE) + 1
    const row = numbersOf(body.toString('latin1', open, open + length))
    if (row?.length !== hiddenSize) throw refuse(`row ${numRows} is none`)
    values.set(row, numRows * hiddenSize)
    numRows++
    at = open + length
    if (turns.due) await turns.take()
  }
  const fields = fieldsOf(head + between(at, body.byteLength))
  if (!fields) throw refuse('it ends otherwise')
  return { ...fields, hiddenStates: values.subarray(0, numRows * hiddenSize) }
}

/** The fields of a body whose rows are taken out; undefined where that is no object with an empty `hiddenStates`. */
function fieldsOf(text: string): Record<string, unknown> | undefined {
  try {
    const fields = JSON.parse(text) as Record<string, unknown>
    return Array.isArray(fields.hiddenStates) ? fields : undefined
  } catch {
    return undefined
  }
}

function numbersOf(text: string): number[] | undefined {
  try {
    const row: unknown = JSON.parse(text)
    return Array.isArray(row) && row.every(value => typeof value === 'number') ? row : undefined
  } catch {
    return undefined
  }
}

/** A two-dimensional array of a result: its numbers, row-major, and how many make a row. */
export interface Rows {
  array: Float32Array | Int32Array
  columns: number
}

/** `{ name: [[…], …], …, name: […] }` in pieces: of each of `tables` rows, of each of `lists` its numbers. */
export async function* writeRows(
  tables: Record<string, Rows>,
  lists: Record<string, Int32Array>,
  turns: Turns,
): AsyncGenerator<string> {
  let text = ''
  let opening = '{'
  for (const [name, { array, columns }] of Object.entries(tables)) {
    text += `${opening}${JSON.stringify(name)}:[`
    opening = ','
    for (let at = 0; at < array.length; at += columns) {
      text += `${at > 0 ? ',' : ''}${JSON.stringify([...array.subarray(at, at + columns)])}`
      if (text.length >= PIECE) {
        yield text
        text = ''
      }
      if (turns.due) await turns.take()
    }
    text += ']'
  }
  for (const [name, array] of Object.entries(lists)) {
    text += `${opening}${JSON.stringify(name)}:${JSON.stringify([...array])}`
    opening = ','
  }
  yield `${text}}`
}
