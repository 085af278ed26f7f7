/** What the command line says to those who mistype it, and with which status it ends. */

import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ERROR_CODES } from '../../lib/block/errors.js'
import { describeFailure } from '../../lib/cli/command-error.js'
import { runInProcess } from '../helpers/run-in-process.js'
import { runCommand } from '../helpers/run-program.js'
import { removeDirectories, TINY, temporaryDirectory, tinyCheckpoint } from '../helpers/scratch.js'

let checkpoint: string
let inputs: string
const inputFiles: Record<string, string | Uint8Array> = {
  'cut.npy': '\x93NUM',
  'other.json': '{"rows": 3}',
  'broken.json': '[[1, 2',
  'words.json': JSON.stringify([Array(TINY.hiddenSize).fill('x')]),
  'odd.bin': new Uint8Array(7),
  'several.npz': 'PK',
}

beforeAll(async () => {
  checkpoint = await tinyCheckpoint()
  inputs = await temporaryDirectory()
  for (const [name, contents] of Object.entries(inputFiles))
    await writeFile(path.join(inputs, name), contents)
})
afterAll(removeDirectories)

/** `CHECKPOINT` and `INPUTS/…` stand for paths that are known only when the tests run. */
const withPaths = (args: readonly string[]) =>
  args.map(arg => arg.replace(/^CHECKPOINT$/, checkpoint).replace(/^INPUTS\b/, inputs))

type WrongLine = [args: string[], code: string, message: string, nextStep: string]

/** Nothing has been done: status 2. */
const MISTYPED: WrongLine[] = [
  [[], 'MISSING_ARGUMENT', 'Missing command', 'run, inspect, plan, simulate, doctor, build'],
  [[''], 'MISSING_ARGUMENT', 'Missing command', 'run, inspect, plan, simulate, doctor, build'],
  [
    ['frobnicate'],
    'UNKNOWN_COMMAND',
    "Unknown command 'frobnicate'",
    'run, inspect, plan, simulate, doctor, build',
  ],
  [['doctr'], 'UNKNOWN_COMMAND', "Unknown command 'doctr'", "Did you mean 'doctor'?"],
  [['toString'], 'UNKNOWN_COMMAND', "Unknown command 'toString'", '--help'],
  [['--frobnicate'], 'UNKNOWN_OPTION', "Unknown option '--frobnicate'", '--help'],
  [['--json', 'doctor'], 'UNKNOWN_OPTION', "Option '--json' stands before the command", 'behind the command'],
  [['run'], 'MISSING_ARGUMENT', 'Missing argument <checkpoint>', '--help'],
  [['run', ''], 'MISSING_ARGUMENT', 'Argument <checkpoint> is an empty text', '--help'],
  [['run', 'a', 'b'], 'UNEXPECTED_ARGUMENT', "Unexpected argument 'b'", 'in quotes'],
  [['run', 'a', '--frobnicate'], 'UNKNOWN_OPTION', "Unknown option '--frobnicate'", '--tokens'],
  [['run', 'a', '--tokns', '3'], 'UNKNOWN_OPTION', "Unknown option '--tokns'", "Did you mean '--tokens'?"],
  [['run', 'a', '--toString'], 'UNKNOWN_OPTION', "Unknown option '--toString'", '--tokens'],
  [['run', 'a', '-t', '3'], 'UNKNOWN_OPTION', "Unknown option '-t'", '--tokens'],
  [['run', 'a', '--no-check'], 'UNKNOWN_OPTION', "Unknown option '--no-check'", '--check'],
  [['run', 'a', '--tokens'], 'MISSING_ARGUMENT', 'Missing value of --tokens', '--tokens N'],
  [['run', 'a', '--tokens='], 'MISSING_ARGUMENT', 'Missing value of --tokens', '--tokens N'],
  [['run', 'a', '--input', '--check'], 'MISSING_ARGUMENT', 'Missing value of --input', '--input=FILE'],
  [['run', 'a', '--check=yes'], 'UNEXPECTED_ARGUMENT', "--check takes no value, received 'yes'", '--help'],
  [['run', 'a', '--tokens', 'many'], 'INVALID_ARG_VALUE', "for --tokens, received 'many'", 'at least 0'],
  [['run', 'a', '--tokens=-1'], 'INVALID_ARG_VALUE', "for --tokens, received '-1'", 'at least 0'],
  [['run', 'a', '--tokens', '1e3'], 'INVALID_ARG_VALUE', "for --tokens, received '1e3'", 'at least 0'],
  [['run', 'a', '--threads', '0'], 'INVALID_ARG_VALUE', "for --threads, received '0'", 'at least 1'],
  [['run', 'a', '--layer', '1.5'], 'INVALID_ARG_VALUE', "for --layer, received '1.5'", 'leave --layer out'],
  [['run', 'a', '--seed', 'x'], 'INVALID_ARG_VALUE', "for --seed, received 'x'", 'an integer'],
  [['run', 'a', '--top-p', '1.5'], 'INVALID_ARG_VALUE', "for --top-p, received '1.5'", 'a number in (0, 1]'],
  [['run', 'a', '--top-p', 'NaN'], 'INVALID_ARG_VALUE', "for --top-p, received 'NaN'", 'a number in (0, 1]'],
  [['run', 'a', '--dtype', 'fp8'], 'INVALID_ARG_VALUE', "for --dtype, received 'fp8'", 'bf16'],
  [['run', 'a', '--weights', 'int5'], 'INVALID_ARG_VALUE', "for --weights, received 'int5'", 'stored'],
  [['run', 'a', '--activations', 'f32'], 'INVALID_ARG_VALUE', "for --activations, received 'f32'", 'exact'],
  [['run', 'a', '--device', 'tpu'], 'INVALID_ARG_VALUE', "for --device, received 'tpu'", 'reference'],
  [['run', 'a', '--device', 'cuda:x'], 'INVALID_ARG_VALUE', "for --device, received 'cuda:x'", 'cuda:N'],
  [
    ['run', 'a', '--tokens', '3', '--input', 'x'],
    'UNEXPECTED_ARGUMENT',
    '--tokens and --input',
    'one of them',
  ],
  [['run', 'CHECKPOINT', '--top-k', '5'], 'INVALID_ARG_VALUE', 'from 0 to 4 for --top-k', 'from 0 to 4'],
  [['doctor', 'x'], 'UNEXPECTED_ARGUMENT', "Unexpected argument 'x'", '--help'],
  [['doctor', '--jsn'], 'UNKNOWN_OPTION', "Unknown option '--jsn'", "Did you mean '--json'?"],
  [['build', 'x'], 'UNEXPECTED_ARGUMENT', "Unexpected argument 'x'", '--help'],
  [['build', '--fast'], 'UNKNOWN_OPTION', "Unknown option '--fast'", '--help'],
]

/** The line is well formed, and what it names does not serve: status 1. */
const REFUSED: WrongLine[] = [
  [['run', 'INPUTS/nowhere'], 'IO', 'nowhere', ''],
  [['run', 'INPUTS'], 'IO', 'config.json', ''],
  [['run', 'INPUTS/odd.bin'], 'IO', 'odd.bin', ''],
  [['run', 'CHECKPOINT', '--layer', '0'], 'NOT_SPARSE', 'layer 0', 'another layer'],
  [['run', 'CHECKPOINT', '--layer', '77'], 'INVALID_ARG_VALUE', 'layer', ''],
  [['run', 'CHECKPOINT', '--module', 'talker'], 'INVALID_ARG_VALUE', 'module', ''],
  [['run', 'CHECKPOINT', '--device', 'cuda:7'], 'DEVICE_UNAVAILABLE', 'cuda:7', 'doctor'],
  [['run', 'CHECKPOINT', '--tokens', '9007199254740991'], 'OUT_OF_MEMORY', 'bytes', 'fewer tokens'],
  [['run', 'CHECKPOINT', '--input', 'INPUTS/nowhere.npy'], 'IO', 'nowhere.npy', 'path and permissions'],
  [['run', 'CHECKPOINT', '--input', 'INPUTS'], 'IO', 'could not be read', 'path and permissions'],
  [['run', 'CHECKPOINT', '--input', 'INPUTS/cut.npy'], 'INVALID_ARG_VALUE', 'magic', ''],
  [['run', 'CHECKPOINT', '--input', 'INPUTS/several.npz'], 'INVALID_ARG_VALUE', 'numpy.save', ''],
  [['run', 'CHECKPOINT', '--input', 'INPUTS/other.json'], 'INVALID_ARG_VALUE', 'hiddenStates', ''],
  [['run', 'CHECKPOINT', '--input', 'INPUTS/broken.json'], 'INVALID_ARG_VALUE', 'JSON', ''],
  [['run', 'CHECKPOINT', '--input', 'INPUTS/words.json'], 'INVALID_ARG_VALUE', 'a number', ''],
  [['run', 'CHECKPOINT', '--input', 'INPUTS/odd.bin'], 'INVALID_ARG_SHAPE', '7 bytes', 'row-major'],
]

describe.each([
  [2, MISTYPED],
  [1, REFUSED],
])('a command line that ends with status %d', (exitStatus, lines) => {
  it.each(lines)('%j: %s', async (args, code, message, nextStep) => {
    const { status, stdout, stderr } = await runInProcess(withPaths(args))
    expect({ status, stdout: args.includes('--json') ? '' : stdout }).toEqual({
      status: exitStatus,
      stdout: '',
    })
    const [first, second, ...rest] = stderr.split('\n')
    expect(first).toMatch(new RegExp(`^error \\[ERR_MOE_${code}\\]: `))
    expect(first).toContain(message)
    expect(second).toMatch(/^→ \S/)
    expect(second).toContain(nextStep)
    expect(rest).toEqual([''])
  })

  it.each(lines)('%j --json: the same as an object', async args => {
    const plain = await runInProcess(withPaths(args))
    const { status, stdout, stderr } = await runInProcess([...withPaths(args), '--json'])
    // '--json' itself is the unknown option where there is no command, and of build.
    if (args.length > 0 && args[0] !== 'build')
      expect({ status, stderr }).toEqual({ status: exitStatus, stderr: plain.stderr })
    const { error, ...others } = JSON.parse(stdout)
    expect(others).toEqual({})
    expect(Object.keys(error)).toEqual(['code', 'message', 'nextStep', 'exitStatus'])
    expect(error.code in ERROR_CODES).toBe(true)
    expect(stderr).toBe(`error [${error.code}]: ${error.message}\n→ ${error.nextStep}\n`)
    expect(error.exitStatus).toBe(status)
  })
})

describe('what the package did not throw', () => {
  it('has a code as well', async () => {
    const refused = await readFile(path.join(inputs, 'nothing')).catch(error => error)
    expect(describeFailure(refused)).toMatchObject({ code: 'ERR_MOE_IO', exitStatus: 1 })
    for (const thrown of [
      new TypeError('x is not a function\n  at all'),
      'text',
      null,
      undefined,
      { code: 'toString' },
    ]) {
      const failure = describeFailure(thrown)
      expect(failure).toMatchObject({ code: 'ERR_MOE_INTERNAL', exitStatus: 1 })
      expect(failure.nextStep).toContain('doctor --json')
      expect(failure.message).not.toContain('\n')
    }
  })
})

describe('help', () => {
  it('is there for the whole and for each command', async () => {
    const { status, stdout } = await runCommand(['--help'])
    expect(status).toBe(0)
    for (const name of ['run <checkpoint>', 'doctor', 'build']) expect(stdout).toContain(name)
    for (const name of ['run', 'doctor', 'build']) {
      const help = await runInProcess([name, '--help'])
      expect(help).toMatchObject({
        status: 0,
        stdout: expect.stringContaining(`Usage: sparse-experts ${name}`),
      })
    }
  })

  it('knows its version', async () => {
    const { version } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8'))
    expect(await runCommand(['--version'])).toMatchObject({ status: 0, stdout: `${version}\n` })
  })
})

describe('the process', () => {
  it('ends with that status, and says the same', async () => {
    const args = ['run', 'a', '--tokens', 'many', '--json']
    const ended = await runCommand(args)
    expect(ended.status).toBe(2)
    expect(ended).toEqual(await runInProcess(args))
  })
})
