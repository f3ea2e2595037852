/**
 * Keeps the arrows between layers, for TypeScript imports and C++ includes. A layer is a folder (or file) under its root;
 * it may use itself and what its line names. `type:x` allows types of x only. Everything else is an offence, and so is a
 * circle between files of src/, even one of types.
 *
 * Usage: node scripts/lint-dependencies.mjs [root]
 */
import { readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { filesUnder, runLint } from './offences.mjs'

/** src/: the command line on top, stages that meet through data/ and files on disk, the engine below. */
export const typescriptLayers = {
  errors: [],
  version: [],
  options: ['errors'],
  random: [],
  statistics: ['random'],
  secrets: [],
  terminal: ['secrets'],
  engine: ['errors', 'options'],
  data: ['errors', 'options', 'version', 'secrets', 'engine'],
  text: ['errors', 'options'],
  http: ['errors', 'secrets'],
  hub: ['errors', 'options', 'secrets', 'data', 'http'],
  settings: ['errors', 'options', 'secrets', 'engine'],
  endpoint: ['errors', 'options', 'secrets', 'http', 'data', 'text', 'settings'],
  ranks: ['errors', 'secrets', 'engine'],
  stage: ['errors', 'version', 'settings', 'data', 'type:engine', 'ranks'],
  phantom: ['errors', 'options', 'data'],
  page: ['data', 'type:statistics'],
  pairs: ['errors', 'options', 'data', 'text', 'settings', 'ranks', 'stage', 'endpoint', 'engine', 'phantom'],
  corrupt: ['errors', 'options', 'random', 'data', 'text', 'http', 'page', 'engine', 'settings', 'ranks', 'stage'],
  import: ['errors', 'options', 'version', 'data', 'text', 'pairs', 'corrupt', 'phantom', 'settings', 'stage'],
  generate: ['errors', 'options', 'data', 'text', 'engine', 'settings'],
  sample: [
    'errors',
    'options',
    'data',
    'text',
    'engine',
    'corrupt',
    'generate',
    'http',
    'endpoint',
    'settings',
    'ranks',
    'stage',
  ],
  inspect: ['errors', 'options', 'data'],
  merge: ['errors', 'data', 'text', 'engine'],
  train: ['errors', 'options', 'version', 'data', 'text', 'page', 'engine', 'ranks', 'settings', 'stage'],
  evaluate: [
    ...['errors', 'options', 'version', 'data', 'text', 'engine', 'settings', 'stage'],
    ...[
      'statistics',
      'http',
      'endpoint',
      'import',
      'phantom',
      'pairs',
      'corrupt',
      'page',
      'generate',
      'sample',
      'train',
      'ranks',
    ],
  ],
  report: [
    'errors',
    'options',
    'version',
    'statistics',
    'data',
    'text',
    'page',
    'settings',
    'stage',
    'engine',
    'evaluate',
    'train',
    'type:pairs',
  ],
  pipeline: [
    ...['errors', 'options', 'version', 'data', 'text', 'page', 'settings', 'stage'],
    ...['import', 'sample', 'pairs', 'corrupt', 'train', 'evaluate', 'report'],
  ],
  study: [
    ...['errors', 'options', 'version', 'statistics', 'data', 'text', 'page', 'settings', 'stage'],
    ...['evaluate', 'pipeline', 'pairs', 'corrupt', 'ranks', 'type:train'],
  ],
  share: ['errors', 'data', 'text', 'page', 'engine', 'hub', 'train', 'evaluate', 'report'],
  bench: ['errors', 'version', 'random', 'data', 'text', 'corrupt', 'phantom', 'engine', 'settings', 'type:stage'],
  cli: [
    ...[
      'errors',
      'options',
      'version',
      'terminal',
      'page',
      'settings',
      'stage',
      'ranks',
      'data',
      'text',
      'engine',
      'hub',
      'generate',
      'inspect',
      'merge',
    ],
    ...['import', 'sample', 'pairs', 'corrupt', 'train', 'evaluate', 'report', 'pipeline', 'study', 'share', 'bench'],
  ],
  index: '*',
}

/** native/ and cuda/: `#include "layer/file.h"`. Only the binding knows Node. */
export const nativeLayers = {
  tensor: [],
  ops: ['tensor'],
  cpu: ['ops', 'tensor'],
  cuda: ['ops', 'tensor'],
  model: ['ops', 'tensor'],
  objective: ['model', 'ops', 'tensor'],
  dist: ['ops', 'tensor'],
  train: ['dist', 'objective', 'model', 'ops', 'tensor'],
  infer: ['objective', 'model', 'ops', 'tensor'],
  engine: ['dist', 'train', 'infer', 'objective', 'model', 'cpu', 'cuda', 'ops', 'tensor'],
  verify: ['engine', 'dist', 'train', 'infer', 'objective', 'model', 'cpu', 'cuda', 'ops', 'tensor'],
  binding: '*',
}

/** Headers of Node that only `binding` may include. */
const nodeHeaders = /^(napi|node_api|node|uv|v8)\.h$/

/** The addon's own types and loader stay inside engine/; the rest talks to the typed face. */
const insideEngine = /^engine\/(native|validate)\.ts$/

/**
 * @param {string} root folder that holds src/, native/ and cuda/
 * @returns {string[]} one `file:line: message` per offence
 */
export function findOffences(root) {
  return [...typescriptOffences(root), ...nativeOffences(root)]
}

function typescriptOffences(root) {
  const base = join(root, 'src')
  const imports = new Map(filesUnder(base, /\.ts$/).map((file) => [file, localImports(base, file)]))
  return [...arrowOffences(imports), ...circleOffences(imports)]
}

/** What a file imports from this repository, `path` as seen from src/. */
function localImports(base, file) {
  return importsOf(readFileSync(join(base, file), 'utf8'))
    .filter(({ target }) => target.startsWith('.'))
    .map((each) => ({
      ...each,
      path: posix.normalize(posix.join(posix.dirname(file), each.target)).replace(/\.js$/, '.ts'),
    }))
}

function arrowOffences(imports) {
  return [...imports].flatMap(([file, targets]) => {
    const from = layerOf(file, typescriptLayers)
    if (!from) return [`src/${file}:1: ${file} belongs to no layer; add it to scripts/lint-dependencies.mjs`]
    return targets.flatMap(({ target, path, typeOnly, line }) => {
      const place = `src/${file}:${line}`
      if (path.startsWith('../')) {
        return path === '../package.json' ? [] : [`${place}: ${from} may not reach outside src/ (${target})`]
      }
      const to = layerOf(path, typescriptLayers)
      if (!to) return [`${place}: ${path} belongs to no layer`]
      if (insideEngine.test(path) && from !== 'engine') {
        return [`${place}: only engine/ may import ${path}; use engine/engine.js`]
      }
      return isAllowed(typescriptLayers, from, to, typeOnly)
        ? []
        : [`${place}: ${from} may not import ${to} (${target})`]
    })
  })
}

/** One offence per import that leads back to a file whose own imports led here. */
function circleOffences(imports) {
  const offences = []
  const finished = new Set()
  const visit = (file, trail) => {
    if (finished.has(file)) return
    for (const { path, line } of imports.get(file) ?? []) {
      const start = [...trail, file].indexOf(path)
      if (start < 0) visit(path, [...trail, file])
      else
        offences.push(
          `src/${file}:${line}: a circle of imports: ${[...trail, file].slice(start).concat(path).join(' → ')}`,
        )
    }
    finished.add(file)
  }
  for (const file of imports.keys()) visit(file, [])
  return offences
}

function nativeOffences(root) {
  const files = [
    ...filesUnder(join(root, 'native'), /\.(h|cpp)$/).map((path) => ({ path, shown: `native/${path}` })),
    ...filesUnder(join(root, 'cuda'), /\.(h|cuh|cu|cpp)$/).map((path) => ({
      path: `cuda/${path}`,
      shown: `cuda/${path}`,
    })),
  ]
  return files.flatMap(({ path, shown }) => {
    const from = layerOf(path, nativeLayers)
    if (!from) return [`${shown}:1: ${path} belongs to no layer; add it to scripts/lint-dependencies.mjs`]
    return includesOf(readFileSync(join(root, shown), 'utf8')).flatMap(({ target, line }) => {
      if (nodeHeaders.test(target)) {
        return from === 'binding' ? [] : [`${shown}:${line}: only binding may include ${target}`]
      }
      const to = layerOf(target, nativeLayers)
      if (!to || !target.includes('/')) return []
      return isAllowed(nativeLayers, from, to, false)
        ? []
        : [`${shown}:${line}: ${from} may not include ${to} (${target})`]
    })
  })
}

function isAllowed(layers, from, to, typeOnly) {
  const uses = layers[from]
  return uses === '*' || from === to || uses.includes(to) || (typeOnly && uses.includes(`type:${to}`))
}

function layerOf(path, layers) {
  const name = path.split('/')[0].replace(/\.ts$/, '')
  return Object.hasOwn(layers, name) ? name : undefined
}

/** Static imports, re-exports and dynamic imports, with the line each starts on. */
function importsOf(source) {
  const pattern = /\b(import|export)\s+(type\s)?[^'"`;()]*?\bfrom\s*['"]([^'"]+)['"]|\bimport\s*\(?\s*['"]([^'"]+)['"]/g
  return [...withoutComments(source).matchAll(pattern)].map((match) => ({
    target: match[3] ?? match[4],
    typeOnly: match[2] !== undefined,
    line: lineAt(source, match.index),
  }))
}

function includesOf(source) {
  return [...withoutComments(source).matchAll(/^[ \t]*#[ \t]*include[ \t]*["<]([^">]+)[">]/gm)].map((match) => ({
    target: match[1],
    line: lineAt(source, match.index),
  }))
}

/** Blanks comments out without moving anything. */
function withoutComments(source) {
  return source.replace(/\/\*[\s\S]*?\*\/|(^|\s)\/\/[^\n]*/g, (comment) => comment.replace(/[^\n]/g, ' '))
}

function lineAt(source, index) {
  return source.slice(0, index).split('\n').length
}

runLint(import.meta.url, findOffences, 'dependencies', 'the arrows hold')
