/** Holds the compiled kernels against the table of variants in csrc/cuda/variants.cc, as the program kernel_variants prints it. */

/**
 * The manifest: which kernels stand behind each operation and dtype, and where they run. With it what is wrong: a cell without one of its
 * kernels on an architecture that it runs on, a kernel where its cell does not run, a kernel in no cell.
 *
 * @param cells rows { op, dtype, least, most, kernels }: `kernels` are how names begin, `least` and `most` compute capabilities
 * @param kernels name → { architectures }
 */
export function checkManifest(cells, kernels) {
  const names = Object.keys(kernels)
  const isOn = (name, architecture) => kernels[name].architectures[architecture] !== undefined
  const compiled = [...new Set(names.flatMap(name => Object.keys(kernels[name].architectures)))].sort(
    (a, b) => a - b,
  )
  const problems = []
  const inCells = new Map(names.map(name => [name, new Set()]))
  const manifest = cells.map(({ op, dtype, least, most, kernels: beginnings }) => {
    const architectures = compiled.filter(architecture => architecture >= least && architecture <= most)
    const found = new Set()
    for (const beginning of beginnings) {
      const like = names.filter(name => name.startsWith(beginning))
      for (const architecture of architectures) {
        if (!like.some(name => isOn(name, architecture)))
          problems.push(`${op} ${dtype}, sm_${architecture}: no kernel like ${beginning}`)
      }
      for (const name of like) {
        found.add(name)
        for (const architecture of architectures) inCells.get(name).add(architecture)
      }
    }
    return { op, dtype, architectures, kernels: [...found].sort() }
  })
  for (const [name, architectures] of inCells) {
    for (const architecture of compiled) {
      if (isOn(name, architecture) && !architectures.has(architecture))
        problems.push(`${name}, sm_${architecture}: compiled, but no row of csrc/cuda/variants.cc runs it`)
    }
  }
  return { manifest, problems }
}
