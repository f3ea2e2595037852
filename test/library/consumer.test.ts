/** A program that uses the package as others do: by its name, through `exports`, with the types of the build. */
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { built, temporaryFolder } from '../fakes/world.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const consumer = join(root, 'test', 'consumer')
const read = (path: string): string => readFileSync(join(root, path), 'utf8')
const node = (...args: string[]) => spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' })
const tsc = (...args: string[]) => node(join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', consumer, ...args)

const programs = readdirSync(consumer).filter((name) => name.endsWith('.ts'))
const sources = programs.map((name) => readFileSync(join(consumer, name), 'utf8'))
const entries = Object.entries<{ types?: string }>(JSON.parse(read('package.json')).exports)
  .filter(([, { types }]) => types)
  .map(([name]) => name.replace('.', 'fire-train'))

describe("a consumer's program", () => {
  it('imports every entry of the package', () => {
    const all = sources.join('\n')
    for (const entry of entries) expect(all).toContain(`from '${entry}'`)
  })

  it('is sound under NodeNext, and runs', async () => {
    expect(tsc().stdout).toBe('')
    if (!built) return
    const folder = await temporaryFolder()
    const { status, stdout, stderr } = node(
      ...[join(root, 'build', 'consumer', 'main.js'), join(root, 'models', 'phantom'), folder],
    )
    expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' })
    const { answers, statistics, flipped, training, stages, better } = JSON.parse(stdout)
    expect(answers).toEqual([expect.stringMatching(/^(Yes|No), .*\.$/)])
    expect(statistics.pairs).toBeGreaterThan(0)
    expect(statistics.pairs).toBeLessThan(statistics.answers)
    expect(flipped).toMatchObject({ text: 'There is an effusion.', edits: [{ original: [9, 11], edited: [9, 11] }] })
    expect(training).toEqual([
      { interrupted: true, step: 0, resumedFrom: 0 },
      { interrupted: false, step: 4, resumedFrom: 0 },
    ])
    expect(stages).toMatchObject([{ name: 'choose' }, { name: 'sample', summary: '3 answers' }])
    expect(better).toMatch(/^100\.0 % right .*, change 50\.0 .*, p = 0\.500$/)
  }, 60_000)

  it('is sound under the resolution of bundlers', () => {
    expect(tsc('--noEmit', '--module', 'esnext', '--moduleResolution', 'bundler').stdout).toBe('')
  }, 60_000)
})

describe('what the documents say of the library', () => {
  const page = read('docs/library.md')
  const readme = /^## As a library$(.*?)^## /ms.exec(read('README.md'))?.[1] ?? ''

  it.each([
    ['docs/library.md', page, 6],
    ['README.md', readme, 1],
    ['docs/many-gpus.md', read('docs/many-gpus.md'), 1],
  ])('every example of %s is part of the program', (_, text, least) => {
    const blocks = [...text.matchAll(/```(?:ts|js)\n(.*?)```/gs)].map(([, block]) => block)
    expect(blocks.length).toBeGreaterThanOrEqual(least)
    for (const block of blocks)
      expect(
        sources.some((source) => source.includes(block)),
        block,
      ).toBe(true)
  })

  it('the page lists every entry', () => {
    for (const entry of entries) expect(page).toContain(`\`${entry}\``)
  })
})
