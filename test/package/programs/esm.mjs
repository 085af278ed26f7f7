import { MoeLayer, setLogger } from 'sparse-experts'
import { compare } from './tiny.mjs'

// No `await` outside of a function: bundlers make CommonJS of this too.
const warnings = []
setLogger((level, message) => level === 'warn' && warnings.push(`${level}: ${message}`))
compare(MoeLayer, process.argv[2]).then(
  result => console.log(JSON.stringify({ ...result, warnings })),
  ({ code, message }) => console.log(JSON.stringify({ code, message, warnings })),
)
