/**
 * Reads a row of lexemes by a grammar written as text. A rule is `name = alternative | alternative`; an alternative is a
 * row of rules, word classes and "words", each of which may carry `?`, `*`, `+` or `~` (as `*`, the shortest first), with
 * brackets around what belongs together. All readings are followed, and only one that uses every word counts.
 */
import type { Token } from './tokens.js'
import type { Lexeme } from './types.js'

export interface Node {
  rule: string
  /** Tokens `[from, to)`. */
  from: number
  to: number
  kids: Leaf[]
}
export type Leaf = Node | Lexeme

export const isNode = (leaf: Leaf): leaf is Node => 'rule' in leaf

type Expression =
  | { is: 'name' | 'word'; name: string }
  | { is: 'row' | 'choice'; parts: Expression[] }
  | { is: 'repeat'; part: Expression; least: 0 | 1; most: 1 | 99; shortFirst: boolean }

export interface Grammar {
  rules: ReadonlyMap<string, Expression>
  /** By rule: what a stretch must have besides its form. */
  guards: Readonly<Record<string, (node: Node) => boolean>>
}

export function compileGrammar(text: string, guards: Grammar['guards'] = {}): Grammar {
  const rules = new Map<string, Expression>()
  for (const line of text.replace(/\n[ \t]+/g, ' ').split('\n')) {
    const rule = /^(\w+)\s*=(.*)$/.exec(line.replace(/\s--.*$/, ''))
    if (rule) rules.set(rule[1], parseChoice(rule[2].match(/"[^"]*"|\w+|[()|?*+~]/g) ?? []))
  }
  return { rules, guards }
}

/** Consumes `symbols` up to a closing bracket. */
function parseChoice(symbols: string[]): Expression {
  const rows: Expression[][] = [[]]
  while (symbols.length > 0 && symbols[0] !== ')') {
    const symbol = symbols.shift() as string
    const row = rows[rows.length - 1]
    if (symbol === '|') rows.push([])
    else if (symbol === '(') {
      row.push(parseChoice(symbols))
      symbols.shift()
    } else if (/^[?*+~]$/.test(symbol)) {
      const least = symbol === '+' ? 1 : 0
      const most = symbol === '?' ? 1 : 99
      row.push({ is: 'repeat', part: row.pop() as Expression, least, most, shortFirst: symbol === '~' })
    } else row.push(symbol[0] === '"' ? { is: 'word', name: symbol.slice(1, -1) } : { is: 'name', name: symbol })
  }
  return { is: 'choice', parts: rows.map((parts) => ({ is: 'row', parts })) }
}

interface Found {
  to: number
  kids: Leaf[]
}

/** So many readings of one stretch are kept; the grammar needs two or three. */
const READINGS = 4
/** A segment that takes more steps is too tangled to be read safely. */
const MOST_STEPS = 200_000

export interface Parsed {
  /** The first reading that uses every token, or null. */
  node: Node | null
  /** Where every reading ended at the latest: the token that could not be placed. */
  furthest: number
}

export function parse(grammar: Grammar, start: string, tokens: readonly Token[], lexemes: readonly Lexeme[][]): Parsed {
  const memo = new Map<string, Found[]>()
  let furthest = 0
  let steps = 0

  const name = (symbol: string, at: number): Found[] => {
    const rule = grammar.rules.get(symbol)
    if (!rule) {
      const found = (lexemes[at] ?? []).filter(({ kind }) => kind === symbol)
      return found.map((lexeme) => ({ to: lexeme.to, kids: [lexeme] }))
    }
    const key = `${symbol} ${at}`
    const known = memo.get(key)
    if (known) return known
    memo.set(key, [])
    const nodes = read(rule, at).map(({ to, kids }): Node => ({ rule: symbol, from: at, to, kids }))
    const guard = grammar.guards[symbol] ?? (() => true)
    const found = thin(nodes.filter(guard).map((node) => ({ to: node.to, kids: [node] })))
    memo.set(key, found)
    return found
  }

  const read = (expression: Expression, at: number): Found[] => {
    furthest = Math.max(furthest, at)
    if (++steps > MOST_STEPS) return []
    switch (expression.is) {
      case 'name':
        return name(expression.name, at)
      case 'word':
        return tokens[at]?.form === expression.name
          ? [{ to: at + 1, kids: [{ kind: 'word', text: expression.name, from: at, to: at + 1 }] }]
          : []
      case 'choice':
        return thin(expression.parts.flatMap((part) => read(part, at)))
      case 'row':
        return expression.parts.reduce(
          (before, part) =>
            thin(
              before.flatMap(({ to, kids }) =>
                read(part, to).map((next) => ({ to: next.to, kids: [...kids, ...next.kids] })),
              ),
            ),
          [{ to: at, kids: [] }] as Found[],
        )
      case 'repeat': {
        let last: Found[] = [{ to: at, kids: [] }]
        const all: Found[] = expression.least === 0 ? [...last] : []
        for (let count = 0; count < expression.most && last.length > 0; count++) {
          last = thin(
            last.flatMap(({ to, kids }) =>
              read(expression.part, to)
                .filter((next) => next.to > to)
                .map((next) => ({ to: next.to, kids: [...kids, ...next.kids] })),
            ),
          )
          all.push(...last)
        }
        // Of readings that reach as far, the one with fewer and therefore longer words comes first.
        const direction = expression.shortFirst ? 1 : -1
        return thin(all.sort((a, b) => direction * (a.to - b.to)))
      }
    }
  }

  const whole = name(start, 0).find(({ to }) => to === tokens.length)
  return { node: (whole?.kids[0] as Node) ?? null, furthest: Math.min(furthest, tokens.length - 1) }
}

function thin(found: readonly Found[]): Found[] {
  const counts = new Map<number, number>()
  return found.filter(({ to }) => {
    const count = (counts.get(to) ?? 0) + 1
    counts.set(to, count)
    return count <= READINGS
  })
}

/** Every node of a rule below `leaf`, itself included, outermost first; `within` says where not to look. */
export function nodesOf(leaf: Leaf, rule: string, within: (node: Node) => boolean = () => true): Node[] {
  if (!isNode(leaf)) return []
  if (leaf.rule === rule) return [leaf]
  return within(leaf) ? leaf.kids.flatMap((kid) => nodesOf(kid, rule, within)) : []
}

/** The lexemes of a kind below a leaf. */
export function lexemesOf(leaf: Leaf, kind?: string): Lexeme[] {
  if (!isNode(leaf)) return kind === undefined || leaf.kind === kind ? [leaf] : []
  return leaf.kids.flatMap((kid) => lexemesOf(kid, kind))
}

/** A direct part of a node. */
export function part(node: Node, name: string): Leaf | undefined {
  return node.kids.find((kid) => (isNode(kid) ? kid.rule === name : kid.kind === name || kid.text === name))
}
