/**
 * Turns the PTX that nvcc makes of a kernel source into C++ for the emulator (test/simt/README.md): what runs is what nvcc
 * compiled, inline instructions included. What is not known is an error that names the line, never left out.
 */
import { relative } from 'node:path'
import { root } from './cuda-sources.mjs'
import { placeRegisters } from './ptx-hopper.mjs'
import { translateInstruction } from './ptx-instructions.mjs'
import { cppType } from './ptx-operands.mjs'
import { PtxError, parsePtx } from './ptx-parse.mjs'

/** Statements of one C++ file: small enough that two compilers have something to do, and that one does not take long. */
const statementsOfFile = 30_000

/**
 * nvcc writes the file and a hash into the names of what is in an unnamed namespace; g++ does not.
 *
 * @param {string} mangled
 */
export function plainName(mangled) {
  let name = mangled
  for (let at = 0; ; ) {
    const match = /(\d+)_GLOBAL__N__/.exec(name.slice(at))
    if (!match) return name
    const begin = at + match.index
    const end = begin + match[1].length + Number(match[1])
    const plain = '12_GLOBAL__N_1'
    name = name.slice(0, begin) + plain + name.slice(end)
    at = begin + plain.length
  }
}

/**
 * C++ files for one PTX file.
 *
 * @param {string} ptx
 * @returns {string[]}
 */
export function translate(ptx) {
  const { functions, variables } = parsePtx(ptx)
  const common = [
    '#include "ptx/instructions.h"',
    '#include "ptx/translations.h"',
    '',
    'using namespace fire::ptx;',
    'namespace {',
    ...variables.map(moduleVariable),
    ...functions.filter(({ entry }) => !entry).flatMap((f) => [...translateFunction(f, `function_${f.name}`), '']),
  ]
  return inFiles(functions.filter(({ entry }) => entry)).map((kernels) => {
    const table = kernels.map(({ name }, i) => `    {"${plainName(name)}", kernel_${i}},`)
    return [
      ...common,
      ...kernels.flatMap((f, i) => [`// ${plainName(f.name)}`, ...translateFunction(f, `kernel_${i}`), '']),
      '#line 1 "table of kernels"',
      'const Translation table[] = {',
      ...table,
      '};',
      'const Translations translations(table);',
      '}  // namespace',
      '',
    ].join('\n')
  })
}

/** Kernels in their order, in groups of about the same size. */
function inFiles(kernels) {
  const groups = []
  let size = Number.POSITIVE_INFINITY
  for (const kernel of kernels) {
    if (size + kernel.statements.length > statementsOfFile) {
      groups.push([])
      size = 0
    }
    groups.at(-1).push(kernel)
    size += kernel.statements.length
  }
  return groups
}

function moduleVariable({ name, space, align, bytes, data }) {
  if (space === 'shared')
    return bytes === 0 ? `u32 ${name}() { return dynamic_shared(); }` : sharedArray(name, bytes, align)
  const values = data ? ` = {${data.join(', ')}}` : ' = {}'
  return `alignas(${align}) unsigned char ${name}[${bytes}]${values};`
}

/** Shared arrays are new in every block: the emulator gives them when the block first comes to them. */
function sharedArray(name, bytes, align) {
  return `static fire::simt::SharedSlot ${name}_slot; const auto ${name} = [] { return shared_array(&${name}_slot, ${bytes}, ${align}, __FILE__, __LINE__); };`
}

function localVariable({ name, space, align, bytes }) {
  return space === 'shared'
    ? `  ${sharedArray(name, bytes, align)}`
    : `  alignas(${align}) unsigned char ${name}[${bytes}];`
}

/** @returns {string[]} lines */
function translateFunction({ statements, variables }, name) {
  const used = new Map()
  const placed = placeRegisters(statements, ({ line }, why) => {
    throw new PtxError(line, why)
  })
  const body = []
  let place = ''
  for (const statement of statements) {
    if (statement.kind === 'label') body.push(`${statement.label}:;`)
    else if (statement.kind === 'instruction') body.push(`  ${translateInstruction(statement, used)}`)
    else {
      const { file, line } = statement.source
      const next = `#line ${line} "${shortPath(file)}"`
      if (next !== place) body.push(next)
      place = next
    }
  }
  const registers = new Map()
  for (const [register, type] of used) registers.set(cppType(type), [...(registers.get(cppType(type)) ?? []), register])
  return [
    `void ${name}(const void* const* parameters, void* const* results) {`,
    '  (void)parameters, (void)results;',
    '  bool carry = false;',
    '  (void)carry;',
    ...[...registers].map(([type, names]) => `  ${type} ${names.join(', ')};`),
    ...placed.map(({ array, type, count }) => `  ${cppType(type)} ${array}[${count}];`),
    ...variables.map(localVariable),
    ...body,
    '}',
  ]
}

/** Files of ours as paths from the root. */
function shortPath(file) {
  const path = relative(root, file)
  return path.startsWith('..') ? file : path
}
