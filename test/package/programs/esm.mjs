import { MoeLayer, setLogger } from 'sparse-experts'
import tiny from './tiny.cjs'

const warnings = []
setLogger((level, message) => warnings.push(`${level}: ${message}`))
try {
  console.log(JSON.stringify({ ...(await tiny.compare(MoeLayer, process.argv[2])), warnings }))
} catch (error) {
  console.log(JSON.stringify({ code: error.code, message: error.message, warnings }))
}
