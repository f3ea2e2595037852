/** The PTX instructions of sm_90a that cuda/hopper.cuh and cuda/wgmma.cuh have: mbarriers, TMA, wgmma and what belongs to them. */

const here = '__FILE__, __LINE__'

const inShared = (o, i) => `pointer(shared(${o.address(i, 'shared')}))`
const barrier = (o, i) => `static_cast<u64*>(${inShared(o, i)})`

/** `[map, {x, y}]` of TMA. */
function box(o, i) {
  const match = /^\[\s*([%$\w]+)\s*,\s*\{\s*([%$\w-]+)\s*,\s*([%$\w-]+)\s*\}\s*\]$/.exec(o.text(i))
  if (!match) return o.refuse(`${o.text(i)} is no box of two coordinates`)
  const [, map, x, y] = match
  return `tensor_map(${o.read(map, 'u64')}), ${o.read(x, 's32')}, ${o.read(y, 's32')}`
}

/** `arrive` and its like give a state that nothing here uses. */
function unused(o) {
  if (o.text(0) !== '_') o.refuse('the state of an mbarrier is not known')
}

function elect(o) {
  const [lane, elected] = o.text(0).split('|')
  if (lane !== '_' || !elected || !['-1', '0xffffffff', '0xFFFFFFFF'].includes(o.text(1)))
    o.refuse('only of whole warps')
  return o.write(elected, 'pred', `simt::elect(${here})`)
}

const flag = (o, i, values) => values[o.constant(i)] ?? o.refuse(`operand ${i} is not known`)

/** `wgmma {d}, a, b, accumulate, 1, 1, trans-a, trans-b`, or `{d}, {a0, a1, a2, a3}, b, accumulate, 1, 1, trans-b` */
function wgmma(o, columns) {
  const sums = o.sums(0)
  const a = o.parts(1)
  const fromRegisters = a.length > 1
  const trans = { 0: 'false', 1: 'true' }
  if (o.parts(0).length !== Number(columns) / 2 || o.count !== (fromRegisters ? 7 : 8))
    o.refuse('other operands expected')
  for (const i of [4, 5]) if (o.constant(i) !== '1') o.refuse('factors that are not negated expected')
  const common = `${o.read(2, 'u64')}, ${columns}`
  const accumulate = o.read(3, 'pred')
  if (!fromRegisters) {
    const how = `${flag(o, 6, trans)}, ${flag(o, 7, trans)}, ${accumulate}`
    return `simt::wgmma_issue({${sums}, nullptr, ${o.read(1, 'u64')}, ${common}, ${how}}, ${here});`
  }
  if (a.length !== 4) o.refuse('four registers of a expected')
  const registers = a.map((part) => o.read(part, 'b32')).join(', ')
  return `{ const u32 a[4] = {${registers}}; simt::wgmma_issue({${sums}, a, 0, ${common}, false, ${flag(o, 6, trans)}, ${accumulate}}, ${here}); }`
}

/** @type {[string, Function][]} */
export const hopper = [
  [
    'mbarrier\\.init\\.shared::cta\\.b64',
    (o) => `simt::mbarrier_init(${barrier(o, 0)}, ${o.read(1, 'u32')}, ${here});`,
  ],
  ['fence\\.mbarrier_init\\.release\\.cluster', () => `simt::fence_mbarrier_init(${here});`],
  [
    'mbarrier\\.arrive\\.shared::cta\\.b64',
    (o) => {
      unused(o)
      return `simt::mbarrier_arrive(${barrier(o, 1)}, false, 0, ${here});`
    },
  ],
  [
    'mbarrier\\.arrive\\.expect_tx\\.shared::cta\\.b64',
    (o) => {
      unused(o)
      return `simt::mbarrier_arrive(${barrier(o, 1)}, true, ${o.read(2, 'u32')}, ${here});`
    },
  ],
  [
    'mbarrier\\.try_wait\\.parity\\.shared::cta\\.b64',
    (o) => o.write(0, 'pred', `simt::mbarrier_try_wait(${barrier(o, 1)}, ${o.read(2, 'u32')}, ${here})`),
  ],
  [
    'cp\\.async\\.bulk\\.tensor\\.2d\\.shared::cluster\\.global\\.mbarrier::complete_tx::bytes',
    (o) => `simt::tma_load(${inShared(o, 0)}, ${box(o, 1)}, ${barrier(o, 2)}, ${here});`,
  ],
  [
    'cp\\.async\\.bulk\\.tensor\\.2d\\.global\\.shared::cta\\.bulk_group',
    (o) => `simt::tma_store(${box(o, 0)}, ${inShared(o, 1)}, ${here});`,
  ],
  ['cp\\.async\\.bulk\\.commit_group', () => 'simt::tma_store_commit();'],
  [
    'cp\\.async\\.bulk\\.wait_group(\\.read)?',
    (o, read) => `simt::tma_store_wait(${o.constant(0)}, ${read !== undefined});`,
  ],
  ['prefetch\\.tensormap', (o) => `simt::check_tensor_map(tensor_map(${o.address(0, 'generic')}), ${here});`],
  ['fence\\.proxy\\.async\\.shared::cta', () => 'simt::fence_async_shared();'],
  [
    'bar\\.(sync|arrive)',
    (o, how) => {
      if (o.count === 1 && how === 'sync' && o.text(0) === '0') return `simt::block_barrier(${here});`
      if (o.count !== 2) o.refuse('a number of threads expected')
      return `simt::named_barrier(${o.read(0, 's32')}, ${o.read(1, 's32')}, ${how === 'sync'}, ${here});`
    },
  ],
  [
    'setmaxnreg\\.(inc|dec)\\.sync\\.aligned\\.u32',
    (o, way) => `simt::set_registers(${o.constant(0)}, ${way === 'inc'}, ${here});`,
  ],
  ['elect\\.sync', elect],
  ['wgmma\\.fence\\.sync\\.aligned', () => 'simt::wgmma_fence();'],
  ['wgmma\\.commit_group\\.sync\\.aligned', () => 'simt::wgmma_commit();'],
  ['wgmma\\.wait_group\\.sync\\.aligned', (o) => `simt::wgmma_wait(${o.constant(0)}, ${here});`],
  ['wgmma\\.mma_async\\.sync\\.aligned\\.m64n(\\d+)k16\\.f32\\.bf16\\.bf16', wgmma],
]

/**
 * The sums of a wgmma have to stay in one place while it is under way: the registers of a statement become the elements of
 * one array.
 *
 * @param {import('./ptx-parse.mjs').Statement[]} statements
 * @returns {{ array: string, count: number }[]}
 */
export function placeSums(statements, refuse) {
  const arrays = new Map()
  for (const statement of statements) {
    if (!statement.opcode?.startsWith('wgmma.mma_async')) continue
    const names = statement.operands[0]
      .slice(1, -1)
      .split(',')
      .map((part) => find(statement.scope, part.trim()))
    if (names.some((name) => name?.type !== 'f32')) refuse(statement, 'sums that are not of type f32')
    const [first] = names
    if (arrays.has(first.array) && names.every((name, i) => name.cpp === `${first.array}[${i}]`)) {
      if (arrays.get(first.array) === names.length) continue
    }
    if (names.some((name) => name.array)) refuse(statement, 'sums that are part of the sums of another product')
    const array = `sums_${arrays.size}`
    arrays.set(array, names.length)
    for (const [i, name] of names.entries()) Object.assign(name, { cpp: `${array}[${i}]`, array })
  }
  return [...arrays].map(([array, count]) => ({ array, count }))
}

function find(scope, text) {
  for (let at = scope; at; at = at.parent) if (at.names.has(text)) return at.names.get(text)
  return undefined
}
