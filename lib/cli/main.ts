#!/usr/bin/env node

/** The `sparse-experts` command. */

import { runCommandLine } from './command-line.js'

const abort = new AbortController()
// The second Ctrl-C kills at once, should the first one not get through.
process.once('SIGINT', () => abort.abort(new Error('Interrupted')))

// A reader that has seen enough (`| head`) closes the pipe.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})

process.exitCode = await runCommandLine(process.argv.slice(2), process, abort.signal)
