/** Draws a Vega-Lite specification to SVG, without a browser. */

import * as vega from 'vega'
import { compile, type TopLevelSpec } from 'vega-lite'

export async function renderSvg(spec: TopLevelSpec): Promise<string> {
  const problems: string[] = []
  const logger = vega.logger(vega.Warn)
  const collectProblem = (...args: readonly unknown[]) => {
    problems.push(args.join(' '))
    return logger
  }
  logger.warn = collectProblem
  logger.error = collectProblem
  const compiled = compile(spec, { logger: logger as never })
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
