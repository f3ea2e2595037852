/**
 * What each PTX instruction does, as C++: arithmetic, comparisons, memory and control. Those of warps, tensor cores and
 * asynchronous copies are in ptx-collectives.mjs. An opcode that no rule matches as a whole is an error.
 */
import { collectives } from './ptx-collectives.mjs'
import { bitsOf, cppType, Operands } from './ptx-operands.mjs'
import { PtxError } from './ptx-parse.mjs'

const unsigned = (type) => `u${bitsOf(type)}`
const wider = (type) => `${type[0]}${2 * bitsOf(type)}`

/** d = a op b in C++; whole numbers wrap, which only unsigned ones do in C++. */
function infix(symbol) {
  return (o, type) => {
    const t = type[0] === 's' ? unsigned(type) : type
    const sum = `${o.read(1, t)} ${symbol} ${o.read(2, t)}`
    return o.write(0, t, bitsOf(t) === 16 && t[0] !== 'f' ? `u16(u32(${o.read(1, t)}) ${symbol} ${o.read(2, t)})` : sum)
  }
}

function called(name, operands) {
  return (o, type) => {
    const read = Array.from({ length: operands }, (_, i) => o.read(i + 1, type))
    return o.write(0, type, `${name}(${read.join(', ')})`)
  }
}

const comparisons = { eq: '==', ne: '!=', lt: '<', le: '<=', gt: '>', ge: '>=', lo: '<', ls: '<=', hi: '>', hs: '>=' }

function compare(o, how, type) {
  const [a, b] = [o.read(1, type), o.read(2, type)]
  if (how === 'nan') return o.write(0, 'pred', `unordered(${a}, ${b})`)
  if (how === 'num') return o.write(0, 'pred', `!unordered(${a}, ${b})`)
  if (type[0] !== 'f') return o.write(0, 'pred', `${a} ${comparisons[how]} ${b}`)
  // "equ": or unordered. Only != is true of a NaN in C++, and "ne" is not in PTX.
  if (how.length === 3) return o.write(0, 'pred', `${a} ${comparisons[how.slice(0, 2)]} ${b} || unordered(${a}, ${b})`)
  return o.write(0, 'pred', how === 'ne' ? `${a} != ${b} && !unordered(${a}, ${b})` : `${a} ${comparisons[how]} ${b}`)
}

function shift(name) {
  return (o, type) => {
    const [value, amount] = [o.read(1, type), o.read(2, 'u32')]
    const small = /^\d+u$/.test(amount) && Number.parseInt(amount, 10) < bitsOf(type) && bitsOf(type) >= 32
    return o.write(
      0,
      type,
      small ? `${value} ${name === 'shift_left' ? '<<' : '>>'} ${amount}` : `${name}(${value}, ${amount})`,
    )
  }
}

/** Sums and products that pass a carry on: `carry` is a variable of the function. */
function carrying(name, withCarry, setsCarry) {
  return (o, type) => {
    const t = unsigned(type)
    const read = o.statement.operands.slice(1).map((text) => o.read(text, t))
    const into = setsCarry ? 'carry' : 'dropped'
    return `{ bool dropped; (void)dropped; ${o.write(0, t, `${name}(${[...read, withCarry ? 'carry' : 'false', into].join(', ')})`)} }`
  }
}

function move(o, type) {
  const from = o.parts(1)
  const to = o.parts(0)
  if (from.length > 1) {
    const each = `b${bitsOf(type) / from.length}`
    const shifted = from.map((part, i) => `${cppType(type)}(${o.read(part, each)}) << ${i * bitsOf(each)}`)
    return o.write(0, type, shifted.join(' | '))
  }
  if (to.length > 1) {
    const each = `b${bitsOf(type) / to.length}`
    const whole = o.read(1, type)
    const shifted = to.map((part, i) => o.write(part, each, `${cppType(each)}(whole >> ${i * bitsOf(each)})`))
    return `{ const ${cppType(type)} whole = ${whole}; ${shifted.join(' ')} }`
  }
  return o.write(0, type, o.read(1, type))
}

/** Where memory of this kind is: `[a + 4]` as a number that load and store take. */
const place = (space, address) => (space === 'shared' ? `shared(${address})` : address)

function load(o, space, count, type) {
  const parts = o.parts(0)
  if (parts.length !== count) o.refuse(`${count} registers expected`)
  const at = place(space, o.address(1, space))
  if (count === 1) return o.write(0, type, `load<${cppType(type)}>(${at})`, true)
  const size = bitsOf(type) / 8
  const loads = parts.map((part, i) => o.write(part, type, `load<${cppType(type)}>(at + ${i * size})`, true))
  return `{ const u64 at = aligned<${count * size}>(${at}, __FILE__, __LINE__); ${loads.join(' ')} }`
}

function store(o, space, count, type) {
  const parts = o.parts(1)
  if (parts.length !== count) o.refuse(`${count} registers expected`)
  const at = place(space, o.address(0, space))
  const value = (part) => o.read(part, type, true)
  if (count === 1) return `store<${cppType(type)}>(${at}, ${value(parts[0])});`
  const size = bitsOf(type) / 8
  const stores = parts.map((part, i) => `store<${cppType(type)}>(at + ${i * size}, ${value(part)});`)
  return `{ const u64 at = aligned<${count * size}>(${at}, __FILE__, __LINE__); ${stores.join(' ')} }`
}

/** `call.uni (result), function, (arguments);` with all of them in .param variables. */
function call(o) {
  const list = (text) =>
    text.startsWith('(')
      ? text
          .slice(1, -1)
          .split(',')
          .map((part) => part.trim())
      : []
  const operands = o.statement.operands
  const [results, callee, parameters] = operands[0].startsWith('(') ? operands : ['()', ...operands]
  const places = (text) =>
    list(text)
      .filter(Boolean)
      .map((name) => o.find(name)?.cpp ?? o.refuse(`${name} is not known`))
  return `call(function_${callee}, {${places(parameters ?? '()').join(', ')}}, {${places(results).join(', ')}});`
}

const spaces = '(?:\\.(global|shared|local|param|const))?'
const rules = [
  // whole numbers
  ['add\\.([us](?:16|32|64))', infix('+')],
  ['sub\\.([us](?:16|32|64))', infix('-')],
  ['mul\\.lo\\.([us](?:16|32|64))', infix('*')],
  [
    'mul\\.wide\\.([us](?:16|32))',
    (o, t) => o.write(0, wider(t), `${wider(t)}(${o.read(1, t)}) * ${wider(t)}(${o.read(2, t)})`),
  ],
  ['mul\\.hi\\.([us](?:32|64))', called('multiply_high', 2)],
  [
    'mad\\.lo\\.([us](?:32|64))',
    (o, t) => {
      const u = unsigned(t)
      return o.write(0, u, `${o.read(1, u)} * ${o.read(2, u)} + ${o.read(3, u)}`)
    },
  ],
  [
    'mad\\.wide\\.([us](?:16|32))',
    (o, t) => {
      const w = wider(t)
      return o.write(
        0,
        unsigned(w),
        `${unsigned(w)}(${w}(${o.read(1, t)}) * ${w}(${o.read(2, t)})) + ${o.read(3, unsigned(w))}`,
      )
    },
  ],
  ['div\\.([us](?:16|32|64))', called('divide', 2)],
  ['rem\\.([us](?:16|32|64))', called('remainder', 2)],
  ['(min|max)\\.([us](?:16|32|64))', (o, which, t) => called(which === 'min' ? 'smaller' : 'larger', 2)(o, t)],
  ['neg\\.(s(?:16|32|64))', (o, t) => o.write(0, unsigned(t), `${unsigned(t)}(0 - ${o.read(1, unsigned(t))})`)],
  ['abs\\.(s(?:32|64))', called('absolute', 1)],
  [
    '(and|or|xor)\\.(b(?:16|32|64)|pred)',
    (o, which, t) => {
      const symbol = { and: '&', or: '|', xor: '^' }[which]
      return o.write(0, t, `${o.read(1, t)} ${symbol} ${o.read(2, t)}`)
    },
  ],
  ['not\\.(b(?:16|32|64))', (o, t) => o.write(0, t, `~${o.read(1, t)}`)],
  ['not\\.pred', (o) => o.write(0, 'pred', `!${o.read(1, 'pred')}`)],
  ['shl\\.(b(?:16|32|64))', shift('shift_left')],
  ['shr\\.([bus](?:16|32|64))', shift('shift_right')],
  [
    'bfi\\.(b(?:32|64))',
    (o, t) => {
      const [a, b] = [o.read(1, t), o.read(2, t)]
      return o.write(0, t, `insert_bits(${a}, ${b}, ${o.read(3, 'u32')}, ${o.read(4, 'u32')})`)
    },
  ],
  [
    'bfe\\.(u(?:32|64))',
    (o, t) => o.write(0, t, `extract_bits(${o.read(1, t)}, ${o.read(2, 'u32')}, ${o.read(3, 'u32')})`),
  ],
  [
    '(popc|clz)\\.(b(?:32|64))',
    (o, which, t) => o.write(0, 'u32', `${which === 'clz' ? 'leading_zeros' : 'count_ones'}(${o.read(1, t)})`),
  ],
  [
    'prmt\\.b32',
    (o) => o.write(0, 'b32', `permute_bytes(${o.read(1, 'b32')}, ${o.read(2, 'b32')}, ${o.read(3, 'u32')})`),
  ],
  [
    'shf\\.(l|r)\\.wrap\\.b32',
    (o, way) =>
      o.write(
        0,
        'b32',
        `funnel_${way === 'l' ? 'left' : 'right'}(${[1, 2, 3].map((i) => o.read(i, 'b32')).join(', ')})`,
      ),
  ],
  ['add(c)?(\\.cc)?\\.([us](?:32|64))', (o, c, cc, t) => carrying('add_carry', c, cc)(o, t)],
  ['sub(c)?(\\.cc)?\\.([us](?:32|64))', (o, c, cc, t) => carrying('subtract_borrow', c, cc)(o, t)],
  [
    'mad(c)?\\.(lo|hi)(\\.cc)?\\.([us](?:32|64))',
    (o, c, half, cc, t) => {
      if (half === 'hi' && t[0] === 's') o.refuse('the high half of a signed product with a carry')
      return carrying(half === 'lo' ? 'mad_low_carry' : 'mad_high_carry', c, cc)(o, t)
    },
  ],
  // floats
  ['add(?:\\.rn)?\\.(f32|f64)', infix('+')],
  ['sub(?:\\.rn)?\\.(f32|f64)', infix('-')],
  ['mul(?:\\.rn)?\\.(f32|f64)', infix('*')],
  ['div\\.rn\\.(f32|f64)', infix('/')],
  ['fma\\.rn\\.(f32|f64)', called('multiply_add', 3)],
  ['fma\\.rm\\.f32', (o) => called('multiply_add_down', 3)(o, 'f32')],
  ['(min|max)\\.(f32|f64)', (o, which, t) => called(which === 'min' ? 'smaller' : 'larger', 2)(o, t)],
  ['neg\\.(f32|f64)', (o, t) => o.write(0, t, `-${o.read(1, t)}`)],
  ['abs\\.(f32|f64)', called('absolute', 1)],
  ['copysign\\.(f32|f64)', (o, t) => o.write(0, t, `with_sign(${o.read(2, t)}, ${o.read(1, t)})`)],
  ['(?:rcp\\.rn|rcp\\.approx)\\.(f32|f64)', (o, t) => o.write(0, t, `1 / ${o.read(1, t)}`)],
  ['rcp\\.approx\\.ftz\\.(f32|f64)', (o, t) => o.write(0, t, `flushed(1 / flushed(${o.read(1, t)}))`)],
  ['sqrt\\.(?:rn|approx)\\.(f32|f64)', called('square_root', 1)],
  ['rsqrt\\.approx\\.(f32|f64)', (o, t) => o.write(0, t, `1 / square_root(${o.read(1, t)})`)],
  ['ex2\\.approx\\.f32', (o) => called('power_of_two', 1)(o, 'f32')],
  ['ex2\\.approx\\.ftz\\.f32', (o) => o.write(0, 'f32', `flushed(power_of_two(flushed(${o.read(1, 'f32')})))`)],
  ['lg2\\.approx\\.f32', (o) => called('logarithm_of_two', 1)(o, 'f32')],
  // comparisons, moves, conversions
  ['setp\\.(eq|ne|lt|le|gt|ge|lo|ls|hi|hs)\\.([bu](?:16|32|64))', compare],
  ['setp\\.(eq|ne|lt|le|gt|ge)\\.(s(?:16|32|64))', compare],
  ['setp\\.(eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan)\\.(f32|f64)', compare],
  [
    'selp\\.([bus](?:16|32|64)|f32|f64)',
    (o, t) => o.write(0, t, `${o.read(3, 'pred')} ? ${o.read(1, t)} : ${o.read(2, t)}`),
  ],
  ['mov\\.([bus](?:16|32|64)|f32|f64)', move],
  ['mov\\.pred', (o) => o.write(0, 'pred', o.read(1, 'pred'))],
  [
    'cvt\\.([us](?:8|16|32|64))\\.([us](?:8|16|32|64))',
    (o, to, from) => o.write(0, to, `${to}(${o.read(1, from, true)})`, true),
  ],
  ['cvt\\.f64\\.f32', (o) => o.write(0, 'f64', `f64(${o.read(1, 'f32')})`)],
  ['cvt\\.rn\\.f32\\.f64', (o) => o.write(0, 'f32', `f32(${o.read(1, 'f64')})`)],
  ['cvt\\.rn\\.(f32|f64)\\.([us](?:16|32|64))', (o, to, from) => o.write(0, to, `${to}(${o.read(1, from)})`)],
  ['cvt\\.sat\\.f32\\.f32', (o) => called('saturated', 1)(o, 'f32')],
  [
    'cvt\\.(rni|rzi|rmi|rpi)\\.(f32|f64)\\.(f32|f64)',
    (o, how, to, from) => (to === from ? o.write(0, to, `${how}(${o.read(1, from)})`) : o.refuse('not known')),
  ],
  [
    'cvt\\.(rni|rzi|rmi|rpi)\\.([us](?:32|64))\\.(f32|f64)',
    (o, how, to, from) => o.write(0, to, `to_integer<${to}>(${how}(${o.read(1, from)}))`),
  ],
  ['cvt\\.rn\\.bf16x2\\.f32', (o) => o.write(0, 'b32', `pack_bf16(${o.read(1, 'f32')}, ${o.read(2, 'f32')})`)],
  ['cvt\\.rn\\.bf16\\.f32', (o) => o.write(0, 'b16', `to_bf16(${o.read(1, 'f32')})`)],
  ['cvta(?:\\.to)?\\.(?:global|local|param|const)\\.u64', (o) => o.write(0, 'u64', o.read(1, 'u64'))],
  ['cvta\\.shared\\.u64', (o) => o.write(0, 'u64', `shared(${o.read(1, 'u64')})`)],
  ['cvta\\.to\\.shared\\.u64', (o) => o.write(0, 'u64', `shared_offset(${o.read(1, 'u64')})`)],
  // memory and control
  [
    `ld${spaces}(?:\\.nc)?(?:\\.v([24]))?\\.([bus](?:8|16|32|64)|f32|f64)`,
    (o, space, count, t) => load(o, space ?? 'generic', Number(count ?? 1), t),
  ],
  [
    `st${spaces}(?:\\.v([24]))?\\.([bus](?:8|16|32|64)|f32|f64)`,
    (o, space, count, t) => store(o, space ?? 'generic', Number(count ?? 1), t),
  ],
  ['bra(?:\\.uni)?', (o) => `goto ${o.label(0)};`],
  ['ret|exit', () => 'return;'],
  ['call\\.uni', call],
  ['trap', () => 'trap(__FILE__, __LINE__);'],
  ['membar\\.(?:cta|gl|sys)', () => ''],
  ...collectives,
].map(([pattern, emit]) => ({ pattern: new RegExp(`^(?:${pattern})$`), emit }))

/** @type {Map<string, { emit: Function, groups: string[] } | undefined>} */
const known = new Map()

function ruleFor(opcode) {
  if (!known.has(opcode)) {
    const matches = rules.flatMap(({ pattern, emit }) => {
      const match = pattern.exec(opcode)
      return match ? [{ emit, groups: match.slice(1) }] : []
    })
    known.set(opcode, matches[0])
  }
  return known.get(opcode)
}

/**
 * C++ for one instruction.
 *
 * @param {import('./ptx-parse.mjs').Statement} statement
 * @param {Map<string, string>} used receives the registers, with their types
 */
export function translateInstruction(statement, used) {
  const rule = ruleFor(statement.opcode)
  if (!rule) throw new PtxError(statement.line, `the instruction ${statement.opcode} is not known`)
  const operands = new Operands(statement, used)
  const cpp = rule.emit(operands, ...rule.groups)
  return statement.guard ? `if (${operands.read(statement.guard, 'pred')}) { ${cpp} }` : cpp
}
