/**
 * What a compiled kernel needs, read without NVIDIA's disassembler: registers and spills from what ptxas prints,
 * instructions and launch bounds from the cubin, which is an ELF file.
 */

/**
 * Instructions of sm_80 to sm_90 by their operation, the low 9 bits of an instruction of 16 bytes. (The 3 bits above say
 * where its operands come from: SHFL with two registers is 0x389, with two constants 0xf89.) Counts were compared with
 * nvdisasm's.
 */
const operations = new Map([
  [0x023, 'FFMA'],
  [0x02b, 'DFMA'],
  [0x02d, 'PREEXIT'],
  [0x02e, 'ACQBULK'],
  [0x03b, 'LDSM'],
  [0x03c, 'HMMA'],
  [0x108, 'MUFU'],
  [0x11d, 'BAR'],
  [0x143, 'CALL'],
  [0x144, 'CALL'],
  [0x147, 'BRA'],
  [0x14d, 'EXIT'],
  [0x180, 'LD'],
  [0x181, 'LDG'],
  [0x183, 'LDL'],
  [0x184, 'LDS'],
  [0x185, 'ST'],
  [0x186, 'STG'],
  [0x187, 'STL'],
  [0x188, 'STS'],
  [0x189, 'SHFL'],
  [0x18c, 'ATOMS'],
  [0x18e, 'RED'],
  [0x1a6, 'RED'],
  [0x1a8, 'ATOMG'],
  [0x1ae, 'LDGSTS'],
  [0x1b4, 'UTMALDG'],
  [0x1b5, 'UTMASTG'],
  [0x1f0, 'HGMMA'],
])
export const operationNames = new Set(operations.values())

/** What may not stand before ACQBULK, the wait for the kernels before: it touches memory that they write, or leads past it. */
const needsWait = [
  ...['LD', 'LDG', 'ST', 'STG', 'LDGSTS', 'UTMALDG', 'UTMASTG', 'RED', 'ATOMG'],
  ...['PREEXIT', 'BRA', 'CALL', 'EXIT'],
]

const instructionBytes = 16

/** Attributes of a kernel's `.nv.info` section: one byte of format, one of kind, two of length or value. */
const sizedFormat = 4
const maxThreadsKind = 5

/** @typedef {{ name: string, offset: number, size: number }} Section */

/**
 * @param {Buffer} elf
 * @returns {Section[]}
 */
export function readSections(elf) {
  const isElf64 = elf.length >= 64 && elf.readUInt32BE(0) === 0x7f454c46 && elf[4] === 2 && elf[5] === 1
  if (!isElf64) throw new Error('not a 64-bit little-endian ELF file')
  const table = Number(elf.readBigUInt64LE(0x28))
  const entryBytes = elf.readUInt16LE(0x3a)
  const count = elf.readUInt16LE(0x3c)
  const entries = Array.from({ length: count }, (_, i) => {
    const at = table + i * entryBytes
    return {
      nameAt: elf.readUInt32LE(at),
      type: elf.readUInt32LE(at + 4),
      offset: Number(elf.readBigUInt64LE(at + 0x18)),
      size: Number(elf.readBigUInt64LE(at + 0x20)),
    }
  })
  const names = entries[elf.readUInt16LE(0x3e)]
  return entries.map(({ nameAt, offset, size }) => {
    const start = names.offset + nameAt
    return { name: elf.toString('latin1', start, elf.indexOf(0, start)), offset, size }
  })
}

/**
 * @param {Buffer} elf
 * @returns {Map<string, { instructions: Record<string, number>, beforeWait: string[], maxThreads: number | undefined }>} by
 *   mangled name; `beforeWait`: what it does before it waits for the kernels before it, and should not
 */
export function readKernels(elf) {
  const sections = readSections(elf)
  const kernels = new Map()
  for (const { name, offset, size } of sections) {
    if (!name.startsWith('.text.')) continue
    const kernel = name.slice('.text.'.length)
    const info = sections.find((section) => section.name === `.nv.info.${kernel}`)
    const code = operationsOf(elf.subarray(offset, offset + size))
    const wait = code.indexOf('ACQBULK')
    kernels.set(kernel, {
      instructions: histogram(code),
      beforeWait: needsWait.filter((name) => code.slice(0, wait < 0 ? undefined : wait).includes(name)),
      maxThreads: info && maxThreads(elf.subarray(info.offset, info.offset + info.size)),
    })
  }
  return kernels
}

/** The instructions that have a name here, in their order. */
function operationsOf(code) {
  const names = []
  for (let at = 0; at + instructionBytes <= code.length; at += instructionBytes) {
    const name = operations.get(code.readUInt16LE(at) & 0x1ff)
    if (name) names.push(name)
  }
  return names
}

function histogram(names) {
  const counts = {}
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1
  return counts
}

/** The threads of __launch_bounds__. */
function maxThreads(info) {
  for (let at = 0; at + 4 <= info.length; ) {
    const [format, kind, length] = [info[at], info[at + 1], info.readUInt16LE(at + 2)]
    at += 4
    if (format !== sizedFormat) continue
    if (kind === maxThreadsKind) return info.readUInt32LE(at) * info.readUInt32LE(at + 4) * info.readUInt32LE(at + 8)
    at += length
  }
  return undefined
}

/**
 * What `ptxas -v` says of each kernel. Functions that were not inlined into a kernel count towards the kernel in front
 * of them.
 *
 * @param {string} log
 * @returns {Map<string, { registers: number, stack: number, spills: number, shared: number }>} by mangled name
 */
export function readPtxas(log) {
  const kernels = new Map()
  let current
  for (const line of log.split('\n')) {
    const entry = /Compiling entry function '(.+)' for '/.exec(line)
    if (entry) {
      current = { registers: 0, stack: 0, spills: 0, shared: 0 }
      kernels.set(entry[1], current)
    }
    if (!current) continue
    const frame = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line)
    if (frame) {
      current.stack += Number(frame[1])
      current.spills += Number(frame[2]) + Number(frame[3])
    }
    const used = /Used (\d+) registers/.exec(line)
    if (used) {
      current.registers = Number(used[1])
      current.shared = Number(/(\d+) bytes smem/.exec(line)?.[1] ?? 0)
    }
  }
  return kernels
}

/** Per multiprocessor (CUDA C++ Programming Guide, "Compute Capabilities"). Shared memory in bytes. */
const multiprocessors = {
  sm_80: { threads: 2048, blocks: 32, shared: 164 << 10, sharedPerBlock: 163 << 10 },
  sm_90a: { threads: 2048, blocks: 32, shared: 228 << 10, sharedPerBlock: 227 << 10 },
}
export const architectures = Object.keys(multiprocessors)

const warpThreads = 32
const partitions = 4
const registersPerPartition = 16384
const registerGranularity = 256 // per warp
const sharedGranularity = 128
const sharedReserved = 1 << 10 // per block, for the system

/**
 * Blocks that run at once on one multiprocessor; 0 when a block does not fit.
 *
 * @param {string} architecture
 * @param {{ registers: number, threads: number, shared: number }} block `shared` is static and dynamic together
 */
export function blocksPerMultiprocessor(architecture, { registers, threads, shared }) {
  const limit = multiprocessors[architecture]
  if (shared > limit.sharedPerBlock || threads > 1024) return 0
  const warps = Math.ceil(threads / warpThreads)
  const registersPerWarp = roundUp(registers * warpThreads, registerGranularity)
  const warpsByRegisters = partitions * Math.floor(registersPerPartition / registersPerWarp)
  return Math.min(
    limit.blocks,
    Math.floor(limit.threads / (warps * warpThreads)),
    Math.floor(warpsByRegisters / warps),
    Math.floor(limit.shared / roundUp(shared + sharedReserved, sharedGranularity)),
  )
}

function roundUp(value, step) {
  return Math.ceil(value / step) * step
}

/**
 * A demangled kernel without its return type, parameters and the namespaces that all kernels share:
 * `void fire::cuda::(anonymous namespace)::norm<float, 4>(float const*)` is `norm<float, 4>`.
 */
export function shortName(demangled) {
  const plain = demangled
    .replaceAll('(anonymous namespace)::', '')
    .replaceAll('fire::cuda::', '')
    .replaceAll('fire::', '')
  let end = plain.length
  if (plain.endsWith(')')) {
    let depth = 0
    do {
      end--
      if (plain[end] === ')') depth++
      if (plain[end] === '(') depth--
    } while (depth > 0)
  }
  return plain
    .slice(0, end)
    .replace(/^void /, '')
    .replace(/\(bool\)([01])/g, (_, bit) => (bit === '1' ? 'true' : 'false'))
}
