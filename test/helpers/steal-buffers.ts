/**
 * A setup file of vitest: with SE_TEST_STEAL=SEED every forward of the suites below is made once more, asynchronously, on copies of its arrays,
 * which are transferred, shrunk, forgotten and collected at random moments. Such a call ends with the bits of the test's own call, or with
 * ERR_MOE_BUFFER_DETACHED; a sanitizer sees the rest. The test's own arrays are left alone.
 */

import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, expect } from 'vitest'
import { isInSharedMemory, typedArrayKind } from '../../lib/block/typed-arrays.js'
import { MoeLayer } from '../../lib/index.js'
import { Random } from '../cases/random.js'

/** Suites that look at results alone: others count calls, or what waits. */
const SUITES = /test\/(?:ops|golden|tiny)\//

type Arguments = Parameters<MoeLayer['forward']>
type Options = NonNullable<Arguments[1]>
type Plain = Float32Array | Uint16Array | Int32Array | Uint8Array

const random = new Random(Number(process.env.SE_TEST_STEAL))
const { forward, forwardSync } = MoeLayer.prototype
const extraCalls: Promise<void>[] = []

const isPlain = (value: unknown): value is Plain =>
  typedArrayKind(value) !== undefined && !isInSharedMemory(value as Plain)
const bytesOf = ({ buffer, byteOffset, byteLength }: Plain) => Buffer.from(buffer, byteOffset, byteLength)

/** Copies of everything that can be taken away, and the list of them. */
function copies([hidden, options = {}]: Arguments): { args: Arguments; taken: Plain[] } {
  const taken: Plain[] = []
  const copied = <Value>(value: Value): Value => {
    if (!isPlain(value)) return value
    const copy = value.slice()
    taken.push(copy)
    return copy as Value
  }
  const { output, routing, ...rest } = options
  const others = Object.entries(rest).map(([key, value]) => [key, copied(value)])
  const args: Arguments = [
    copied(hidden),
    {
      ...(Object.fromEntries(others) as Options),
      ...(routing && {
        routing: { topkIds: copied(routing.topkIds), topkWeights: copied(routing.topkWeights) },
      }),
      // Where the test leaves the output to the library there is one to steal all the same, now and then.
      output: isPlain(hidden) && (output || random.integer(2) === 0) ? copied(hidden) : undefined,
    },
  ]
  return { args, taken }
}

function steal(array: Plain): void {
  const buffer = array.buffer as ArrayBuffer & { transfer?: (bytes: number) => ArrayBuffer }
  if (random.integer(2) === 0 && buffer.transfer) buffer.transfer(Math.min(8, buffer.byteLength))
  else structuredClone(buffer, { transfer: [buffer] })
}

/** Makes the call again and steals what it was given; rejects where that is noticed otherwise than it should be. */
async function callAgain(layer: MoeLayer, args: Arguments, taken: Plain[], expected: Promise<Buffer | null>) {
  const call = forward.apply(layer, args).then(
    ({ output }) => output,
    (error: { code?: string }) => error,
  )
  for (let turns = random.integer(5); turns > 0; turns--) await nextTurn()
  const victim = taken[random.integer(taken.length)]
  if (victim && victim.byteLength > 0) steal(victim)
  // A collection takes as long as many calls.
  if (random.integer(8) === 0) (globalThis as { gc?: () => void }).gc?.()
  const [outcome, bytes] = [await call, await expected]
  // A call that the test itself got an error from says nothing.
  if (bytes === null) return
  if (!isPlain(outcome)) {
    const { code } = outcome as { code?: string }
    if (code !== undefined) expect(code).toMatch(/^ERR_MOE_(BUFFER_DETACHED|DISPOSED)$/)
    return
  }
  if (outcome.byteLength > 0) expect(bytesOf(outcome).equals(bytes), 'the bits of both calls').toBe(true)
}

function also(layer: MoeLayer, args: Arguments, expected: Promise<Buffer | null>): void {
  const copied = copies(args)
  extraCalls.push(callAgain(layer, copied.args, copied.taken, expected))
}

const outputBytes = ({ output }: { output: unknown }) =>
  isPlain(output) ? Buffer.from(bytesOf(output)) : null

if (SUITES.test(expect.getState().testPath ?? '')) {
  MoeLayer.prototype.forward = function (this: MoeLayer, ...args: Arguments) {
    const result = forward.apply(this, args)
    also(
      this,
      args,
      result.then(outputBytes, () => null),
    )
    return result
  } as typeof forward
  MoeLayer.prototype.forwardSync = function (this: MoeLayer, ...args: Arguments) {
    const result = forwardSync.apply(this, args)
    also(this, args, Promise.resolve(outputBytes(result)))
    return result
  } as typeof forwardSync
}

afterEach(() => Promise.all(extraCalls.splice(0)))
