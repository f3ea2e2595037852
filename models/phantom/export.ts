/**
 * Writes the pretraining corpus of the phantom model for pretrain.py:
 *
 *     npx tsx models/phantom/export.ts OUT [STUDIES] [SEED]
 *
 * OUT/images.u8   STUDIES x 96 x 96 grey bytes
 * OUT/cells.u8    STUDIES x 6 findings x 36 cells: 1 where a 16 x 16 cell of the picture holds part of the finding
 * OUT/corpus.jsonl one study a line: { id, findings, atlas: [question, answer][], ward: [question, answer][] }
 *
 * and, for measuring, OUT/demo-train.jsonl and OUT/demo-test.jsonl with images beside them: the questions of the demo,
 * as the ward asks them and as the atlas would.
 */
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { generateStudy, Rng, type Split, type Study, studyPixels } from '../../src/phantom/index.js'
import { phraseQuestion } from '../../src/phantom/language.js'
import { FINDING_TYPES } from '../../src/phantom/types.js'
import { chooseCorpusAsks, type Exchange, writeExchange } from './corpus.js'

const CELL = 16
const CELLS = 6
const EXCHANGES = 8

const [out, studies = '16000', seed = '2026', demo = '600'] = process.argv.slice(2)
if (!out) throw new Error('usage: npx tsx models/phantom/export.ts OUT [STUDIES] [SEED] [DEMO STUDIES]')
mkdirSync(out, { recursive: true })
exportCorpus(out, Number(studies), Number(seed))
for (const split of ['train', 'test'] as const) exportDemo(out, split, Number(demo))

function exportCorpus(folder: string, count: number, corpusSeed: number): void {
  const images = openSync(join(folder, 'images.u8'), 'w')
  const cells = openSync(join(folder, 'cells.u8'), 'w')
  const lines = openSync(join(folder, 'corpus.jsonl'), 'w')
  for (let index = 0; index < count; index++) {
    const study = generateStudy(corpusSeed, 'pretrain', index)
    writeSync(images, studyPixels(study))
    writeSync(cells, cellLabels(study))
    writeSync(lines, `${JSON.stringify({ id: study.id, findings: facts(study), ...exchanges(study, corpusSeed) })}\n`)
  }
  for (const file of [images, cells, lines]) closeSync(file)
}

function exchanges(study: Study, corpusSeed: number): { atlas: Exchange[]; ward: Exchange[] } {
  const rng = new Rng('corpus', corpusSeed, study.id)
  const write = (register: 'atlas' | 'ward'): Exchange[] =>
    chooseCorpusAsks(study.findings, EXCHANGES, rng).map((ask) => writeExchange(ask, study.findings, register, rng))
  return { atlas: write('atlas'), ward: write('ward') }
}

/** The demo's own studies and questions, seed 1. */
function exportDemo(folder: string, split: Split, count: number): void {
  const images = openSync(join(folder, `demo-${split}.u8`), 'w')
  const lines = openSync(join(folder, `demo-${split}.jsonl`), 'w')
  for (let index = 0; index < count; index++) {
    const study = generateStudy(1, split, index)
    writeSync(images, studyPixels(study))
    const questions = study.questions.map(({ id, question, answerType, task, truth }) => ({
      id,
      question,
      atlas: phraseQuestion(truth.ask, 'atlas', index),
      answerType,
      task,
      intent: truth.ask.intent,
    }))
    writeSync(lines, `${JSON.stringify({ id: study.id, index, findings: facts(study), questions })}\n`)
  }
  for (const file of [images, lines]) closeSync(file)
}

function facts(study: Study) {
  return study.findings.map(({ mask: _mask, ...rest }) => rest)
}

/** A finding is in a cell if at least ten of its pixels are. */
function cellLabels(study: Study): Uint8Array {
  const labels = new Uint8Array(FINDING_TYPES.length * CELLS * CELLS)
  for (const finding of study.findings) {
    const held = new Uint16Array(CELLS * CELLS)
    finding.mask.forEach((bit, i) => {
      const cell = Math.floor(Math.floor(i / study.width) / CELL) * CELLS + Math.floor((i % study.width) / CELL)
      held[cell] = held[cell]! + bit
    })
    const base = FINDING_TYPES.indexOf(finding.type) * CELLS * CELLS
    held.forEach((pixels, cell) => {
      if (pixels >= 10) labels[base + cell] = 1
    })
  }
  return labels
}
