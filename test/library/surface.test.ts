/** What the package exports: few names at the root, and each one says what it is. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** Source file of each entry of package.json, by the name it is imported under. */
const entries = new Map(
  Object.entries<{ types?: string }>(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).exports).flatMap(
    ([name, { types }]): [string, string][] =>
      types ? [[name, join(root, types.replace('./dist/', 'src/').replace(/\.d\.ts$/, '.ts'))]] : [],
  ),
)

const { options } = ts.parseJsonConfigFileContent(
  ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile).config,
  ts.sys,
  root,
)
const program = ts.createProgram([...entries.values()], options)
const checker = program.getTypeChecker()

function exportsOf(path: string): ts.Symbol[] {
  const source = program.getSourceFile(path)
  const module = source && checker.getSymbolAtLocation(source)
  if (!module) throw new Error(`${path} is no module`)
  return checker.getExportsOfModule(module)
}

const isDocumented = (symbol: ts.Symbol): boolean =>
  ts.displayPartsToString(symbol.getDocumentationComment(checker)).trim() !== ''

/** Methods that an exported class or interface declares itself and that are open to its users. */
function methodsOf(symbol: ts.Symbol): ts.Symbol[] {
  const members = [...(symbol.members?.values() ?? []), ...(symbol.exports?.values() ?? [])]
  return members.filter(
    ({ flags, escapedName, declarations }) =>
      flags & ts.SymbolFlags.Method &&
      // Names with a `#`, and those that are symbols.
      !String(escapedName).startsWith('__') &&
      declarations?.every((each) => !(ts.getCombinedModifierFlags(each) & ts.ModifierFlags.Private)),
  )
}

/** Names in an entry that no comment explains: exported symbols, and methods of those that are classes or interfaces. */
function undocumented(path: string): string[] {
  return exportsOf(path).flatMap((name) => {
    const symbol = name.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(name) : name
    const own = isDocumented(name) || isDocumented(symbol) ? [] : [name.name]
    const methods = methodsOf(symbol).filter((method) => !isDocumented(method))
    return [...own, ...methods.map((method) => `${name.name}.${method.name}`)]
  })
}

describe('the public surface', () => {
  it.each([...entries])('every name of %s has a doc comment', (_, path) => {
    expect(undocumented(path)).toEqual([])
  })

  it('the root is small enough to learn', () => {
    const names = exportsOf(entries.get('.') as string).length
    expect(names).toBeGreaterThan(60)
    expect(names).toBeLessThanOrEqual(90)
  })

  it('every index file is an entry: what it exports is for others, never to keep a name alive', () => {
    const indexes = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
      .filter((path) => /(^|\/)index\.ts$/.test(path))
      .map((path) => join(root, 'src', path))
    expect(indexes.sort()).toEqual([...entries.values()].sort())
  })

  it('every entry begins with what it is for', () => {
    for (const path of entries.values()) expect(readFileSync(path, 'utf8'), path).toMatch(/^\/\*\*/)
  })
})
