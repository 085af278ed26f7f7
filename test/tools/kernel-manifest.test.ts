/** What the compiler made is held against the table of kernel variants. */

import { expect, it } from 'vitest'

// A tool has no declarations: the compiler must not look for its types.
const { checkManifest } = await import(new URL('../../tools/check/kernel-manifest.mjs', import.meta.url).href)

const on = (...architectures: number[]) => ({
  architectures: Object.fromEntries(architectures.map(architecture => [architecture, {}])),
})
const EVERY = { least: 80, most: 999 }
const mma = { op: 'expertMatmul', dtype: 'bf16', ...EVERY, kernels: ['half_kernel<Bf16,'] }
const wgmma = { op: 'expertMatmul', dtype: 'bf16', least: 90, most: 90, kernels: ['wide_kernel<'] }
const compiled = { 'half_kernel<Bf16, 1>': on(80, 90), 'half_kernel<Bf16, 2>': on(80, 90) }

it('lists the kernels of a cell and where they run', () => {
  const { manifest, problems } = checkManifest([mma, wgmma], { ...compiled, 'wide_kernel<1>': on(90) })
  expect(problems).toEqual([])
  expect(manifest).toEqual([
    { op: 'expertMatmul', dtype: 'bf16', architectures: ['80', '90'], kernels: Object.keys(compiled) },
    { op: 'expertMatmul', dtype: 'bf16', architectures: ['90'], kernels: ['wide_kernel<1>'] },
  ])
})

it('wants a kernel on every architecture that its row names', () => {
  const { problems } = checkManifest([mma], { 'half_kernel<Bf16, 1>': on(80), other: on(90) })
  expect(problems).toContain('expertMatmul bf16, sm_90: no kernel like half_kernel<Bf16,')
})

it('wants no kernel where no row runs it', () => {
  const { problems } = checkManifest([mma, wgmma], { ...compiled, 'wide_kernel<1>': on(80, 90) })
  expect(problems).toEqual(['wide_kernel<1>, sm_80: compiled, but no row of csrc/cuda/variants.cc runs it'])
})
