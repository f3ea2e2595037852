/** What the corruptions of a table do: one image under each of them, and how many pairs had nothing but their lesion changed. */
import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { readPictureMask } from '../../corrupt/masks/picture.js'
import type { CorruptReport } from '../../corrupt/report.js'
import { readJsonl } from '../../data/jsonl.js'
import { type Pair, pair as pairSchema } from '../../data/records.js'
import { present, type Section, tableOf } from '../../evaluate/page/table.js'
import { type Html, html } from '../../page/html.js'
import { percent } from '../../page/numbers.js'
import { drawPicture, loadPicture } from '../../page/picture.js'
import { counted } from '../../text/plural.js'
import { armsOfTable, finishedFolders } from './finished.js'
import type { SectionInput } from './section.js'

/** Arms that have their twins in common. */
interface Corruption {
  arms: string[]
  /** By seed. */
  folders: string[]
  reports: CorruptReport[]
}

export async function corruptionSection(input: SectionInput): Promise<Section | null> {
  const corruptions = await corruptionsOf(input)
  if (corruptions.length === 0) return null
  const shown = tableOf<Corruption>({
    name: 'corruption',
    rows: corruptions,
    columns: [
      { label: 'arms', kind: 'text', show: ({ arms }) => arms.join(', ') },
      { label: 'method', kind: 'text', show: ({ reports: [{ settings }] }) => methodWords(settings) },
      { label: 'pairs with twins', show: (each) => twinsOf(each) },
      { label: 'changed at the lesion alone, %', show: (each) => shareOf(each) },
      { label: 'changed where a finding would be, pairs', show: absentOf },
      {
        label: 'twins by method',
        kind: 'text',
        show: ({ reports }) =>
          Object.entries(methodsOf(reports))
            .map(([method, count]) => `${method} ${count}`)
            .join(', '),
      },
    ],
    data: (each) => ({
      ...{ arms: each.arms.join(' '), method: String(each.reports[0].settings.method) },
      ...{ sigma: sigmaOf(each.reports[0].settings), seeds: each.reports.length },
      pairs: sum(each.reports, ({ pairs }) => pairs),
      ...{ withTwins: twinsOf(each), targeted: targetedOf(each), share: targetedOf(each) / twinsOf(each) },
      targetedAbsent: absentOf(each),
      twins: Object.entries(methodsOf(each.reports))
        .map(([method, count]) => `${method} ${count}`)
        .join('; '),
    }),
  })
  const title = 'Corrupted twins'
  return {
    title,
    tables: present(shown),
    html: html`<h2>${title}</h2>
      <p class="note">One image under each method; the outline is the mask, where the method has one. Where a lesion has no usable mask the whole image is changed
      instead: the last column says what an arm really had. “Elsewhere” is the control: as much is changed, and the lesion stays in view.</p>
      ${await drawSheet(corruptions)}${shown?.html}`,
  }
}

async function corruptionsOf({ root, results, table }: SectionInput): Promise<Corruption[]> {
  const found = new Map<string, Corruption>()
  for (const { name, seeds } of armsOfTable(results, table)) {
    const folders = seeds.flatMap((seed) => finishedFolders(root, seed, 'corrupt'))
    if (folders.length === 0) continue
    const key = folders.join()
    const known = found.get(key)
    if (known) known.arms.push(name)
    else found.set(key, { arms: [name], folders, reports: await Promise.all(folders.map(readReport)) })
  }
  return [...found.values()]
}

const readReport = async (folder: string): Promise<CorruptReport> =>
  JSON.parse(await readFile(join(folder, 'report.json'), 'utf8'))

const sum = (reports: readonly CorruptReport[], of: (report: CorruptReport) => number): number =>
  reports.reduce((total, report) => total + of(report), 0)
const twinsOf = ({ reports }: Corruption): number =>
  sum(reports, ({ pairs, skipped, failed }) => pairs - skipped - failed)
/** The control changes a mask as well, but not where the lesion is. */
const isControl = ({ reports: [{ settings }] }: Corruption): boolean => String(settings.method).endsWith('elsewhere')
/** A lesion is there, and it alone is changed. */
const targetedOf = (each: Corruption): number =>
  isControl(each) ? 0 : sum(each.reports, ({ targeted }) => targeted.pairs - targeted.absent)
/** There is no lesion; what is changed is the place that is asked about. */
const absentOf = (each: Corruption): number =>
  isControl(each) ? 0 : sum(each.reports, ({ targeted }) => targeted.absent)
const shareOf = (each: Corruption): string => percent(targetedOf(each) / twinsOf(each))

function methodsOf(reports: readonly CorruptReport[]): Record<string, number> {
  const methods: Record<string, number> = {}
  for (const report of reports) {
    for (const [method, count] of Object.entries(report.methods)) methods[method] = (methods[method] ?? 0) + count
  }
  return methods
}

type Settings = CorruptReport['settings']

const sigmaOf = ({ method, sigma }: Settings): number | null =>
  String(method).includes('noise') && typeof sigma === 'number' ? sigma : null

function methodWords(settings: Settings): string {
  const sigma = sigmaOf(settings)
  return `${settings.method}${sigma === null ? '' : `, σ ${Number(sigma.toPrecision(3))}`}`
}

/** A pair of every corruption, by its id; null where they have none in common. */
async function commonPair(corruptions: readonly Corruption[]): Promise<Pair[] | null> {
  const pairs = await Promise.all(corruptions.map(({ folders }) => withTwins(folders[0])))
  const common = [...pairs[0].keys()].filter((id) => pairs.every((each) => each.has(id)))
  const targets = (id: string) => pairs.filter((each) => each.get(id)?.corrupted?.masks.length).length
  const most = Math.max(...common.map(targets))
  const best = common.filter((id) => targets(id) === most).sort((a, b) => coverageOf(pairs, a) - coverageOf(pairs, b))
  // Neither a speck nor the whole lung.
  const id = best[Math.floor(best.length / 2)]
  return id === undefined ? null : pairs.map((each) => each.get(id) as Pair)
}

async function withTwins(folder: string): Promise<Map<string, Pair>> {
  const pairs = new Map<string, Pair>()
  for await (const { record } of readJsonl(join(folder, 'pairs.jsonl'), pairSchema)) {
    if (record.corrupted) pairs.set(record.id, record)
  }
  return pairs
}

/** Share of the image that the first mask covers. */
function coverageOf(pairs: readonly Map<string, Pair>[], id: string): number {
  for (const each of pairs) {
    const parts = each.get(id)?.provenance.corruption as { coverage?: number | null }[] | undefined
    if (parts?.[0]?.coverage) return parts[0].coverage
  }
  return 0
}

async function drawSheet(corruptions: readonly Corruption[]): Promise<Html | null> {
  const pairs = await commonPair(corruptions)
  if (!pairs) return null
  const [{ images, prompt, edits, chosen }] = pairs
  const clean = await loadPicture(images[0], corruptions[0].folders[0], null)
  const phrase = edits[0] && chosen.slice(...edits[0].chosen)
  const figures: Html[] = []
  for (const [i, corruption] of corruptions.entries()) figures.push(await drawTwin(corruption, pairs[i]))
  return html`<p class="question"><bdi>${prompt}</bdi> <span class="soft">Chosen: <bdi>${chosen}</bdi>${phrase && html` Decisive: <bdi>${phrase}</bdi>`}</span></p>
    <div class="twins"><figure>${drawPicture(clean, 'the image as it is')}<figcaption>as it is</figcaption></figure>${figures}</div>`
}

async function drawTwin({ arms, folders: [folder] }: Corruption, { corrupted }: Pair): Promise<Html> {
  const { images, method, sigma, masks } = corrupted as NonNullable<Pair['corrupted']>
  const mask = masks[0] === undefined ? null : await readMask(resolve(folder, masks[0]), images[0])
  const picture = await loadPicture(images[0], folder, mask)
  const words = methodWords({ method, sigma })
  return html`<figure>${drawPicture(picture, `the image under ${words}`)}<figcaption>${words} <small>${namesOf(arms)}</small></figcaption></figure>`
}

async function readMask(path: string, size: { width: number; height: number }): Promise<Uint8Array> {
  return (await readPictureMask(await readFile(path), path, {}, size)).inside
}

const namesOf = (arms: readonly string[]): string =>
  arms.length > 2 ? `${arms[0]} and ${counted(arms.length - 1, 'further arm')}` : arms.join(', ')

export const corruptionStyle = `
.twins { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 14px; margin: 0 0 18px; }
.twins .picture { image-rendering: pixelated; }
.twins figcaption { padding-top: 4px; line-height: 1.35; }
.twins small { display: block; }
`
