/**
 * Draws a Vega-Lite specification to SVG, without a browser. Vega and its 80 packages are no dependency of the repository: this folder is a
 * package of its own, and the first chart installs it.
 */

import { arePackagesInstalled, installPackages } from '../harness/packages.js'

/** A Vega-Lite specification. Vega itself checks it: what it warns of is an error. */
export type ChartSpec = Readonly<Record<string, unknown>>

/** What is used of Vega; the repository compiles without it. */
interface Vega {
  Warn: number
  logger(level: number): Record<'warn' | 'error', (...text: unknown[]) => unknown>
  parse(spec: object): object
  View: new (
    runtime: object,
    options: object,
  ) => {
    toSVG(): Promise<string>
    finalize(): void
  }
}

interface VegaLite {
  compile(spec: ChartSpec, options: object): { spec: object }
}

const directory = import.meta.dirname

/** Whether a chart can be drawn without the npm registry. */
export const canDraw = (): boolean => arePackagesInstalled(directory)

async function load<T>(name: string): Promise<T> {
  return (await import(name)) as T
}

export async function renderSvg(spec: ChartSpec): Promise<string> {
  installPackages(directory)
  const [vega, { compile }] = [await load<Vega>('vega'), await load<VegaLite>('vega-lite')]
  const problems: string[] = []
  const logger = vega.logger(vega.Warn)
  const collectProblem = (...args: readonly unknown[]) => {
    problems.push(args.join(' '))
    return logger
  }
  logger.warn = collectProblem
  logger.error = collectProblem
  const compiled = compile(spec, { logger })
  const view = new vega.View(vega.parse(compiled.spec), { renderer: 'none', logger })
  try {
    const svg = await view.toSVG()
    // A chart that Vega has doubts about is drawn wrong: better none.
    if (problems.length > 0) throw new Error(problems.join('\n'))
    return `${svg}\n`
  } finally {
    view.finalize()
  }
}
