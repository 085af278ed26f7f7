// Bundles esm.mjs with each tool into a folder of its own below the directory that is named.

import path from 'node:path'
import * as esbuild from 'esbuild'
import { rollup } from 'rollup'
import { build } from 'vite'
import webpack from 'webpack'

const entry = path.resolve('esm.mjs')
const out = name => path.resolve(process.argv[2], name)
const FORMATS = [
  ['cjs', 'main.cjs'],
  ['esm', 'main.mjs'],
]

const common = { entryPoints: [entry], bundle: true, platform: 'node', logLevel: 'error' }
for (const [format, name] of FORMATS)
  await esbuild.build({ ...common, format, outfile: out(`esbuild-${format}/${name}`) })
await esbuild.build({ ...common, format: 'cjs', minify: true, outfile: out('sea/main.cjs') })

// Rollup itself looks up no package by its name.
const index = path.resolve('node_modules/sparse-experts/dist/index.js')
const resolver = { name: 'package', resolveId: id => (id === 'sparse-experts' ? index : null) }
const bundle = await rollup({ input: entry, external: /^node:/, plugins: [resolver] })
for (const [format, name] of FORMATS) await bundle.write({ file: out(`rollup-${format}/${name}`), format })

await build({
  root: process.cwd(),
  configFile: false,
  logLevel: 'error',
  ssr: { noExternal: true },
  build: { ssr: entry, outDir: out('vite-ssr'), rollupOptions: { output: { entryFileNames: 'main.mjs' } } },
})

const pack = config =>
  new Promise((resolve, reject) => {
    const whole = { mode: 'production', target: 'node', optimization: { minimize: false }, entry, ...config }
    webpack(whole, (error, stats) =>
      error || stats.hasErrors() || stats.hasWarnings()
        ? reject(error ?? new Error(stats.toString()))
        : resolve(),
    )
  })
await pack({ output: { path: out('webpack-cjs'), filename: 'main.cjs' } })
await pack({
  experiments: { outputModule: true },
  output: {
    path: out('webpack-esm'),
    filename: 'main.mjs',
    chunkFormat: 'module',
    library: { type: 'module' },
  },
})
