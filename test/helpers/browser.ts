/** A page in a real browser without a screen, where the machine has one: Chromium prints the document after its scripts have run. */

import { spawn, spawnSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { finished } from './run-program.js'

const NAMES = ['chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome']

/** A browser has memory checks of its own: under a sanitizer's preloaded runtime it never ends. */
const { LD_PRELOAD: _, ...env } = process.env
const MOST_MS = 60_000

/** The first browser on PATH; undefined where there is none. */
export const browser = NAMES.find(
  name => spawnSync(name, ['--version'], { stdio: 'ignore', env, timeout: MOST_MS }).status === 0,
)

/** What is in a page, and what its scripts complained of. */
export interface Rendered {
  dom: string
  errors: string[]
}

/**
 * @param url of a local page
 * @param options `screenshot`, the file it goes to, and the window's `width` and `height` in pixels
 */
export async function renderPage(
  url: string,
  { screenshot, width = 1200, height = 1400 }: { screenshot?: string; width?: number; height?: number } = {},
): Promise<Rendered> {
  if (browser === undefined) throw new Error(`none of ${NAMES.join(', ')} is on PATH`)
  const profile = await mkdtemp(path.join(os.tmpdir(), 'sparse-experts-browser-'))
  try {
    const child = spawn(
      browser,
      [
        '--headless',
        // Containers run as root, and have no GPU.
        '--no-sandbox',
        '--disable-gpu',
        // What a page loads from elsewhere than this machine fails, and shows as an error.
        '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
        `--user-data-dir=${profile}`,
        '--enable-logging=stderr',
        `--window-size=${width},${height}`,
        '--virtual-time-budget=2000',
        '--dump-dom',
        ...(screenshot === undefined ? [] : [`--screenshot=${screenshot}`]),
        url,
      ],
      { stdio: ['ignore', 'pipe', 'pipe'], env, timeout: MOST_MS },
    )
    const { status, stdout, stderr } = await finished(child)
    if (status !== 0) throw new Error(`${browser} ended with ${status}: ${stderr}`)
    const errors = stderr.split('\n').filter(line => /CONSOLE/.test(line))
    return { dom: stdout, errors }
  } finally {
    await rm(profile, { recursive: true, force: true })
  }
}
