/**
 * `return promise` in the reach of `using`, or of a `try` with `finally`, gives up what is held before the promise has settled: a lock
 * is free while its work goes on. There it has to be `return await promise`.
 *
 * Usage: node scripts/lint-returns.mjs [root]
 */
import { existsSync } from 'node:fs'
import { join, relative, sep } from 'node:path'
import ts from 'typescript'
import { filesUnder, runLint } from './offences.mjs'

const fallback = { target: ts.ScriptTarget.ESNext, module: ts.ModuleKind.NodeNext, strict: true }

function optionsOf(root) {
  const path = join(root, 'tsconfig.json')
  if (!existsSync(path)) return fallback
  return ts.parseJsonConfigFileContent(ts.readConfigFile(path, ts.sys.readFile).config, ts.sys, root).options
}

const holds = (statement) =>
  ts.isVariableStatement(statement) && (statement.declarationList.flags & ts.NodeFlags.Using) !== 0

/** Calls `report` with every return of a promise that something held does not wait for. */
function findReturns(node, isHeld, isPromise, report) {
  const visit = (child, held) => findReturns(child, held, isPromise, report)
  if (ts.isBlock(node) || ts.isSourceFile(node)) {
    let held = isHeld
    for (const statement of node.statements) {
      held ||= holds(statement)
      visit(statement, held)
    }
  } else if (ts.isTryStatement(node)) {
    const isFinal = node.finallyBlock !== undefined
    visit(node.tryBlock, true) // its catch would not see the rejection either
    if (node.catchClause) visit(node.catchClause, isHeld || isFinal)
    if (isFinal) visit(node.finallyBlock, isHeld)
  } else {
    if (ts.isReturnStatement(node) && isHeld && node.expression && isPromise(node.expression)) report(node)
    node.forEachChild((child) => visit(child, isHeld && !ts.isFunctionLike(node)))
  }
}

/** @returns {string[]} one `file:line: message` per offence */
export function findOffences(root) {
  const files = filesUnder(join(root, 'src'), /\.ts$/).map((file) => join(root, 'src', file))
  const program = ts.createProgram(files, optionsOf(root))
  const checker = program.getTypeChecker()
  const isPromise = (expression) => {
    const type = checker.getTypeAtLocation(expression)
    return (type.isUnion() ? type.types : [type]).some((each) => each.getProperty('then') !== undefined)
  }
  const offences = []
  for (const path of files) {
    const source = program.getSourceFile(path)
    const name = relative(root, path).split(sep).join('/')
    findReturns(source, false, isPromise, (node) => {
      const { line } = source.getLineAndCharacterOfPosition(node.getStart())
      offences.push(`${name}:${line + 1}: what is held here is given up before this promise settles; return await it`)
    })
  }
  return offences
}

runLint(import.meta.url, findOffences, 'returns', 'none leaves its lock behind')
