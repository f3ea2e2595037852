import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { objectiveNames, objectives } from '../../src/engine/objectives.js'
import { ConfigError, FileError } from '../../src/errors.js'
import { formatConfig, loadTrainConfig, readResolvedConfig, resolveTrainConfig } from '../../src/train/config.js'
import { temporaryFolder } from '../fakes/world.js'

let folder: string
let files = 0

beforeAll(async () => {
  folder = await temporaryFolder()
})

const minimal = 'model: model\ndata:\n  train: pairs.jsonl\noutput: run\n'

async function file(text: string): Promise<string> {
  files += 1
  const path = join(folder, `${files}.yaml`)
  await writeFile(path, text)
  return path
}

const load = async (text: string, set: string[] = []) => loadTrainConfig(await file(text), set)

async function complaint(text: string, set: string[] = []): Promise<string> {
  const error = await load(text, set).catch((failure) => failure)
  expect(error).toBeInstanceOf(ConfigError)
  return error.message
}

describe('loadTrainConfig', () => {
  it('fills in the published defaults', async () => {
    const config = await load(minimal)
    expect(config.objective).toMatchObject({ name: 'fire', beta: 0.1, alpha: 0.01, gamma: 0.1, lambda: 0.5 })
    expect(config.lora).toMatchObject({ rank: 128, alpha: 256, dropout: 0.05, rslora: false })
    expect(config.lora.targets).toHaveLength(7)
    expect(config.optimizer).toEqual({ lr: 1e-6, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0, maxGradNorm: 1 })
    expect(config).toMatchObject({ batchSize: 8, microBatchSize: 8, epochs: 1, seed: 42 })
  })

  it('puts flags over the file over defaults, typed as YAML', async () => {
    const config = await load(`${minimal}batchSize: 2\noptimizer: { lr: 1e-4 }\n`, [
      'optimizer.lr=5e-5',
      'checkpointing=true',
      'maxSteps=null',
      'lora.targets=[q_proj, v_proj]',
    ])
    expect(config.optimizer.lr).toBe(5e-5)
    expect(config.batchSize).toBe(2)
    expect(config.checkpointing).toBe(true)
    expect(config.maxSteps).toBeNull()
    expect(config.lora.targets).toEqual(['q_proj', 'v_proj'])
  })

  it('takes null for early stopping that is off', async () => {
    const text = `${minimal.replace('pairs.jsonl', 'pairs.jsonl\n  evalShare: 0.1')}earlyStopping: { patience: 2 }\n`
    expect((await load(text)).earlyStopping).toMatchObject({ patience: 2 })
    const off = await load(text, ['earlyStopping=null'])
    expect(off).not.toHaveProperty('earlyStopping')
    expect(await load(`${minimal}earlyStopping:\n`)).not.toHaveProperty('earlyStopping')
    expect(await load(text, ['earlyStopping=null', 'earlyStopping.patience=5'])).toMatchObject({
      earlyStopping: { metric: 'eval_loss', patience: 5 },
    })
  })

  it('resolves paths of the file against its folder and paths of flags against the working folder', async () => {
    const config = await load(minimal, ['output=elsewhere'])
    expect(config.model).toBe(join(folder, 'model'))
    expect(config.data.train).toBe(join(folder, 'pairs.jsonl'))
    expect(config.output).toBe(join(process.cwd(), 'elsewhere'))
  })

  it('loads what it prints', async () => {
    for (const name of objectiveNames) {
      const config = await load(minimal, [`objective.name=${name}`, 'optimizer.lr=3e-5'])
      expect(await load(formatConfig(config))).toEqual(config)
    }
  })

  it('loads what it prints where a pipeline said what does nothing here', async () => {
    const config = await readResolvedConfig(await file(`${minimal}featureStoreSize: 100\n`))
    expect(config.featureStoreSize).toBe(4096)
    expect(await load(formatConfig(config))).toEqual(config)
    // As a version before wrote it.
    const old = await file(formatConfig({ ...config, featureStoreSize: 100 }))
    expect(await readResolvedConfig(old)).toEqual(config)
    await expect(loadTrainConfig(old)).rejects.toThrow(/featureStoreSize has no effect without featureStore/)
  })

  it('refuses what does nothing in an object too', () => {
    const given = { model: 'm', data: { train: 'p' }, output: 'o', objective: {}, lora: { reference: 'base' } } as const
    expect(() => resolveTrainConfig(given)).toThrow(/lora\.reference has no effect without lora\.init/)
  })

  it('gives every objective its own published coefficients, under a preset too', async () => {
    for (const name of objectiveNames) {
      for (const preset of [[], ['preset=phantom']]) {
        const { objective } = await load(minimal, [`objective.name=${name}`, ...preset])
        expect(objective).toMatchObject({ scope: objectives[name].scope, ...objectives[name].coefficients })
      }
    }
  })

  it('refuses a coefficient of 0 that an objective divides by, with its place', async () => {
    expect(await complaint(`${minimal}objective:\n  name: ipo\n  beta: 0\n`)).toMatch(
      /yaml:7: Expected a number > 0 for objective.beta of ipo but received 0$/,
    )
    const smoothed = ['objective.name=exo-pair', 'objective.labelSmoothing=0']
    expect(await complaint(minimal, smoothed)).toMatch(/^--set objective.labelSmoothing=0: Expected a number > 0/)
    expect((await load(minimal, ['objective.name=dpo', 'objective.beta=0'])).objective.beta).toBe(0)
  })

  it('accepts an empty section and comments', async () => {
    expect((await load(`${minimal}# only a heading\nlora: {}\n`)).lora.rank).toBe(128)
  })
})

describe('mistakes in a configuration', () => {
  it('names an unknown key with file, line and the key probably meant', async () => {
    const message = await complaint(`${minimal}objective:\n  beta: 0.2\n  gama: 0.1\n`)
    expect(message).toMatch(/\.yaml:7: Unknown key objective\.gama; did you mean 'objective\.gamma'\?$/)
  })

  it('finds a key that belongs to another section', async () => {
    expect(await complaint(`${minimal}lr: 1e-5\n`)).toMatch(/:5: Unknown key lr; did you mean 'optimizer\.lr'\?/)
  })

  it('sees through spelling conventions and lists the keys when nothing is near', async () => {
    expect(await complaint(`${minimal}batch_size: 4\n`)).toContain("did you mean 'batchSize'?")
    expect(await complaint(`${minimal}checkpoint: { zzzzzz: 4 }\n`)).toContain('the keys here are every, keep')
  })

  it.each([
    ['objective: { beta: high }', 'Expected a number for objective.beta but received "high"'],
    ['objective: { lambda: 1.5 }', 'Expected a number <= 1 for objective.lambda but received 1.5'],
    ['objective: { beta: -1 }', 'Expected a number >= 0 for objective.beta but received -1'],
    ['objective: { name: fier }', 'received "fier"; did you mean \'fire\'?'],
    ['batchSize: 2.5', 'Expected a whole number for batchSize but received 2.5'],
    ['lora: { dropout: 1 }', 'Expected a number < 1 for lora.dropout but received 1'],
    ['lora: { targets: [q_proj, lm_head] }', '\'down_proj\' for lora.targets.1 but received "lm_head"'],
    ['dtype: fp16', "Expected one of 'f32', 'bf16' for dtype but received \"fp16\""],
    ['checkpointing: 1', 'Expected true, false or auto for checkpointing but received 1'],
    ['schedule: [cosine]', 'Expected keys and values for schedule but received ["cosine"]'],
  ])('%s', async (line, text) => {
    const message = await complaint(`${minimal}${line}\n`)
    expect(message).toContain(text)
    expect(message).toContain('.yaml:5: ')
  })

  it('reports every mistake at once', async () => {
    const message = await complaint('modle: x\nbatchSize: -1\n')
    expect(message.split('\n')).toHaveLength(5)
    expect(message).toContain('model is missing')
    expect(message).toContain('data is missing')
  })

  it.each(['dpo', 'mdpo', 'mask-dpo', 'sft'])('refuses a coefficient that %s does not use', async (name) => {
    const message = await complaint(`${minimal}objective:\n  name: ${name}\n  alpha: 0.02\n`)
    expect(message).toMatch(new RegExp(`:7: The objective ${name} does not use alpha`))
    expect(message).toContain('would change nothing')
  })

  it('refuses it from a flag too, and says so', async () => {
    const message = await complaint(minimal, ['objective.name=rrpo', 'objective.lambda=0.3'])
    expect(message).toBe(
      '--set objective.lambda=0.3: The objective rrpo does not use lambda (it uses beta, alpha, klReduction): setting it would change nothing',
    )
  })

  it.each([
    ['labelSmoothing=0.5', 'robust', '< 0.5'],
    ['ldAlpha=1.5', 'ld-dpo', '<= 1'],
    ['tau=0', 'discopop', '> 0'],
    ['klWeight=-1', 'chip', '>= 0'],
    ['scope=words', 'dpo', "'completion'"],
  ])('refuses objective.%s', async (setting, name, range) => {
    expect(await complaint(minimal, [`objective.name=${name}`, `objective.${setting}`])).toContain(range)
  })

  it('checks keys against each other', async () => {
    expect(await complaint(`${minimal}schedule: { warmupSteps: 1, warmupRatio: 0.1 }\n`)).toContain('not both')
    expect(await complaint(`${minimal}microBatchSize: 9\n`)).toContain('larger than batchSize (8)')
  })

  it('explains broken YAML, broken flags and a missing file', async () => {
    expect(await complaint('model: [x\n')).toMatch(/\.yaml:2: Flow sequence/)
    expect(await complaint(`${minimal}seed: 1\nseed: 2\n`)).toContain('unique')
    expect(await complaint('- a\n- b\n')).toContain('keys and values')
    expect(await complaint(minimal, ['optimizer.lr'])).toContain('expected KEY=VALUE')
    expect(await complaint(minimal, ['model.x=1'])).toContain('holds a value')
    await mkdir(join(folder, 'sub'), { recursive: true })
    expect(await complaint('model: m\n data: x\n')).toMatch(/\.yaml:\d: the next line is indented below a key/)
    expect(await complaint('train:\n  batchSize: 4\n')).toMatch(
      /yaml:\d: This is the file of a pipeline, for fire-train run/,
    )
    await expect(loadTrainConfig(join(folder, 'none.yaml'))).rejects.toThrow(/no such file/)
    await expect(loadTrainConfig(join(folder, 'sub'))).rejects.toThrow(FileError)
  })
})

describe('resolveTrainConfig', () => {
  it.each(['beta', 'alpha', 'gamma'].flatMap((key) => ['1e300', '-0.1', '.nan', '.inf'].map((value) => [key, value])))(
    'refuses objective.%s of %s',
    async (key, value) => {
      expect(await complaint(minimal, [`objective.${key}=${value}`])).toContain(`objective.${key}`)
    },
  )

  it('takes an object and leaves it as it was', () => {
    const input = { model: 'm', data: { train: 'p' }, output: 'o' }
    expect(resolveTrainConfig(input).model).toBe(join(process.cwd(), 'm'))
    expect(input.model).toBe('m')
  })

  it('checks like a file', () => {
    expect(() => resolveTrainConfig({ model: 'm', data: { train: 'p' }, output: 'o', epochs: 0 })).toThrow(
      'Expected a number > 0 for epochs but received 0',
    )
  })
})
