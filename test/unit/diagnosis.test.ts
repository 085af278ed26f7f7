/** Directories in which a download went wrong: each is said in plain words, with the next step. */

import { mkdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { planLayer } from '../../lib/checkpoint/plan/layer.js'
import { writeSafetensors, writeShardedSafetensors } from '../../lib/checkpoint/writer.js'
import { MoeLayer, setLogger } from '../../lib/index.js'
import {
  CONFIG,
  layerTensors,
  removeCheckpoints,
  temporaryDirectory,
  writeCheckpoint,
} from '../helpers/checkpoint-tiny.js'
import { skippedOnWindows } from '../helpers/platform.js'

afterAll(removeCheckpoints)

const WEIGHTS = 'model.safetensors'
const INDEX = 'model.safetensors.index.json'
const LFS = `version https://git-lfs.github.com/spec/v1\noid sha256:${'a'.repeat(64)}\nsize 4976698672\n`
const HTML = '<!DOCTYPE html>\n<html><head><title>Log in</title></head></html>'

/** A directory with config.json and the given files. */
function directoryWith(files: Record<string, string | Uint8Array>, config: object | null = CONFIG): string {
  const directory = temporaryDirectory()
  if (config) writeFileSync(path.join(directory, 'config.json'), JSON.stringify(config))
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(directory, name)), { recursive: true })
    writeFileSync(path.join(directory, name), content)
  }
  return directory
}

const config = JSON.stringify(CONFIG)

it.each<[string, string, string, RegExp]>([
  [
    'a Git LFS pointer',
    directoryWith({ [WEIGHTS]: LFS }),
    'ERR_MOE_INVALID_CHECKPOINT',
    /model\.safetensors: a Git LFS pointer.*git lfs pull/,
  ],
  [
    'a pointer as the index',
    directoryWith({ [INDEX]: LFS }),
    'ERR_MOE_INVALID_CHECKPOINT',
    /index\.json.*Git LFS pointer/,
  ],
  [
    'a pointer as config.json',
    directoryWith({ 'config.json': LFS }),
    'ERR_MOE_INVALID_CONFIG',
    /config\.json: a Git LFS pointer/,
  ],
  [
    'a web page',
    directoryWith({ [WEIGHTS]: HTML }),
    'ERR_MOE_INVALID_CHECKPOINT',
    /: a web page.*access token/,
  ],
  [
    'a web page as config.json',
    directoryWith({ 'config.json': HTML }),
    'ERR_MOE_INVALID_CONFIG',
    /: a web page/,
  ],
  [
    'an index that was cut off',
    directoryWith({ [INDEX]: '{"weight_map": {"a": "model-0' }),
    'ERR_MOE_INVALID_CHECKPOINT',
    /malformed index.*download is not complete/,
  ],
  [
    'a config that was cut off',
    directoryWith({ 'config.json': config.slice(0, 40) }),
    'ERR_MOE_INVALID_CONFIG',
    /not JSON.*download is not complete/,
  ],
  [
    'an empty file',
    directoryWith({ [WEIGHTS]: '' }),
    'ERR_MOE_INVALID_CHECKPOINT',
    /0 bytes.*download is not complete/,
  ],
  [
    'GGUF beside a config',
    directoryWith({ 'Qwen3-Q4_K_M.gguf': 'GGUF' }),
    'ERR_MOE_IO',
    /No weights.*Qwen3-Q4_K_M\.gguf is GGUF: give the path of that file/,
  ],
  [
    'several models in GGUF',
    directoryWith({ 'b.gguf': 'GGUF', 'a.gguf': 'GGUF' }, null),
    'ERR_MOE_IO',
    /No config\.json.*of the GGUF files in it give the path of one: a\.gguf, b\.gguf/,
  ],
  [
    'one model in GGUF that is cut off',
    directoryWith({ 'a.gguf': 'GGUF', 'mmproj-a.gguf': 'GGUF', 'b-00002-of-00002.gguf': 'GGUF' }, null),
    'ERR_MOE_INVALID_CHECKPOINT',
    /a\.gguf: 4 bytes are too few for a GGUF file/,
  ],
  [
    'GGUF under another name',
    directoryWith({ [WEIGHTS]: 'GGUF\u0003\0\0\0' }),
    'ERR_MOE_INVALID_CHECKPOINT',
    /: a GGUF file under another name/,
  ],
  [
    'PyTorch alone',
    directoryWith({ 'pytorch_model.bin': 'PK' }),
    'ERR_MOE_IO',
    /pytorch_model\.bin is a PyTorch file/,
  ],
  [
    'a download under way',
    directoryWith({ 'model.safetensors.incomplete': '' }),
    'ERR_MOE_IO',
    /did not end/,
  ],
  [
    'shards without an index',
    directoryWith({ 'model-00001-of-00002.safetensors': '' }),
    'ERR_MOE_IO',
    /model-00001-of-00002\.safetensors is there but model\.safetensors\.index\.json is not/,
  ],
  [
    'weights of another name',
    directoryWith({ 'consolidated.safetensors': '' }),
    'ERR_MOE_IO',
    /consolidated\.safetensors has another name/,
  ],
  [
    'weights without a config',
    directoryWith({ [WEIGHTS]: '' }, null),
    'ERR_MOE_IO',
    /the weights are here without it: download config\.json/,
  ],
  [
    'a folder that has it',
    directoryWith({ 'hf/config.json': config }, null),
    'ERR_MOE_IO',
    /No config\.json.*hf has one: give that directory/,
  ],
  [
    'weights in a folder below',
    directoryWith({ 'fp8/model.safetensors': '' }),
    'ERR_MOE_IO',
    /No weights.*fp8 has some: give that directory/,
  ],
  [
    'the cache of the hub',
    directoryWith({ 'snapshots/0123abc/config.json': config }, null),
    'ERR_MOE_IO',
    /a model's folder in the cache of the hub: give its snapshot, .*snapshots.0123abc$/,
  ],
])('%s', async (_, directory, code, message) => {
  await expect(planLayer(directory)).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
})

it.each([
  ['config.json', '{}', /config\.json is neither a directory nor a GGUF file; give the directory that holds/],
  ['a.gguf', '0123', /a\.gguf does not begin as GGUF files do/],
  ['b.gguf', 'version https://git-lfs.github.com/spec/v1', /b\.gguf is a Git LFS pointer/],
  ['c.gguf', '<!doctype html>', /c\.gguf is a web page/],
  ['empty', '', /empty is empty; the download is not complete: fetch the file again/],
  ['d.gguf', '', /d\.gguf is empty; the download is not complete/],
])('a file that is no checkpoint: %s', async (name, text, message) => {
  const directory = directoryWith({ [name]: text })
  await expect(planLayer(path.join(directory, name))).rejects.toMatchObject({
    code: 'ERR_MOE_IO',
    message: expect.stringMatching(message),
  })
})

/** What servers and tools leave in the place of a file, whatever its name. */
const INSTEAD: [string, string | Uint8Array, RegExp][] = [
  ['a Git LFS pointer', LFS, /a Git LFS pointer.*git lfs pull/],
  ['a web page', HTML, /a web page.*access token/],
  ['a web page behind a byte order mark', `\ufeff\n${HTML}`, /a web page/],
  [
    'an error of an object store',
    '<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    /a web page/,
  ],
  ['"Entry not found"', 'Entry not found', /a server's answer.*refused; download it again/],
  [
    'a gated model',
    'Access to model org/name is restricted. Please log in.',
    /a server's answer.*access token/,
  ],
  ['a wrong token', 'Invalid username or password.', /a server's answer/],
  ['an error as JSON', '{"error":"Repository not found"}', /a server's answer/],
  [
    'a gzip file',
    Uint8Array.of(0x1f, 0x8b, 8, ...new Uint8Array(90).fill(7)),
    /a compressed file: unpack it/,
  ],
  ['a reserved file', new Uint8Array(4096), /zeros, .*fetch it again/],
  ['an empty file', '', /the download is not complete: fetch the file again/],
  ['white space', ' \n', /the download is not complete: fetch the file again/],
  ['noise', '#'.repeat(300), /the download is damaged: fetch the file again/],
]

describe.each(INSTEAD)('%s in the place of', (_, content, message) => {
  const files = (name: string, directory: string) => ({ name, file: path.join(directory, name), directory })
  it.each([
    files('config.json', directoryWith({ 'config.json': content })),
    files(WEIGHTS, directoryWith({ [WEIGHTS]: content })),
    files(INDEX, directoryWith({ [INDEX]: content })),
    files('model.gguf', directoryWith({ 'model.gguf': content }, null)),
  ])('$name', async ({ file, directory }) => {
    const failure = (location: string) => planLayer(location).catch((error: Error) => error.message)
    const told = await failure(directory)
    expect(told).toContain(file)
    expect(told).toMatch(message)
    if (file.endsWith('.gguf') && content !== ' \n') expect(await failure(file)).toMatch(message)
  })

  it('a shard', async () => {
    const directory = await writeCheckpoint(CONFIG, [layerTensors(1), layerTensors(2)])
    const file = path.join(directory, 'model-00001-of-00002.safetensors')
    writeFileSync(file, content)
    await expect(planLayer(directory)).rejects.toThrow(message)
    await expect(planLayer(directory)).rejects.toThrow(file)
  })
})

/** The cache of the hub with these files of one model, which has one revision more. */
function hubCache(files: Record<string, string>, folder = ''): string {
  const model = path.join(folder, 'models--org--name')
  const own = Object.entries({ 'refs/main': '1111', ...files })
  return directoryWith(Object.fromEntries(own.map(([name, text]) => [path.join(model, name), text])), null)
}

describe('the cache of the hub', () => {
  const revisions = { 'snapshots/0000/config.json': config, 'snapshots/1111/config.json': config }

  it.each([
    ['a folder of models', '', ''],
    ['the folder above', 'hub', ''],
    ["a model's folder", '', 'models--org--name'],
  ])('%s: names the snapshot of main', async (_, folder, given) => {
    const cache = hubCache(revisions, folder)
    const snapshot = path.join(cache, folder, 'models--org--name/snapshots/1111')
    await expect(planLayer(path.join(cache, given))).rejects.toMatchObject({ code: 'ERR_MOE_IO' })
    await expect(planLayer(path.join(cache, given))).rejects.toThrow(snapshot)
  })

  it('takes another snapshot where that of main has no config', async () => {
    const model = path.join(hubCache({ 'snapshots/0000/config.json': config }), 'models--org--name')
    await expect(planLayer(model)).rejects.toThrow(path.join(model, 'snapshots/0000'))
  })

  it.each([['models--org--name'], ['']])('says that nothing in it is complete: %s', async given => {
    const cache = hubCache({ 'blobs/abc.incomplete': '' })
    await expect(planLayer(path.join(cache, given))).rejects.toThrow(/'hf download' for the model again/)
  })

  it.each([
    ['in the cache', 'snapshots/1111', 'blobs/abc.incomplete'],
    ['into a directory', 'model', 'model/.cache/huggingface/download/abc.incomplete'],
  ])('a download that did not end %s', async (_, given, partial) => {
    const cache = hubCache({ [`${given}/config.json`]: config, [partial]: '' })
    const model = path.join(cache, 'models--org--name')
    await expect(planLayer(path.join(model, given))).rejects.toThrow(
      `${path.join(model, partial)} is a download that did not end`,
    )
  })
})

const noLinks = skippedOnWindows('a link whose target is gone', 'only administrators make links')
describe.skipIf(noLinks)('a link whose target is gone', () => {
  const BLOB = /is a link to \.\.\/\.\.\/blobs\/abc, which is not there: .*'hf download'/

  it.each(['config.json', WEIGHTS, INDEX])('%s', async name => {
    const directory = directoryWith({}, name === 'config.json' ? null : CONFIG)
    symlinkSync('../../blobs/abc', path.join(directory, name))
    await expect(planLayer(directory)).rejects.toMatchObject({ code: 'ERR_MOE_IO' })
    await expect(planLayer(directory)).rejects.toThrow(BLOB)
  })

  it('a shard', async () => {
    const directory = await writeCheckpoint(CONFIG, [layerTensors(1), layerTensors(2)])
    const file = path.join(directory, 'model-00001-of-00002.safetensors')
    rmSync(file)
    symlinkSync('../../blobs/abc', file)
    await expect(planLayer(directory)).rejects.toThrow(BLOB)
  })

  it('a GGUF file, and the directory itself', async () => {
    const directory = directoryWith({}, null)
    for (const name of ['model.gguf', 'model']) symlinkSync('/nowhere/at/all', path.join(directory, name))
    const gone = /is a link to \/nowhere\/at\/all, which is not there: copy the files themselves/
    for (const name of ['', 'model.gguf', 'model'])
      await expect(planLayer(path.join(directory, name))).rejects.toThrow(gone)
  })
})

it('a truncated download', async () => {
  const directory = await writeCheckpoint(CONFIG, layerTensors(1))
  const file = path.join(directory, WEIGHTS)
  truncateSync(file, readFileSync(file).length - 100)
  await expect(planLayer(directory)).rejects.toMatchObject({
    code: 'ERR_MOE_INVALID_CHECKPOINT',
    message: expect.stringMatching(/too short; the download is not complete: fetch the file again/),
  })
  truncateSync(file, 20)
  await expect(planLayer(directory)).rejects.toThrow(/download is not complete/)
})

it('a shard that is not there', async () => {
  const directory = await writeCheckpoint(CONFIG, [layerTensors(1), layerTensors(2)])
  rmSync(path.join(directory, 'model-00001-of-00002.safetensors'))
  await expect(planLayer(directory)).rejects.toMatchObject({
    code: 'ERR_MOE_IO',
    message: expect.stringMatching(/model-00001-of-00002\.safetensors.*index\.json names it/),
  })
})

describe('a single file beside an index', () => {
  afterEach(() => setLogger(null))

  it('is taken, and the logger says so', async () => {
    const directory = await writeCheckpoint(CONFIG, layerTensors(1))
    await writeShardedSafetensors(directory, [layerTensors(1), layerTensors(2)])
    const messages: string[] = []
    setLogger((level, message) => messages.push(`${level}: ${message}`))
    using layer = await MoeLayer.load(directory, { device: 'reference' })
    expect(layer.config.numExperts).toBe(CONFIG.n_routed_experts)
    expect(messages).toHaveLength(1)
    expect(messages[0]).toMatch(
      /^warn: .*model\.safetensors is taken, as transformers takes it; remove the one/,
    )
    await writeSafetensors(path.join(directory, WEIGHTS), layerTensors(2))
    await expect(planLayer(directory)).rejects.toMatchObject({ code: 'ERR_MOE_MISSING_TENSOR' })
  })
})
