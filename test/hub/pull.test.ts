import { existsSync } from 'node:fs'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { AbortedError, ArgumentError, HubError } from '../../src/errors.js'
import { type PullOptions, pull } from '../../src/hub/index.js'
import { startCommand } from '../command.js'
import {
  expectWhole,
  halfOfWeights,
  hub,
  large,
  manifest,
  options,
  out,
  parts,
  refused,
  token,
  weights,
  weightsPart,
} from './model.js'
import { commits, gitHash, refuse, repo, sendHalf, sha256 } from './server.js'

describe('pull', () => {
  it('takes what a model folder needs, byte for byte, from git, LFS and xet', async () => {
    const report = await pull(options())
    const taken = report.files.map(({ path }) => path)
    const left = ['vit/pytorch_model.bin', 'training/optimizer.pt', '.gitattributes', 'figure.png']
    expect(taken.sort()).toEqual(
      Object.keys(hub.files)
        .filter((path) => !left.includes(path))
        .sort(),
    )
    await expectWhole(taken)
    for (const path of left) expect(existsSync(join(out, path))).toBe(false)
    expect(report).toMatchObject({ repo, commit: commits.main, folder: out, downloaded: taken.length })
  })

  it('pins the commit and writes down what it took', async () => {
    hub.revisions = { main: commits.main, 'refs/pr/1': commits.next, [commits.next]: commits.next }
    await pull(options({ revision: 'refs/pr/1', include: ['config.json', '*-00001-*'] }))
    expect(await manifest()).toEqual({
      repo,
      revision: 'refs/pr/1',
      commit: commits.next,
      complete: true,
      include: ['config.json', '*-00001-*'],
      files: [
        { path: 'config.json', size: 22, hash: `git-sha1:${gitHash(hub.files['config.json'].content)}` },
        { path: weights, size: 400_000, hash: `sha256:${sha256(hub.files[weights].content)}` },
      ],
    })
    const resolved = hub.seen.filter(({ path }) => path.includes('/resolve/'))
    expect(resolved.map(({ path }) => path.includes(commits.next))).toEqual([true, true])
  })

  it('transfers nothing a second time, reports bytes that add up, and takes more files on request', async () => {
    const progress: [number, number][] = []
    await pull(options({ onProgress: (...step) => progress.push(step) }))
    const total = (await manifest()).files.reduce((sum, { size }) => sum + size, 0)
    expect(progress[0]).toEqual([0, total])
    expect(progress.at(-1)).toEqual([total, total])
    hub.seen = []
    expect((await pull(options())).downloaded).toBe(0)
    expect(hub.seen.filter(({ path }) => path.includes('/resolve/'))).toEqual([])
    expect((await pull(options({ include: ['training/*'] }))).downloaded).toBe(1)
    await expect(pull(options({ include: [''] }))).rejects.toThrow(ArgumentError)
    expect((await manifest()).files.map(({ path }) => path)).toEqual(
      expect.arrayContaining(['config.json', 'training/optimizer.pt']),
    )
  })

  it('keeps files that are already right without a manifest', async () => {
    await mkdir(out)
    await writeFile(join(out, weights), hub.files[weights].content)
    await pull(options())
    expect(hub.downloads(weights)).toEqual([])
  })

  it('sends the token to the hub and never to the store', async () => {
    await pull(options({ access: { endpoint: hub.endpoint, token, offline: false } }))
    expect(hub.seen.filter(({ store }) => store)).toHaveLength(2)
    for (const { store, authorization } of hub.seen) expect(authorization).toBe(store ? undefined : 'Bearer hf_secret')
  })

  it('never runs more downloads at once than allowed', async () => {
    let running = 0
    let most = 0
    hub.fault = ({ path }, response) => {
      if (!path.includes('/resolve/')) return false
      running += 1
      most = Math.max(most, running)
      setTimeout(() => {
        running -= 1
        const content = hub.files[path.split(`${commits.main}/`)[1]].content
        response.writeHead(200, { 'content-length': content.length }).end(content)
      }, 30)
      return true
    }
    await pull(options({ parallel: 2 }))
    expect(most).toBe(2)
  })
})

describe('pull over a bad connection', () => {
  it('continues a file whose connection was cut by asking for the rest', async () => {
    const cuts = [100_000, 250_000]
    hub.fault = ({ store, path, range }, response) => {
      if (!store || !path.endsWith(weights) || cuts.length === 0) return false
      const { content } = hub.files[weights]
      const first = Number(range?.slice(6, -1) ?? 0)
      const end = cuts.shift() as number
      const extent = { 'content-range': `bytes ${first}-${content.length - 1}/${content.length}` }
      response.writeHead(first ? 206 : 200, { 'content-length': content.length - first, ...(first && extent) })
      response.write(content.subarray(first, end), () => setTimeout(() => response.destroy(), 200))
      return true
    }
    await pull(options())
    await expectWhole([weights])
    expect(hub.downloads(weights, true).map(({ range }) => range)).toEqual([
      undefined,
      'bytes=100000-',
      'bytes=250000-',
    ])
  })

  it('starts a file again when the server knows no ranges', async () => {
    let cut = true
    hub.ignoresRanges = true
    hub.fault = ({ store, path }, response) => {
      if (!store || !path.endsWith(weights) || !cut) return false
      cut = false
      return sendHalf(response, hub.files[weights].content, 150_000, 'cut')
    }
    const progress: number[] = []
    await pull(options({ onProgress: (done) => progress.push(done) }))
    await expectWhole([weights])
    expect(hub.downloads(weights, true).map(({ range }) => range)).toEqual([undefined, 'bytes=150000-'])
    expect(progress.at(-1)).toBe((await manifest()).files.reduce((sum, { size }) => sum + size, 0))
  })

  it('gives up on a server that cuts every time at the same byte', async () => {
    hub.ignoresRanges = true
    hub.fault = ({ store, path }, response) =>
      store && path.endsWith(weights) && sendHalf(response, hub.files[weights].content, 150_000, 'cut')
    const error = await refused()
    expect(error).toBeInstanceOf(HubError)
    expect(error.message).toMatch(/model-00001-of-00002\.safetensors: .* \(4 attempts\)/)
    expect(error.hint).toContain('goes on where it stopped')
    // The first attempt brought new bytes and is not counted.
    expect(hub.downloads(weights, true)).toHaveLength(5)
    expect(await parts()).toContain(weightsPart())
  })

  it('waits out a storm of 429 and 503, as long as the server asks', async () => {
    const storm = new Map<string, number>()
    hub.fault = ({ store, path }, response) => {
      const count = (storm.get(path) ?? 0) + 1
      storm.set(path, count)
      if (store || count > 2) return false
      refuse(
        response,
        count === 1 ? 429 : 503,
        '',
        count === 1 && path.includes('/revision/') ? { 'Retry-After': '1' } : {},
      )
      return true
    }
    const lines: string[] = []
    const started = performance.now()
    await pull(options({ onLog: (line) => lines.push(line) }))
    expect(performance.now() - started).toBeGreaterThan(1000)
    await expectWhole([weights, 'config.json'])
    expect(lines.join('\n')).toContain(`${repo} at main: too many requests; trying again`)
    expect(lines.join('\n')).toContain('config.json: the server answered 503; trying again')
  })

  it('stops asking after the allowed attempts and says what it was told', async () => {
    hub.fault = (_, response) => {
      refuse(response, 429, '')
      return true
    }
    const error = await refused()
    expect(error).toBeInstanceOf(HubError)
    expect(error.message).toBe(`${repo} at main: too many requests (4 attempts)`)
    expect(error.detail).toMatchObject({ status: 429 })
    expect(hub.seen).toHaveLength(4)
  })

  it('asks again for a listing that was cut off', async () => {
    let cut = true
    hub.fault = ({ path }, response) => {
      if (!path.includes('/tree/') || !cut) return false
      cut = false
      return sendHalf(response, Buffer.from('[{"type": "file"}]'), 5, 'cut')
    }
    await pull(options())
    await expectWhole(['config.json'])
  })

  it('explains a hub that is not there', async () => {
    const gone = options()
    await hub.close()
    const error = await pull(gone).catch((failure) => failure)
    expect(error).toBeInstanceOf(HubError)
    expect(error.message).toContain('ECONNREFUSED')
  })

  it('explains an answer that is none of a hub', async () => {
    hub.fault = (_, response) => {
      response.writeHead(200, { 'content-type': 'text/html' }).end('<html>Welcome to the hotel</html>')
      return true
    }
    expect((await refused()).message).toContain('answered something that is no answer of a model hub')
  })
})

describe('pull, stopped and started again', () => {
  async function stopInTheMiddle(): Promise<number> {
    const stop = new AbortController()
    hub.fault = ({ store, path }, response) =>
      store && path.endsWith(weights) && sendHalf(response, hub.files[weights].content, 150_000, 'stall')
    const stopped = refused({ signal: stop.signal })
    const part = await halfOfWeights()
    stop.abort()
    const error = await stopped
    expect(error).toBeInstanceOf(AbortedError)
    expect(error.hint).toContain('goes on where it stopped')
    expect(existsSync(join(out, weights))).toBe(false)
    expect((await manifest()).complete).toBe(false)
    hub.fault = () => false
    hub.seen = []
    return (await stat(part)).size
  }

  it('leaves the part and continues it', async () => {
    const there = await stopInTheMiddle()
    await pull(options())
    expect(hub.downloads(weights, true).map(({ range }) => range)).toEqual([`bytes=${there}-`])
    await expectWhole([weights])
    expect((await manifest()).complete).toBe(true)
  })

  it('stays at the commit it began with', async () => {
    await stopInTheMiddle()
    hub.revisions = { main: commits.next, [commits.next]: commits.next, [commits.main]: commits.main }
    expect((await pull(options())).commit).toBe(commits.main)
    expect(hub.seen.some(({ path }) => path.includes('/revision/'))).toBe(false)
  })

  it('calls the folder complete only for what it then asks for', async () => {
    await stopInTheMiddle()
    await pull(options({ include: ['config.json'] }))
    expect((await manifest()).files.map(({ path }) => path)).toEqual(['config.json'])
    expect((await pull(options())).downloaded).toBeGreaterThan(0)
    await expectWhole([weights])
  })

  it('starts again when the part was damaged in the meantime', async () => {
    await stopInTheMiddle()
    const part = join(out, weightsPart())
    const content = await readFile(part)
    content[1000] ^= 1
    await writeFile(part, content)
    await pull(options())
    await expectWhole([weights])
    expect(hub.downloads(weights, true)).toHaveLength(2)
  })

  it('never continues a part of other content', async () => {
    await stopInTheMiddle()
    hub.revisions = { main: commits.main, other: commits.next, [commits.next]: commits.next }
    hub.files[weights] = large(400_000, 9)
    await pull(options({ revision: 'other' }))
    expect(hub.seen.filter(({ store, path }) => store && path.endsWith(weights))[0].range).toBeUndefined()
    await expectWhole([weights])
  })

  it('keeps the parts of other files when one download fails', async () => {
    await stopInTheMiddle()
    hub.fault = ({ path }, response) => {
      if (!path.endsWith(`/resolve/${commits.main}/${weights}`)) return false
      refuse(response, 404, 'EntryNotFound')
      return true
    }
    expect((await refused()).message).toContain('there is no such file')
    expect(await parts()).toContain(weightsPart())
  })
})

describe('pull offline', () => {
  it('succeeds when the folder is complete and asks nobody', async () => {
    await pull(options())
    hub.seen = []
    const report = await pull(options({ offline: true }))
    expect(report).toMatchObject({ commit: commits.main, downloaded: 0 })
    await pull(options({ access: { endpoint: hub.endpoint, token: undefined, offline: true }, revision: commits.main }))
    expect(hub.seen).toEqual([])
  })

  it('says what is missing', async () => {
    const offline = async (changes: Partial<PullOptions> = {}) => (await refused({ offline: true, ...changes })).message
    expect(await offline()).toContain('was not pulled into this folder')
    await pull(options())
    expect(await offline({ revision: 'v2' })).toContain(`holds ${repo} at main (${commits.main}), not at v2`)
    expect(await offline({ repo: 'clinic/other' })).toContain(`holds ${repo}, not clinic/other`)
    expect(await offline({ include: ['training/*'] })).toContain('was not pulled with --include training/*')
    await writeFile(join(out, 'config.json'), 'short')
    expect(await offline()).toContain('config.json is not the file that was pulled')
    await writeFile(join(out, 'fire-train.pull.json'), JSON.stringify({ ...(await manifest()), complete: false }))
    expect(await offline()).toContain('was not finished')
  })

  it('stops reading when told to', async () => {
    await pull(options())
    expect(await refused({ offline: true, verify: true, signal: AbortSignal.abort() })).toBeInstanceOf(AbortedError)
  })

  it('sees a file of the right size and the wrong content with --verify only', async () => {
    await pull(options())
    await writeFile(join(out, weights), Buffer.alloc(400_000))
    await pull(options({ offline: true }))
    expect((await refused({ offline: true, verify: true })).message).toContain(
      `${weights} is not the file that was pulled`,
    )
    expect((await pull(options())).downloaded).toBe(0)
    expect((await refused({ verify: true })).message).toContain(`differ from ${repo}`)
  })
})

describe('fire-train pull', () => {
  const start = (args: string[], env: object = {}) =>
    startCommand(['pull', ...args], { env: { HF_ENDPOINT: hub.endpoint, HF_TOKEN: 'hf_secret', ...env } })

  it('exits with 130 on SIGINT, resumes, and needs no hub afterwards', async () => {
    const { content } = hub.files[weights]
    hub.fault = ({ store, path }, response) =>
      store && path.endsWith(weights) && sendHalf(response, content, 150_000, 'stall')
    const { child, done } = start([repo, '--out', out])
    await halfOfWeights()
    child.kill('SIGINT')
    const stopped = await done
    expect(stopped.code).toBe(130)
    expect(stopped.stderr).toContain(`Stopped while pulling ${repo}`)
    expect(await parts()).toContain(weightsPart())
    hub.fault = () => false
    hub.seen = []
    const resumed = await start([repo, '--out', out]).done
    expect(resumed.code, resumed.stderr).toBe(0)
    expect(hub.downloads(weights, true)[0].range).toBe('bytes=150000-')
    expect(resumed.stdout).toMatch(/clinic\/tiny-vlm at a{40}\n10 files, .*, [1-9]\d* of them downloaded now\nfolder: /)
    await expectWhole([weights])
    const offline = await start([repo, '--out', out, '--verify'], { HF_HUB_OFFLINE: '1', HF_ENDPOINT: '' }).done
    expect(offline.code, offline.stderr).toBe(0)
  })

  it('prints code and remedy', async () => {
    const { code, stderr } = await start([repo, '--out', out, '--revision', 'v9']).done
    expect(code).toBe(1)
    expect(stderr).toMatch(/error ERR_FIRE_HUB: .* at v9: there is no such revision\nhint: Give a branch/)
  })
})
