import { spawnSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
// @ts-expect-error a plain script without types
import { blocksPerMultiprocessor, readKernels, readPtxas, readSections, shortName } from '../../scripts/cubin.mjs'
// @ts-expect-error a plain script without types
import { examine, examineRows, suggest } from '../../scripts/cuda-budget.mjs'

/** A 64-bit ELF file with these sections and nothing else. */
function elf(sections: [name: string, content: Buffer][]): Buffer {
  const all: [string, Buffer][] = [['', Buffer.alloc(0)], ...sections, ['.shstrtab', Buffer.alloc(0)]]
  const names = Buffer.from(`${all.map(([name]) => name).join('\0')}\0`)
  all[all.length - 1]![1] = names
  const header = Buffer.alloc(64)
  header.writeUInt32BE(0x7f454c46, 0)
  header.set([2, 1, 1], 4)
  header.writeUInt16LE(64, 0x3a)
  header.writeUInt16LE(all.length, 0x3c)
  header.writeUInt16LE(all.length - 1, 0x3e)
  const table = Buffer.alloc(64 * all.length)
  const contents: Buffer[] = []
  let at = 64
  let nameAt = 0
  all.forEach(([name, content], i) => {
    table.writeUInt32LE(nameAt, 64 * i)
    table.writeBigUInt64LE(BigInt(at), 64 * i + 0x18)
    table.writeBigUInt64LE(BigInt(content.length), 64 * i + 0x20)
    nameAt += name.length + 1
    at += content.length
    contents.push(content)
  })
  header.writeBigUInt64LE(BigInt(at), 0x28)
  return Buffer.concat([header, ...contents, table])
}

/** Instructions of 16 bytes with these lowest 12 bits; the bits above are set, as a predicate and registers set them. */
function code(...opcodes: number[]): Buffer {
  const text = Buffer.alloc(16 * opcodes.length, 0xff)
  opcodes.forEach((opcode, i) => {
    text.writeUInt16LE(0xf000 | opcode, 16 * i)
  })
  return text
}

/** `.nv.info`: an attribute without a payload, one with 8 bytes, then the launch bounds. */
function info(x: number, y: number, z: number): Buffer {
  const words = Buffer.alloc(12)
  words.writeUInt32LE(x, 0)
  words.writeUInt32LE(y, 4)
  words.writeUInt32LE(z, 8)
  return Buffer.concat([Buffer.from([3, 0x1b, 255, 0, 4, 0x0a, 8, 0, 5, 5, 5, 5, 5, 5, 5, 5, 4, 5, 12, 0]), words])
}

describe('reading a cubin', () => {
  it('finds kernels, counts instructions whatever their operands, and reads the launch bounds', () => {
    const file = elf([
      ['.nv.info._Z1av', info(64, 2, 1)],
      ['.text._Z1av', code(0x23c, 0x23c, 0x389, 0xf89, 0x983, 0x387, 0xfae, 0x918)],
      ['.text._Z1bv', code(0x98e, 0x9a8)],
      ['.nv.shared._Z1av', code(0x23c)],
    ])
    expect(Object.fromEntries(readKernels(file))).toEqual({
      _Z1av: { instructions: { HMMA: 2, SHFL: 2, LDL: 1, STL: 1, LDGSTS: 1 }, beforeWait: ['LDGSTS'], maxThreads: 128 },
      _Z1bv: { instructions: { RED: 1, ATOMG: 1 }, beforeWait: ['RED', 'ATOMG'], maxThreads: undefined },
    })
  })

  it('sees what a kernel does before it waits for those before it', () => {
    const early = (...opcodes: number[]): string[] =>
      readKernels(elf([['.text._Z1av', code(...opcodes)]])).get('_Z1av').beforeWait
    const [wait, next, load, copy, branch, shared] = [0x82e, 0x82d, 0x981, 0x5b4, 0x947, 0x984]
    expect(early(shared!, wait!, next!, load!, copy!, branch!)).toEqual([])
    expect(early(load!, wait!, next!)).toEqual(['LDG'])
    expect(early(next!, branch!, copy!, wait!)).toEqual(['UTMALDG', 'PREEXIT', 'BRA'])
    expect(early(shared!, load!)).toEqual(['LDG'])
    expect(early(0x94d, wait!, next!)).toEqual(['EXIT'])
  })

  it('refuses what is not an ELF file', () => {
    expect(() => readSections(Buffer.from('ptx'))).toThrow('not a 64-bit little-endian ELF file')
    const big = elf([])
    big[5] = 2
    expect(() => readSections(big)).toThrow('not a 64-bit')
  })
})

describe('reading ptxas -v', () => {
  it('takes registers, stack, spills and static shared memory, calls that were not inlined included', () => {
    const log = `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z1av' for 'sm_90a'
ptxas info    : Function properties for _Z1av
    208 bytes stack frame, 280 bytes spill stores, 264 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 208 bytes cumulative stack size, 512 bytes smem
ptxas info    : Function properties for helper
    8 bytes stack frame, 0 bytes spill stores, 4 bytes spill loads
ptxas info    : Compiling entry function '_Z1bv' for 'sm_90a'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers, 360 bytes cmem[0]
`
    expect(Object.fromEntries(readPtxas(log))).toEqual({
      _Z1av: { registers: 64, stack: 216, spills: 548, shared: 512 },
      _Z1bv: { registers: 8, stack: 0, spills: 0, shared: 0 },
    })
  })
})

describe('blocks per multiprocessor', () => {
  // Limited by what the name says; the figures are those of NVIDIA's occupancy calculator.
  it.each([
    ['threads', 'sm_90a', { registers: 16, threads: 256, shared: 0 }, 8],
    ['blocks', 'sm_90a', { registers: 16, threads: 32, shared: 0 }, 32],
    ['registers', 'sm_90a', { registers: 167, threads: 128, shared: 46080 }, 3],
    ['registers, a multiple of 256 a warp', 'sm_80', { registers: 65, threads: 256, shared: 0 }, 3],
    ['registers of one partition', 'sm_80', { registers: 255, threads: 128, shared: 0 }, 2],
    ['shared memory, 1 KiB more a block', 'sm_80', { registers: 16, threads: 128, shared: 40 << 10 }, 4],
    ['shared memory', 'sm_90a', { registers: 16, threads: 128, shared: 40 << 10 }, 5],
    ['a ragged warp', 'sm_90a', { registers: 32, threads: 1000, shared: 0 }, 2],
    ['the largest block of shared memory', 'sm_80', { registers: 16, threads: 128, shared: 163 << 10 }, 1],
    ['more shared memory than a block may have', 'sm_80', { registers: 16, threads: 128, shared: (163 << 10) + 1 }, 0],
    ['more registers than there are', 'sm_90a', { registers: 96, threads: 1024, shared: 0 }, 0],
  ])('%s', (_, architecture, block, blocks) => {
    expect(blocksPerMultiprocessor(architecture, block)).toBe(blocks)
  })
})

describe('short names', () => {
  it.each([
    ['void fire::cuda::(anonymous namespace)::norm<float, 4>(float const*, long)', 'norm<float, 4>'],
    ['void fire::cuda::gemm<fire::bf16, (bool)1>(fire::bf16*, void (*)(int))', 'gemm<bf16, true>'],
    ['fire::cuda::plain(int)', 'plain'],
    ['plain', 'plain'],
  ])('%s', (demangled, short) => {
    expect(shortName(demangled)).toBe(short)
  })
})

describe('the budget', () => {
  const kernel = {
    name: 'norm<float, 4>',
    architecture: 'sm_90a',
    registers: 40,
    stack: 0,
    spills: 0,
    shared: 128,
    maxThreads: 256,
    instructions: { SHFL: 5, LDSM: 2, ACQBULK: 1, PREEXIT: 1 },
    beforeWait: [] as string[],
  }
  const begins = { ACQBULK: 1, PREEXIT: 1 }
  const row = { kernel: 'norm<.*>', threads: 256, registersMax: 40, blocksMin: 5, need: ['LDSM'] }

  it('passes a kernel that keeps to its row', () => {
    expect(examine(kernel, [row])).toEqual({ blocks: 6, problems: [] })
  })

  it.each([
    ['no row', kernel, { kernel: 'norm' }, 'no row'],
    ['a row for a longer name', kernel, { kernel: '.*norm<float, 4>, x' }, 'no row'],
    ['registers', { ...kernel, registers: 41 }, {}, '41 registers, at most 40'],
    ['occupancy', kernel, { blocksMin: { sm_80: 1, sm_90a: 7 } }, '6 blocks per multiprocessor, at least 7'],
    ['dynamic shared memory', kernel, { dynamicShared: 60 << 10 }, '3 blocks per multiprocessor'],
    ['spills', { ...kernel, spills: 8 }, {}, '8 bytes of register spills'],
    ['local memory', { ...kernel, instructions: { ...begins, LDSM: 1, LDL: 3 } }, {}, '3 LDL'],
    ['a missing instruction', { ...kernel, instructions: begins }, {}, 'no LDSM'],
    ['atomics', { ...kernel, instructions: { ...begins, LDSM: 1, RED: 1 } }, {}, 'RED: the order'],
    ['no wait', { ...kernel, instructions: { LDSM: 2 } }, {}, 'it does not wait for the kernels before it'],
    ['a load before the wait', { ...kernel, beforeWait: ['LDG'] }, {}, 'LDG before it waits for the kernels before it'],
    ['a closed door', { ...kernel, instructions: { LDSM: 2, ACQBULK: 1 } }, {}, 'it does not let the next kernel in'],
    ['no launch bounds', { ...kernel, maxThreads: undefined }, {}, 'no __launch_bounds__'],
    ['a larger block than its bounds', { ...kernel, maxThreads: 128 }, {}, '256 threads, but __launch_bounds__(128)'],
  ])('fails on %s', (_, measured, change, problem) => {
    const { problems } = examine(measured, [{ ...row, ...change }])
    expect(problems).toHaveLength(1)
    expect(problems[0]).toContain(problem)
  })

  it('fails when two rows claim a kernel', () => {
    expect(examine(kernel, [row, { ...row, kernel: 'norm<float, .>' }]).problems[0]).toContain('both match')
  })

  it('lets a row allow what is forbidden otherwise', () => {
    const instructions = { ...begins, LDSM: 1, ATOMG: 1, LDL: 1 }
    expect(examine({ ...kernel, instructions }, [{ ...row, allow: ['ATOMG', 'LDL'] }]).problems).toEqual([])
    expect(examine({ ...kernel, instructions }, [{ ...row, allow: ['LDL'] }]).problems).toHaveLength(1)
    expect(examine({ ...kernel, instructions }, []).problems).toHaveLength(3)
  })

  it('asks a kernel for one architecture to be empty elsewhere, and not to be launched there', () => {
    const only = { ...row, only: 'sm_90a' }
    expect(examine({ ...kernel, architecture: 'sm_90a' }, [only]).problems).toEqual([])
    const elsewhere = { ...kernel, architecture: 'sm_80', registers: 4, maxThreads: 32, instructions: {} }
    expect(examine(elsewhere, [only]).problems).toEqual([])
    expect(examine({ ...elsewhere, instructions: { HMMA: 1 } }, [only]).problems).toEqual([
      'HMMA on sm_80, only sm_90a has a body',
    ])
    expect(examine({ ...elsewhere, maxThreads: 256 }, [only]).problems).toEqual([
      'could be launched on sm_80 with 256 threads',
    ])
  })

  it.each([
    ['a name that no kernel has', { kernel: 'old<.*>' }, 'no kernel has this name'],
    ['an unknown instruction', { need: ['FOO'] }, 'FOO is not known'],
    ['an unknown architecture', { only: 'sm_70' }, 'nothing is compiled for sm_70'],
    ['an allowance without a reason', { allow: ['RED'] }, '`allow` needs a `reason`'],
    ['a missing number', { blocksMin: { sm_80: 1 } }, 'must be positive whole numbers'],
  ])('refuses %s', (_, change, problem) => {
    expect(examineRows([row], [kernel])).toEqual([])
    const problems = examineRows([{ ...row, ...change }], [kernel])
    expect(problems).toHaveLength(1)
    expect(problems[0]).toContain(problem)
  })

  it('suggests a row that the measured kernels pass', () => {
    const second = { ...kernel, name: 'norm<bf16, 4>', architecture: 'sm_80', registers: 45 }
    const rows = suggest([kernel, second], [])
    expect(rows).toEqual([{ kernel: 'norm<.*>', threads: 256, registersMax: 48, blocksMin: 5, need: ['LDSM'] }])
    for (const measured of [kernel, second]) expect(examine(measured, rows).problems).toEqual([])
    expect(suggest([kernel], [row])).toEqual([])
  })
})

describe('without nvcc', () => {
  const budget = (args: string[], env: Record<string, string>) =>
    spawnSync(process.execPath, ['scripts/cuda-budget.mjs', ...args], {
      encoding: 'utf8',
      env: { CUDACXX: '/nonexistent/nvcc', ...env },
    })

  it('says so, and fails only where the check is required', () => {
    const calm = budget([], {})
    expect(calm.stdout).toMatch(/^cuda budget: nvcc was not found .*\n$/)
    expect(calm.status).toBe(0)
    expect(budget(['--require'], {}).status).toBe(1)
    expect(budget([], { CI: 'true' }).status).toBe(1)
  })
})
