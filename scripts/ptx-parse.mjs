/**
 * Reads the PTX that nvcc writes: functions, their statements and variables, the source line of each. Understands the
 * grammar only; what an instruction does is the business of ptx-instructions.mjs.
 *
 * @typedef {object} Scope `{ }` of a function body, and of inline assembly inside it
 * @property {Scope | undefined} parent
 * @property {Map<string, { cpp: string, type?: string, space?: string, label?: boolean }>} names
 * @property {string} suffix what makes its names unique in C++
 *
 * @typedef {object} Statement
 * @property {number} line of the PTX file
 * @property {Scope} scope
 * @property {'instruction' | 'label' | 'source'} kind
 * @property {string} [guard] `%p1` or `!%p1`
 * @property {string} [opcode] @property {string[]} [operands]
 * @property {string} [label] as C++ calls it
 * @property {{ file: string, line: number }} [source]
 *
 * @typedef {{ name: string, space: string, align: number, bytes: number, data?: string[] }} Variable `bytes` is 0 for the
 *   block's dynamic shared memory
 *
 * @typedef {object} PtxFunction
 * @property {string} name @property {boolean} entry @property {string[]} results @property {string[]} parameters
 * @property {Statement[]} statements @property {Variable[]} variables @property {Scope} scope
 */

export class PtxError extends Error {
  /** @param {number} line of the PTX file */
  constructor(line, what) {
    super(`PTX line ${line}: ${what}`)
    this.name = 'PtxError'
  }
}

const sizes = { b8: 1, u8: 1, s8: 1, b16: 2, u16: 2, s16: 2, b32: 4, u32: 4, s32: 4, f32: 4 }
Object.assign(sizes, { b64: 8, u64: 8, s64: 8, f64: 8 })

/** @returns {{ functions: PtxFunction[], variables: Variable[] }} */
export function parsePtx(source) {
  const text = withoutComments(source)
  const lineAt = lineCounter(text)
  const files = new Map()
  for (const [, number, path] of text.matchAll(/^\s*\.file\s+(\d+)\s+"([^"]+)"/gm)) files.set(Number(number), path)

  const scope = { parent: undefined, names: new Map(), suffix: '' }
  const module = { functions: [], variables: [] }
  let at = 0
  while (true) {
    at = skipSpace(text, at)
    if (at === text.length) return module
    const rest = text.slice(at, at + 80)
    if (/^\.(version|target|address_size|file)\b/.test(rest)) at = endOfLine(text, at)
    else if (/^\.section\b/.test(rest)) at = matchingBrace(text, text.indexOf('{', at)) + 1
    else if (/^(\.(visible|weak|extern)\s+)*\.(entry|func)\b/.test(rest)) {
      const end = /[{;]/g
      end.lastIndex = at
      const head = end.exec(text)
      if (head[0] === ';') {
        at = head.index + 1 // only declared; the body comes later
        continue
      }
      const close = matchingBrace(text, head.index)
      module.functions.push(readFunction({ text, lineAt, files, scopes: 0 }, at, head.index, close, scope))
      at = close + 1
    } else {
      const end = text.indexOf(';', at)
      if (end < 0) throw new PtxError(lineAt(at), `not understood: ${rest.split('\n')[0]}`)
      const variable = readVariable(text.slice(at, end), lineAt(at))
      const cpp = clean(variable.name)
      scope.names.set(variable.name, { cpp, space: variable.space })
      module.variables.push({ ...variable, name: cpp })
      at = end + 1
    }
  }
}

function readFunction(reader, begin, open, close, parent) {
  const { text, lineAt } = reader
  const head = text.slice(begin, open)
  const match = /\.(entry|func)\s*(?:\(([^)]*)\)\s*)?([\w$]+)\s*(?:\(([^)]*)\))?([^()]*)$/.exec(head)
  if (!match) throw new PtxError(lineAt(begin), `not understood: ${head.trim()}`)
  const [, kind, results, name, parameters, directives] = match
  const unknown = /\.(?!maxntid|minnctapersm|reqntid|maxnreg|noreturn)\w+/.exec(directives)
  if (unknown) throw new PtxError(lineAt(open), `the directive ${unknown[0]} is not known`)
  const scope = { parent, names: new Map(), suffix: '' }
  const made = { name, entry: kind === 'entry', statements: [], variables: [], scope }
  made.results = readParameters(results, scope, 'results', lineAt(begin))
  made.parameters = readParameters(parameters, scope, 'parameters', lineAt(begin))
  readBody({ ...reader, made }, open + 1, close, scope)
  return made
}

/** Parameters are addresses that the caller gives. */
function readParameters(list, scope, array, line) {
  return splitOperands(list ?? '').map((declaration, i) => {
    const variable = readVariable(declaration, line)
    scope.names.set(variable.name, { cpp: `${array}[${i}]`, space: 'param' })
    return variable.name
  })
}

/** Statements between two braces. */
function readBody(reader, begin, end, scope) {
  const { text, lineAt, made } = reader
  let at = begin
  while (true) {
    at = skipSpace(text, at)
    if (at >= end) return
    const line = lineAt(at)
    const character = text[at]
    if (character === '{') {
      const close = matchingBrace(text, at)
      const inner = { parent: scope, names: new Map(), suffix: `_${++reader.scopes}` }
      readBody(reader, at + 1, close, inner)
      at = close + 1
      continue
    }
    const label = matchAt(/([$\w]+)\s*:(?!:)/y, text, at)
    if (label) {
      const cpp = `label_${clean(label[1])}${scope.suffix}`
      scope.names.set(label[1], { cpp, label: true })
      made.statements.push({ kind: 'label', line, scope, label: cpp })
      at += label[0].length
      continue
    }
    const location = matchAt(/\.loc\s+(\d+)\s+(\d+)[^\n]*/y, text, at)
    if (location) {
      const [all, file, number] = location
      const path = reader.files.get(Number(file))
      if (!path) throw new PtxError(line, `there is no .file ${file}`)
      if (number !== '0')
        made.statements.push({ kind: 'source', line, scope, source: { file: path, line: Number(number) } })
      at += all.length
      continue
    }
    const semicolon = text.indexOf(';', at)
    if (semicolon < 0 || semicolon > end) throw new PtxError(line, `no end: ${text.slice(at, at + 60)}`)
    const statement = text.slice(at, semicolon).trim()
    at = semicolon + 1
    if (statement === '' || /^\.pragma\b/.test(statement)) continue
    if (/^\.reg\b/.test(statement)) declareRegisters(statement, scope, line)
    else if (/^\.(shared|local|param)\b/.test(statement)) {
      const variable = readVariable(statement, line)
      const cpp = `${clean(variable.name)}${scope.suffix}`
      scope.names.set(variable.name, { cpp, space: variable.space })
      made.variables.push({ ...variable, name: cpp })
    } else made.statements.push({ kind: 'instruction', line, scope, ...readInstruction(statement, line) })
  }
}

function readInstruction(statement, line) {
  const match = /^(?:@(!?)([%$\w]+)\s+)?([a-z][\w.:]*)\s*([\s\S]*)$/.exec(statement)
  if (!match) throw new PtxError(line, `not understood: ${statement}`)
  const [, not, guard, opcode, operands] = match
  return { guard: guard && `${not}${guard}`, opcode, operands: splitOperands(operands) }
}

/** `.reg .b32 %r<5>;` or `.reg .pred p, q;` */
function declareRegisters(statement, scope, line) {
  const match = /^\.reg\s+\.(pred|[bus](?:8|16|32|64)|f32|f64)\s+([\s\S]*)$/.exec(statement)
  if (!match) throw new PtxError(line, `registers of an unknown type: ${statement}`)
  const [, type, list] = match
  const add = (name) => scope.names.set(name, { cpp: `v${clean(name)}${scope.suffix}`, type })
  for (const name of splitOperands(list)) {
    const range = /^([%$\w]+)<(\d+)>$/.exec(name)
    if (range) for (let i = 0; i < Number(range[2]); ++i) add(`${range[1]}${i}`)
    else add(name)
  }
}

/** @returns {Variable} */
function readVariable(declaration, line) {
  const match =
    /^\s*(?:\.(?:extern|visible|weak)\s+)*\.(shared|local|param|global|const)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([$\w]+)\s*(?:\[(\d*)\])?\s*(?:=\s*\{([^}]*)\})?\s*$/.exec(
      declaration,
    )
  const size = sizes[match?.[3]]
  if (!size) throw new PtxError(line, `not understood: ${declaration.trim().slice(0, 200)}`)
  const [, space, align, , name, count, data] = match
  if (data !== undefined && size !== 1) throw new PtxError(line, `only bytes may have initial values: ${name}`)
  const bytes = count === undefined ? size : size * Number(count)
  return {
    name,
    space,
    align: Number(align ?? size),
    bytes,
    data: data === undefined ? undefined : splitOperands(data),
  }
}

/** Splits at commas outside of braces and brackets. */
export function splitOperands(text) {
  const parts = []
  let depth = 0
  let begin = 0
  for (let i = 0; i <= text.length; ++i) {
    const character = text[i]
    if (character === '{' || character === '[' || character === '(') ++depth
    else if (character === '}' || character === ']' || character === ')') --depth
    else if (i === text.length || (character === ',' && depth === 0)) {
      const part = text.slice(begin, i).trim()
      if (part !== '') parts.push(part)
      begin = i + 1
    }
  }
  return parts
}

function clean(name) {
  return name.replace(/^[%$]+/, '').replace(/[^\w]/g, '_')
}

/** Blanks in the place of comments, so that lines stay where they are. */
function withoutComments(text) {
  return text.replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, (comment) => comment.replace(/[^\n]/g, ' '))
}

function skipSpace(text, at) {
  while (at < text.length && text.charCodeAt(at) <= 32) ++at
  return at
}

function endOfLine(text, at) {
  const end = text.indexOf('\n', at)
  return end < 0 ? text.length : end
}

function matchAt(sticky, text, at) {
  sticky.lastIndex = at
  return sticky.exec(text)
}

function matchingBrace(text, open) {
  const brace = /[{}]/g
  brace.lastIndex = open
  let depth = 0
  for (let match = brace.exec(text); match; match = brace.exec(text)) {
    depth += match[0] === '{' ? 1 : -1
    if (depth === 0) return match.index
  }
  throw new Error('a brace of the PTX is never closed')
}

/** The line of a position; positions must not go back by much. */
function lineCounter(text) {
  const ends = []
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) ends.push(at)
  return (position) => {
    let low = 0
    let high = ends.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (ends[middle] < position) low = middle + 1
      else high = middle
    }
    return low + 1
  }
}
