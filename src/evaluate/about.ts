/** What evaluation.json says of where things come from. */
import { relative, resolve, sep } from 'node:path'
import { printable } from '../http/service.js'
import type { AnsweringSystem } from './systems.js'

/** What evaluation.json says of a system: no address of a server may hold a password. */
export function describeSystem(system: AnsweringSystem, fromOut: (place: string) => string): Record<string, unknown> {
  if (system.kind === 'file') return { kind: 'file', path: fromOut(system.path) }
  if (system.kind === 'model') {
    const { kind, model, adapter, step } = system
    const about = { kind, model: fromOut(model), adapter: adapter === null ? null : fromOut(adapter) }
    return step === undefined ? about : { ...about, step }
  }
  const { url, model } = system.endpoint
  return { kind: 'server', model, url: printable(url) }
}

/** The same with its paths from another folder. */
export function moveSystem(about: Record<string, unknown>, moved: (place: string) => string): Record<string, unknown> {
  const isPath = ([key, value]: [string, unknown]): boolean =>
    typeof value === 'string' && (key === 'path' || key === 'adapter' || (key === 'model' && about.kind === 'model'))
  const entries = Object.entries(about).map((entry): [string, unknown] =>
    isPath(entry) ? [entry[0], moved(entry[1] as string)] : entry,
  )
  return Object.fromEntries(entries)
}

/** A path as evaluation.json has it: from the folder that it is in. */
export const pathFrom =
  (out: string) =>
  (place: string): string =>
    relative(resolve(out), resolve(place)).split(sep).join('/') || '.'
