/**
 * What a green run of a step is evidence for: a digest over the step's row, the committed contents of its inputs, the tools and the
 * processor. Green runs are kept in a directory outside of the checkout; whatever cannot be decided is no evidence, and the step runs.
 */

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'

export const EVIDENCE_DIRECTORY = path.join(os.homedir(), '.cache/sparse-experts-ci')

/** Programs whose version can change an outcome. One that is missing counts as such. */
const PROGRAMS = [
  ...['c++', 'g++', 'clang++-14', 'clang-tidy-14', 'aarch64-linux-gnu-g++-12', 'qemu-aarch64', 'nvcc'],
  ...['x86_64-w64-mingw32-g++-posix', 'wine'],
  ...['/usr/local/cuda/bin/nvcc', 'cmake', 'ninja', 'ld', 'ldd', 'python3'],
]
/** Libraries that are found by the compiler alone. */
const LIBRARIES = ['libc6-dev', 'libstdc++-12-dev', 'libclang-rt-14-dev', 'doctest-dev']
/** Variables that compilers, the tools and the suites read. */
const VARIABLES =
  /^(CC|CXX|CFLAGS|CXXFLAGS|LDFLAGS|CUDA\w*|NODE_OPTIONS|JOBS|SE_\w+|SIMT_\w+|SPARSE_EXPERTS_\w+)$/

/** One text for the tools, the processor and the environment. */
export function describeMachine() {
  const answer = (command, args) => spawnSync(command, args, { encoding: 'utf8' }).stdout ?? 'missing'
  const programs = PROGRAMS.map(program => `${program}: ${answer(program, ['--version'])}`)
  const libraries = answer('dpkg-query', ['-W', ...LIBRARIES])
  const processor = existsSync('/proc/cpuinfo')
    ? readFileSync('/proc/cpuinfo', 'utf8')
        .match(/^(model name|flags|Features)\s*:.*$/gm)
        ?.slice(0, 2)
    : os.cpus()[0]?.model
  const variables = Object.entries(process.env).filter(([name]) => VARIABLES.test(name))
  return JSON.stringify([
    [process.version, process.platform, process.arch, os.availableParallelism()],
    ...[programs, libraries, processor, variables.sort()],
  ])
}

/** What a processor can do, in the words of Linux; nothing where the system does not tell. */
export function processorFlags() {
  if (!existsSync('/proc/cpuinfo')) return new Set()
  const [, flags = ''] = readFileSync('/proc/cpuinfo', 'utf8').match(/^flags\s*:\s*(.*)$/m) ?? []
  return new Set(flags.split(' '))
}

const pathspecs = inputs =>
  inputs.map(name => {
    const place = name.replace(/^!|^\.$/, '')
    return name.startsWith('!') ? `:(top,exclude)${place}` : `:(top)${place}`
  })

/** Paths and contents of a row's inputs as committed, or the reason why they say nothing about the working tree. */
export function readInputs({ inputs }, root) {
  if (!inputs) return { why: 'always' }
  const git = (...args) => {
    const { status, stdout } = spawnSync('git', args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 })
    return status === 0 ? stdout : undefined
  }
  const specs = pathspecs(inputs)
  const changes = git('status', '--porcelain', '--untracked-files=all', '--', ...specs)
  if (changes === undefined) return { why: 'git cannot tell what has changed' }
  if (changes !== '') return { why: `uncommitted: ${changes.split('\n')[0].slice(3)}` }
  const all = git('ls-files')?.split('\n')
  const tree = git('ls-files', '--stage', '--', ...specs)
  if (!all || !tree) return { why: 'git cannot list the inputs' }
  // Every name must lead somewhere: what has moved away would be missed.
  for (const name of inputs.map(text => text.replace(/^!/, ''))) {
    const isThere = name === '.' || all.some(file => file === name || file.startsWith(`${name}/`))
    if (!isThere) return { why: `no input is named ${name}` }
  }
  return { tree }
}

/** The key of a green run, of one shard where the row has any. */
export function digestOf(row, shard, tree, machine) {
  return createHash('sha256')
    .update(JSON.stringify([row, shard ?? null, tree, machine]))
    .digest('hex')
}

/** What was written about a green run: revision, date, seconds; undefined where there is none. */
export function findGreen(digest, directory = EVIDENCE_DIRECTORY) {
  try {
    return JSON.parse(readFileSync(path.join(directory, `${digest}.json`), 'utf8'))
  } catch {
    return undefined
  }
}

export function keepGreen(digest, facts, directory = EVIDENCE_DIRECTORY) {
  write(path.join(directory, `${digest}.json`), facts)
}

/** A failure takes back what an earlier run said: it passes sometimes only. */
export function forgetGreen(digest, directory = EVIDENCE_DIRECTORY) {
  rmSync(path.join(directory, `${digest}.json`), { force: true })
}

function write(file, contents) {
  try {
    mkdirSync(path.dirname(file), { recursive: true })
    writeFileSync(file, `${JSON.stringify(contents)}\n`)
  } catch (error) {
    // Without a place to write the next run runs it all.
    console.error(`no evidence is kept: ${error.message}`)
  }
}

const shardsFile = directory => path.join(directory, 'shards.json')

function readShards(directory) {
  try {
    return JSON.parse(readFileSync(shardsFile(directory), 'utf8'))
  } catch {
    return {}
  }
}

/** The part whose turn it is: the one after that of the last green run, or one by the count of commits. From 1. */
export function nextShard({ name, shards }, root, directory = EVIDENCE_DIRECTORY) {
  const last = readShards(directory)[name]
  if (Number.isInteger(last)) return (last % shards) + 1
  const { stdout } = spawnSync('git', ['rev-list', '--count', 'HEAD'], { cwd: root, encoding: 'utf8' })
  return (Number(stdout) % shards || 0) + 1
}

export function keepShard({ name }, shard, directory = EVIDENCE_DIRECTORY) {
  write(shardsFile(directory), { ...readShards(directory), [name]: shard })
}

/**
 * Whether a row is to run.
 *
 * @returns `{ run: true, why, shard }`, or `{ run: false, green }` with what is known of the green run. `shard` where the row has parts and
 *   the check is not full; `digests` are what a green run is evidence for, empty where nothing can be known
 */
export function decide(row, { root, machine, full = false, directory = EVIDENCE_DIRECTORY }) {
  const { tree, why } = readInputs(row, root)
  const shards = Array.from({ length: row.shards ?? 0 }, (_, index) => index + 1)
  const digest = shard => digestOf(row, shard, tree, machine)
  if (full)
    return { run: true, why: 'full', digests: tree ? (row.shards ? shards : [undefined]).map(digest) : [] }

  const first = row.shards && nextShard(row, root, directory)
  const turn = row.shards ? shards.map(shard => ((shard + first - 2) % row.shards) + 1) : [undefined]
  if (!tree) return { run: true, why, shard: turn[0], digests: [] }
  for (const shard of turn) {
    if (!findGreen(digest(shard), directory))
      return { run: true, why: 'changed', shard, digests: [digest(shard)] }
  }
  return { run: false, green: findGreen(digest(turn[0]), directory) }
}

/**
 * The part of a group of steps whose turn it is: the first, from the one after that of the last time, of which a step has to run. Undefined
 * where none has.
 *
 * @param group its name and, by turn, the names of its parts
 */
export function partToRun([name, parts], rows, options) {
  const first = nextShard({ name, shards: parts.length }, options.root, options.directory)
  const order = parts.map((_, index) => parts[(index + first - 1) % parts.length])
  return order.find(part => rows.some(row => row.part === part && decide(row, options).run))
}

/** Remembers a part whose steps were all green. */
export function keepPart([name, parts], part, directory = EVIDENCE_DIRECTORY) {
  keepShard({ name }, parts.indexOf(part) + 1, directory)
}

/**
 * Sources and headers that the row's targets are built from, as its tree knows after a build, and that are none of its inputs: a change of
 * theirs would go unseen. Undefined where the tree cannot tell.
 */
export function uncoveredSources({ inputs, targets, tree }, root) {
  if (!inputs || !targets) return []
  const directory = path.join(root, 'build', tree)
  const ask = (command, args, cwd) => {
    const { status, stdout } = spawnSync(command, args, { cwd, encoding: 'utf8', maxBuffer: 1 << 28 })
    return status === 0 ? stdout.split('\n').filter(Boolean) : undefined
  }
  const direct = ask('ninja', ['-t', 'inputs', ...targets], directory)
  const objects = direct?.filter(name => name.endsWith('.o')) ?? []
  const depfiles = objects.length > 0 ? ask('ninja', ['-t', 'deps', ...objects], directory) : undefined
  const known = ask('git', ['ls-files', '--', ...pathspecs(inputs)], root)
  const tracked = ask('git', ['ls-files'], root)
  if (!depfiles || !known || !tracked) return undefined
  const headers = depfiles.filter(line => line.startsWith(' '))
  const used = [...direct, ...headers].map(name => path.relative(root, path.resolve(directory, name.trim())))
  const [knownSet, trackedSet] = [new Set(known), new Set(tracked)]
  return [...new Set(used)].filter(name => trackedSet.has(name) && !knownSet.has(name)).sort()
}
