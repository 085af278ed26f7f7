import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'
import {
  checkOptionKeys,
  describeValue,
  ERROR_CODES,
  invalidArgShape,
  invalidArgType,
  invalidArgValue,
  MoeError,
  missingInput,
} from '../../lib/block/errors.js'

describe('MoeError', () => {
  it('carries code, cause and frozen details', () => {
    const cause = new Error('disk')
    const error = new MoeError('ERR_MOE_IO', 'cannot read', { cause, details: { path: 'x' } })
    expect(error).toBeInstanceOf(Error)
    expect([error.name, error.code, error.message]).toEqual(['MoeError', 'ERR_MOE_IO', 'cannot read'])
    expect(error.cause).toBe(cause)
    expect(error.details).toEqual({ path: 'x' })
    expect(Object.isFrozen(error.details)).toBe(true)
  })

  it('has no cause and no details unless given', () => {
    const error = new MoeError('ERR_MOE_DISPOSED', 'gone')
    expect('cause' in error).toBe(false)
    expect(error.details).toBeUndefined()
  })
})

describe('argument errors', () => {
  it.each([
    [
      invalidArgType('topK', 'a number', 'two'),
      TypeError,
      'ERR_MOE_INVALID_ARG_TYPE',
      "Expected a number for topK, received 'two'",
    ],
    [
      invalidArgValue('topP', 'a number in (0, 1]', 2),
      RangeError,
      'ERR_MOE_INVALID_ARG_VALUE',
      'Expected a number in (0, 1] for topP, received 2',
    ],
    [
      invalidArgShape('bias', '4 elements', '3'),
      RangeError,
      'ERR_MOE_INVALID_ARG_SHAPE',
      'Expected 4 elements for bias, received 3',
    ],
    [
      missingInput('tokenIds', 'hash-routed'),
      TypeError,
      'ERR_MOE_MISSING_INPUT',
      'Expected tokenIds: hash-routed',
    ],
  ])('%s', (error, kind, code, message) => {
    expect(error).toBeInstanceOf(kind)
    expect(error.code).toBe(code)
    expect(error.message).toBe(message)
    expect(Object.keys(ERROR_CODES)).toContain(code)
  })
})

function fail(): never {
  throw new Error('the words for a value called into it')
}

describe('describeValue', () => {
  it.each([
    [null, 'null'],
    [undefined, 'undefined'],
    [3n, '3n'],
    [10n ** 400n, 'a long bigint'],
    [Symbol('x'), 'a symbol'],
    ['a'.repeat(50), `'${'a'.repeat(40)}…'`],
    [new Float32Array(7), 'Float32Array(7)'],
    [[1, 2], 'an array of 2'],
    [new Map(), 'an instance of Map'],
    [Object.create(null), 'an instance of Object'],
    [new DataView(new ArrayBuffer(3)), 'an instance of DataView'],
    [() => 0, 'function'],
    [class Named {}, 'function Named'],
    [new (class Named {})(), 'an instance of Named'],
    // What a file or a caller may have put where a class stands.
    [{ toString: null, constructor: { name: { toString: null } } }, 'an instance of Object'],
    [Object.defineProperty({}, 'constructor', { get: fail }), 'an instance of Object'],
    [Object.defineProperty(() => 0, 'name', { get: fail }), 'function'],
    [runInNewContext('new Float32Array(2)'), 'Float32Array(2)'],
  ])('case %#', (value, text) => {
    expect(describeValue(value)).toBe(text)
  })

  it('survives objects that throw when they are looked at', () => {
    const { proxy, revoke } = Proxy.revocable([], {})
    revoke()
    for (const value of [proxy, new Proxy({}, { getPrototypeOf: fail })])
      expect(describeValue(value)).toBe('an object that cannot be looked at')
  })
})

describe('checkOptionKeys', () => {
  it('accepts known keys', () => {
    expect(() => checkOptionKeys({ topK: 1 }, ['topK', 'topP'])).not.toThrow()
  })

  it('names the nearest key', () => {
    expect(() => checkOptionKeys({ topk: 1 }, ['topK', 'topP'])).toThrow(
      expect.objectContaining({
        name: 'TypeError',
        code: 'ERR_MOE_UNKNOWN_OPTION',
        message: expect.stringMatching(/did you mean 'topK'/),
      }),
    )
  })

  it('lists the keys when none is near', () => {
    expect(() => checkOptionKeys({ colour: 1 }, ['topK', 'topP'], 'routing')).toThrow(
      "Unknown key 'colour' in routing; known keys: topK, topP",
    )
  })
})
