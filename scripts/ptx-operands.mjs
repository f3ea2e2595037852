/**
 * Operands of PTX instructions as C++. A register of type b32 is a uint32_t, and so on; what an instruction reads of it is
 * said by the instruction's own type. The names of types and functions in the C++ are those of test/ptx/instructions.h.
 */
import { PtxError, splitOperands } from './ptx-parse.mjs'

const specialRegisters = {
  '%tid': 'thread()',
  '%ntid': 'block().block',
  '%ctaid': 'block().index',
  '%nctaid': 'block().grid',
}

export const bitsOf = (type) => Number(type.slice(1))
const isFloat = (type) => type[0] === 'f'

/** Registers and immediates of type b32 are computed with as u32. */
export const cppType = (type) => (type === 'pred' ? 'bool' : type.replace('b', 'u'))

/** One instruction: its operands in C++. */
export class Operands {
  /** @param {import('./ptx-parse.mjs').Statement} statement */
  constructor(statement, used) {
    this.statement = statement
    this.used = used
  }

  get count() {
    return this.statement.operands.length
  }

  text(i) {
    const text = this.statement.operands[i]
    if (text === undefined) this.refuse('an operand is missing')
    return text
  }

  /** @returns {never} */
  refuse(why) {
    const { line, opcode, operands } = this.statement
    throw new PtxError(line, `${why}: ${opcode} ${operands.join(', ')}`)
  }

  find(name) {
    for (let scope = this.statement.scope; scope; scope = scope.parent) {
      const found = scope.names.get(name)
      if (found) return found
    }
    return undefined
  }

  use({ cpp, type, array }) {
    if (!array) this.used.set(cpp, type)
  }

  /** The array that holds the registers of operand `i`, `{a, b, ...}`. */
  place(i) {
    return this.find(this.parts(i)[0])?.array ?? this.refuse('registers without a place')
  }

  /** The value of operand `i`, or of an operand as text, as C++ of this type. `relaxed`: the register may be wider. */
  read(i, type, relaxed = false) {
    const text = typeof i === 'number' ? this.text(i) : i
    if (type === 'pred') return this.readPredicate(text)
    if (/^0[fFdD][0-9a-fA-F]+$/.test(text)) return this.readFloat(text, type)
    if (/^-?(0[xX][0-9a-fA-F]+|\d+)U?$/.test(text)) return immediate(text, type)
    const special = /^(%\w+)\.([xyz])$/.exec(text)
    if (special && specialRegisters[special[1]])
      return `${cppType(type)}(${specialRegisters[special[1]]}.${special[2]})`
    if (text === '%laneid') return 'lane()'
    const name = this.find(text)
    if (!name || name.label) return this.refuse(`${text} is not known`)
    if (!name.type) return this.addressOf(name, type)
    this.use(name)
    return this.convert(name, type, relaxed)
  }

  readPredicate(text) {
    const not = text.startsWith('!') ? '!' : ''
    const name = this.find(text.slice(not.length))
    if (name?.type === 'pred') {
      this.use(name)
      return `${not}${name.cpp}`
    }
    if (/^-?[01]$/.test(text)) return text === '0' ? 'false' : 'true'
    return this.refuse(`${text} is no predicate`)
  }

  readFloat(text, type) {
    const wide = /[dD]/.test(text[1])
    const bits = BigInt(`0x${text.slice(2)}`)
    if (type === 'b32' || type === 'b64' || type === 'u32' || type === 'u64') return immediate(String(bits), type)
    if (type !== (wide ? 'f64' : 'f32')) return this.refuse(`${text} is not of type ${type}`)
    const view = new DataView(new ArrayBuffer(8))
    if (wide) view.setBigUint64(0, bits)
    else view.setUint32(0, Number(bits))
    const value = wide ? view.getFloat64(0) : view.getFloat32(0)
    const exact = Number.isFinite(value) && !Object.is(value, -0)
    if (!exact) return wide ? `as_f64(${bits}ull)` : `as_f32(${bits}u)`
    return `${/[.e]/.test(String(value)) ? value : `${value}.0`}${wide ? '' : 'f'}`
  }

  convert({ cpp, type: stored }, type, relaxed) {
    if (stored === 'pred') return this.refuse(`${cpp} is a predicate`)
    const [have, want] = [bitsOf(stored), bitsOf(type)]
    if (have < want || (have > want && !relaxed)) return this.refuse(`${cpp} has ${have} bits, not ${want}`)
    if (isFloat(stored) && isFloat(type) && have === want) return cpp
    if (isFloat(stored)) return have === want ? `${cppType(type)}(bits(${cpp}))` : this.refuse(`${cpp} is a float`)
    if (isFloat(type)) return have === want ? `as_${type}(${cpp})` : this.refuse(`${cpp} is wider than ${type}`)
    return cppType(stored) === cppType(type) ? cpp : `${cppType(type)}(${cpp})`
  }

  /** Variables and parameters stand for where they are. */
  addressOf({ cpp, space }, type) {
    if (bitsOf(type) === 64 && (space === 'param' || space === 'local')) return `address(${cpp})`
    if (bitsOf(type) === 64 && (space === 'global' || space === 'const')) return `address(${cpp})`
    if (space === 'shared') return `${cppType(type)}(${cpp}())`
    return this.refuse(`the address of ${cpp} as ${type}`)
  }

  /** Assigns C++ of this type to operand `i`. `relaxed`: the register may be wider, and is then extended. */
  write(i, type, expression, relaxed = false) {
    const text = typeof i === 'number' ? this.text(i) : i
    if (text === '_') return `(void)(${expression});`
    const name = this.find(text)
    if (!name?.type) return this.refuse(`${text} is no register`)
    const { cpp, type: stored } = name
    this.use(name)
    if (stored === 'pred' || type === 'pred') {
      return stored === type ? `${cpp} = ${expression};` : this.refuse(`${text} is not of type ${type}`)
    }
    const [have, want] = [bitsOf(stored), bitsOf(type)]
    if (have < want || (have > want && !relaxed)) return this.refuse(`${text} has ${have} bits, not ${want}`)
    if (isFloat(stored) === isFloat(type))
      return have > want && isFloat(type) ? this.refuse('a wider float') : `${cpp} = ${expression};`
    if (have !== want) return this.refuse(`${text} is not of type ${type}`)
    return isFloat(stored) ? `${cpp} = as_${stored}(${expression});` : `${cpp} = bits(${expression});`
  }

  /** The parts of `{a, b}`, or the operand itself. */
  parts(i) {
    const text = typeof i === 'number' ? this.text(i) : i
    return text.startsWith('{') ? splitOperands(text.slice(1, -1)) : [text]
  }

  /** `[register + offset]` as a number of 64 bits, or of 32 in shared memory. */
  address(i, space) {
    const text = typeof i === 'number' ? this.text(i) : i
    const match = /^\[\s*([^\s+\]]+)\s*(?:\+\s*(-?\w+))?\s*\]$/.exec(text)
    if (!match) return this.refuse(`${text} is no address`)
    const [, base, offset] = match
    const name = this.find(base)
    const type = space === 'shared' ? 'u32' : 'u64'
    if (name && !name.type && name.space !== space && space !== 'generic')
      return this.refuse(`${base} is not in .${space}`)
    const begin = name || !/^\d/.test(base) ? this.read(base, type, space === 'shared') : immediate(base, type)
    return offset === undefined || offset === '0' ? begin : `${begin} + ${immediate(offset, type)}`
  }

  label(i) {
    const name = this.find(this.text(i))
    return name?.label ? name.cpp : this.refuse(`${this.text(i)} is no label`)
  }

  /** A whole number that is part of the instruction. */
  constant(i) {
    const text = this.text(i)
    return /^-?\d+$/.test(text) ? text : this.refuse(`${text} is not a constant`)
  }
}

function immediate(text, type) {
  const width = type === 'pred' ? 1 : bitsOf(type)
  if (isFloat(type)) throw new Error(`an integer as ${type}`)
  const digits = text.replace(/U$/, '')
  const value = digits.startsWith('-') ? -BigInt(digits.slice(1)) : BigInt(digits)
  const unsigned = `${BigInt.asUintN(width, value)}${width === 64 ? 'ull' : 'u'}`
  return type[0] === 's' || width < 32 ? `${cppType(type)}(${unsigned})` : unsigned
}
