/**
 * Every public function, each of its arguments in turn replaced by values that nobody should pass: it returns, or throws an error with a
 * code. The functions are those that the package exports, so that a new one without a row here fails.
 */

import { describe, expect, it } from 'vitest'
import { setLogger } from '../../lib/index.js'
import {
  CALLS,
  expectCoded,
  exportedFunctions,
  lookUp,
  METHODS,
  VALUES,
  variants,
} from '../helpers/hostile-calls.js'

describe('hostile arguments', () => {
  setLogger(null)

  it('every exported function has a row', () => {
    expect([...Object.keys(CALLS), ...Object.keys(METHODS)].sort()).toEqual(exportedFunctions().sort())
  })

  it.each(Object.keys(CALLS))('%s', async name => {
    const called = lookUp(name)
    const holder = lookUp(name.split('.').slice(0, -1).join('.') || 'devices')
    for (const [place, replaced] of variants(CALLS[name]!(), called.length)) {
      for (const [what, value] of VALUES) {
        await expectCoded(`${name}, ${place}: ${what}`, () => called.apply(holder, replaced(value())))
      }
    }
  })

  it.each(Object.keys(METHODS))('%s of an instance', async name => {
    const method = name.split('.')[1]!
    for (const [place, replaced] of variants(METHODS[name]!()[1], 0)) {
      for (const [what, value] of VALUES) {
        const [instance] = METHODS[name]!()
        const body = (instance as Record<string, (...args: unknown[]) => unknown>)[method]!
        await expectCoded(`${name}, ${place}: ${what}`, () => body.apply(instance, replaced(value())))
      }
    }
  })
})
