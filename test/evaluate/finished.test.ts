/** The folder of a finished evaluation: what may replace it, what may not stand in it, and two of them compared. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Sample } from '../../src/data/records.js'
import { compareEvaluations } from '../../src/evaluate/compare-folders.js'
import { evaluate } from '../../src/evaluate/evaluation.js'
import { rejudge } from '../../src/evaluate/rejudge.js'
import { server } from '../endpoint/world.js'
import { writeRecords } from '../sample/records.js'
import { folder, image, request, samples, verdicts } from './world.js'

describe('a finished evaluation', () => {
  it('is not replaced by another one unless that is said, and the same goes on', async () => {
    await evaluate(request())
    const before = await verdicts()
    const [, right] = request().systems
    const other = request({ systems: [right] })
    await expect(evaluate(other)).rejects.toMatchObject({
      code: 'ERR_FIRE_IO',
      message: expect.stringContaining('with other systems'),
      hint: expect.stringContaining('--overwrite'),
    })
    const asked = { ...request().asked, limit: 10 }
    await expect(evaluate(request({ asked }))).rejects.toThrow('with other questions')
    expect(await verdicts()).toEqual(before)
    await evaluate(request({ margin: 0.05 }))
    expect(await verdicts()).toEqual(before)
    await evaluate({ ...other, overwrite: true })
    expect((await verdicts()).length).toBe(60)
  })

  it('that was cut at a line is not judged again', async () => {
    await evaluate(request())
    const out = join(folder, 'out')
    const again = () => rejudge(out, { ...request(), out: join(folder, 'again') })
    for (const name of ['predictions.jsonl', 'samples.jsonl']) {
      const whole = await readFile(join(out, name), 'utf8')
      await writeFile(join(out, name), `${whole.split('\n').slice(0, 20).join('\n')}\n`)
      await expect(again()).rejects.toThrow(name)
      await writeFile(join(out, name), '')
      await expect(again()).rejects.toThrow(name)
      await writeFile(join(out, name), whole)
    }
    await again()
  })
})

describe('numbers of earlier answers', () => {
  it('never stand beside others, whatever ends the run', async () => {
    const out = join(folder, 'out')
    await evaluate(request())
    const left = ['report.html', 'reports.jsonl', 'grounding.jsonl', 'attention.jsonl', 'hidden.jsonl']
    for (const name of left) await writeFile(join(out, name), '')
    await mkdir(join(out, 'tables'), { recursive: true })
    await writeRecords(
      join(folder, 'half.jsonl'),
      samples.map(({ id }) => ({ sampleId: id, text: 'Something else.' })),
    )
    server.answer = (response) => void response.writeHead(401).end('no')
    const judge = {
      endpoint: { url: `${server.url}/v1`, model: 'm', retries: 0 },
      ...({ on: 'all', protocol: 'ours', secondSample: 0, seed: 1, cache: join(folder, 'cache') } as const),
    }
    await expect(evaluate(request({ judge }))).rejects.toThrow()
    expect((await readdir(out)).filter((name) => !name.startsWith('.')).sort()).toEqual([
      'predictions.jsonl',
      'samples.jsonl',
    ])
  })

  it('are refused where a judge would look at nothing', async () => {
    const endpoint = { url: `${server.url}/v1`, model: 'm' }
    const judge = {
      endpoint,
      on: 'all',
      protocol: 'ours',
      secondSample: 0,
      seed: 1,
      cache: join(folder, 'cache'),
    } as const
    const truth = { about: { kind: 'test', description: 'known' }, judge: () => expect.fail('nothing is judged') }
    await expect(evaluate(request({ truth, judge }))).rejects.toThrow('The truth of the samples decides every answer')
  })
})

describe('two finished evaluations', () => {
  it('are compared in any order of questions, and refused about other images', async () => {
    await evaluate(request())
    const at = async (name: string, changed: Sample[]) => {
      await writeRecords(join(folder, 'samples.jsonl'), changed)
      await evaluate(request({ out: join(folder, name) }))
      const paths = [join(folder, 'out'), join(folder, name)] as const
      return (await compareEvaluations(...paths, { margin: 0.03, seed: 1 })).comparisons
    }
    const [first] = await at('reversed', [...samples].reverse())
    expect(first.groups[0]).toMatchObject({ count: 60, counts: { gained: 20, lost: 0 } })
    const again = (await at('again', [...samples].reverse())).find(({ system }) => system.startsWith('half'))
    expect(again?.groups[0].counts).toMatchObject({ gained: 0, lost: 0 })
    const others = samples.map((each, i) => ({ ...each, images: [image(100 + (i >> 1))] }))
    await expect(at('others', others)).rejects.toThrow('answered other questions, first set-0')
  })
})
