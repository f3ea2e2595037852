/** What the documents say, held against the repository: links, commands, flags, keys, and the files that ARCHITECTURE.md walks through. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { run } from '../../src/cli/run.js'
import { evaluateSettings } from '../../src/evaluate/settings.js'
import { pipelineSchema } from '../../src/pipeline/index.js'
import { keyOf, settingsOf } from '../../src/settings/setting.js'
import { isTree } from '../../src/settings/source.js'
import { studySettings } from '../../src/study/settings.js'
import { trainSettings } from '../../src/train/settings.js'
import { blocks, pages, prose, root } from './blocks.js'

const guides = [...pages].filter(([name]) => /^(README|CONTRIBUTING|docs\/[^/]*)(\.md)?$/.test(name))
const inline = (page: string): string[] => [...prose(page).matchAll(/(?<!`)`([^`\n]+)`(?!`)/g)].map(([, code]) => code)

describe('links', () => {
  /** As GitHub makes them. */
  const anchors = (page: string): string[] =>
    [...prose(page).matchAll(/^#+ (.+)$/gm)].map(([, title]) =>
      title
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    )

  const dead = (name: string, page: string): string[] =>
    [...prose(page).matchAll(/\]\(([^)\s]+)\)/g)]
      .map(([, target]) => target)
      .filter((target) => !/^[a-z]+:/.test(target))
      .filter((target) => {
        const [path, anchor] = target.split('#')
        const file = path === '' ? name : relative(root, resolve(root, dirname(name), path))
        if (!existsSync(join(root, file))) return true
        return anchor !== undefined && !anchors(pages.get(file) ?? '').includes(anchor)
      })

  it.each([...pages])('of %s lead somewhere', (name, page) => {
    expect(dead(name, page)).toEqual([])
  })

  it('would be missed', () => {
    expect(dead('README.md', '[a](docs/no.md) [b](docs/data.md#no) [c](docs/data.md#options) [d](#no)')).toEqual([
      ...['docs/no.md', 'docs/data.md#no', '#no'],
    ])
  })

  it('lead from the README to every page of docs/', () => {
    const linked = [...(pages.get('README.md') ?? '').matchAll(/\]\((docs\/\w[\w-]*\.md)/g)].map(([, path]) => path)
    expect([...pages.keys()].filter((name) => /^docs\/[^/]+$/.test(name) && !linked.includes(name))).toEqual([])
  })
})

/** Every command as `--help` has it: its flags, and what is given by its place. The program itself has no name. */
async function shownByHelp(): Promise<Map<string, string[]>> {
  const shown = new Map<string, string[]>()
  const read = async (title: string): Promise<void> => {
    let text = ''
    const words = [...title.split(' ').filter((word) => word !== ''), '--help']
    await run(words, { stdout: (part) => (text += part), stderr: () => {} })
    const [usage] = text.split('\n')
    const flags = [...text.split('\nExamples:')[0].matchAll(/^ {2}(?:-h, )?(--[a-z-]+)/gm)].map(([, flag]) => flag)
    const places = (usage.match(/[<[][a-z-]+(?:\.\.)?[>\]]/g) ?? []).filter((each) => each !== '<command>')
    const file = /\nIn place of flags:\n {2}config /.test(text) ? ['<config>'] : []
    shown.set(title, [...flags, ...places, ...file])
    const listed = /\nCommands:\n((?: {2}.*\n)+)/.exec(text)?.[1] ?? ''
    for (const [, name] of listed.matchAll(/^ {2}fire-train ([a-z ]+?)(?= {2}| [<[]|$)/gm)) await read(name)
  }
  await read('')
  return shown
}

describe('commands', () => {
  const flags = new Map<string, Set<string>>()

  beforeAll(async () => {
    for (const [title, names] of await shownByHelp()) {
      flags.set(title, new Set(names.flatMap((name) => /^--(.*)/.exec(name)?.[1] ?? [])))
    }
  })

  const keys = (schema: Parameters<typeof settingsOf>[0]): Set<string> => new Set(settingsOf(schema).map(keyOf))
  const keysOf: Record<string, Set<string>> = {
    run: keys(pipelineSchema()),
    train: keys(trainSettings),
    plan: keys(trainSettings),
    evaluate: keys(evaluateSettings),
  }

  /** What is wrong with the commands of a text. */
  function wrong(text: string): string[] {
    const lines = text.replaceAll(/\\\n\s*/g, ' ').split('\n')
    return lines.flatMap((line) => {
      const said = /(?:^|[\s(])(?:fire-train|dist\/cli\/main\.js|npm run (demo) --) ([a-z].*|--.*)/.exec(
        line.split(' #')[0],
      )
      if (!said) return []
      const [, own, started] = /^(launch .*?) -- (.*)$/.exec(said[2]) ?? ['', said[2]]
      const words = `${said[1] ?? ''} ${own}`.trim().split(/\s+/)
      const [first, pair] = [words[0].startsWith('--') ? '' : words[0], words.slice(0, 2).join(' ')]
      const command = flags.has(pair) ? pair : first
      const known = flags.get(command)
      if (!known) return [`fire-train ${command} is no command`]
      const given = words.flatMap((word) => /^--([a-z][a-z-]*)/.exec(word)?.[1] ?? [])
      const set = words.flatMap((word, i) => (word === '--set' ? (words[i + 1] ?? '').split('=')[0] : []))
      return [
        ...given.filter((flag) => !known.has(flag.replace(/^no-/, ''))).map((flag) => `${command} has no --${flag}`),
        ...set.filter((key) => !keysOf[command]?.has(key)).map((key) => `${command} has no setting ${key}`),
        ...(started === undefined ? [] : wrong(`fire-train ${started}`)),
      ]
    })
  }

  it('are known to this test', () => {
    expect([...flags.keys()]).toEqual(expect.arrayContaining(['train', 'pairs', 'bench step', 'doctor']))
    expect(flags.get('pairs')).toContain('endpoint-key-env')
  })

  it.each([...pages])('of %s exist, with their flags and keys', (name, page) => {
    const codes = [...blocks(page).map(({ code }) => code), ...inline(page)]
    // What is gone is named there.
    if (name !== 'CHANGELOG.md') expect(codes.flatMap(wrong)).toEqual([])
  })

  it('would be missed', () => {
    expect(wrong('npx fire-train sample --samples s.jsonl \\\n  --n 4')).toEqual(['sample has no --n'])
    expect(wrong('fire-train trian run.yaml')).toEqual(['fire-train trian is no command'])
    expect(wrong('fire-train train run.yaml --set optimizer.beta=1')).toEqual(['train has no setting optimizer.beta'])
    expect(wrong('npm run demo -- --sed 1')).toEqual(['demo has no --sed'])
    expect(wrong('fire-train launch --nproc 2 -- train run.yaml --sed 1')).toEqual(['train has no --sed'])
    expect(wrong('node dist/cli/main.js bench step --sise mid')).toEqual(['bench step has no --sise'])
  })

  it.each(guides)('have the flags that %s names by themselves', (_name, page) => {
    const all = new Set([...flags.values()].flatMap((each) => [...each]))
    const named = inline(page).flatMap((code) => /^--([a-z][a-z-]*)/.exec(code)?.[1] ?? [])
    // Of vLLM, of srun and mpirun, of cmake-js, of our scripts.
    const foreign = [
      ...['signal', 'kill-on-bad-exit', 'bind-to'],
      ...['enable-lora', 'max-lora-rank', 'lora-modules', 'lora-dtype'],
      'mutations',
      'only',
      'suggest',
      'help',
      ...named.filter((flag) => flag.startsWith('fire-')),
    ]
    expect(named.filter((flag) => !all.has(flag) && !foreign.includes(flag))).toEqual([])
  })

  it.each(guides)('and YAML of %s have keys that exist', (_name, page) => {
    const leaves = (tree: unknown, path: string[] = []): string[] =>
      isTree(tree) && Object.keys(tree).length > 0
        ? Object.entries(tree).flatMap(([key, value]) => leaves(value, [...path, key]))
        : [path.join('.')]
    const sections = new Set([...(keysOf.run ?? [])].map((key) => key.split('.')[0]))
    for (const { code } of blocks(page).filter(({ language }) => language === 'yaml')) {
      const tree: unknown = parse(code)
      if (isTree(tree) && isTree(tree.arms)) {
        expect(studySettings.safeParse(tree).error).toBeUndefined()
        continue
      }
      const found = leaves(tree).filter((key) => key !== '')
      const fits = [keysOf.run, keysOf.train].some((known) => found.every((key) => known.has(key) || sections.has(key)))
      expect(fits, `${found.join(', ')} are keys of no file`).toBe(true)
    }
  })
})

describe('docs/config.md', () => {
  const common = ['--json', '--quiet', '--log', '--debug', '--help']
  let shown = new Map<string, string[]>()

  beforeAll(async () => {
    shown = await shownByHelp()
  })

  const sections = new Map(
    (pages.get('docs/config.md') ?? '')
      .split('\n## ')
      .slice(1)
      .map((section): [string, string[]] => {
        const [title] = section.split('\n')
        const cells = [...section.matchAll(/^\| (?:`[^`]+` \| )?`(--[a-z-]+|[<[][a-z.-]+[>\]])` \|/gm)]
        return [title, cells.map(([, name]) => name)]
      }),
  )

  const without = (names: readonly string[], left: readonly string[]): string[] =>
    [...new Set(names)].filter((name) => !left.includes(name)).sort()

  it('has every command of --help, and no other', () => {
    const titles = [...sections.keys()].filter((title) => !['A pipeline', 'Every command'].includes(title))
    expect(titles).toEqual([...shown.keys()].filter((title) => title !== ''))
    expect(titles).toEqual(expect.arrayContaining(['push', 'evaluate rejudge', 'bench gemm', 'study report', 'build']))
  })

  it('has every flag of each of them, and no other', () => {
    const found = [...shown].filter(([title]) => title !== '')
    for (const [title, names] of found) {
      expect(without(sections.get(title) ?? [], []), title).toEqual(without(names, common))
    }
    expect(shown.get('train')).toEqual(expect.arrayContaining(['--dry-run', '<config>']))
    expect(shown.get('report')).toContain('[runs..]')
  })

  it('has the flags that all commands share', () => {
    expect(sections.get('Every command')).toEqual(common)
    expect(without(shown.get('') ?? [], common)).toEqual(['--version'])
    expect(pages.get('docs/config.md')).toContain('`fire-train --version`')
  })
})

describe('ARCHITECTURE.md', () => {
  const page = pages.get('ARCHITECTURE.md') ?? ''
  const rows = [...page.matchAll(/^\| `([^`]+)` \| ([^|]+) \|/gm)].map(([, file, said]) => ({
    file,
    names: [...said.matchAll(/`([^`]+)`/g)].map(([, name]) => name),
  }))

  it('walks through files and names that exist', () => {
    expect(rows.length).toBeGreaterThan(30)
    const gone = rows.flatMap(({ file, names: sought }) => {
      if (!existsSync(join(root, file))) return [file]
      const source = readFileSync(join(root, file), 'utf8')
      return sought.filter((name) => !source.includes(name)).map((name) => `${file}: ${name}`)
    })
    expect(gone).toEqual([])
  })

  it('names files that exist', () => {
    const paths = inline(page).filter((code) =>
      /^(src|native|cuda|scripts|test|bench|docs|models)\/[\w./-]+$/.test(code),
    )
    expect(paths.length).toBeGreaterThan(10)
    expect(paths.filter((path) => !existsSync(join(root, path)))).toEqual([])
  })

  it('has every folder of src/ and native/ in its tree', () => {
    const tree = page.split('## The tree')[1].split('## The arrows')[0]
    for (const parent of ['src', 'native']) {
      const inside = readdirSync(join(root, parent), { withFileTypes: true }).filter((entry) => entry.isDirectory())
      const missing = inside.filter(({ name }) => !new RegExp(`^ {6}${name}/ `, 'm').test(tree))
      expect(missing.map(({ name }) => `${parent}/${name}`)).toEqual([])
    }
  })
})

describe('the pages of the library', () => {
  it('are made of everything that the package exports', () => {
    const read = (file: string) => JSON.parse(readFileSync(join(root, file), 'utf8'))
    const [main, list] = read('typedoc.json').entryPoints as string[]
    const [, folders] = /^src\/\{(.*)\}\/index\.ts$/.exec(list) ?? []
    const documented = [main, ...folders.split(',').map((name) => `src/${name}/index.ts`)]
    const exported = Object.values(read('package.json').exports)
      .filter((target) => typeof target === 'object')
      .map((target) => (target as { types: string }).types.replace('./dist/', 'src/').replace('.d.ts', '.ts'))
    expect(documented).toEqual(exported)
  })
})
