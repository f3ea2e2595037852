/** The numbers of grounding: layer by layer to look at, and one chosen beforehand to conclude from. */
import { DataError } from '../../errors.js'
import {
  type ClusteredItem,
  clusteredMean,
  clusterSignFlip,
  countClusters,
  fewestClusters,
  type MeanByCluster,
  meanByCluster,
} from '../../statistics/index.js'
import type { GroundingRecord } from '../records.js'
import { type GroundingKind, groundingKinds } from './questions.js'

const measures = ['ar', 'kl', 'js', 'mass', 'shiftedAr'] as const

/** A mean over questions, null where it is infinite or of none; bounds by image, null with fewer than 20. */
export interface LayerMean {
  value: number | null
  low: number | null
  high: number | null
}

/** One system on one kind of question. */
export interface GroundingResults {
  system: string
  kind: GroundingKind
  measured: number
  /** By reason. */
  skipped: Record<string, number>
  images: number
  /** A value a layer, first to last. KL can be infinite where a region has no attention. */
  layers: Record<(typeof measures)[number], LayerMean[]>
  /** Mean attention ratio over the last third of the layers; the interval is null with fewer than 20 images. */
  headline: MeanByCluster
}

/** A system against the baseline on the questions that both could be measured on: mean attention ratio over the last third. */
export interface ComparedGrounding {
  baseline: string
  system: string
  kind: GroundingKind
  both: number
  difference: MeanByCluster
  /** Sign flips of images; null with fewer than 20. */
  p: number | null
}

/** Mean over the last third of the layers. */
const lateMean = ({ ar }: GroundingRecord): number => {
  const late = ar.slice(Math.floor((2 * ar.length) / 3))
  return late.reduce((sum, value) => sum + value, 0) / late.length
}

/** One entry for each system and kind that has records. */
export function groundingResults(records: readonly GroundingRecord[], seed: number): GroundingResults[] {
  const systems = [...new Set(records.map(({ system }) => system))]
  return systems.flatMap((system) =>
    groundingKinds.flatMap((kind): GroundingResults[] => {
      const own = records.filter((record) => record.system === system && record.kind === kind)
      if (own.length === 0) return []
      const measured = own.filter(({ skipped }) => skipped === null)
      const skipped: Record<string, number> = {}
      for (const { skipped: reason } of own) if (reason !== null) skipped[reason] = (skipped[reason] ?? 0) + 1
      const items = measured.map((record) => ({ cluster: record.imageId, value: lateMean(record) }))
      return [
        {
          system,
          kind,
          measured: measured.length,
          skipped,
          images: new Set(measured.map(({ imageId }) => imageId)).size,
          layers: layerMeans(measured),
          headline: meanByCluster(items, seed),
        },
      ]
    }),
  )
}

const finite = (value: number): number | null => (Number.isFinite(value) ? value : null)

function layerMeans(records: readonly GroundingRecord[]): GroundingResults['layers'] {
  const count = records[0]?.ar.length ?? 0
  const means = (name: (typeof measures)[number]): LayerMean[] =>
    Array.from({ length: count }, (_, layer) => {
      const { value, clusters, low, high } = clusteredMean(
        records.map((record) => ({ cluster: record.imageId, value: record[name][layer] ?? Number.POSITIVE_INFINITY })),
      )
      const bound = (each: number): number | null => (clusters >= fewestClusters ? finite(each) : null)
      return { value: finite(value), low: bound(low), high: bound(high) }
    })
  return { ar: means('ar'), kl: means('kl'), js: means('js'), mass: means('mass'), shiftedAr: means('shiftedAr') }
}

/** Every system against the baseline. @throws {DataError} when two questions with one id are about other images. */
export function compareGrounding(
  records: readonly GroundingRecord[],
  baseline: string,
  seed: number,
): ComparedGrounding[] {
  const systems = [...new Set(records.map(({ system }) => system))].filter((system) => system !== baseline)
  const measured = records.filter(({ skipped }) => skipped === null)
  return systems.flatMap((system) =>
    groundingKinds.flatMap((kind): ComparedGrounding[] => {
      const of = (name: string) => measured.filter((record) => record.system === name && record.kind === kind)
      const before = new Map(of(baseline).map((record) => [record.sampleId, record]))
      const items = of(system).flatMap((record): ClusteredItem[] => {
        const other = before.get(record.sampleId)
        if (other && other.imageId !== record.imageId) {
          throw new DataError(
            `${baseline} and ${system} were asked about other images in ${kind} question ${record.sampleId}`,
            {
              detail: { baseline, system, sampleId: record.sampleId },
              hint: 'Only answers to the same questions can be compared.',
            },
          )
        }
        return other ? [{ cluster: record.imageId, value: lateMean(record) - lateMean(other) }] : []
      })
      if (items.length === 0) return []
      const p = countClusters(items) >= fewestClusters ? clusterSignFlip(items, { seed }) : null
      return [{ baseline, system, kind, both: items.length, difference: meanByCluster(items, seed), p }]
    }),
  )
}
