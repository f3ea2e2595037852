import { existsSync } from 'node:fs'
import { readdir, readFile, rename, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { type CommandOptions, type Outcome, runCommand } from '../command.js'
import { fakeNativePath, type World, writePairs, writeWorld } from '../fakes/world.js'
import { makeSample, writeRecords } from '../sample/records.js'

/** Over the in-memory engine. */
function fireTrain(args: string[], { env, ...options }: CommandOptions = {}): Promise<Outcome> {
  return runCommand(args, { ...options, env: { FIRE_NATIVE_PATH: fakeNativePath, ...env } })
}

/** The addon whose GPU is the emulator: not built everywhere (`cmake --build build --target fire_tests`). */
const emulated = fileURLToPath(new URL('../../build/Release/fire_emulated.node', import.meta.url))

let world: World
let config: string

beforeAll(async () => {
  world = await writeWorld(12)
  config = await writeConfig('run.yaml', {})
})

async function writeConfig(name: string, changes: object): Promise<string> {
  const path = join(world.root, name)
  const base = { model: 'model', data: { train: 'pairs.jsonl' }, output: 'out', batchSize: 4, epochs: 2 }
  await writeFile(path, stringify({ ...base, ...changes }))
  return path
}

const out = (name: string): string[] => ['--set', `output=${join(world.root, name)}`]

describe('fire-train plan', () => {
  it('prints both devices, with and without checkpointing, and takes the model of the command line', async () => {
    const elsewhere = await writeConfig('elsewhere.yaml', { model: 'nowhere' })
    const { code, stdout } = await fireTrain(['plan', world.model, elsewhere])
    expect(code).toBe(0)
    expect(stdout).toMatch(/^pairs +12 of 12 read/)
    for (const heading of ['cpu, f32', 'cuda, f32', 'with checkpointing']) expect(stdout).toContain(heading)
    const gpu = await fireTrain(['plan', world.model, elsewhere, '--device', 'cuda', '--json'])
    const { plans } = JSON.parse(gpu.stdout)
    expect(
      plans.map((entry: { device: string; checkpointing: boolean }) => [entry.device, entry.checkpointing]),
    ).toEqual([
      ['cuda', false],
      ['cuda', true],
    ])
    expect((await fireTrain(['plan', world.model, elsewhere, '--device', 'tpu'])).stderr).toContain(
      'for --device but received "tpu"',
    )
  })
})

describe('a stage', () => {
  const evaluation = async (settings: object): Promise<string> => {
    const path = join(world.root, 'eval.yaml')
    await writeFile(path, stringify(settings))
    return path
  }

  it('takes its settings from a file, and --set over it', async () => {
    await writeRecords(
      join(world.root, 'q.jsonl'),
      ['a', 'b'].map((id) => makeSample(id)),
    )
    await writeFile(join(world.root, 'p.csv'), 'id,text\na,yes\nb,yes\n')
    const path = await evaluation({ samples: 'q.jsonl', predictions: ['p.csv'], out: 'nowhere' })
    const { code, stderr } = await fireTrain(['evaluate', path, '--set', `out=${join(world.root, 'eval')}`])
    expect([code, stderr.includes('error')]).toEqual([0, false])
    const results = JSON.parse(await readFile(join(world.root, 'eval', 'evaluation.json'), 'utf8'))
    expect(results).toMatchObject({ questions: 2, systems: [{ name: 'p' }] })
    expect(existsSync(join(world.root, 'nowhere'))).toBe(false)
  })

  it('names file and line of a mistake, and takes no flags of settings beside the file', async () => {
    const path = await evaluation({ samples: 'q.jsonl', predictions: ['p.csv'], out: 'eval', judgeOnn: 'all' })
    expect(await fireTrain(['evaluate', path])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('eval.yaml:5'),
    })
    expect((await fireTrain(['evaluate', path, '--out', 'x'])).stderr).toContain('given as --set out=VALUE')
  })
})

describe('fire-train', () => {
  it('explains itself without the addon', async () => {
    const help = await fireTrain(['--help'], { env: { FIRE_NATIVE_PATH: '/none' } })
    expect(help.code).toBe(0)
    const commands = [
      ...[
        'demo',
        'pull',
        'run',
        'import',
        'sample',
        'pairs',
        'corrupt',
        'inspect',
        'plan',
        'train',
        'generate',
        'merge',
      ],
      ...['verify', 'bench', 'doctor', 'build'],
    ]
    for (const command of commands) expect(help.stdout).toContain(`fire-train ${command}`)
    expect(help.stdout).toContain('Exit codes')
    expect((await fireTrain(['train', '--help'])).stdout).toContain('--dry-run')
    expect((await fireTrain(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
  })

  it.each([
    [['trian'], 'Unknown command "trian" of fire-train; did you mean train?'],
    [['bench', 'stp'], 'did you mean step?'],
    [['train'], 'train needs <config>'],
    [['sample', '--samples', 'x'], 'sample needs --out'],
    [['train', 'x', '--resum'], 'Unknown option --resum; did you mean --resume?'],
    [['train', 'x', '--lr', '1'], 'settings of the file are given as --set optimizer.lr=VALUE'],
    [['demo', '--output', 'x'], 'did you mean --out?'],
    [['generate', '--maxNewTokens', '3'], 'did you mean --max-new-tokens?'],
    [['--quite', 'doctor'], 'did you mean --quiet?'],
    [['train', 'x', '--resume', '--overwrite'], '--resume and --overwrite rule each other out'],
    [['train', 'x', 'y'], 'Unexpected argument "y"'],
    [['import', 'csv', 'x', '--out'], '--out needs a value'],
    [['demo', '--seed', '1', '--seed', '2'], '--seed is given twice'],
    [['doctor', '--json=yes'], '--json is on or off'],
    [[], 'Say what to do'],
    [['bench'], 'Say which'],
    [['verify', 'x', '--dtype', 'f8'], "Expected one of 'f32', 'bf16' for --dtype but received \"f8\""],
    [['bench', 'gemm', '--seconds', 'soon'], 'Expected a number for --seconds but received "soon"'],
  ])('refuses %j with exit code 2', async (args, message) => {
    const { code, stderr } = await fireTrain(args)
    expect(code).toBe(2)
    expect(stderr).toContain(message)
  })

  it('says where the addon was looked for', async () => {
    const { code, stderr } = await fireTrain(['verify', 'x'], { env: { FIRE_NATIVE_PATH: '/none.node' } })
    expect(code).toBe(1)
    expect(stderr).toContain('error ERR_FIRE_NATIVE_BINDING')
    expect(stderr).toContain('tried /none.node: not there')
    expect(stderr).toMatch(/hint: FIRE_NATIVE_PATH is set, .* Unset it/)
    expect(stderr).not.toContain('    at ')
    expect((await fireTrain(['verify', 'x', '--debug'], { env: { FIRE_NATIVE_PATH: '/none.node' } })).stderr).toContain(
      '    at ',
    )
  })
})

describe('fire-train train', () => {
  it('trains, prints the resolved configuration and where the adapter is', async () => {
    const { code, stdout, stderr } = await fireTrain(['train', config, ...out('trained')])
    expect(stderr).toContain('beta: 0.1')
    expect(stderr).toContain('train: 6 steps')
    expect(stdout).toMatch(/6 steps in .*\nadapter: .*trained\/adapter\n$/)
    expect(code).toBe(0)
    expect(await readFile(join(world.root, 'trained', 'config.resolved.yaml'), 'utf8')).toContain('name: fire')
  })

  it('plans with --dry-run', async () => {
    const { code, stdout } = await fireTrain(['train', config, '--dry-run', ...out('planned')])
    expect(code).toBe(0)
    expect(stdout).toMatch(/pairs +12 of 12 read, 6 distinct images\nsteps +6 \(3 an epoch, 0 of warm-up\)\ntokens/)
    expect(existsSync(join(world.root, 'planned'))).toBe(false)
  })

  it('refuses a wrong configuration with exit code 2 and a wrong record with 1', async () => {
    const wrong = await writeConfig('wrong.yaml', { objective: { gama: 1 } })
    const first = await fireTrain(['train', wrong])
    expect(first.code).toBe(2)
    expect(first.stderr).toMatch(
      /error ERR_FIRE_CONFIG: .*wrong\.yaml:\d+: Unknown key objective\.gama; did you mean 'objective\.gamma'\?/,
    )
    await writePairs(join(world.root, 'bad.jsonl'), [{ ...world.records[0], edits: [] }])
    const second = await fireTrain([
      'train',
      config,
      '--set',
      `data.train=${join(world.root, 'bad.jsonl')}`,
      ...out('bad'),
    ])
    expect(second.code).toBe(1)
    expect(second.stderr).toMatch(/error ERR_FIRE_DATA: .*bad\.jsonl:1: record pair-0: text outside the edits differs/)
  })

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('saves on %s, exits with %i and resumes to the same adapter', async (signal, expected) => {
    const folder = join(world.root, signal)
    let sent = false
    const stopped = await fireTrain(['train', config, ...out(signal)], {
      env: { FIRE_FAKE_DELAY_MS: '400' },
      onStderr: (text, kill) => {
        if (sent || !text.includes('train: 6 steps')) return
        sent = true
        kill(signal)
      },
    })
    expect(stopped.code).toBe(expected)
    expect(stopped.stderr).toContain(`${signal}: saving and stopping`)
    expect(stopped.stdout).toMatch(/^stopped after step \d of 6; saved .*step-\d\n$/)
    expect(stopped.stderr).toContain('run the same command again with --resume to continue')
    expect(await readdir(join(folder, 'checkpoints'))).toHaveLength(1)
    const refused = await fireTrain(['train', config, ...out(signal)])
    expect(refused.code).toBe(1)
    expect(refused.stderr).toContain('Use --resume')
    const resumed = await fireTrain(['train', config, '--resume', ...out(signal)])
    expect(resumed.code).toBe(0)
    expect(resumed.stderr).toMatch(/resuming after step \d/)
    await fireTrain(['train', config, '--overwrite', ...out('whole')])
    const adapter = (name: string) => readFile(join(world.root, name, 'adapter', 'adapter_model.safetensors'), 'utf8')
    expect(await adapter(signal)).toBe(await adapter('whole'))
  })

  it('leaves at once on a second signal', async () => {
    let sent = 0
    const { code } = await fireTrain(['train', config, ...out('twice')], {
      env: { FIRE_FAKE_DELAY_MS: '3000' },
      onStderr: (text, kill) => {
        if (sent === 0 && text.includes('12 pairs from')) {
          sent = 1
          setTimeout(() => kill('SIGINT'), 300)
        } else if (sent === 1 && text.includes('saving and stopping')) {
          sent = 2
          kill('SIGINT')
        }
      },
    })
    expect(code).toBe(130)
    expect(existsSync(join(world.root, 'twice', 'checkpoints'))).toBe(false)
  })

  it('survives a kill at any moment', async () => {
    const folder = 'killed'
    const every = ['--set', 'checkpoint.every=1']
    await fireTrain(['train', config, ...every, ...out(folder)], {
      env: { FIRE_FAKE_DELAY_MS: '150' },
      onStderr: (text, kill) => text.includes('train: 6 steps') && setTimeout(() => kill('SIGKILL'), 230),
    })
    const resumed = await fireTrain(['train', config, '--resume', ...every, ...out(folder)])
    expect(resumed.code).toBe(0)
    await fireTrain(['train', config, '--overwrite', ...out('unkilled')])
    const read = (name: string) => readFile(join(world.root, name, 'adapter', 'adapter_model.safetensors'), 'utf8')
    expect(await read(folder)).toBe(await read('unkilled'))
  })
})

describe('fire-train verify', () => {
  it('prints a table and exits with 1 on a miss', async () => {
    const right = await fireTrain(['verify', 'right'])
    expect(right.code).toBe(0)
    expect(right.stdout).toMatch(/group +tensors +max abs +max rel +tolerance +result/)
    expect(right.stdout).toContain('2 of 2 groups within tolerance')
    const wrong = await fireTrain(['verify', 'wrong'])
    expect(wrong.code).toBe(1)
    expect(wrong.stdout).toContain('MISS')
  })

  it('prints JSON', async () => {
    const { code, stdout } = await fireTrain(['verify', 'wrong', '--json', '--dtype', 'bf16'])
    expect(code).toBe(1)
    const report = JSON.parse(stdout)
    expect(report).toMatchObject({ dtype: 'bf16', passed: false })
    expect(report.rows).toHaveLength(2)
  })
})

describe('fire-train generate', () => {
  const image = (): string => join(world.root, 'clean0.png')

  it('answers one question on stdout', async () => {
    const { code, stdout } = await fireTrain(['generate', '--model', world.model, '--prompt', 'Hi', '--image', image()])
    expect(code).toBe(0)
    expect(stdout).toMatch(/tant\n\n$/)
  })

  it('answers a file of questions', async () => {
    const questions = join(world.root, 'questions.jsonl')
    await writePairs(questions, [
      { id: 'a', question: 'One?', images: ['clean0.png'] },
      { id: 'b', prompt: 'Two?', images: [] },
      { id: 'c', prompt: 'Three?' },
    ])
    const target = join(world.root, 'answers.jsonl')
    const args = ['generate', '--model', world.model, '--in', questions, '--batch-size', '2']
    expect((await fireTrain([...args, '--out', target])).code).toBe(0)
    // The same command has nothing left to do; another would write something else.
    expect((await fireTrain([...args, '--out', target])).code).toBe(0)
    const other = await fireTrain([...args, '--out', target, '--seed', '7'])
    expect(other.code).toBe(1)
    expect(other.stderr).toContain('holds answers of another run')
    const lines = (await readFile(target, 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(lines.map((line) => [line.sampleId, line.seed])).toEqual([
      ['a', 42],
      ['b', 43],
      ['c', 44],
    ])
    const printed = (await fireTrain(args)).stdout.trim().split('\n')
    expect(printed.map((line) => JSON.parse(line))).toEqual(lines)
  })

  it('answers the rest when one image is missing, names the record, and goes on from a part', async () => {
    const questions = join(world.root, 'holed.jsonl')
    await writePairs(questions, [
      ...Array.from({ length: 9 }, (_, index) => ({
        id: `q${index}`,
        prompt: `Which ${index}?`,
        images: ['clean0.png'],
      })),
      { id: 'hole', prompt: 'Where?', images: ['gone.png'] },
      { id: 'last', prompt: 'Who?', images: ['clean0.png'] },
    ])
    const target = join(world.root, 'holed.answers.jsonl')
    const args = ['generate', '--model', world.model, '--in', questions, '--out', target, '--batch-size', '2']
    const whole = await fireTrain(args)
    const left = `1 question has no answer; see ${join(world.root, 'holed.answers.failed.jsonl')}`
    expect(whole.code).toBe(0)
    expect(whole.stderr).toMatch(/record hole: .*gone\.png/)
    expect(whole.stdout).toBe(`10 answers: ${target}\n${left}; the same command asks them again\n`)
    const text = await readFile(target, 'utf8')
    expect(text.trimEnd().split('\n')).toHaveLength(10)
    // As a kill would leave it: whole lines of a part, the last one torn.
    await rename(target, `${target}.part`)
    await truncate(`${target}.part`, text.split('\n').slice(0, 4).join('\n').length + 20)
    expect((await fireTrain(args)).stdout).toContain(`10 answers (4 from an earlier run): ${target}\n${left}`)
    expect(await readFile(target, 'utf8')).toBe(text)
  })

  it('fails where no question has an answer, and with --strict at the first', async () => {
    const questions = join(world.root, 'holes.jsonl')
    const of = (ids: string[]) => ids.map((id) => ({ id, prompt: 'Where?', images: ['gone.png'] }))
    await writePairs(questions, of(['a', 'b']))
    const args = ['generate', '--model', world.model, '--in', questions]
    for (const more of [[], ['--out', join(world.root, 'holes.answers.jsonl')]]) {
      const { code, stderr } = await fireTrain([...args, ...more])
      expect(code).toBe(1)
      expect(stderr).toContain('error ERR_FIRE_DATA: No question has an answer')
    }
    await writePairs(questions, [...of(['a']), { id: 'b', prompt: 'Who?', images: ['clean0.png'] }])
    expect((await fireTrain(args)).code).toBe(0)
    const strict = await fireTrain([...args, '--strict'])
    expect(strict.code).toBe(1)
    expect(strict.stderr).toMatch(/Sample a: .*gone\.png/)
  })

  it('names what is missing', async () => {
    expect((await fireTrain(['generate', '--model', world.model])).stderr).toContain('Give --prompt or --in')
    const none = await fireTrain(['generate', '--model', '/none', '--prompt', 'x'])
    expect(none.stderr).toContain('error ERR_FIRE_IO: cannot open /none/config.json')
    const broken = await fireTrain(['generate', '--model', world.model, '--prompt', 'x', '--image', '/none.png'])
    expect(broken.code).toBe(1)
    expect(broken.stderr).toContain('Reading the image /none.png failed: no such file or folder')
  })
})

describe('fire-train doctor and bench', () => {
  it('describes the machine and the engine, or why there is none', async () => {
    const found = await fireTrain(['doctor'])
    expect(found.code).toBe(0)
    expect(found.stdout).toMatch(/engine +0\.0\.0-fake, device cpu/)
    const none = await fireTrain(['doctor', '--json'], { env: { FIRE_NATIVE_PATH: '/none.node' } })
    expect(none.code).toBe(1)
    expect(JSON.parse(none.stdout).engine).toMatchObject({
      error: expect.stringContaining('tried /none.node'),
      hint: expect.stringMatching(/^FIRE_NATIVE_PATH is set.* Unset it/),
    })
  })

  it.skipIf(!existsSync(emulated))('names the kernels of a GPU, or why it cannot be used', async () => {
    const gpu = async (env: NodeJS.ProcessEnv): Promise<string> =>
      (await fireTrain(['doctor'], { env: { FIRE_NATIVE_PATH: emulated, ...env } })).stdout
    expect(await gpu({})).toMatch(/^gpu +cuda:0 .*; kernels for sm_90a$/m)
    expect(await gpu({ FIRE_CUDA_ISA: 'sm_80' })).toMatch(/^gpu +cuda:0 .*; kernels for sm_80$/m)
    expect(await gpu({ FIRE_CUDA_ISA: 'sm_100' })).toMatch(
      /^gpu +cuda:0 .*; it cannot be used: FIRE_CUDA_ISA=sm_100: unknown instruction set; known are sm_80 and sm_90a$/m,
    )
  })

  it('puts matrix products beside the ceiling', async () => {
    const { code, stdout } = await fireTrain(['bench', 'gemm', '--shape', '8x16x32'])
    expect(code).toBe(0)
    expect(stdout).toMatch(/8x16x32 +f32 +native +60\.0 +100\.0 +60 %/)
    expect((await fireTrain(['bench', 'gemm', '--shape', '8x16'])).stderr).toContain(
      "Expected MxNxK for --shape but received '8x16'",
    )
  })
})
