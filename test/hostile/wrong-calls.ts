/**
 * Public functions with two wrong arguments or options at a time: `node wrong-calls.js <cases> <seed>`. test/unit/hostile-arguments.test.ts has
 * all calls with one.
 */

import { setLogger } from 'sparse-experts'
import { Random } from '../cases/random.js'
import { CALLS, expectCoded, lookUp, METHODS, VALUES, variants } from '../helpers/hostile-calls.js'
import { watchCases } from './watch-cases.js'

const [numCases = '1000', seed = '1'] = process.argv.slice(2)
const random = new Random(Number(seed))
const pick = <Item>(items: readonly Item[]): Item => items[random.integer(items.length)]!

interface Callee {
  body: (...args: unknown[]) => unknown
  holder: object
  args: unknown[]
  numArguments: number
}

function callee(name: string): Callee {
  const method = METHODS[name]
  if (!method) {
    const body = lookUp(name)
    const holder = lookUp(name.split('.').slice(0, -1).join('.') || 'devices')
    return { body, holder, args: CALLS[name]!(), numArguments: body.length }
  }
  const [holder, args] = method()
  const body = (holder as Record<string, (...args: unknown[]) => unknown>)[name.split('.')[1]!]!
  return { body, holder, args, numArguments: 0 }
}

setLogger(null)
// A case takes less than a thousandth of a second, but for a list of 2^31 places that is looked at.
const begin = watchCases({ seconds: 30, mebibytes: 512 })
const names = [...Object.keys(CALLS), ...Object.keys(METHODS)]
for (let i = 0; i < Number(numCases); i++) {
  const name = pick(names)
  const { body, holder, args, numArguments } = callee(name)
  const places = [...variants(args, numArguments)]
  if (places.length === 0) continue
  const [[place, replaced], [otherPlace, otherReplaced]] = [pick(places), pick(places)]
  const [[what, value], [other, otherValue]] = [pick(VALUES), pick(VALUES)]
  let wrong = replaced(value())
  // Of an argument that is replaced no option is left.
  if (!otherPlace.startsWith(place)) wrong = otherReplaced(otherValue(), wrong)
  // `expectCoded` knows by the end of it that a Proxy may throw.
  const kinds = [what, other].sort((a, b) => Number(a.endsWith('Proxy')) - Number(b.endsWith('Proxy')))
  const description = `${name}, ${place}: ${what}, ${otherPlace}: ${other}; ${kinds[1]}`
  begin(description)
  await expectCoded(description, () => body.apply(holder, wrong))
}
console.log(`${numCases} calls`)
