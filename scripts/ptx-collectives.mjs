/** The PTX instructions that a thread does not do alone: barriers, warps, tensor cores, asynchronous copies. */
import { hopper } from './ptx-hopper.mjs'

const here = '__FILE__, __LINE__'

const shuffles = { idx: 'shuffle', up: 'shuffle_up', down: 'shuffle_down', bfly: 'shuffle_xor' }

/** `shfl.sync.bfly.b32 d|p, a, b, c, mask` */
function shuffle(o, how) {
  const [value, inRange] = o.text(0).split('|')
  const [a, b, c, mask] = [1, 2, 3, 4].map((i) => o.read(i, 'u32'))
  const call = `shuffle(WarpOp::${shuffles[how]}, ${a}, ${b}, ${c}, ${mask}, ${here})`
  const received = o.write(value, 'b32', call)
  return inRange
    ? `${o.write(inRange, 'pred', `in_range(WarpOp::${shuffles[how]}, ${b}, ${c})`)} ${received}`
    : received
}

const reductions = { add: 'add', and: 'bit_and', or: 'bit_or', xor: 'bit_xor' }

function reduce(o, how, type) {
  const op = reductions[how] ?? `${how}_${type[0] === 's' ? 'signed' : 'unsigned'}`
  return o.write(0, 'b32', `simt::warp_reduce(WarpOp::${op}, ${o.read(2, 'u32')}, ${o.read(1, 'b32')}, ${here})`)
}

const list = (o, operand, type) => o.parts(operand).map((part) => o.read(part, type))

/** `mma d, a, b, c` */
function mma(o) {
  const [d, a, b, c] = [o.parts(0), list(o, 1, 'b32'), list(o, 2, 'b32'), list(o, 3, 'f32')]
  if (d.length !== 4 || a.length !== 4 || b.length !== 2 || c.length !== 4) o.refuse('other numbers of registers')
  const sums = d.map((part, i) => o.write(part, 'f32', `sums[${i}]`)).join(' ')
  return (
    `{ f32 sums[4] = {${c.join(', ')}}; const u32 a[4] = {${a.join(', ')}}; ` +
    `simt::warp_mma(sums, a, ${b.join(', ')}, ${here}); ${sums} }`
  )
}

function ldmatrix(o, trans) {
  const d = o.parts(0)
  if (d.length !== 4) o.refuse('four registers expected')
  const parts = d.map((part, i) => o.write(part, 'b32', `parts[${i}]`)).join(' ')
  const op = trans ? 'ldmatrix_trans' : 'ldmatrix'
  return `{ u32 parts[4]; simt::warp_ldmatrix(WarpOp::${op}, parts, pointer(shared(${o.address(1, 'shared')})), ${here}); ${parts} }`
}

function copyAsync(o) {
  if (o.constant(2) !== '16') o.refuse('16 bytes expected')
  const valid = o.count > 3 ? `whole_or_nothing(${o.read(3, 'u32')}, ${here})` : 'true'
  return `simt::copy_async(pointer(shared(${o.address(0, 'shared')})), pointer(${o.address(1, 'global')}), ${valid}, ${here});`
}

/** @type {[string, Function][]} */
export const collectives = [
  ['bar\\.warp\\.sync', (o) => `simt::warp_barrier(${o.read(0, 'u32')}, ${here});`],
  ['shfl\\.sync\\.(idx|up|down|bfly)\\.b32', shuffle],
  [
    'vote\\.sync\\.(any|all)\\.pred',
    (o, how) =>
      o.write(0, 'pred', `simt::warp_reduce(WarpOp::${how}, ${o.read(2, 'u32')}, ${o.read(1, 'pred')}, ${here}) != 0`),
  ],
  [
    'vote\\.sync\\.ballot\\.b32',
    (o) => o.write(0, 'b32', `simt::warp_reduce(WarpOp::ballot, ${o.read(2, 'u32')}, ${o.read(1, 'pred')}, ${here})`),
  ],
  ['redux\\.sync\\.(add|min|max)\\.([us]32)', reduce],
  ['redux\\.sync\\.(and|or|xor)\\.(b32)', reduce],
  ['mma\\.sync\\.aligned\\.m16n8k16\\.row\\.col\\.f32\\.bf16\\.bf16\\.f32', mma],
  ['ldmatrix\\.sync\\.aligned\\.m8n8\\.x4(\\.trans)?\\.shared\\.b16', ldmatrix],
  ['cp\\.async\\.cg\\.shared\\.global', copyAsync],
  ['cp\\.async\\.commit_group', () => 'simt::copy_async_commit();'],
  ['cp\\.async\\.wait_group', (o) => `simt::copy_async_wait(${o.constant(0)}, ${here});`],
  ...hopper,
]
