/** Headers of inline PTX: their instructions, and copies of them with two operands exchanged, or a branch back missing. */

/**
 * Of each `asm`, the pairs of neighbouring operands of the same constraint: `"r"(a), "r"(b)` becomes `"r"(b), "r"(a)`.
 *
 * @param {string} file as printed
 * @param {string} source
 * @returns {{ id: string, text: string, last: boolean }[]} `text` is the whole changed file; `last` of its `asm`
 */
export function findSwaps(file, source) {
  return asmStatements(source).flatMap(([statement, index]) => {
    const mutants = []
    const operands = [...statement.matchAll(/"([=+]?[a-z])"\(((?:[^()]|\([^()]*\))*)\)/g)]
    for (const [i, second] of operands.entries()) {
      const first = operands[i - 1]
      if (!first || first[1] !== second[1] || first[2] === second[2]) continue
      const [from, to] = [index + first.index, index + second.index + second[0].length]
      const between = source.slice(from + first[0].length, index + second.index)
      if (!/^[\s,\\]*$/.test(between)) continue
      mutants.push({
        id: `${file}: ${first[2]} and ${second[2]} exchanged in ${instructionOf(statement)}`,
        text: source.slice(0, from) + second[0] + between + first[0] + source.slice(to),
      })
    }
    return mutants.map((mutant, i) => ({ ...mutant, last: i === mutants.length - 1 }))
  })
}

/**
 * Of each `asm`, what it is without a branch: who asks once whether a phase is complete does not wait for it.
 *
 * @param {string} file as printed
 * @param {string} source
 * @returns {{ id: string, text: string, last: boolean }[]} as of `findSwaps`
 */
export function findBranches(file, source) {
  return asmStatements(source).flatMap(([statement, index]) =>
    [...statement.matchAll(/\n\s*"@!?\w+ bra \w+;(?:\\n)?"/g)].map((branch) => ({
      id: `${file}: no branch in ${instructionOf(statement)}`,
      text: source.slice(0, index + branch.index) + source.slice(index + branch.index + branch[0].length),
      last: true,
    })),
  )
}

/**
 * The opcodes of all `asm`, or how they begin where a macro makes the rest.
 *
 * @returns {string[]}
 */
export function findInstructions(source) {
  return [...new Set(asmStatements(source).flatMap(([statement]) => opcodesOf(statement)))]
}

/** Each `asm ...(...);` with its place. */
function asmStatements(source) {
  return [...source.matchAll(/\basm\b(?: volatile)?\([\s\S]*?\);/g)].map((match) => [match[0], match.index])
}

/** The longest opcode of it. */
function instructionOf(statement) {
  return opcodesOf(statement).reduce((longest, text) => (text.length > longest.length ? text : longest), '')
}

function opcodesOf(statement) {
  return statement.replaceAll('\\n', ' ').match(/(?<![.\w])[a-z]\w*(?:\.[\w:]+)+/g) ?? []
}
