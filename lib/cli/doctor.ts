/** `sparse-experts doctor`: what runs here, what does not, and why. */

import { doctor } from '../doctor/doctor.js'
import type { DoctorReport } from '../doctor/report.js'
import { type OptionTable, optionLines, parseCommandLine } from './arguments.js'
import type { CommandContext } from './context.js'
import { formatBytes, type Paint, plural, table, wrap } from './format.js'

const OPTIONS = {
  json: { type: 'boolean', help: 'print one JSON object; attach it to bug reports' },
} as const satisfies OptionTable

export const DOCTOR_USAGE = `Usage: sparse-experts doctor [--json]

Examines the installation and runs a small layer on every device against the reference. Exit status 1 when a check fails.

Options:
${optionLines(OPTIONS)}
`

/** Runs the command; the exit status. */
export async function doctorCommand(args: string[], context: CommandContext): Promise<number> {
  const { values } = parseCommandLine(args, OPTIONS, [])
  const report = doctor()
  context.print(values.json ? [JSON.stringify(report, null, 2)] : renderDoctor(report, context.paint))
  return report.ok ? 0 : 1
}

const FIX_COLUMNS = 90

/** The report as text. */
export function renderDoctor(report: DoctorReport, paint: Paint): string[] {
  const { package: self, node, os, libc, cpu, native } = report
  const system = [
    os.platform,
    os.arch,
    ...(libc.name === 'none' ? [] : [[libc.name, libc.version].filter(Boolean).join(' ')]),
  ]
  const facts = [
    ['package', `sparse-experts ${self.version}`],
    [
      'system',
      `${system.join(', ')}, Node ${node.version}${node.electron ? `, Electron ${node.electron}` : ''}`,
    ],
    ['processor', `${cpu.model} (${plural(cpu.cores, 'logical CPU')})`],
    ...(native.found ? [['addon', `ABI ${native.abiVersion}, ${native.build}`]] : []),
  ]
  const deviceRows = report.devices.map(device => [
    device.available ? paint.green('✓') : paint.dim('·'),
    paint.bold(device.id),
    device.available
      ? [
          device.name,
          device.architecture,
          ...(device.totalBytes > 0 ? [formatBytes(device.totalBytes)] : []),
        ].join(', ')
      : paint.dim((device.reason ?? '').split('\n')[0]!),
  ])
  const nameWidth = Math.max(...report.checks.map(check => check.name.length))
  const checkLines = report.checks.flatMap(check => [
    ...table([[check.ok ? paint.green('✓') : paint.red('✗'), check.name.padEnd(nameWidth), check.detail]]),
    ...(check.fix
      ? wrap(`→ ${check.fix}`, FIX_COLUMNS).map(line => `${' '.repeat(nameWidth + 7)}${paint.yellow(line)}`)
      : []),
  ])
  const failed = report.checks.filter(check => !check.ok).length
  return [
    ...table(facts.map(([label, value]) => [paint.dim(label!), value!])),
    '',
    'Devices',
    ...table(deviceRows),
    '',
    'Checks',
    ...checkLines,
    '',
    failed === 0 ? paint.green('Everything is in order.') : paint.red(`${plural(failed, 'check')} failed.`),
  ]
}
