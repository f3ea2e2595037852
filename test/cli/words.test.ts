/** Hints name what there is, as it was named where it was given: flags on a command line, keys in a file. */
import { readdirSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { optionsOf } from '../../src/cli/arguments.js'
import type { Command } from '../../src/cli/command.js'
import { commands } from '../../src/cli/run.js'
import { inWordsOf } from '../../src/cli/words.js'
import { DataError } from '../../src/errors.js'
import { keyOf, settingsOf } from '../../src/settings/setting.js'
import { runCommand } from '../command.js'
import { temporaryFolder } from '../fakes/world.js'

const all: Command[] = commands.flatMap((each) =>
  'commands' in each ? each.commands : [each, ...(each.fromFile ? [each.fromFile] : []), ...(each.further ?? [])],
)

function say(name: string, hint: string, fromFile = false): string | undefined {
  const command = all.find((each) => each.name === name && (each.file !== undefined) === fromFile)
  return inWordsOf(command, new DataError('wrong', { hint })).hint
}

describe('a hint', () => {
  it.each([
    ['evaluate', false, 'Allow more with maxUnreadable.', 'Allow more with --max-unreadable.'],
    ['evaluate', true, 'Allow more with maxUnreadable.', 'Allow more with maxUnreadable.'],
    ['generate', false, 'Use dtype: bf16, or lower batchSize.', 'Use --dtype bf16, or lower --batch-size.'],
    ['corrupt', false, 'See --mask-root, or another --out.', 'See --mask-root, or another --out.'],
    ['corrupt', true, 'See --mask-root, or another --out.', 'See maskRoot, or another out.'],
    ['run', true, 'See --mask-root, or another --out.', 'See maskRoot, or another output.'],
    ['train', true, 'Use --overwrite, lower optimizer.lr.', 'Use --overwrite, lower optimizer.lr.'],
    // Two servers have a key each.
    ['pairs', false, 'Look at keyEnv.', 'Look at --endpoint-key-env or --judge-key-env.'],
    ['sample', false, 'Look at keyEnv.', 'Look at --endpoint-key-env.'],
    ['sample', true, 'Look at keyEnv and metrics.jsonl.', 'Look at keyEnv and metrics.jsonl.'],
  ] as const)('of %s (from a file: %s): %s', (name, fromFile, hint, said) => {
    expect(say(name, hint, fromFile)).toBe(said)
  })

  it('is the same with --json', async () => {
    const file = join(await temporaryFolder(), 'a.csv')
    await writeFile(file, 'question,answer,image\nIs it?,yes,gone.png\n')
    const { stdout, stderr } = await runCommand(['import', 'csv', file, '--out', `${file}.out`, '--json'])
    const { error } = JSON.parse(stdout)
    expect(stderr).toContain(`hint: ${error.hint}\n`)
    expect(error.hint).toContain('--allow-missing-images')
  })
})

describe('a budget without prices', () => {
  it('is refused by the names that were used', async () => {
    const folder = await temporaryFolder()
    const args = ['pairs', '--samples', 's', '--responses', 'r', '--out', 'o', '--endpoint', 'http://localhost:1/v1']
    const flags = await runCommand([...args, '--endpoint-model', 'm', '--endpoint-budget', '5'])
    expect(flags.code).toBe(2)
    expect(flags.stderr).toContain(
      '--endpoint-budget has no effect without --endpoint-price-in or --endpoint-price-out',
    )
    const endpoint = 'endpoint:\n  url: http://localhost:1/v1\n  model: m\n  budget: 5\n'
    await writeFile(
      join(folder, 'run.yaml'),
      `output: o\npairs:\n  samples: s\n  responses: r\n  ${endpoint.replaceAll('\n  ', '\n    ')}`,
    )
    const keys = await runCommand(['run', join(folder, 'run.yaml')])
    expect(keys.code).toBe(2)
    expect(keys.stderr).toMatch(
      /run\.yaml:8: endpoint\.budget has no effect without endpoint\.priceIn or endpoint\.priceOut/,
    )
  })
})

describe('the hints of the sources', () => {
  const root = fileURLToPath(new URL('../../src', import.meta.url))
  const hints = readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .flatMap((path) =>
      [
        ...readFileSync(join(root, path), 'utf8').matchAll(/\bhints?\b[^'"`\n]*\n?[^'"`\n]*(['"`])((?:(?!\1).)*)\1/g),
      ].map(([, , text]) => `${path}: ${text.replace(/\$\{[^}]*(?:\}|$)/g, '')}`),
    )
  const options = all.flatMap(optionsOf)
  const keys = new Set(
    [...options.map(({ setting }) => setting), ...all.flatMap(({ file }) => (file ? settingsOf(file) : []))].flatMap(
      ({ path }) => [path.at(-1), keyOf({ path })],
    ),
  )

  it('name flags and keys that there are', () => {
    expect(hints.length).toBeGreaterThan(100)
    // Options of npm and Node, and names that are no settings.
    const others = new Set(['prefix', 'disable-wasm-trap-handler', 'AutoTokenizer'])
    const unknown = hints.flatMap((hint) =>
      [
        ...[...hint.matchAll(/--([a-z]+(?:-[a-z]+)*)/g)]
          .map(([, name]) => name)
          .filter((name) => !others.has(name) && !options.some((option) => option.name === name)),
        ...[
          ...hint
            .split(': ')
            .slice(1)
            .join(': ')
            .matchAll(/(?<![\w./-])[a-z]+(?:[A-Z][a-z]+)+(?!\w)/g),
        ]
          .map(([key]) => key)
          .filter((key) => !keys.has(key)),
      ].map((name) => `${name} in ${hint}`),
    )
    expect(unknown).toEqual([])
  })
})
