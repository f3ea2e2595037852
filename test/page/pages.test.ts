/** Every page that the product writes, looked at in a real browser: wide and narrow, light and dark. */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { objectiveNames, objectives } from '../../src/engine/objectives.js'
import { renderEvaluation } from '../../src/evaluate/page/render.js'
import { loadPipeline, runPipeline } from '../../src/pipeline/index.js'
import { renderReport } from '../../src/report/index.js'
import { evaluationFolder } from '../evaluate/page-world.js'
import { removeScratch, scratchFolder, talker } from '../fakes/talker.js'
import { reportData } from '../report/fixture.js'
import { allViews, hasBrowser, useBrowser } from './browser.js'

const inLight = allViews.filter(({ colorScheme }) => colorScheme === 'light')
const demo = fileURLToPath(new URL('../../models/phantom/demo.yaml', import.meta.url))

describe.skipIf(!hasBrowser)('in a browser', () => {
  const faults = useBrowser()
  afterAll(removeScratch)

  it('the report and the contact sheet of a run', { timeout: 60_000 }, async () => {
    const world = await talker(3, { train: 4, test: 6 })
    const out = join(await scratchFolder(), 'demo')
    const small = [
      'import.trainStudies=4',
      'import.testStudies=6',
      'evaluate.attentionQuestions=3',
      'corrupt.sheetRows=6',
    ]
    const settings = [`output=${out}`, ...small, 'seed=3', 'train.lora.rank=4', `model=${world.model}`]
    await runPipeline(await loadPipeline(demo, settings), { native: world.native })
    expect(await faults.ofFile(join(out, 'report.html'))).toEqual([])
    expect(await faults.ofFile(join(out, 'corrupt', 'sheet.html'))).toEqual([])
  })

  it.each(objectiveNames)('the report of a run with the objective %s', async (name) => {
    const { coefficients, scope } = objectives[name]
    const objective = { name, scope, coefficients }
    expect(await faults.ofText(renderReport({ ...reportData(), objective }), inLight)).toEqual([])
  })

  it.each(['', '<script>alert(1)</script> " onload=x \u202e', `${'W'.repeat(400)} ${'汉字'.repeat(200)}`])(
    'the page of an evaluation whose texts say %j',
    { timeout: 60_000 },
    async (text) => {
      expect(await faults.ofText(await renderEvaluation(await evaluationFolder(text)))).toEqual([])
    },
  )

  it('a report with nothing but its facts', async () => {
    const nothing = { comparisons: [], metrics: [], examples: [], attention: [], changed: [], stages: [] }
    const none = { pairs: null, limits: null, objective: null, config: null, hidden: { results: [], examples: [] } }
    expect(await faults.ofText(renderReport({ ...reportData(), ...nothing, ...none }))).toEqual([])
  })

  it.each([
    ['text outside the window', `<p style="white-space: nowrap">${'word '.repeat(400)}</p>`],
    ['scrolls sideways', '<div style="width: 2000px">wide</div>'],
    ['cut or scrolling sideways', `<div style="overflow: hidden; width: 90px"><div style="width: 300px">x</div></div>`],
    ['text outside its box', '<div style="width: 20px; white-space: nowrap">longer than that</div>'],
    ['text of 9.0 px', '<p style="font-size: 9px">small</p>'],
    ['text of 6.0 px', '<svg viewBox="0 0 200 10" width="100"><text y="9" font-size="12">small</text></svg>'],
    ['contrast', '<p style="color: #999; background: #eee">faint</p>'],
    ['contrast', '<p style="opacity: 0.3">faint</p>'],
    ['a heading of level 4 after 1', '<h4>deep</h4>'],
    ['console', '<script>console.error("no")</script>'],
    ['asks http://127.0.0.1:9/', '<link rel="stylesheet" href="http://127.0.0.1:9/">'],
    ['an image does not decode', '<img src="data:image/png;base64,AAAA">'],
  ])('sees: %s', async (fault, content) => {
    const page = `<!doctype html><html lang="en"><title>t</title><body><h1>Title</h1>${content}`
    const found = await faults.ofText(page, allViews.slice(0, 1))
    expect(found.join('\n')).toContain(fault)
  })
})
