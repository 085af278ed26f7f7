/**
 * How many instructions a turn of a compiled loop takes: the shortest way from an instruction back to it.
 * `aarch64-linux-gnu-objdump -dC --no-show-raw-insn OBJECT | node tools/check/inner-loop.mjs MNEMONIC FUNCTION`: for each function whose
 * name holds FUNCTION, the turn through its first MNEMONIC, and how many of those it has. For arm64 and x64.
 */

import { readFileSync } from 'node:fs'

/** Functions of objdump's output: name → [{ address, text, target }]. */
export function readFunctions(text) {
  const functions = new Map()
  let body
  for (const line of text.split('\n')) {
    const name = /^[0-9a-f]+ <(.*)>:$/.exec(line)?.[1]
    if (name !== undefined) functions.set(name, (body = []))
    const [, address, instruction] = /^\s+([0-9a-f]+):\s+(.*)$/.exec(line) ?? []
    if (address === undefined || body === undefined) continue
    const target = /^(?:b|b\.\w+|j\w+|cbn?z|tbn?z)\s.*?\b([0-9a-f]+) </.exec(instruction)?.[1]
    body.push({ address, text: instruction, target })
  }
  return functions
}

/** The shortest turn through the first instruction with a mnemonic, as texts; null where there is no loop around one. */
export function shortestTurn(body, mnemonic) {
  const has = ({ text }) => text.split(/\s+/).slice(0, 2).includes(mnemonic)
  const start = body.findIndex(has)
  const places = new Map(body.map(({ address }, at) => [address, at]))
  const next = at => {
    const { text, target } = body[at]
    const jump = places.get(target)
    if (/^(b|jmp|ret|retq)(\s|$)/.test(text)) return jump === undefined ? [] : [jump]
    return [jump, at + 1].filter(to => to !== undefined && to < body.length)
  }
  const from = new Map()
  const queue = start < 0 ? [] : [start]
  for (const at of queue) {
    for (const to of next(at)) {
      if (to === start) {
        const turn = []
        for (let back = at; back !== undefined; back = from.get(back)) turn.push(body[back].text)
        return turn.reverse()
      }
      if (from.has(to)) continue
      from.set(to, at)
      queue.push(to)
    }
  }
  return null
}

if (process.argv[1] === import.meta.filename) {
  const [mnemonic, name] = process.argv.slice(2)
  for (const [found, body] of readFunctions(readFileSync(0, 'utf8'))) {
    if (!found.includes(name)) continue
    const turn = shortestTurn(body, mnemonic)
    const count = turn?.filter(text => text.split(/\s+/).slice(0, 2).includes(mnemonic)).length
    console.log(turn === null ? `no loop: ${found}` : `${turn.length} (${count} ${mnemonic}): ${found}`)
  }
}
