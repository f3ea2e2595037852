/** What evaluation.json says of where things come from. */
import { availableParallelism, cpus } from 'node:os'
import { relative, resolve, sep } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { hashModel, sha256File } from '../data/files.js'
import { readMergedFrom } from '../data/merged.js'
import { DataError } from '../errors.js'
import { printable } from '../http/service.js'
import type { AnsweringSystem } from './systems.js'

/** When and where an evaluation was counted. */
export interface Made {
  /** `2026-11-28T12:00:00.000Z` */
  at: string
  machine: string
}

export const madeHere = (): Made => ({
  at: new Date().toISOString(),
  machine: `${process.platform} ${process.arch}, ${cpus()[0]?.model ?? 'unknown processor'}, ${availableParallelism()} cores, Node ${process.versions.node}`,
})

/** What evaluation.json says of a system: no address of a server may hold a password. Files and adapters, merged ones too, have their hash. */
export async function describeSystem(
  system: AnsweringSystem,
  fromOut: (place: string) => string,
): Promise<Record<string, unknown>> {
  if (system.kind === 'file') {
    return { kind: 'file', path: fromOut(system.path), sha256: await sha256File(system.path) }
  }
  if (system.kind === 'model') {
    const { kind, model, adapter, step } = system
    const about = { kind, model: fromOut(model), adapter: adapter === null ? null : fromOut(adapter) }
    const adapterSha256 = adapter === null ? (await readMergedFrom(model))?.adapterSha256 : await hashModel(adapter)
    const hashed = adapterSha256 === undefined ? about : { ...about, adapterSha256 }
    return step === undefined ? hashed : { ...hashed, step }
  }
  const { url, model } = system.endpoint
  return { kind: 'server', model, url: printable(url) }
}

/** Each system by its name, as `describeSystem` does. */
export async function describeSystems(
  systems: readonly AnsweringSystem[],
  fromOut: (place: string) => string,
): Promise<Map<string, Record<string, unknown>>> {
  const about = new Map<string, Record<string, unknown>>()
  for (const system of systems) about.set(system.name, await describeSystem(system, fromOut))
  return about
}

/**
 * A training that still runs replaces its best adapter: answers of two adapters must not stand under one hash.
 * @param before what `describeSystems` said of them before the first question.
 * @throws {DataError} naming the system that is another one by now.
 */
export async function refuseChanged(
  systems: readonly AnsweringSystem[],
  before: ReadonlyMap<string, Record<string, unknown>>,
  fromOut: (place: string) => string,
): Promise<void> {
  for (const system of systems) {
    if (isDeepStrictEqual(await describeSystem(system, fromOut), before.get(system.name))) continue
    const path = system.kind === 'model' ? (system.adapter ?? system.model) : system.kind === 'file' ? system.path : ''
    throw new DataError(`${path} was changed while ${system.name} was evaluated: its answers are of no one state`, {
      detail: { path, system: system.name },
      hint: 'Evaluate again with --overwrite when nothing writes there any more, or evaluate a copy.',
    })
  }
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
