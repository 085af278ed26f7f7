/** Runs under sanitizers: their options, and which of their reports concern this package. */

import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import { root } from '../repository.mjs'

/**
 * Sanitizer options for a run that writes its reports to `directory`, which is emptied. Errors end the process; leaks are only
 * recorded, because Node and V8 leave memory to the operating system at exit: `findReports` sorts them.
 */
export function sanitizerEnvironment(directory) {
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory, { recursive: true })
  const report = path.join(directory, 'report')
  // Kernels end by an illegal instruction where their behaviour is undefined (cmake/isa_flags.cmake). TSan: the signal-unsafe checks
  // concern V8's own handlers.
  return {
    ASAN_OPTIONS: `log_path=${report}:detect_leaks=1:halt_on_error=1:abort_on_error=0:exitcode=99:strict_string_checks=1:detect_stack_use_after_return=1:handle_sigill=1`,
    UBSAN_OPTIONS: `log_path=${report}:print_stacktrace=1:halt_on_error=1`,
    LSAN_OPTIONS: 'exitcode=0:print_suppressions=0',
    TSAN_OPTIONS: `log_path=${report}:halt_on_error=0:second_deadlock_stack=1:report_signal_unsafe=0:exitcode=99`,
  }
}

/** GCC's AddressSanitizer, which a program that is not instrumented itself (Node) must load first. */
export function addressSanitizerRuntime(script) {
  const compiler = process.env.CXX ?? 'c++'
  const runtime = execFileSync(compiler, ['-print-file-name=libasan.so'], { encoding: 'utf8' }).trim()
  if (!path.isAbsolute(runtime)) {
    console.error(`${script}: ${compiler} has no libasan.so; use GCC (CXX=g++)`)
    process.exit(1)
  }
  return runtime
}

/**
 * Whether a leaked block was allocated by this package: from its code directly, through the standard library or through a function of
 * Node-API that makes something for the caller. The sources' paths may be another checkout's, because a compiler cache keeps them. Below anything else of Node and V8 stands their own bookkeeping.
 */
function isOurLeak(record) {
  for (const [, frame] of record.matchAll(/^\s*#\d+ 0x[0-9a-f]+ (.*)$/gm)) {
    if (/\blibsanitizer\b|\/include\/c\+\+\/|libstdc\+\+|^std::/.test(frame)) continue
    if (/(^|[\s/])csrc\/|sparse_experts[\w.]*\.node|node-addon-api/.test(frame)) return true
    if (!/^(in )?(napi_|v8impl::)/.test(frame)) return false
  }
  return false
}

/** Reports that concern this package: every error, and the leaks of its own. */
export function findReports(directory) {
  const reports = []
  for (const file of readdirSync(directory).sort()) {
    if (!file.startsWith('report.')) continue
    const text = readFileSync(path.join(directory, file), 'utf8')
    const [errors, leaks = ''] = text.split(/=+\n==\d+==ERROR: LeakSanitizer[^\n]*\n/)
    if (errors.trim() !== '') reports.push(errors.trim())
    for (const record of leaks.split('\n\n')) {
      if (/^(Direct|Indirect) leak of/.test(record.trim()) && isOurLeak(record)) reports.push(record.trim())
    }
  }
  return reports
}

/** Prints reports, each kind once, and returns how many there are. */
export function printReports(directory) {
  const reports = findReports(directory)
  const seen = new Set()
  for (const report of reports) {
    const kind = report.replace(/0x[0-9a-f]+|\d+/g, '')
    if (!seen.has(kind)) console.error(`\n${report.slice(0, 6000)}`)
    seen.add(kind)
  }
  if (reports.length > 0) {
    console.error(`\n${reports.length} sanitizer reports in ${path.relative(root, directory)}`)
  }
  return reports.length
}
