/** The parts of docs/ that spec/ makes: what stands between `<!-- spec:NAME -->` and `<!-- /spec -->`. */

export const DOCUMENTS = ['docs/routing.md', 'docs/api.md']

const scoringOf = enums => enums.find(group => group.scored)

const PARTS = {
  scoring: ({ enums }) =>
    [
      '',
      '| `scoringFunc` | Scores, selection and weights | Used by | Published in |',
      '|---|---|---|---|',
      ...scoringOf(enums).values.map(
        ({ name, table }) => `| \`${name}\` | ${table.rule} | ${table.users} | ${table.source} |`,
      ),
      '',
    ].join('\n'),
  scoringFuncs: ({ enums }) =>
    `\`${scoringOf(enums)
      .values.map(({ name }) => `'${name}'`)
      .join(' \\| ')}\``,
  activations: ({ enums }) =>
    enums
      .find(group => group.c === 'SeActivation')
      .values.map(({ name }) => `\`${name}\``)
      .join(', '),
}

/** The document with its generated parts as spec/ has them. */
export function documentWith(spec, text, file) {
  return text.replace(/(<!-- spec:(\w+) -->)[\s\S]*?(<!-- \/spec -->)/g, (_, open, name, close) => {
    if (!PARTS[name]) throw new Error(`${file}: there is no part 'spec:${name}'`)
    return `${open}${PARTS[name](spec)}${close}`
  })
}
