/** `sparse-experts inspect`: what a checkpoint holds, and what loading it would take here. */

import { type Checkpoint, openCheckpoint } from '../api/checkpoint.js'
import type { ModelPlan } from '../api/model-plan.js'
import { type OptionTable, optionLines, parseCommandLine } from './arguments.js'
import type { CommandContext } from './context.js'
import { describeWeights } from './describe-layer.js'
import { formatBytes, type Paint, plural, table, wrap } from './format.js'
import { DEVICE_OPTION, deviceOption, HELD_OPTIONS, heldOptions, MODULE_OPTION } from './source-options.js'

const OPTIONS = {
  ...{ module: MODULE_OPTION, device: DEVICE_OPTION },
  ...HELD_OPTIONS,
  json: { type: 'boolean', help: 'print one JSON object' },
} as const satisfies OptionTable

export const INSPECT_USAGE = `Usage: sparse-experts inspect <checkpoint> [options]

Reads the headers of a checkpoint, no weights, and shows which layers have experts, how they are stored, and what all of them would take
on a device. A checkpoint is a directory with config.json and safetensors files, or a GGUF file (of a split one the first shard).

Options:
${optionLines(OPTIONS)}
`

/** Runs the command; the exit status. */
export async function inspectCommand(args: string[], context: CommandContext): Promise<number> {
  const { values, positionals } = parseCommandLine(args, OPTIONS, ['checkpoint'])
  const held = heldOptions(values)
  const device = deviceOption(values.device)
  const { signal } = context
  const { module } = values
  await using checkpoint = await openCheckpoint(positionals[0]!, { module, signal })
  const plan = await checkpoint.plan({ device, ...held, signal })
  const { source, modelType, numLayers, layers, notices } = checkpoint
  const report = { source, modelType, numLayers, layers, notices, plan }
  context.print(
    values.json ? [JSON.stringify(report, null, 2)] : renderInspection(checkpoint, plan, context.paint),
  )
  return 0
}

/** Layers in a row of which all that is shown is the same. */
interface Run {
  first: number
  last: number
  cells: string[]
  bytes: string[]
}

function runsOf(checkpoint: Checkpoint, plan: ModelPlan): Run[] {
  const runs: Run[] = []
  checkpoint.layers.forEach(({ index, config, storedBytes }, i) => {
    const { hostBytes, deviceBytes, weightFormat, device } = plan.layers[i]!
    const cells = [
      `${config.numExperts}`,
      `${config.topK}`,
      `${config.hiddenSize} × ${config.intermediateSize}`,
      describeWeights(weightFormat),
      device,
    ]
    const bytes = [formatBytes(storedBytes), formatBytes(hostBytes + deviceBytes)]
    const run = runs.at(-1)
    const isSame = run && run.last === index - 1 && `${run.cells} ${run.bytes}` === `${cells} ${bytes}`
    if (isSame) run.last = index
    else runs.push({ first: index, last: index, cells, bytes })
  })
  return runs
}

/** The report as text. */
function renderInspection(checkpoint: Checkpoint, plan: ModelPlan, paint: Paint): string[] {
  const { modelType, numLayers, layers, notices } = checkpoint
  const dense = numLayers - layers.length
  const header = ['layers', 'experts', 'top-k', 'hidden × width', 'weights', 'on', 'file, each', 'held, each']
  const rows = runsOf(checkpoint, plan).map(({ first, last, cells, bytes }) => [
    first === last ? `${first}` : `${first}–${last}`,
    ...cells,
    ...bytes,
  ])
  const memory = plan.memory.map(({ memory: name, neededBytes, freeBytes, fits, ...parts }) => [
    paint.bold(name),
    formatBytes(neededBytes),
    `weights ${formatBytes(parts.weightBytes)}, workspace ${formatBytes(parts.workspaceBytes)}, loading ${formatBytes(parts.loadingBytes)}`,
    `${formatBytes(freeBytes)} free`,
    fits ? paint.green('fits') : paint.red('does not fit'),
  ])
  return [
    paint.bold(checkpoint.source),
    `  ${modelType}, ${plural(numLayers, 'layer')}: ${layers.length} with experts, ${dense} dense; ${formatBytes(plan.storedBytes)} of files for the experts`,
    ...notices.flatMap(notice => wrap(notice, 100).map(line => `  ${paint.yellow(line)}`)),
    '',
    ...table([header.map(paint.dim), ...rows], 'lrrlllrr'),
    '',
    'Memory that loading all of them takes',
    ...table(memory),
    ...plan.reasons.flatMap(reason => wrap(reason, 100).map(line => `  ${paint.yellow(line)}`)),
  ]
}
