/** `sparse-experts run`: loads a layer, runs it, and shows what it did. */

import path from 'node:path'
import type { LoadOptions } from '../api/layer-options.js'
import { MoeLayer } from '../api/moe-layer.js'
import { ACTIVATIONS_OPTIONS } from '../block/activations.js'
import { WEIGHTS_OPTIONS } from '../block/weight-format.js'
import { planLayer } from '../checkpoint/plan/layer.js'
import {
  choiceOption,
  fractionOption,
  integerOption,
  type OptionTable,
  optionLines,
  parseCommandLine,
} from './arguments.js'
import { UsageError } from './command-error.js'
import type { CommandContext } from './context.js'
import { randomHiddenStates, randomRouting, readHiddenStates } from './hidden-states.js'
import { type CallOptions, type CheckResult, checkRows, sampleRows, timeRuns } from './measure.js'
import { loadBar } from './progress.js'
import { type RunReport, renderRun } from './run-report.js'
import { DEVICE_OPTION, deviceOption, MODULE_OPTION } from './source-options.js'

const OPTIONS = {
  layer: { type: 'string', value: 'N', help: 'decoder layer (default: the first one that has experts)' },
  ...{ module: MODULE_OPTION, device: DEVICE_OPTION },
  dtype: {
    type: 'string',
    value: 'T',
    help: "auto, f32, f16 or bf16: arithmetic of the expert matmuls (default: auto, the checkpoint's own)",
  },
  weights: {
    type: 'string',
    value: 'W',
    help: 'auto, stored, expand, int8 or int4: how the matrices are held (default: auto, as they are stored where\nthe device can)',
  },
  activations: {
    type: 'string',
    value: 'A',
    help: 'exact or int8: how rows are multiplied by experts that are held as integers (default: exact)',
  },
  tokens: { type: 'string', value: 'N', help: 'rows of random hidden states (default: 64)' },
  input: {
    type: 'string',
    value: 'FILE',
    help: 'hidden states [tokens, hidden]: .npy (f16, f32, f64), .json, or raw little-endian f32',
  },
  seed: { type: 'string', value: 'N', help: 'of the random hidden states (default: 0)' },
  threads: { type: 'string', value: 'N', help: 'CPU threads at most (default: all)' },
  'top-k': { type: 'string', value: 'N', help: "experts per token, at most the model's own" },
  'top-p': {
    type: 'string',
    value: 'P',
    help: 'fewest experts per token whose share of the routing weight reaches P',
  },
  check: {
    type: 'boolean',
    help: 'compare with the double-precision reference, which loads the layer a second time in f32; exit status 1 when\nbeyond the bound',
  },
  json: { type: 'boolean', help: 'print one JSON object' },
} as const satisfies OptionTable

export const RUN_USAGE = `Usage: sparse-experts run <checkpoint> [options]

Loads one mixture-of-experts layer of a checkpoint, runs it, and shows its routing, timing, expert load and what it saved against a
dense layer of all the experts. A checkpoint is a directory with config.json and safetensors files, or a GGUF file (of a split one
the first shard).

Options:
${optionLines(OPTIONS)}
`

const DEFAULT_TOKENS = 64

/** Runs the command; the exit status. */
export async function runCommand(args: string[], context: CommandContext): Promise<number> {
  const { values, positionals } = parseCommandLine(args, OPTIONS, ['checkpoint'])
  const layerIndex = integerOption('layer', values.layer, 0)
  const dtype = choiceOption('dtype', values.dtype, ['auto', 'f32', 'f16', 'bf16'])
  const weights = choiceOption('weights', values.weights, WEIGHTS_OPTIONS)
  const activations = choiceOption('activations', values.activations, ACTIVATIONS_OPTIONS)
  const threads = integerOption('threads', values.threads, 1)
  const tokens = integerOption('tokens', values.tokens, 0)
  const seed = integerOption('seed', values.seed, 0) ?? 0
  const topK = integerOption('top-k', values['top-k'], 0)
  const topP = fractionOption('top-p', values['top-p'])
  const device = deviceOption(values.device)
  if (values.input !== undefined && tokens !== undefined)
    throw new UsageError(
      'ERR_MOE_UNEXPECTED_ARGUMENT',
      'Both --tokens and --input say what the rows are',
      'Give one of them: --tokens for random rows, --input for those of a file.',
    )
  const checkpoint = positionals[0]!
  const { signal } = context

  const { module } = values
  const plan = await planLayer(checkpoint, { layer: layerIndex, module })
  const { config } = plan
  integerOption('top-k', values['top-k'], 0, config.topK)
  // Before a layer is loaded, which may take minutes.
  const hiddenStates =
    values.input === undefined
      ? randomHiddenStates(tokens ?? DEFAULT_TOKENS, config.hiddenSize, seed)
      : await readHiddenStates(values.input, config.hiddenSize)
  const numTokens = hiddenStates.length / config.hiddenSize
  const load = async (
    label: string,
    options: Pick<LoadOptions, 'device' | 'dtype' | 'weights' | 'activations'>,
  ) => {
    const bar = loadBar(label, context.stderr)
    try {
      return await MoeLayer.load(checkpoint, {
        ...options,
        layer: plan.layer,
        module,
        threads,
        signal,
        onProgress: bar.update,
      })
    } finally {
      bar.stop()
    }
  }
  const began = performance.now()
  using layer = await load(`Loading layer ${plan.layer}`, {
    device: device ?? 'auto',
    dtype,
    weights,
    activations,
  })
  const loadMs = performance.now() - began

  const call: CallOptions = {
    signal,
    ...(topK !== undefined && { topK }),
    ...(topP !== undefined && { topP }),
  }
  Object.assign(call, randomRouting(plan, numTokens, seed))

  const { result, times, medianMs } = await timeRuns(() => layer.forward(hiddenStates, call))

  let check: CheckResult | undefined
  if (values.check) {
    // f32 holds every stored format exactly, so this is the checkpoint's own arithmetic; or, where it was quantised, that of the codes.
    const lossy = weights === 'int8' || weights === 'int4' ? { weights } : {}
    using reference = await load('Loading the reference', { device: 'reference', dtype: 'f32', ...lossy })
    const perToken = numTokens === 0 ? 0 : result.work.flops / numTokens
    const rows = config.capacity
      ? Array.from({ length: numTokens }, (_, row) => row)
      : sampleRows(numTokens, perToken)
    check = await checkRows(layer, reference, hiddenStates, result, rows, call)
  }

  const report: RunReport = {
    checkpoint: path.resolve(checkpoint),
    layer: plan.layer,
    device: layer.device,
    dtype: layer.dtype,
    activations: layer.activations,
    weightFormat: layer.weightFormat,
    config,
    kernel: layer.explain(numTokens).stages.find(stage => stage.stage === 'gateUp')!.kernel,
    load: {
      ms: loadMs,
      bytes: plan.totalBytes,
      hostBytes: layer.stats().hostBytes,
      deviceBytes: layer.stats().deviceBytes,
    },
    input:
      values.input === undefined
        ? { kind: 'random', seed }
        : { kind: 'file', file: path.resolve(values.input) },
    numTokens,
    ...(topK !== undefined && { topK }),
    ...(topP !== undefined && { topP }),
    times,
    medianMs,
    work: result.work,
    nonFiniteRows: [...result.nonFiniteRows],
    ...(check && { check }),
  }
  context.print(values.json ? [JSON.stringify(toJson(report), null, 2)] : renderRun(report, context.paint))
  return check && !check.ok ? 1 : 0
}

function toJson(report: RunReport): object {
  return { ...report, work: { ...report.work, expertTokens: [...report.work.expertTokens] } }
}
