/** One declaration a setting: flags, sections of a pipeline, the page and the schema for editors say the same. */
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'
import { referencePages } from '../../src/cli/reference.js'
import { generateSettings } from '../../src/generate/settings.js'
import { stages } from '../../src/pipeline/index.js'
import { flagOf, identityOf, keyOf, settingsOf } from '../../src/settings/setting.js'
import type { Stage } from '../../src/stage/index.js'

const at = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))

describe('pages made from the code', () => {
  it.each([...referencePages()])('docs/%s is what `npm run docs` writes', (path, content) => {
    expect(readFileSync(at(`docs/${path}`), 'utf8')).toBe(content)
  })

  it('name every setting of every stage, with its flag, default and meaning', () => {
    const page = referencePages().get('config.md') as string
    for (const { name, settings, positionals = [] } of stages) {
      const section = page.split(`\n## ${name}\n`)[1].split('\n## ')[0]
      for (const setting of settingsOf(settings)) {
        expect(setting.meta.description, `${name}.${keyOf(setting)} has no description`).toMatch(/\S/)
        const row = section.split('\n').find((line) => line.startsWith(`| \`${keyOf(setting)}\` |`))
        expect(row, `${name}.${keyOf(setting)}`).toContain(setting.meta.description?.replaceAll(/[|<]/g, '\\$&'))
        const flag = flagOf(setting)
        if (name !== 'train')
          expect(row).toMatch(positionals.includes(flag) ? new RegExp(`\`[<[]${flag}[>\\]]\``) : `\`--${flag}\``)
      }
    }
  })
})

describe('units', () => {
  /** Numbers without one: coefficients, ratios and shares, seeds. */
  const pure =
    /^(lora|objective|optimizer)\.|(^|\.)seed$|^(temperature|schedule.warmupRatio|data.evalShare|segmenter.(threshold|nmsIou)|topP|margin|maxUnreadable|maxCoverage|contrast|findingSize)$/

  it.each([...stages.map(({ name, settings }) => [name, settings] as const), ['generate', generateSettings] as const])(
    'of %s: a number has one, or is pure',
    (_name, schema) => {
      for (const { path, type, meta } of settingsOf(schema)) {
        const isMeasured = type === 'number' && !pure.test(path.join('.'))
        expect(meta.unit !== undefined, `${path.join('.')}: unit ${meta.unit}`).toBe(isMeasured)
      }
    },
  )

  it('stand in the page, in --help and in the schema for editors', () => {
    const pages = referencePages()
    expect(pages.get('config.md')).toContain(
      '| `endpoint.timeout` | `--endpoint-timeout` | number > 0, <= 300 | seconds |',
    )
    const schema = JSON.parse(pages.get('schema/pipeline.json') as string)
    expect(schema.properties.sample.properties.maxNewTokens.description).toBe('Longest answer (tokens)')
    const { stdout } = spawnSync(process.execPath, [at('dist/cli/main.js'), 'sample', '--help'], { encoding: 'utf8' })
    expect(stdout).toContain('Longest answer (tokens; default: 256)')
  })
})

describe('the JSON Schema of a pipeline', () => {
  const check = z.fromJSONSchema(JSON.parse(referencePages().get('schema/pipeline.json') as string))

  it('takes the demo as it stands, and files that leave to the pipeline what it fills in', () => {
    expect(check.safeParse(parse(readFileSync(at('models/phantom/demo.yaml'), 'utf8'))).error).toBeUndefined()
    const own = { output: 'o', import: { kind: 'csv', source: 'q.csv' }, pairs: { responses: 'r.jsonl' }, train: {} }
    expect(check.safeParse(own).error).toBeUndefined()
  })

  it.each([
    ['a stage that nobody knows', { evalute: {} }],
    ['a key that nobody knows', { corrupt: { sigmma: 1 } }],
    ['a value out of range', { corrupt: { sigma: -1 } }],
    ['what the pipeline chooses', { sample: { out: 'x' } }],
    ['what no stage can fill in', { import: { source: 'x' } }],
  ])('refuses %s', (_, sections) => {
    expect(check.safeParse({ output: 'o', model: 'm', ...sections }).success).toBe(false)
  })
})

describe('YAML files of the package', () => {
  const files = ['models', 'models/phantom', 'studies'].flatMap((folder) =>
    readdirSync(at(folder))
      .filter((name) => name.endsWith('.yaml'))
      .map((name) => `${folder}/${name}`),
  )

  it.each(files)('%s names the schema that editors check it with, and follows it', (file) => {
    const content = readFileSync(at(file), 'utf8')
    const [, path] = /^# yaml-language-server: \$schema=(\S+)\n/.exec(content) ?? []
    const schema = z.fromJSONSchema(JSON.parse(readFileSync(join(dirname(at(file)), path), 'utf8')))
    expect(schema.safeParse(parse(content)).error).toBeUndefined()
    expect(schema.safeParse({ ...parse(content), sede: 1 }).success).toBe(false)
  })
})

describe('flags', () => {
  const commands = stages.filter(({ name }) => name !== 'train')

  it.each(commands.map((stage) => [stage.name, stage] as const))('of %s are its settings', (name, { settings }) => {
    const help = spawnSync(process.execPath, [at('dist/cli/main.js'), name, '--help'], {
      encoding: 'utf8',
      env: { ...process.env, COLUMNS: '400' },
    })
    const stdout = help.stdout.split('\nExamples:')[0]
    const shown = new Set([...stdout.matchAll(/^ +(?:-h, )?--([a-z-]+)/gm)].map(([, flag]) => flag))
    // `--set` is for a settings file in place of flags.
    for (const flag of ['set', 'json', 'log', 'quiet', 'debug', 'help', 'overwrite', 'resume']) shown.delete(flag)
    const usage = stdout.split('\n')[0]
    const positional = new Set([...usage.matchAll(/[<[]([a-z]+)[>\]]/g)].map(([, each]) => each))
    const expected = settingsOf(settings).map(flagOf)
    expect([...shown].sort()).toEqual(expected.filter((flag) => !positional.has(flag)).sort())
    expect(expected).toEqual(expect.arrayContaining([...positional]))
  })

  it('differ within a command', () => {
    for (const { settings } of stages) {
      const flags = settingsOf(settings).map(flagOf)
      expect(new Set(flags).size).toBe(flags.length)
    }
  })
})

describe('the identity of a stage', () => {
  const corrupt = stages.find(({ name }) => name === 'corrupt')?.settings as z.ZodObject
  const given = { pairs: '/a', out: '/b', segmenter: { url: 'http://s' } }
  const identity = (changes: object) => identityOf(corrupt, corrupt.parse({ ...given, ...changes }) as object)

  it('is every setting but the free ones and paths, whose content counts instead', () => {
    const free = settingsOf(corrupt).filter(({ meta }) => meta.free || meta.path)
    for (const setting of free) expect(Object.keys(identity({}))).not.toContain(keyOf(setting))
    expect(identity({ pairs: '/c', segmenter: { url: 'http://s', retries: 9 } })).toEqual(identity({}))
    for (const change of [{ seed: 1 }, { sigma: 3 }, { segmenter: { url: 'http://s', nmsIou: 0.3 } }]) {
      expect(identity(change)).not.toEqual(identity({}))
    }
  })

  it('leaves out what a server makes unneeded', () => {
    const sample = stages.find(({ name }) => name === 'sample') as Stage
    const endpoint = { url: 'http://s', model: 'm' }
    const settings = sample.settings.parse({ samples: '/a', out: '/b', endpoint, device: 'cuda' }) as object
    const ignored = sample.ignores?.(settings)
    expect(identityOf(sample.settings, settings, ignored)).not.toHaveProperty('device')
    expect(identityOf(sample.settings, settings, ignored)).toHaveProperty('endpoint.model', 'm')
  })
})
