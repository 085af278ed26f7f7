/** The model in codes: each type's blocks hold what they can hold exactly, and the model keeps its loss in all of them. */

import { statSync } from 'node:fs'
import path from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { Decoder, heldOutLoss } from '../../examples/tiny-deepseek/decoder/index.js'
import { MODEL_DIRECTORY, readHeldOut } from '../../examples/tiny-deepseek/files.js'
import {
  BLOCK_TYPES,
  type BlockType,
  blockColumns,
  encodeMatrix,
} from '../../examples/tiny-deepseek/quantise/encode.js'
import { heldBytes, loadTiny, TINY_FORMS } from '../../examples/tiny-deepseek/quantise/forms.js'
import { writeTinyGguf } from '../../examples/tiny-deepseek/quantise/gguf.js'
import { type DeviceOption, dequantize, type QuantizedFormat } from '../../lib/index.js'
import { Random } from '../cases/random.js'
import { nativeDevices } from '../helpers/devices.js'
import { relativeError } from '../helpers/relative-error.js'
import { runProgram } from '../helpers/run-program.js'
import { removeDirectories, temporaryDirectory } from '../helpers/scratch.js'

afterAll(removeDirectories)

const integers = (first: number, last: number) =>
  Array.from({ length: last - first + 1 }, (_, index) => first + index)
/** The numbers of e2m1, and of ggml's table for IQ4_NL. */
const E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6].flatMap(value => [value, -value])
const IQ4_NL = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]
/** What the codes of a type stand for under a scale of 1, bytes of a block, and the relative error that its steps explain. */
const TYPES: Record<BlockType, { numbers: number[]; bytes: number; error: number }> = {
  q8_0: { numbers: integers(-127, 127), bytes: 34, error: 0.01 },
  q5_1: { numbers: integers(0, 31), bytes: 24, error: 0.06 },
  q5_0: { numbers: integers(-16, 15), bytes: 22, error: 0.06 },
  q4_1: { numbers: integers(0, 15), bytes: 20, error: 0.1 },
  q4_0: { numbers: integers(-8, 7), bytes: 18, error: 0.12 },
  iq4_nl: { numbers: IQ4_NL, bytes: 18, error: 0.1 },
  mxfp4: { numbers: E2M1, bytes: 17, error: 0.15 },
  nvfp4: { numbers: E2M1, bytes: 36, error: 0.12 },
}
const formatOf = (type: BlockType) => (/fp4/.test(type) ? `ggml_${type}` : type) as QuantizedFormat

describe.each(BLOCK_TYPES)('blocks of %s', type => {
  const { numbers, bytes, error } = TYPES[type]
  const cols = 4 * blockColumns(type)
  const decoded = (values: Float32Array, rows: number) => {
    const { data, globalScale } = encodeMatrix(type, values, rows, cols)
    expect(data.length).toBe((rows * cols * bytes) / blockColumns(type))
    const factor = type === 'nvfp4' ? { globalScale } : {}
    return dequantize({ format: formatOf(type), data, ...factor }, rows, cols)
  }

  it('hold every number of the type exactly', () => {
    const random = new Random(3)
    const scales = [2 ** -6, 2 ** -3]
    // The extremes are there in each 16 columns, as a scale that is searched needs them.
    const [low, high] = [Math.min(...numbers), Math.max(...numbers)]
    const extreme = -low > high ? low : high
    const values = Float32Array.from({ length: 2 * cols }, (_, at) => {
      const value = at % 16 === 0 ? extreme : at % 16 === 1 ? low : numbers[random.integer(numbers.length)]!
      return scales[Math.floor(at / cols)]! * value
    })
    expect(relativeError(decoded(values, 2), values)).toBeLessThan(type === 'nvfp4' ? 1e-6 : 1e-12)
  })

  it('are near other numbers, and zeros stay zeros', () => {
    const values = new Random(5).normals(3 * cols, 0.1)
    values.fill(0, cols, 2 * cols)
    const out = decoded(values, 3)
    expect(relativeError(out, values)).toBeLessThan(error)
    expect(out.subarray(cols, 2 * cols).every(value => value === 0)).toBe(true)
  })

  it('are refused where rows are no whole blocks', () => {
    expect(() => encodeMatrix(type, new Float32Array(56), 1, 56)).toThrow('rows of 56')
  })
})

describe('the model', () => {
  const device = nativeDevices[0] as DeviceOption

  it('keeps its loss in every form, and takes less memory', async () => {
    const text = await readHeldOut()
    using whole = await Decoder.load(MODEL_DIRECTORY, { device, dtype: 'bf16' })
    const { loss } = await heldOutLoss(whole, text, 1)
    const directory = await temporaryDirectory()
    for (const form of TINY_FORMS) {
      using decoder = await loadTiny(form, MODEL_DIRECTORY, directory, { device })
      expect(decoder.dtype).toBe('bf16')
      const { up, down } = decoder.feedForwards.at(-1)!.weightFormat
      if (form !== 'bf16') expect(up, form).toMatchObject({ stored: /^int/.test(form) ? 'bf16' : form })
      expect(down, form).toMatchObject({ stored: 'bf16' })
      const coded = await heldOutLoss(decoder, text, 1)
      // Numbers of 4 bits change this model's loss by hundredths.
      expect(Math.abs(coded.loss - loss), form).toBeLessThan(0.03)
      if (form !== 'bf16' && decoder.device === 'cpu')
        expect(heldBytes(decoder), form).toBeLessThan(0.7 * heldBytes(whole))
    }
  })

  it('is a GGUF file of the size of its blocks', async () => {
    const file = path.join(await temporaryDirectory(), 'tiny.gguf')
    await writeTinyGguf(MODEL_DIRECTORY, 'q4_0', file)
    // Four layers of 33 MLPs of 56 × 192: gate and up in 18 bytes of 32, down in bf16; routers and biases in f32.
    const matrices = 4 * 33 * 56 * 192 * (2 * (18 / 32) + 2)
    const vectors = 4 * 4 * (32 * 192 + 32)
    expect(statSync(file).size).toBeGreaterThan(matrices + vectors)
    expect(statSync(file).size).toBeLessThan(matrices + vectors + 8192)
  })
})

it('prints a table of the forms that it is asked for, and refuses others', async () => {
  const program = 'examples/tiny-deepseek/quantised.ts'
  const { status, stdout, stderr } = await runProgram(program, ['--windows', '1', '--forms', 'bf16,q4_0'])
  expect(stderr).toBe('')
  expect(status).toBe(0)
  expect(stdout).toMatch(/^ {2}bf16 +\d\.\d{4} +10\.0 MB +100 %/m)
  expect(stdout).toMatch(/^ {2}q4_0, GGUF +\d\.\d{4} +[+−]0\.\d{4} +/m)
  const wrong = await runProgram(program, ['--forms', 'q4_K'])
  expect(wrong.status).toBe(1)
  expect(wrong.stderr).toContain('--forms takes bf16, int8')
})
