/** Figures, columns, bars and colours of the terminal output: pure functions of values, no input or output. */

import { styleText } from 'node:util'

/** Wraps text in an ANSI style, or leaves it alone. */
export interface Paint {
  bold(text: string): string
  dim(text: string): string
  red(text: string): string
  green(text: string): string
  yellow(text: string): string
  cyan(text: string): string
}

/** What {@link makePaint} asks of a stream. */
export interface PaintTarget {
  isTTY?: boolean
}

/** Colours for a terminal; none for a pipe, with `NO_COLOR` set to anything, or with `TERM=dumb`. `FORCE_COLOR` overrules a pipe. */
export function makePaint(target: PaintTarget, environment: NodeJS.ProcessEnv = process.env): Paint {
  const forced = environment.FORCE_COLOR !== undefined && environment.FORCE_COLOR !== '0'
  const wanted = forced || (target.isTTY === true && environment.TERM !== 'dumb')
  const enabled = wanted && !environment.NO_COLOR
  // Whether the stream takes colours is decided above, so styleText need not look at one.
  const style = (format: 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan') => (text: string) =>
    enabled && text !== '' ? styleText(format, text, { validateStream: false }) : text
  return {
    bold: style('bold'),
    dim: style('dim'),
    red: style('red'),
    green: style('green'),
    yellow: style('yellow'),
    cyan: style('cyan'),
  }
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: an ANSI sequence begins with one.
const ANSI = /\u001b\[\d+m/g

/** Columns that a text takes, styles not counted. */
export function displayWidth(text: string): number {
  return [...text.replace(ANSI, '')].length
}

/** Pads on the right to a display width. */
export function padEnd(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - displayWidth(text)))
}

/** Pads on the left to a display width. */
export function padStart(text: string, width: number): string {
  return ' '.repeat(Math.max(0, width - displayWidth(text))) + text
}

/** Three significant digits without an exponent: 0.0123, 1.23, 12.3, 123, 1,234. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return String(value)
  // Rounded first: 0.9996 is 1.00, not 1.000.
  const rounded = Number(value.toPrecision(3))
  const magnitude = Math.abs(rounded)
  if (magnitude >= 100 || magnitude === 0) return Math.round(value).toLocaleString('en-US')
  const digits =
    magnitude >= 10 ? 1 : magnitude >= 1 ? 2 : Math.min(12, 2 - Math.floor(Math.log10(magnitude)))
  return rounded.toFixed(digits)
}

function scaled(value: number, units: readonly string[]): string {
  let unit = 0
  let rest = value
  // 999.5 would be printed as 1,000 of the smaller unit.
  while (Math.abs(rest) >= 999.5 && unit < units.length - 1) {
    rest /= 1000
    unit++
  }
  return `${unit === 0 && Number.isInteger(rest) ? rest : formatNumber(rest)} ${units[unit]}`
}

/** Decimal units: 83.2 MB. */
export function formatBytes(bytes: number): string {
  return scaled(bytes, ['B', 'kB', 'MB', 'GB', 'TB'])
}

/** 1.24 GB/s. */
export function formatByteRate(bytes: number, ms: number): string {
  return ms > 0 ? `${formatBytes((bytes / ms) * 1000)}/s` : 'n/a'
}

/** 4.2 GFLOP. */
export function formatFlops(flops: number): string {
  return scaled(flops, ['FLOP', 'kFLOP', 'MFLOP', 'GFLOP', 'TFLOP', 'PFLOP'])
}

/** 45.2 GFLOP/s. */
export function formatFlopRate(flops: number, ms: number): string {
  return ms > 0 ? `${formatFlops((flops / ms) * 1000)}/s` : 'n/a'
}

/** 850 µs, 12.3 ms, 3.42 s, 2 min 5 s. */
export function formatDuration(ms: number): string {
  if (ms < 0.9995) return `${formatNumber(ms * 1000)} µs`
  if (ms < 999.5) return `${formatNumber(ms)} ms`
  if (ms < 60_000) return `${formatNumber(ms / 1000)} s`
  const seconds = Math.round(ms / 1000)
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`
}

/** 12.9×. */
export function formatRatio(ratio: number): string {
  return Number.isFinite(ratio) ? `${formatNumber(ratio)}×` : 'n/a'
}

/** 46 %, 4.6 %, <0.1 %. */
export function formatPercent(fraction: number): string {
  const percent = fraction * 100
  if (percent > 0 && percent < 0.1) return '<0.1 %'
  return `${percent < 10 && percent > 0 ? percent.toFixed(1) : Math.round(percent)} %`
}

/** A relative error: 3.1e-7; 0 stays 0. */
export function formatError(value: number): string {
  return value === 0 ? '0' : value.toExponential(1)
}

/** Thousands separated: 1,234,567. */
export function formatCount(count: number): string {
  return Math.round(count).toLocaleString('en-US')
}

/** "1 token", "2 tokens". */
export function plural(count: number, noun: string, nouns = `${noun}s`): string {
  return `${formatCount(count)} ${count === 1 ? noun : nouns}`
}

const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉']

/** A horizontal bar of `value / max` of `width` columns, to an eighth of a column; anything above 0 shows. */
export function bar(value: number, max: number, width: number): string {
  if (!(value > 0) || !(max > 0)) return ''
  const eighths = Math.max(1, Math.round((Math.min(value, max) / max) * width * 8))
  return '█'.repeat(Math.floor(eighths / 8)) + EIGHTHS[eighths % 8]
}

const HEAT = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']

/** One character per value, as high as its share of the largest; `·` for 0. */
export function heatLine(values: ArrayLike<number>, max = Math.max(0, ...Array.from(values))): string {
  return Array.from(values, value =>
    value > 0 ? HEAT[Math.min(HEAT.length - 1, Math.ceil((value / max) * HEAT.length) - 1)] : '·',
  ).join('')
}

/**
 * Rows in aligned columns, two spaces apart.
 *
 * @param align one letter per column, `l` or `r` @defaultValue all left
 */
export function table(rows: readonly (readonly string[])[], align = '', indent = '  '): string[] {
  const widths: number[] = []
  for (const row of rows) {
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, displayWidth(cell))
    })
  }
  return rows.map(row => {
    const cells = row.map((cell, column) =>
      align[column] === 'r' ? padStart(cell, widths[column]!) : padEnd(cell, widths[column]!),
    )
    return (indent + cells.join('  ')).trimEnd()
  })
}

/** Breaks text at spaces into lines of at most `width` columns. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  for (const paragraph of text.split('\n')) {
    let line = ''
    for (const word of paragraph.split(' ')) {
      if (line !== '' && displayWidth(line) + 1 + displayWidth(word) > width) {
        lines.push(line)
        line = word
      } else line = line === '' ? word : `${line} ${word}`
    }
    lines.push(line)
  }
  return lines
}
