/** Command lines and files of settings, mutated: no crash, no stack, the exit code by the rule, the place in the message. */
import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import type { Draws } from '../../src/bench/random.js'
import { optionsOf } from '../../src/cli/arguments.js'
import type { Command } from '../../src/cli/command.js'
import { commands, run } from '../../src/cli/run.js'
import { pipelineSchema } from '../../src/pipeline/index.js'
import { settingsOf, setValueAt } from '../../src/settings/setting.js'
import type { Tree } from '../../src/settings/source.js'
import { trainSettings } from '../../src/train/settings.js'
import { drawsOf, pick, rounds, timeFor } from './campaign.js'

let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fire-hostile-cli-'))
})

const strings = [
  ...['', ' ', '-', '--', '=', 'x', '0', '-1', '1e999', 'NaN', 'null', '~', 'true', '[]', '{}', '*x', '&x y', '!!js x'],
  ...[
    'é',
    '日本',
    '\u202egnp',
    '\u001b[2J',
    'a\nb',
    '__proto__',
    'constructor',
    '../../../etc/passwd',
    'x'.repeat(5000),
  ],
  ...['0x10', '1_000', '1,5', '١', '9007199254740993', '/dev/null', '/nowhere/at/all', 'http://', 'file:///x', '%s%n'],
]

const values: unknown[] = [
  ...strings,
  0,
  -1,
  1.5,
  1e308,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  null,
  true,
  [],
  {},
  [1],
  { a: 1 },
  [[]],
]

async function outcome(argv: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  let [stdout, stderr] = ['', '']
  const code = await run([...argv, '--quiet'], {
    stdout: (text) => {
      stdout += text
    },
    stderr: (text) => {
      stderr += text
    },
  })
  return { code, stdout, stderr }
}

function expectSober(argv: string[], { code, stderr }: { code: number; stderr: string }): void {
  const told = JSON.stringify(argv).slice(0, 2000)
  expect([0, 1, 2], told).toContain(code)
  expect(stderr, told).not.toMatch(/ERR_FIRE_INTERNAL|\n {4}at /)
  if (code !== 0) expect(stderr, told).toMatch(/^error ERR_FIRE_[A-Z_]+: ./)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that none is there is the point.
  expect(stderr, told).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202e]/)
  expect(stderr.length, told).toBeLessThan(20_000)
}

const all = commands.flatMap((each): [string[], Command][] =>
  'commands' in each
    ? each.commands.map((inner): [string[], Command] => [[each.name, inner.name], inner])
    : [[[each.name], each]],
)

/** Commands that would do work, or ask the network, when a mutation happens to be right. */
const idle = all.filter(([name]) => !['demo', 'pull', 'bench', 'doctor', 'run'].includes(name[0]))

const misspelt = (draws: Draws, word: string): string => {
  const at = draws.integers(1, 1, word.length)[0]
  return pick(draws, [
    word.slice(0, at) + word.slice(at + 1),
    `${word.slice(0, at)}x${word.slice(at)}`,
    word + word.at(-1),
  ])
}

describe('command lines', () => {
  it(
    'mutated',
    async () => {
      for (let round = 0; round < rounds(120, 3000); round += 1) {
        const draws = drawsOf('command lines', round)
        const [name, command] = pick(draws, idle)
        const options = optionsOf(command).filter(
          ({ name: flag }) => !['debug', 'help', 'json', 'quiet'].includes(flag),
        )
        const words = Array.from({ length: draws.integers(1, 0, 6)[0] }, () => {
          const { name: flag } = pick(draws, options)
          const said = pick(draws, [flag, flag, flag, misspelt(draws, flag), `no-${flag}`, flag.toUpperCase()])
          const value = pick(draws, strings)
          return pick(draws, [[`--${said}`, value], [`--${said}=${value}`], [`--${said}`], [value], [`-${said}`]])
        }).flat()
        const argv = [...name, ...words]
        const result = await outcome(argv)
        expectSober(argv, result)
        expect(result.code, JSON.stringify(argv).slice(0, 2000)).not.toBe(
          words.length === 0 && command.positionals.length > 0 ? 0 : -1,
        )
      }
    },
    timeFor(60_000),
  )

  it('with a misspelt flag are refused with 2, and the flag is named with the right one', async () => {
    for (const [index, [name, command]] of all.entries()) {
      for (const option of optionsOf(command).filter(({ positional }) => !positional)) {
        if (option.name.length < 6) continue
        const wrong = misspelt(drawsOf('flags', index), option.name)
        const { code, stderr } = await outcome([...name, `--${wrong}=1`])
        expect({ code, stderr }).toMatchObject({
          code: 2,
          stderr: expect.stringContaining(`Unknown option --${wrong}`),
        })
        expect(stderr).toMatch(/did you mean --[a-z-]+\?/)
      }
    }
  }, 60_000)
})

describe('files of settings', () => {
  const schemas = { train: trainSettings, run: pipelineSchema() } as const

  it(
    'with one setting of another kind are refused with 2, and the key is named with its line',
    async () => {
      for (let round = 0; round < rounds(150, 3000); round += 1) {
        const draws = drawsOf('files', round)
        const name = pick(draws, ['train', 'run'] as const)
        const settings = settingsOf(schemas[name])
        const tree: Tree = { model: '/nowhere/model', output: join(folder, 'out') }
        if (name === 'train') tree.data = { train: '/nowhere/pairs.jsonl' }
        for (let change = draws.integers(1, 1, 4)[0]; change > 0; change -= 1) {
          const { path } = pick(draws, settings)
          setValueAt(
            tree,
            pick(draws, [path, path, path, path.map((key) => misspelt(draws, `${key}x`))]),
            pick(draws, values),
          )
        }
        const file = join(folder, `${round}.yaml`)
        await writeFile(file, stringify(tree))
        const argv = [name, file, '--dry-run']
        const result = await outcome(argv)
        expectSober(argv, result)
        if (result.code === 2) expect(result.stderr).toMatch(/\.yaml(:\d+)?: /)
      }
    },
    timeFor(60_000),
  )

  it(
    'with bytes changed are sober too',
    async () => {
      const good = stringify({
        model: 'm',
        data: { train: 'p' },
        output: 'o',
        optimizer: { lr: 1e-5 },
        lora: { targets: ['q_proj'] },
      })
      const noise = [
        ':',
        '\t',
        '[',
        ']',
        '{',
        '*',
        '&',
        '!',
        '%',
        '\n---\n',
        '"',
        "'",
        '|',
        '>',
        '#',
        '\u0000',
        '\ufeff',
        '- ',
        '<<: ',
        '? ',
      ]
      for (let round = 0; round < rounds(80, 2000); round += 1) {
        const draws = drawsOf('bytes', round)
        let text = good
        for (let change = draws.integers(1, 1, 5)[0]; change > 0; change -= 1) {
          const at = draws.integers(1, 0, text.length)[0]
          text = text.slice(0, at) + pick(draws, noise) + text.slice(at + draws.integers(1, 0, 3)[0])
        }
        const file = join(folder, `bytes-${round}.yaml`)
        await writeFile(file, text)
        for (const name of ['train', 'run']) expectSober([name, text], await outcome([name, file, '--dry-run']))
      }
    },
    timeFor(60_000),
  )

  it(
    'with --set of every kind name --set',
    async () => {
      const file = join(folder, 'set.yaml')
      await writeFile(
        file,
        stringify({ model: '/nowhere/model', output: join(folder, 'out'), data: { train: '/nowhere/p' } }),
      )
      for (let round = 0; round < rounds(120, 2000); round += 1) {
        const draws = drawsOf('set', round)
        const { path } = pick(draws, settingsOf(trainSettings))
        const key = pick(draws, [
          path.join('.'),
          misspelt(draws, `${path.join('.')}x`),
          `${path.join('.')}.x`,
          '__proto__.x',
          'constructor.prototype',
        ])
        const override = `${key}=${pick(draws, strings)}`
        const result = await outcome(['train', file, '--dry-run', '--set', override])
        expectSober([override], result)
        if (result.code === 2) expect(result.stderr).toContain('--set ')
      }
      expect(({} as { x?: unknown }).x).toBeUndefined()
    },
    timeFor(60_000),
  )
})
