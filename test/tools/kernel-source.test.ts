/** The lint of kernel source finds a breach of each rule, and leaves alone what only looks like one. */

import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'

const root = path.join(import.meta.dirname, '../..')
const directory = mkdtempSync(path.join(os.tmpdir(), 'kernel-rules-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const refused = [
  ['R1', 'asm volatile("bar.sync 0;");', /inline PTX/],
  ['R2', '__shared__ float sums[32];', /SE_SHARED/],
  ['R2', 'kernel<<<1, 32>>>();', /launch\(\)/],
  ['R2', 'cudaLaunchKernelEx(&config, kernel);', /launch\(\)/],
  ['R3', 'auto a = __cvta_generic_to_shared(p);', /smem_u32/],
  ['R4', 'x = __shfl(x, 0);', /explicit mask/],
  ['R4', 'x = __shfl_sync(__activemask(), x, 0);', /which lanes/],
  ['R5', 'while (atomicAdd(flag, 0u) == 0u) {}', /spin/],
  ['R5', 'volatile int* flag = flags;', /polled/],
  ['R6', 'struct Tile { int blockIdx; };', /name of CUDA/],
  ['R7', '__half value = x;', /half types/],
  ['R7', '#include <cuda_bf16.h>', /cuda_runtime/],
  ['driver', '#include <cuda.h>', /cuda_runtime/],
  ['R8', '#if __CUDA_ARCH__ >= 900', /architecture/],
  ['R8', 'int lane = threadIdx.x % warpSize;', /32/],
  ['numerics', 'y = __expf(x);', /accurate/],
  ['bounds', '__global__ void k(float* x) { x[0] = 1; }', /__launch_bounds__/],
  ['early launches', '__global__ void __launch_bounds__(128) k(float* x) { x[0] = 1; }', /await_launches/],
  ['device', 'printf("%d", 1);', /device code/],
] as const

const allowed = [
  ['a comment', '// never __shared__ nor asm volatile("x") nor <<<1, 2>>>'],
  ['a marked conversion', 'asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));  // ptx-ok: a conversion'],
  [
    'a kernel with bounds',
    '__global__ void __launch_bounds__(128) k(float* x) { await_launches(); x[threadIdx.x] = 1; }',
  ],
  ['an instantiation', 'template __global__ void k<float>(float*);'],
  ['a mask', 'x = __shfl_xor_sync(0xffffffffu, x, 16);'],
  ['the whole warp', '__syncwarp();'],
] as const

/** What the lint says of a folder with these files. */
function lint(folder: string, files: readonly (readonly [name: string, text: string])[]) {
  const base = path.join(directory, folder)
  for (const [name, text] of files) {
    mkdirSync(path.dirname(path.join(base, name)), { recursive: true })
    writeFileSync(path.join(base, name), text)
  }
  const script = path.join(root, 'tools/check/kernel-source.mjs')
  const { status, stderr } = spawnSync(process.execPath, [script, '--directory', base], { encoding: 'utf8' })
  return { status, stderr }
}

describe('the kernel rules', () => {
  const { status, stderr } = lint(
    'refused',
    refused.map(([, line], i) => [`kernels/x${i}.cuh`, `// head\n${line}\n`]),
  )
  const breaches = stderr.split('\n')

  it('end the lint with a failure when one is broken', () => {
    expect(status).toBe(1)
    expect(lint('one', [['kernels/x.cuh', refused[0][1]]]).status).toBe(1)
  })

  it.each(refused.map(([rule, line, reason], i) => [rule, line, reason, i] as const))(
    '%s refuses %s',
    (_rule, _line, reason, i) => {
      const said = breaches.filter(breach => breach.includes(`kernels/x${i}.cuh:`))
      expect(said.join('\n')).toMatch(reason)
    },
  )

  it('leave alone what only looks like a breach, and PTX and shared memory in their homes', () => {
    const files = allowed.map(([what, line]) => [`kernels/${what}.cuh`, `${line}\n`] as const)
    const homes = [
      ['common/ptx.cuh', 'asm volatile("cp.async.commit_group;" ::: "memory");\n'],
      ['common/launch.cuh', '#define SE_SHARED(t, n, c) __shared__ t n[c]\n'],
    ] as const
    expect(lint('allowed', [...files, ...homes])).toEqual({ status: 0, stderr: '' })
  })
})
