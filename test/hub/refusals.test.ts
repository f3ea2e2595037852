import { existsSync } from 'node:fs'
import { mkdir, open, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { ArgumentError, ChecksumError, DataError, DiskFullError, FileError, HubError } from '../../src/errors.js'
import { pull } from '../../src/hub/index.js'
import { temporaryFolder } from '../fakes/world.js'
import { expectWhole, git, hub, large, manifest, options, out, parts, refused, token, weights } from './model.js'
import { commits, gitHash, refuse, repo } from './server.js'

describe('pull refuses', () => {
  it.each([
    ['git', 'config.json', { oid: '0'.repeat(40) }],
    ['lfs', weights, { oid: '0'.repeat(64) }],
  ])('a %s file with another hash, and removes it', async (_, path, claims) => {
    hub.files[path].claims = claims
    const error = await refused()
    expect(error).toBeInstanceOf(ChecksumError)
    expect(error.message).toBe(`${repo}: ${path} has another hash than published; it was removed`)
    expect(existsSync(join(out, path))).toBe(false)
    expect((await parts()).filter((name) => name.startsWith(path))).toEqual([])
    expect((await manifest()).complete).toBe(false)
  })

  it.each([399_999, 400_001])('a file of another size than the published %i', async (size) => {
    hub.files[weights].claims = { size }
    const error = await refused()
    expect(error).toBeInstanceOf(ChecksumError)
    expect(error.message).toContain(`${weights} has 400000 bytes or more instead of the published ${size}`)
    expect(existsSync(join(out, weights))).toBe(false)
    expect((await parts()).filter((name) => name.startsWith(weights))).toEqual([])
  })

  it.each([
    [401, 'GatedRepo', undefined, /is gated$/, /Accept its terms at .*clinic\/tiny-vlm, then put a token/],
    [403, 'GatedRepo', token, /gated, and the token from HF_TOKEN has no access/, /Ask for access at/],
    [401, 'RepoNotFound', undefined, /does not exist at .*, or is private/, /Check the spelling/],
    [404, 'RepoNotFound', token, /does not exist at .*, or is private/, /Check the spelling/],
    [401, '', token, /does not accept the token from HF_TOKEN/, /settings\/tokens/],
    [403, '', token, /access denied/, /Give the token from HF_TOKEN the right/],
    [418, '', undefined, /the server answered 418/, /HF_ENDPOINT/],
  ])('on %i %s and says what to do', async (status, code, withToken, message, hint) => {
    hub.fault = ({ path }, response) => {
      if (!path.includes('/revision/')) return false
      refuse(response, status, code)
      return true
    }
    const error = await refused({ access: { endpoint: hub.endpoint, token: withToken, offline: false } })
    expect(error).toBeInstanceOf(HubError)
    expect(error.message).toMatch(message)
    expect(error.hint).toMatch(hint)
    expect(error.detail).toMatchObject({ status })
    expect(JSON.stringify([error.message, error.hint, error.detail])).not.toContain('hf_secret')
    expect(hub.seen).toHaveLength(1)
    expect(existsSync(out)).toBe(false)
  })

  it('files of a gated repository whose listing is public, and leaves no empty parts', async () => {
    hub.fault = ({ path }, response) => {
      if (!path.includes('/resolve/')) return false
      refuse(response, 401, 'GatedRepo')
      return true
    }
    expect((await refused()).message).toBe(`${repo} is gated`)
    expect(await readdir(out)).toEqual(['fire-train.pull.json'])
  })

  it('a revision and a repository that do not exist', async () => {
    const revision = await refused({ revision: 'v9' })
    expect(revision.message).toBe(`${repo} at v9: there is no such revision`)
    expect(revision.hint).toContain('--revision')
    expect((await refused({ repo: 'clinic/none' })).message).toContain('clinic/none does not exist')
    expect(await refused({ repo: '../etc' })).toBeInstanceOf(ArgumentError)
  })

  it.each([
    '../outside.safetensors',
    'vit/../../outside.json',
    '/etc/outside.json',
    'vit\\..\\outside.json',
    'C:outside.json',
    'vit//config.json',
    './config.json',
    'fire-train.pull.json',
    'config.json.part',
    'config\u0000.json',
  ])('a listing with the name %j, before anything is written', async (path) => {
    hub.files[path] = git('x')
    const error = await refused()
    expect(error).toBeInstanceOf(HubError)
    expect(error.message).toContain(`lists a name that could be written outside the folder: ${JSON.stringify(path)}`)
    expect(existsSync(out)).toBe(false)
  })

  it('to write through a symbolic link', async () => {
    const outside = await temporaryFolder()
    await mkdir(out)
    await symlink(outside, join(out, 'vit'))
    expect((await refused()).message).toContain('vit is a symbolic link; nothing is written through it')
    expect(await readdir(outside)).toEqual([])
  })

  it('to write through a link in place of the part', async () => {
    const victim = join(await temporaryFolder(), 'victim')
    await writeFile(victim, 'mine')
    await mkdir(out)
    await symlink(victim, join(out, `config.json.${gitHash(hub.files['config.json'].content).slice(0, 12)}.part`))
    expect(await refused()).toBeInstanceOf(FileError)
    expect(await readFile(victim, 'utf8')).toBe('mine')
  })

  it('to replace a file that differs, unless told to', async () => {
    await mkdir(out)
    await writeFile(join(out, 'config.json'), 'my own work')
    const error = await refused()
    expect(error).toBeInstanceOf(FileError)
    expect(error.message).toContain('differ from clinic/tiny-vlm')
    expect(error.message).toMatch(/: config\.json$/)
    expect(error.hint).toContain('--overwrite')
    expect(await readFile(join(out, 'config.json'), 'utf8')).toBe('my own work')
    await pull(options({ overwrite: true }))
    await expectWhole(['config.json'])
  })

  it('to update a folder to a branch that moved, unless told to', async () => {
    await pull(options())
    hub.revisions = { main: commits.next, [commits.next]: commits.next }
    hub.files['config.json'] = git('{"model_type": "newer"}')
    expect((await refused()).message).toContain(`differ from ${repo} at ${commits.next}: config.json`)
    expect((await manifest()).commit).toBe(commits.main)
    expect((await pull(options({ overwrite: true }))).downloaded).toBe(1)
    expect(await manifest()).toMatchObject({ commit: commits.next, complete: true })
    await expectWhole(['config.json', weights])
  })

  it('another repository in the same folder, and a manifest that is none', async () => {
    await pull(options())
    expect((await refused({ repo: 'clinic/other' })).message).toBe(`${out} holds ${repo}, not clinic/other`)
    await writeFile(join(out, 'fire-train.pull.json'), '{"files": [{"path": "../x"}]}')
    expect(await refused()).toBeInstanceOf(DataError)
  })

  it('patterns that match nothing and repositories without usable weights', async () => {
    expect((await refused({ include: ['*.json', '*.gguf'] })).message).toBe(`No file of ${repo} matches *.gguf`)
    hub.files = { 'config.json': git('{}'), 'pytorch_model.bin': large(10, 1) }
    expect((await refused()).message).toContain('has no safetensors weights: config.json, pytorch_model.bin')
  })

  it('to begin what the disk cannot hold', async () => {
    hub.files[weights].claims = { size: 2 ** 52 }
    const error = await refused()
    expect(error).toBeInstanceOf(DiskFullError)
    expect(error.message).toMatch(/4503599\.\d GB are to be downloaded and \d+\.\d GB are free/)
    expect(hub.downloads(weights)).toEqual([])
  })

  it('and keeps the part when the disk fills up on the way', async () => {
    await mkdir(out)
    const probe = await open(join(out, 'probe'), 'w')
    const prototype = Object.getPrototypeOf(probe)
    await probe.close()
    const append = prototype.appendFile
    let calls = 0
    vi.spyOn(prototype, 'appendFile').mockImplementation(function (this: unknown, ...args: unknown[]) {
      calls += 1
      if (calls > 2) return Promise.reject(Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' }))
      return append.apply(this, args)
    })
    const error = await refused({ include: [weights] })
    expect(error).toBeInstanceOf(DiskFullError)
    expect(error.message).toContain(`${weights}.`)
    expect(error.hint).toContain('run the same command again')
    vi.restoreAllMocks()
    hub.seen = []
    await pull(options({ include: [weights] }))
    expect(hub.downloads(weights, true)[0].range).toMatch(/^bytes=\d+-$/)
    await expectWhole([weights])
  })
})
