/** Settings without an effect: refused where somebody gave them, by the name that was used. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { corruptSettings } from '../../src/corrupt/settings.js'
import { pairsSettings } from '../../src/pairs/settings.js'
import { loadPipeline, stages } from '../../src/pipeline/index.js'
import { sampleSettings } from '../../src/sample/settings.js'
import { uselessSettings } from '../../src/settings/needs.js'
import { settingsOf } from '../../src/settings/setting.js'
import { runCommand } from '../command.js'
import { temporaryFolder } from '../fakes/world.js'

const complaints = (schema: typeof pairsSettings | typeof corruptSettings | typeof sampleSettings, given: object) =>
  uselessSettings(schema, given as Record<string, unknown>, schema.parse(given)).map(({ message }) => message)

describe('settings without an effect', () => {
  const pairs = { samples: 's', responses: 'r', out: 'o' }
  const corrupt = { pairs: 'p', out: 'o' }
  const sample = { samples: 's', out: 'o' }
  const endpoint = { url: 'http://localhost:1/v1', model: 'm' }
  it.each([
    [pairsSettings, { ...pairs, policyAdapter: 'a' }, ['policyAdapter has no effect without policy']],
    [pairsSettings, { ...pairs, policyAdapter: 'a', policy: 'm' }, []],
    [pairsSettings, { ...pairs, cache: 'c' }, ['cache has no effect without endpoint or judge']],
    [pairsSettings, { ...pairs, provider: 'phantom', endpoint }, ['provider has no effect with endpoint']],
    [
      corruptSettings,
      { ...corrupt, method: 'lesion-blackout', sigma: 9 },
      [expect.stringMatching(/^sigma .* without/)],
    ],
    [corruptSettings, { ...corrupt, sigma: 9 }, []],
    [corruptSettings, { ...corrupt, maskRoot: 'm' }, ['maskRoot has no effect without masks']],
    [sampleSettings, { ...sample, endpoint, batchSize: 4 }, ['batchSize has no effect without model']],
    // A default that somebody spells out asks for nothing.
    [sampleSettings, { ...sample, endpoint, batchSize: 8 }, []],
    [sampleSettings, { ...sample, model: 'm', featureStoreSize: 9 }, [expect.stringMatching(/^featureStoreSize/)]],
  ])('%#', (schema, given, messages) => {
    expect(complaints(schema as typeof pairsSettings, given)).toEqual(messages)
  })

  it('are told by flags on a command line, which ends with 2', async () => {
    const args = ['pairs', '--samples', 's', '--responses', 'r', '--out', 'o', '--policy-adapter', 'a']
    const { code, stderr } = await runCommand(args)
    expect(stderr).toContain('--policy-adapter has no effect without --policy')
    expect(code).toBe(2)
  })

  const trained = { model: 'm', output: 'o', data: { train: 'p' } }
  const piped = { model: 'm', output: 'o', train: { data: { train: 'p' } } }
  const storeless = /f\.yaml:\d+: featureStoreSize has no effect without featureStore/
  it.each<[string, object, RegExp]>([
    ['train', { ...trained, lora: { reference: 'base' } }, /f\.yaml:\d+: lora\.reference .* without lora\.init/],
    ['train', { ...trained, featureStoreSize: 100 }, storeless],
    ['evaluate', { model: 'm', samples: 's', out: 'o', maskRoot: 'm' }, /f\.yaml:\d+: maskRoot .* without masks/],
    ['run', { ...piped, featureStoreSize: 100 }, storeless],
    ['run', { ...piped, train: { ...piped.train, featureStoreSize: 100 } }, storeless],
  ])('are told by keys and places in a file: %s %j', async (command, settings, message) => {
    const file = join(await temporaryFolder(), 'f.yaml')
    await writeFile(file, stringify(settings))
    const { code, stderr } = await runCommand([command, file])
    expect(stderr).toMatch(message)
    expect(code).toBe(2)
  })

  it('are none where a section has a use for what the stages share', async () => {
    const file = join(await temporaryFolder(), 'f.yaml')
    const train = { ...piped.train, featureStore: 'store' }
    await writeFile(file, stringify({ ...piped, featureStoreSize: 100, train }))
    expect((await loadPipeline(file)).stages.map(({ name }) => name)).toEqual(['train'])
  })

  it('name settings that there are', () => {
    for (const { settings } of stages) {
      const all = settingsOf(settings)
      const keys = all.map(({ path }) => path.join('.'))
      for (const { path, meta } of all) {
        for (const said of [meta.needs ?? [], meta.rulesOut ?? []].flat()) {
          const beside = [...path.slice(0, -1), said.split(': ')[0]].join('.')
          expect(keys.some((key) => key === beside || key.startsWith(`${beside}.`))).toBe(true)
        }
      }
    }
  })
})
