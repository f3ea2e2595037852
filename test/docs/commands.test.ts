/** The commands of the documents, typed as written: those that end soon really run, the others are read as a command line is. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, describe, expect, it } from 'vitest'
import { readArguments } from '../../src/cli/arguments.js'
import type { Command } from '../../src/cli/command.js'
import { commands } from '../../src/cli/run.js'
import { runCommand } from '../command.js'
import { temporaryFolder } from '../fakes/world.js'
import { blocks, commandsOf, pages, root, wordsOf } from './blocks.js'

const shell = promisify(execFile)

const documented = [...pages]
  .filter(([name]) => /^(README\.md|docs\/|bench\/README|models\/)/.test(name))
  .flatMap(([name, page]) =>
    blocks(page)
      .filter(({ language }) => language === 'sh')
      .flatMap(commandsOf)
      .flatMap((line) => {
        const words = wordsOf(line)
        const at = words.findIndex((word) => word === 'fire-train' || word.endsWith('dist/cli/main.js'))
        return at < 0 || words[0] === 'npm' || name === 'docs/tutorial.md'
          ? []
          : [{ page: name, line, words: words.slice(at + 1) }]
      }),
  )

/** Why a command of a document is not run here. */
const reasons: [reason: string, when: RegExp][] = [
  ['is cut short', /…|\.\.\./],
  ['needs a server', /HOST:PORT|https?:\/\//],
  ['needs the hub, or a model of it', /^(pull |push |merge models\/Qwen|train dpo)/],
  ['needs a data set that is not ours to give away', /Slake1\.0|VQA_RAD/],
  ['needs a GPU', /cuda/],
  ['is typed by the tutorial', /^run pipeline/],
  ['takes minutes', /^(build|demo|study (?!.*--dry-run)|bench|run models|verify|train \/|plan \/tmp|import phantom)/],
]
const reasonOf = ({ words }: { words: string[] }): string | undefined =>
  reasons.find(([, when]) => when.test(words.join(' ')))?.[0]

/** What the tutorial left, under the names that the other pages use. */
let world: string
/** What the tutorial printed, command by command. */
let tutorial: string[]

beforeAll(async () => {
  const folder = await temporaryFolder()
  await mkdir(join(folder, 'node_modules', '.bin'), { recursive: true })
  await symlink(root, join(folder, 'node_modules', 'fire-train'))
  tutorial = await followTutorial(folder)
  world = await nameAsDocumented(folder)
}, 300_000)

/** Writes its files and types its commands, on fewer images. */
async function followTutorial(folder: string): Promise<string[]> {
  const printed: string[] = []
  for (const block of blocks(pages.get('docs/tutorial.md') ?? '')) {
    const [, name] = /^(?:#|\/\/) (\w+\.\w+)\n/.exec(block.code) ?? []
    if (name !== undefined) await writeFile(join(folder, name), block.code)
  }
  for (const line of blocks(pages.get('docs/tutorial.md') ?? '')
    .filter(({ language }) => language === 'sh')
    .flatMap(commandsOf)) {
    const typed = line
      .replace('npx fire-train', `${process.execPath} ${join(root, 'dist/cli/main.js')}`)
      .replace('--train-studies 60 --test-studies 40', '--train-studies 10 --test-studies 6')
    const { stdout } = await shell('bash', ['-c', typed], { cwd: folder })
    printed.push(stdout)
  }
  return printed
}

async function nameAsDocumented(tutorialFolder: string): Promise<string> {
  const folder = await temporaryFolder()
  const run = join(tutorialFolder, 'first-run')
  const model = join(root, 'models', 'phantom')
  const link = async (target: string, ...names: string[]): Promise<void> => {
    for (const name of names) {
      await mkdir(dirname(join(folder, name)), { recursive: true })
      await symlink(target, join(folder, name))
    }
  }
  const kept = await readdir(join(run, 'earlier'))
  const before = (stage: string): string => kept.find((name) => name.startsWith(`${stage}-`)) ?? 'none'
  await link(model, 'M', 'MODEL')
  await link(join(run, 'train', 'adapter'), 'A', 'ADAPTER')
  await link(join(run, 'train'), 'run')
  await link(join(run, 'evaluate'), 'eval', 'eval-b')
  await link(join(run, 'earlier', before('evaluate')), 'eval-a')
  await link(join(run, 'import'), 'import')
  await link(join(run, 'corrupt'), 'corrupted')
  await link(run, 'fire-demo')
  await link(join(tutorialFolder, 'pictures'), 'pictures')
  await link(join(run, 'sample', 'responses.jsonl'), 'responses.jsonl')
  await link(join(tutorialFolder, 'phantom', 'masks.jsonl'), 'masks.jsonl')
  for (const name of ['first', 'second']) await cp(join(run, 'train'), join(folder, 'runs', name), { recursive: true })
  await cp(join(tutorialFolder, 'pictures', 'test-42-00000.png'), join(folder, 'x.png'))

  /** Records are found from their own folder. */
  const records = async (from: string, ...names: string[]): Promise<void> => {
    const text = await readFile(from, 'utf8')
    const absolute = text.replaceAll(/"path":"([^"]+)"/g, (_, path) => `"path":"${join(dirname(from), path)}"`)
    for (const name of names) {
      await mkdir(dirname(join(folder, name)), { recursive: true })
      await writeFile(join(folder, name), absolute)
    }
  }
  await records(
    join(run, 'import', 'samples.jsonl'),
    'samples.jsonl',
    's.jsonl',
    'train.jsonl',
    'data/slake/samples.jsonl',
  )
  await records(join(run, 'corrupt', 'pairs.jsonl'), 'pairs.jsonl', 'train-pairs.jsonl', 'test-pairs.jsonl')

  const samples = (await readFile(join(folder, 'samples.jsonl'), 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  const held = samples.filter(({ split }) => split === 'test')
  const lines = (all: object[]): string => all.map((each) => `${JSON.stringify(each)}\n`).join('')
  await writeFile(join(folder, 'test.jsonl'), lines(held))
  await writeFile(
    join(folder, 'prompts.jsonl'),
    lines(held.map(({ id, question, images }) => ({ id, question, images }))),
  )
  await writeFile(
    join(folder, 'questions.jsonl'),
    lines(held.map(({ id, question, answer, images }) => ({ id, question, answer, image: images[0].name }))),
  )
  await writeFile(join(folder, 'theirs.jsonl'), lines(held.map(({ id }) => ({ id, text: 'Yes.' }))))
  await writeFile(join(folder, 'p.jsonl'), lines(held.map(({ id }) => ({ id, text: 'Yes.' }))))
  await writeFile(join(folder, 'ours.csv'), `id,text\n${held.map(({ id }) => `${id},No.\n`).join('')}`)
  await writeFile(join(folder, 'preferences.jsonl'), lines(preferences(held[0].images[0].name)))
  const pairs = join(run, 'corrupt', 'pairs.jsonl')
  const settings = `preset: phantom
model: ${model}
data: { train: ${pairs} }
seed: 0
epochs: 4
`
  await writeFile(
    join(folder, 'run.yaml'),
    `${settings}output: runs/first
`,
  )
  await writeFile(join(folder, 'eval.yaml'), 'samples: samples.jsonl\nsplit: test\nmodel: M\n')
  return folder
}

/** One pair as TRL, LLaMA-Factory and ms-swift write it. */
function preferences(image: string): object[] {
  const [question, chosen, rejected] = ['Is there a nodule?', 'Yes, there is a nodule.', 'No, there is no nodule.']
  const said = (role: string, content: string) => ({ role, content })
  return [
    { prompt: question, chosen, rejected, images: [image] },
    {
      prompt: [said('user', question)],
      chosen: [said('assistant', chosen)],
      rejected: [said('assistant', rejected)],
      images: [image],
    },
    {
      conversations: [{ from: 'human', value: `<image>${question}` }],
      chosen: { from: 'gpt', value: chosen },
      rejected: { from: 'gpt', value: rejected },
      images: [image],
    },
    {
      messages: [said('user', `<image>${question}`), said('assistant', chosen)],
      rejected_response: rejected,
      images: [image],
    },
    {
      messages: [said('user', `<image>${question}`), said('assistant', chosen)],
      rejected_messages: [said('user', `<image>${question}`), said('assistant', rejected)],
      images: [image],
    },
  ].map((record, index) => ({ id: `p${index}`, ...record }))
}

function commandOf(words: readonly string[]): { command: Command; rest: string[] } {
  const found = commands.find(({ name }) => name === words[0])
  if (!found) throw new Error(`no command ${words[0]}`)
  const inner = 'commands' in found ? found.commands : (found.further ?? [])
  const further = inner.find(({ name }) => name === words[1])
  if (further) return { command: further as Command, rest: words.slice(2) }
  const command = found as Command
  const isFile = command.fromFile && /\.ya?ml$/.test(words[1] ?? '')
  return { command: isFile ? (command.fromFile as Command) : command, rest: words.slice(1) }
}

describe('the tutorial', () => {
  it('goes from a CSV and a folder of images to a report', async () => {
    const report = await readFile(join(world, 'fire-demo', 'report.html'), 'utf8')
    expect(report).toContain('My first run')
    expect(tutorial.filter((text) => /^evaluate: base [\d.]+ %, train [\d.]+ %/m.test(text))).toHaveLength(2)
  })
})

describe('preferences of other trainers', () => {
  it('are imported whole, whoever wrote them', async () => {
    const words = ['import', 'trl', 'preferences.jsonl', '--images', 'pictures', '--out', 'others', '--json']
    const { code, stdout, stderr } = await runCommand(words, { cwd: world })
    expect(code, stderr).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ counts: { all: { records: 5, images: 1 } }, leftOut: {} })
    const pairs = (await readFile(join(world, 'others', 'pairs.jsonl'), 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    const texts = new Set(
      pairs.map(({ prompt, chosen, rejected, images }) => JSON.stringify([prompt, chosen, rejected, images.length])),
    )
    expect(texts).toEqual(new Set(['["Is there a nodule?","Yes, there is a nodule.","No, there is no nodule.",1]']))
  })
})

describe('commands of the documents', () => {
  it('of npm and node exist', async () => {
    const { scripts } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
    const lines = [...pages].flatMap(([name, page]) =>
      name === 'CHANGELOG.md' ? [] : blocks(page).flatMap(commandsOf),
    )
    const named = lines.flatMap((line) => /^npm run (?:-s )?([\w:-]+)/.exec(line)?.[1] ?? [])
    const files = lines.flatMap((line) => /^node ([\w/-]+\.mjs)/.exec(line)?.[1] ?? [])
    expect([named.length > 3, files.length > 2]).toEqual([true, true])
    expect(named.filter((each) => !(each in scripts))).toEqual([])
    expect(files.filter((file) => file !== 'csv.mjs' && !existsSync(join(root, file)))).toEqual([])
  })

  const typed = documented.filter((each) => reasonOf(each) === undefined)
  const read = documented.filter((each) => reasonOf(each) !== undefined)

  it('are found', () => {
    expect(typed.length).toBeGreaterThan(25)
    expect(read.length).toBeGreaterThan(25)
  })

  it.each(typed)('$page: $line', async ({ words }) => {
    const outputs = words.flatMap((word, i) =>
      words[i - 1] === '--out' || word.startsWith('out=') ? [word.replace('out=', '').split('/')[0]] : [],
    )
    if (words.join(' ') === 'train run.yaml') outputs.push('runs')
    const folder = await temporaryFolder()
    await cp(world, folder, { recursive: true, filter: (path) => !outputs.includes(path.slice(world.length + 1)) })
    const { code, stdout, stderr } = await runCommand(words, { cwd: folder })
    expect(code, `${stdout}\n${stderr}`).toBe(0)
  })

  it.each(read.filter((each) => reasonOf(each) !== 'is cut short'))('$page: $line (read only)', ({ words }) => {
    const { command, rest } = commandOf(words)
    const { trees, locate } = readArguments(
      rest.map((word) => word.replace('HOST:PORT', '127.0.0.1:8000')),
      command,
    )
    expect(() => command.prepare(trees, locate)).not.toThrow()
  })
})
