/**
 * test/gpu/verify.sh without a GPU: its parts in their order, its clock, its results file, with programs that do as they are
 * told. What the real programs say under the emulator: ctest's verify_rehearsal.
 */
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { appendFile, chmod, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../fakes/world.js'

const script = fileURLToPath(new URL('verify.sh', import.meta.url))
const order = [
  'build',
  'instructions',
  'kernels',
  'golden',
  'golden_others',
  'timings',
  'step',
  'step_cublaslt',
  'step_cached',
  'peers',
  'portable',
  'large',
  'repeats',
  'sanitizer',
]

const starts = `[ "$1" = 'no such test' ] && { echo 'no test has such a name'; exit 1; }`
/** Writes its name and arguments to `calls`, keeps a copy of the results so far, and does what `plan` says of such a call. */
const program = `#!/usr/bin/env bash
# Moves the clock of the run, as far as the limit that \`timeout\` was given allows.
takes() {
  local end=$(($(<"$FIRE_GPU_CLOCK") + $1))
  if [ $end -gt $LIMIT ]; then echo $LIMIT >"$FIRE_GPU_CLOCK"; exit 124; fi
  echo $end >"$FIRE_GPU_CLOCK"
}
${starts}
if [ "$1" = --report ]; then
  sed -E 's/["\\\\]/\\\\&/g; s/^([^=]*)=(.*)/"\\1": "\\2",/; 1s/^/{/; $s/,$/}/' "$2" >"\${7}.new" && mv "\${7}.new" "$7"
  echo 'table'
  exit
fi
call="$(basename "$0") $*"
echo "$call" >>"$FAKES/calls"
cp "$FAKES/out/results.json" "$FAKES/seen/$(wc -l <"$FAKES/calls").$$"
while IFS='|' read -r pattern action; do
  if [[ $call == $pattern ]]; then eval "$action"; fi
done <"$FAKES/plan"
echo '3 passed, 0 failed'
`
const timeout = '#!/bin/sh\nLIMIT=$(($3 + $(cat "$FIRE_GPU_CLOCK"))); export LIMIT; shift 3; exec "$@"\n'
/** Starts, and does not end, whatever it is asked to do. */
const deaf = `#!/usr/bin/env bash\n${starts}\ntrap "" TERM INT HUP\nsleep 600\nsleep 600\n`
/** Does what `plan` says; finds what `planted` plants, and nothing else. */
const sanitizer = `#!/usr/bin/env bash
call="compute-sanitizer $*"
echo "$call" >>"$FAKES/calls"
while IFS='|' read -r pattern action; do
  if [[ $call == $pattern ]]; then eval "$action"; fi
done <"$FAKES/plan"
case $* in
  *'planted none'*) echo '========= ERROR SUMMARY: 0 errors' ;;
  *planted*) echo '========= ERROR SUMMARY: 1 error'; exit 99 ;;
  *) echo '========= ERROR SUMMARY: 0 errors' ;;
esac
`
const programs = ['cuda_test', 'fire_verify', 'fire_gpu_bench', 'fire_step_bench', 'wrapper_goldens', 'planted']
const emulated = ['simt_test', 'simt_verify', 'simt_bench', 'simt_step_bench', 'simt_wrapper_goldens', 'simt_planted']

async function executable(path: string, text: string): Promise<void> {
  await writeFile(path, text)
  await chmod(path, 0o755)
}

/** A folder of such programs. `plan`: lines `pattern of a call|what bash then does`. */
async function stage(plan: string[] = []) {
  const folder = await temporaryFolder()
  for (const name of ['bin', 'out', 'seen', 'programs', 'build']) await mkdir(join(folder, name))
  for (const name of emulated) await executable(join(folder, 'build', name), program)
  for (const name of programs) await executable(join(folder, 'programs', name), program)
  await executable(join(folder, 'bin', 'compute-sanitizer'), sanitizer)
  await executable(join(folder, 'bin', 'timeout'), timeout)
  await executable(join(folder, 'bin', 'python3'), 'exit 1\n')
  await writeFile(join(folder, 'clock'), '0\n')
  await executable(join(folder, 'bin', 'cmake'), '#!/bin/sh\necho "no such compiler: \\"nvcc\\""; exit 1\n')
  await executable(join(folder, 'bin', 'nvidia-smi'), '#!/bin/sh\necho "9.0, NVIDIA \\"H100\\", 580.95, 81559 MiB"\n')
  await writeFile(join(folder, 'plan'), plan.map((line) => `${line}\n`).join(''))
  await writeFile(join(folder, 'calls'), '')
  const read = (name: string): Promise<string> => readFile(join(folder, name), 'utf8')
  return {
    folder,
    read,
    /** What `verify.sh build` leaves beside its programs. */
    async stamp(sources: string) {
      const sums = createHash('sha256')
      for (const name of [...programs].sort()) {
        const text = await read(`programs/${name}`)
        sums.update(`${createHash('sha256').update(text).digest('hex')}  ${name}\n`)
      }
      const lines = [`sources=${sources}`, 'architecture=90a', `programs=${sums.digest('hex').slice(0, 16)}`]
      await writeFile(join(folder, 'programs', 'stamp'), lines.map((line) => `${line}\n`).join(''))
    },
    calls: async () => (await read('calls')).trim().split('\n'),
    results: async () => JSON.parse(await read('out/results.json')) as Record<string, string>,
    run(mode: string[], env: Record<string, string> = {}) {
      const at = (name: string): string => join(folder, name)
      const args = ['--out', at('out'), '--build', at('build'), '--programs', at('programs'), ...mode]
      const path = `${at('bin')}:${process.env.PATH}`
      const { FIRE_CUBLASLT_LIB: _, ...rest } = process.env
      const { status, stdout } = spawnSync(script, args, {
        encoding: 'utf8',
        env: { ...rest, FAKES: folder, FIRE_GPU_CLOCK: at('clock'), PATH: path, ...env },
      })
      return { status, stdout, last: stdout.trim().split('\n').at(-1) }
    },
  }
}

/** The calls of a run in which nothing goes wrong, as far as one can tell them apart. */
const expected = [
  /^simt_wrapper_goldens --out /,
  /^simt_test op\//,
  /^simt_verify test\/golden\/qwen3_vl --dtype f32 --device cuda$/,
  /^simt_verify test\/golden\/qwen3_vl --dtype bf16 --device cuda$/,
  /^simt_verify test\/golden\/llava --dtype bf16 --device cuda$/,
  /^simt_verify test\/golden\/llava --dtype f32 --device cuda$/,
  /^simt_bench --quick --dtype bf16 --out /,
  /^simt_step_bench .*--name step --.*--profile$/,
  /^simt_step_bench .*--name step_cached .*--cached-reference --cached-vision$/,
  /^simt_test op\//,
  /^simt_step_bench .*--name step_portable [^-]*--/,
  /^simt_test op\//,
  /^simt_test op\//,
  /^simt_test op\//,
  /^compute-sanitizer --tool memcheck .*planted none$/,
]

describe('the parts', () => {
  it('have their order, and less than ten minutes together', async () => {
    const { stdout } = (await stage()).run(['parts'])
    const parts = stdout
      .trim()
      .split('\n')
      .map((line) => line.split(' '))
    expect(parts.map(([name]) => name)).toEqual(order)
    const seconds = parts.map(([, share]) => Number(share))
    expect(Math.min(...seconds)).toBeGreaterThan(0)
    expect(seconds.reduce((sum, share) => sum + share)).toBeLessThan(600)
  })

  it('grow with the time there is', async () => {
    const { stdout } = (await stage()).run(['parts'], { FIRE_GPU_SECONDS: '5600' })
    expect(stdout).toMatch(/^build 1100\n/)
  })
})

// A run starts hundreds of processes, which on a busy machine take their time.
describe('a run', { timeout: 120_000 }, () => {
  it('takes the parts in order, writes results behind each, and counts what goes wrong', async () => {
    const world = await stage([
      'simt_verify *llava *f32*|echo "2 passed, 1 failed"; exit 1',
      'simt_verify *qwen3_vl *bf16*|kill -SEGV $$',
      'simt_step_bench *step_cached*|echo "no memory"; exit 3',
      '*memcheck *op/adamw:*|echo "========= ERROR SUMMARY: 2 errors"; exit 99',
    ])
    const { status, stdout, last } = world.run(['rehearse'])
    const calls = await world.calls()
    for (const [at, pattern] of expected.entries()) expect(calls[at]).toMatch(pattern)
    // Ten programs that are well, two tests of another, and of 24 runs under the sanitizer all but one.
    expect(last).toBe('55 passed, 4 failed')
    expect(status).toBe(1)
    expect(stdout).toContain('left out: step_cublaslt peers')
    expect(stdout).toMatch(/^sanitizer_memcheck_adamw .*0 passed, 1 failed: =* ERROR SUMMARY: 2 errors/m)

    const seen = await readdir(join(world.folder, 'seen'))
    expect(seen).toHaveLength(calls.filter((call) => !call.startsWith('compute-sanitizer')).length)
    for (const name of seen) JSON.parse(await world.read(`seen/${name}`))
    const beforeTimings = JSON.parse(await world.read(`seen/${seen.find((name) => name.startsWith('7.'))}`))
    expect(beforeTimings).toMatchObject({ 'tests.kernels': '3 passed, 0 failed', 'tests.failed': '2' })
    expect(beforeTimings).not.toHaveProperty('tests.timings')
    expect(await world.results()).toMatchObject({
      'tests.golden_bf16': '0 passed, 1 failed',
      'tests.step_cached': '0 passed, 1 failed',
      'tests.passed': '55',
      'left_out.step_cublaslt': 'no libcublasLt was found',
    })
  })

  it('is a success where everything is well', async () => {
    const { status, last } = (await stage()).run(['rehearse'])
    expect(last).toMatch(/^\d+ passed, 0 failed$/)
    expect(status).toBe(0)
  })

  it('is none where the first parts did not come to their end, though nothing was seen to be wrong', async () => {
    const world = await stage(['simt_*|takes 1000'])
    const { status, last } = world.run(['rehearse'])
    // The instructions, the kernels, both golden runs and the step.
    expect(last).toMatch(/^\d+ passed, 5 failed$/)
    expect(status).toBe(1)
  })

  it('keeps what a program says to be a fact, and what one of two runs beside each other finds', async () => {
    const world = await stage([
      'simt_verify *llava *bf16*|echo "fact: rows.n8_plain=none; refused: 1"',
      'simt_test *|[ -z "$FIRE_TEST_SMALL" ] || mkdir "$FAKES/first" 2>/dev/null || { echo "a_test.cpp:12: [softmax] CHECK(x)"; takes 1000; }',
      'compute-sanitizer *memcheck*op/linear:*|echo "========= Invalid __global__ write of size 4"; exit 124',
    ])
    const { stdout } = world.run(['rehearse'])
    expect(await world.results()).toMatchObject({ 'rows.n8_plain': 'none; refused: 1' })
    expect(stdout).toMatch(/^repeats .*0 passed, 1 failed/m)
    expect(stdout).toMatch(/^sanitizer_memcheck_linear .*0 passed, 1 failed/m)
  })

  it('takes no time that is no number', async () => {
    const { status, stdout } = (await stage()).run(['parts'], { FIRE_GPU_SECONDS: '08' })
    expect(stdout).toContain('FIRE_GPU_SECONDS is a whole number of seconds, up to 999999, not "08"')
    expect(status).toBe(2)
  })

  it('does not begin where it cannot write, where another writes, or with two modes', async () => {
    const world = await stage()
    const log = join(world.folder, 'clock', 'out')
    expect(world.run(['rehearse', '--out', log]).status).toBe(2)
    expect(world.run(['rehearse', '--build', log]).status).toBe(2)
    expect(world.run(['full', 'build'])).toMatchObject({ status: 2, stdout: 'one of full and build\n' })
    const holder = spawn('flock', [join(world.folder, 'out', '.lock'), 'sleep', '60'], { detached: true })
    await new Promise((resolve) => setTimeout(resolve, 500))
    expect(world.run(['rehearse'])).toMatchObject({ status: 2, last: expect.stringMatching(/^another run writes to /) })
    process.kill(-(holder.pid as number))
    expect(await world.read('calls')).toBe('')
  })

  it('ends at once for Ctrl-C, keeps what it knows, and leaves nothing running', async () => {
    const world = await stage(['simt_verify *--dtype bf16*|echo $$ >"$FAKES/pid"; sleep 300'])
    await rm(join(world.folder, 'bin', 'timeout'))
    const at = (name: string): string => join(world.folder, name)
    const path = `${at('bin')}:${process.env.PATH}`
    const args = ['rehearse', '--out', at('out'), '--build', at('build'), '--programs', at('programs')]
    const env = { ...process.env, FAKES: world.folder, FIRE_GPU_CLOCK: '', PATH: path }
    const run = spawn(script, args, { env, detached: true, stdio: ['ignore', 'pipe', 'ignore'] })
    let said = ''
    run.stdout.on('data', (text) => {
      said += text
    })
    const ended = new Promise<number | null>((resolve) => run.on('close', resolve))
    while (!existsSync(at('pid')) || (await world.read('pid')) === '')
      await new Promise((resolve) => setTimeout(resolve, 100))
    process.kill(-(run.pid as number), 'SIGINT')
    expect(await ended).toBe(130)
    expect(said).toMatch(/\nstopped\n\d+ passed, \d failed\n$/)
    expect(await world.results()).toMatchObject({
      'tests.golden_f32': '3 passed, 0 failed',
      'left_out.rest': expect.stringMatching(/^stopped after \d+ s$/),
    })
    const pid = Number(await world.read('pid'))
    expect(() => process.kill(pid, 0)).toThrow('ESRCH')
  })

  it('leaves out what runs out of time, and goes on', async () => {
    const world = await stage(['simt_test *|takes 1000', 'simt_bench *|takes 20'])
    const { status, stdout, last } = world.run(['rehearse'])
    // What `build` and `instructions` saved was the kernel tests' to spend; what follows has its own share.
    expect(stdout).toMatch(/^LEFT OUT kernels: not at its end after 170 s$/m)
    expect(stdout).toMatch(/^timings +20 s {2}3 passed, 0 failed +190\/560 s$/m)
    expect(stdout).toMatch(/^LEFT OUT portable: not at its end after 290 s$/m)
    expect((await world.calls()).filter((call) => call.startsWith('simt_'))).toHaveLength(13)
    // The kernels, which must come to their end.
    expect(last).toMatch(/^\d+ passed, 1 failed$/)
    expect(status).toBe(1)
    expect(await world.results()).toMatchObject({ 'left_out.kernels': 'not at its end after 170 s' })
  })

  it('ends in time although nothing else does, and has seen what was wrong until then', async () => {
    const world = await stage(['simt_test *|echo "a_test.cpp:12: [softmax] CHECK(x)"; takes 1000', '*|takes 1000'])
    const { stdout, last } = world.run(['rehearse'], { FIRE_GPU_SECONDS: '280' })
    expect(stdout).toMatch(/^kernels +25 s {2}0 passed, 1 failed +85\/280 s$/m)
    expect(stdout).toMatch(/^left out: instructions golden_f32 golden_bf16 /m)
    expect(last).toMatch(/^\d+ passed, \d failed$/)
    expect(Number(await world.read('clock'))).toBeLessThanOrEqual(280)
    expect(await world.results()).toHaveProperty('left_out.instructions')
  })

  it('moves the parts when the programs take longer to build than their share', async () => {
    const world = await stage(['cmake *|takes 75', 'wrapper_goldens *|takes 1000', 'cuda_test *|takes 400'])
    for (const name of programs) await executable(join(world.folder, 'build', name), program)
    await executable(join(world.folder, 'bin', 'cmake'), program)
    const { stdout } = world.run([])
    expect(stdout).toContain('carried programs: there are none; building')
    expect(stdout).toMatch(/^build +150 s {2}3 passed, 0 failed +150\/560 s$/m)
    expect(stdout).toMatch(/^LEFT OUT instructions: not at its end after 10 s$/m)
    expect(stdout).toMatch(/^LEFT OUT kernels: not at its end after 50 s$/m)
    expect(stdout).toMatch(/^LEFT OUT portable: not at its end after 310 s$/m)
  })

  it('keeps what it knew when it is killed, and loses only the part it was in', async () => {
    const world = await stage(['simt_step_bench *step_cached*|kill -KILL $PPID'])
    expect(world.run(['rehearse']).status).toBe(null)
    expect(await world.results()).toMatchObject({ 'tests.step': '3 passed, 0 failed', 'tests.passed': '24' })
  })

  it('writes what it knows where the programs cannot join it', async () => {
    const world = await stage()
    const broken = program.replace('[ "$1" = --report ]; then', '[ "$1" = --report ]; then exit 2')
    await executable(join(world.folder, 'build', 'simt_bench'), broken)
    const { stdout, last } = world.run(['rehearse'])
    expect(stdout).toContain('results.json has no rows')
    expect(last).toMatch(/^\d+ passed, 1 failed$/)
    expect(await world.results()).toMatchObject({ 'tests.timings': '3 passed, 0 failed' })
  })

  it('ends in time by the true clock although nothing can be asked to end', async () => {
    const world = await stage()
    await rm(join(world.folder, 'bin', 'timeout'))
    for (const name of ['python3', 'compute-sanitizer']) await executable(join(world.folder, 'bin', name), deaf)
    for (const name of emulated) await executable(join(world.folder, 'build', name), deaf)
    const begin = Date.now()
    const { status, last } = world.run(['rehearse'], { FIRE_GPU_SECONDS: '25', FIRE_GPU_CLOCK: '' })
    expect(Date.now() - begin).toBeLessThan(25_000)
    expect(status).toBe(1)
    expect(last).toMatch(/^0 passed, \d failed$/)
    expect(await world.results()).toHaveProperty('left_out.sanitizer', 'out of time')
  })

  it('takes carried programs of these sources only, and says what the compiler said where it cannot build', async () => {
    const world = await stage()
    await world.stamp('0123456789abcdef')
    const other = world.run([])
    expect(other.stdout).toContain('carried programs: they are of other sources; building')
    expect(other.last).toBe('0 passed, 1 failed')
    expect(await world.read('out/build.txt')).toContain('no such compiler')
    expect(await world.results()).toMatchObject({ 'machine.gpu': 'NVIDIA "H100"', 'tests.build': '0 passed, 1 failed' })

    await world.stamp(/sources (\w+)/.exec(other.stdout)?.[1] ?? '')
    await appendFile(join(world.folder, 'programs', 'planted'), 'half a copy')
    expect(world.run([]).stdout).toContain('carried programs: they are not whole; building')

    await world.stamp(/sources (\w+)/.exec(other.stdout)?.[1] ?? '')
    const same = world.run([])
    expect(same.last).toMatch(/^\d+ passed, 0 failed$/)
    expect(await world.results()).toMatchObject({ 'machine.programs': 'carried' })
    expect((await world.calls())[0]).toMatch(/^wrapper_goldens --out /)
    const kernels = (await world.calls()).find((call) => call.startsWith('fire_gpu_bench'))
    expect(kernels).toMatch(/^fire_gpu_bench --model qwen3-vl-4b --dtype bf16 --out /)
  })
})
