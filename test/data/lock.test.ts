import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { threadId } from 'node:worker_threads'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { removeTemporaries, writeFileAtomic, writeFolderAtomic } from '../../src/data/files.js'
import { lockOutput, type OutputForm } from '../../src/data/lock.js'
import { standingOf, thisOwner } from '../../src/data/owner.js'
import { ArgumentError, FileError, LockedError } from '../../src/errors.js'
import { earlierBoot, farOwner, goneOwner } from './owners.js'

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fire-lock-'))
})
afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

const lockOf = (path: string, form: OutputForm) =>
  form === 'folder' ? join(path, '.fire-train.lock') : join(path, '..', `.${basename(path)}.fire-train.lock`)

const holder = (owner: string) => ({
  pid: 4321,
  host: 'elsewhere',
  since: '2026-01-02T03:04:05.000Z',
  owner,
  token: 'a1',
})

async function leaveLock(path: string, content: unknown): Promise<string> {
  const lock = lockOf(path, 'file')
  await writeFile(lock, typeof content === 'string' ? content : JSON.stringify(content))
  return lock
}

const failureOf = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error) => error,
  )

describe('an owner', () => {
  it('is alive, gone, or out of sight', async () => {
    expect(standingOf(thisOwner())).toBe('alive')
    expect(standingOf(goneOwner())).toBe('gone')
    expect(standingOf(farOwner())).toBe('unknown')
    expect(standingOf(earlierBoot())).toBe('gone')
  })

  it('that was killed and not waited for is gone', async () => {
    if (process.platform !== 'linux') return
    // The shell never waits: its child stays in the table of processes.
    const shell = spawn('sh', ['-c', 'sleep 0.1 & echo $!; exec sleep 60'], { stdio: ['ignore', 'pipe', 'ignore'] })
    const [line] = await once(shell.stdout, 'data')
    const pid = Number(String(line))
    await setTimeout(500)
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    expect(stat).toMatch(/\) Z /)
    const start = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
    expect(standingOf(thisOwner().replace(/\d+\.\d+$/, `${pid}.${start}`))).toBe('gone')
    shell.kill('SIGKILL')
    await once(shell, 'close')
  })
})

describe('a locked output', () => {
  it.each(['file', 'folder', 'whole folder'] as const)('is refused to a second writer: %s', async (form) => {
    const path = join(folder, 'deep', 'out')
    const first = await lockOutput(path, form)
    expect(JSON.parse(await readFile(lockOf(path, form), 'utf8'))).toMatchObject({ thread: threadId })
    const error = await failureOf(lockOutput(path, form))
    expect(error).toBeInstanceOf(LockedError)
    expect(error.message).toMatch(/out is being written by this process since 2/)
    expect(error.detail).toMatchObject({ path, lock: lockOf(path, form), pid: process.pid })
    await first[Symbol.asyncDispose]()
    expect(await readdir(folder)).toEqual([])
    await (await lockOutput(path, form))[Symbol.asyncDispose]()
  })

  it('keeps folders that were there, and those that were filled', async () => {
    await mkdir(join(folder, 'there'))
    await (await lockOutput(join(folder, 'there'), 'folder'))[Symbol.asyncDispose]()
    const filled = await lockOutput(join(folder, 'a', 'b'), 'folder')
    await writeFile(join(folder, 'a', 'x'), '')
    await filled[Symbol.asyncDispose]()
    expect((await readdir(folder, { recursive: true })).sort()).toEqual(['a', join('a', 'x'), 'there'])
  })

  it('is one for all names that lead to it', async () => {
    await mkdir(join(folder, 'real'))
    await symlink('real', join(folder, 'link'))
    await symlink(join('real', 'not yet.jsonl'), join(folder, 'alias.jsonl'))
    await using _folder = await lockOutput(join(folder, 'real'), 'folder')
    await using _file = await lockOutput(join(folder, 'real', 'not yet.jsonl'), 'file')
    await expect(lockOutput(join(folder, 'link'), 'folder')).rejects.toThrow(LockedError)
    await expect(lockOutput(join(folder, 'alias.jsonl'), 'file')).rejects.toThrow(LockedError)
    await expect(lockOutput(join(folder, 'link', 'not yet.jsonl'), 'file')).rejects.toThrow(LockedError)
  })

  it('of a worker is named with it: a terminated one gives nothing back', async () => {
    const path = join(folder, 'out')
    const lock = await leaveLock(path, { ...holder(thisOwner()), pid: process.pid, thread: 3 })
    expect(await failureOf(lockOutput(path, 'file'))).toMatchObject({
      message: expect.stringMatching(/is being written by worker 3 of this process since/),
      detail: { thread: 3 },
      hint: expect.stringContaining(`If that worker was terminated, delete ${lock}.`),
    })
  })

  it('is taken over from a process that has ended, also when that was damaged or killed while taking over', async () => {
    const path = join(folder, 'out')
    for (const left of [holder(goneOwner()), holder(earlierBoot()), '', '{"pid": 1']) {
      const lock = await leaveLock(path, left)
      await writeFile(`${lock}.a1`, JSON.stringify({ ...holder(goneOwner()), token: 'b2' }))
      await using _lock = await lockOutput(path, 'file')
      expect(JSON.parse(await readFile(lock, 'utf8')).owner).toBe(thisOwner())
      await rm(`${lock}.a1`, { force: true })
    }
    expect(await readdir(folder)).toEqual([])
  })

  it('is taken over by one of many', async () => {
    const path = join(folder, 'out')
    for (let round = 0; round < 20; round += 1) {
      await leaveLock(path, holder(goneOwner()))
      const tries = await Promise.allSettled(Array.from({ length: 8 }, () => lockOutput(path, 'file')))
      const won = tries.filter((each) => each.status === 'fulfilled')
      expect(won.length).toBe(1)
      for (const each of tries) if (each.status === 'rejected') expect(each.reason).toBeInstanceOf(LockedError)
      expect(await readdir(folder)).toEqual(['.out.fire-train.lock'])
      await won[0].value[Symbol.asyncDispose]()
    }
  })

  it('of another machine is left alone, with words how to remove it', async () => {
    const lock = await leaveLock(join(folder, 'out'), holder(farOwner()))
    const error = await failureOf(lockOutput(join(folder, 'out'), 'file'))
    expect(error).toBeInstanceOf(LockedError)
    expect(error.message).toContain('process 4321 on elsewhere since 2026-01-02')
    expect(error.hint).toContain(`delete ${lock}`)
  })

  it('of another machine is taken over when nobody has touched it for ten minutes', async () => {
    const path = join(folder, 'out')
    const lock = await leaveLock(path, holder(farOwner()))
    const ago = (minutes: number) => new Date(Date.now() - minutes * 60_000)
    await utimes(lock, ago(9), ago(9))
    await expect(lockOutput(path, 'file')).rejects.toThrow(LockedError)
    await utimes(lock, ago(11), ago(11))
    await using _lock = await lockOutput(path, 'file')
    expect(JSON.parse(await readFile(lock, 'utf8'))).toMatchObject({ pid: process.pid })
  })

  it('is touched every minute while it is held, and by nobody after that', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    try {
      const path = join(folder, 'out')
      const first = await lockOutput(path, 'file')
      const lock = lockOf(path, 'file')
      await utimes(lock, 1, 1)
      vi.advanceTimersByTime(60_000)
      expect((await stat(lock)).mtimeMs).toBeGreaterThan(Date.now() - 60_000)
      await first[Symbol.asyncDispose]()
      expect(vi.getTimerCount()).toBe(0)
    } finally {
      vi.useRealTimers()
    }
  })

  it('that someone deleted by hand is not taken from who has it now', async () => {
    const path = join(folder, 'out')
    const first = await lockOutput(path, 'file')
    await leaveLock(path, holder(farOwner()))
    await first[Symbol.asyncDispose]()
    expect(await readdir(folder)).toEqual(['.out.fire-train.lock'])
  })

  it.each(['exit', 'throw'])('is given back by a process that leaves by %s', async (way) => {
    const code = `
      const { lockOutput } = await import(${JSON.stringify(new URL('../../dist/data/lock.js', import.meta.url).href)})
      await lockOutput(process.argv[1], 'folder')
      if (${JSON.stringify(way)} === 'exit') process.exit(3)
      setTimeout(() => { throw new Error('x') })`
    const child = spawn(process.execPath, ['--input-type=module', '-e', code, join(folder, 'out')], { stdio: 'ignore' })
    await once(child, 'close')
    expect(await readdir(join(folder, 'out'))).toEqual([])
  })
})

describe('an output', () => {
  it('is refused where it is of another kind, and left as it is', async () => {
    await mkdir(join(folder, 'folder'))
    await writeFile(join(folder, 'file'), 'x')
    await symlink('/dev/null', join(folder, 'null'))
    await symlink('loop', join(folder, 'loop'))
    for (const [path, form, words] of [
      [join(folder, 'folder'), 'file', /is a folder; the output is a file/],
      [join(folder, 'file'), 'folder', /is a file; the output is a folder/],
      [join(folder, 'file'), 'whole folder', /is a file; the output is a folder/],
      [join(folder, 'file', 'below'), 'file', /not a folder/],
      [join(folder, 'null'), 'file', /is a device/],
      [join(folder, 'null'), 'whole folder', /is a device/],
      ['/dev/full', 'file', /is a device/],
      [join(folder, 'loop'), 'file', /in a circle/],
      ['/proc/none/out', 'folder', /takes no files/],
    ] as const) {
      const error = await failureOf(lockOutput(path, form))
      expect(error, path).toBeInstanceOf(FileError)
      expect(error.message).toMatch(words)
    }
    await expect(writeFileAtomic('/dev/null', 'x')).rejects.toThrow(/is a device/)
    await expect(writeFolderAtomic('/dev/null', async () => {})).rejects.toThrow(/is a device/)
    await expect(writeFolderAtomic(join(folder, 'file'), async () => {})).rejects.toThrow(/is a file/)
    expect((await readdir(folder)).sort()).toEqual(['file', 'folder', 'loop', 'null'])
  })

  it('may not replace what is read', async () => {
    await writeFile(join(folder, 'in.jsonl'), 'x')
    await symlink('in.jsonl', join(folder, 'same.jsonl'))
    await expect(lockOutput(join(folder, 'same.jsonl'), 'file', [join(folder, 'in.jsonl')])).rejects.toThrow(
      ArgumentError,
    )
    await expect(lockOutput(folder, 'whole folder', [join(folder, 'in.jsonl')])).rejects.toThrow(/is read from it/)
    await using _lock = await lockOutput(join(folder, 'out'), 'file', [join(folder, 'in.jsonl'), join(folder, 'none')])
  })

  it('says at once that nothing can be written there', async () => {
    if (process.getuid?.() === 0) return
    await chmod(folder, 0o500)
    expect((await failureOf(lockOutput(join(folder, 'out'), 'file'))).message).toMatch(/permission denied/)
    await chmod(folder, 0o700)
  })

  it('stays a link', async () => {
    await mkdir(join(folder, 'real'))
    await symlink(join('real', 'a.txt'), join(folder, 'a.txt'))
    await symlink(join('real', 'b'), join(folder, 'b'))
    for (const text of ['one', 'two']) {
      await writeFileAtomic(join(folder, 'a.txt'), text)
      await writeFolderAtomic(join(folder, 'b'), (temporary) => writeFile(join(temporary, 'c'), text))
      expect(await readFile(join(folder, 'real', 'a.txt'), 'utf8')).toBe(text)
      expect(await readFile(join(folder, 'real', 'b', 'c'), 'utf8')).toBe(text)
    }
    expect((await readdir(folder)).sort()).toEqual(['a.txt', 'b', 'real'])
    expect((await readdir(join(folder, 'real'))).sort()).toEqual(['a.txt', 'b'])
  })
})

describe('what interrupted writes left', () => {
  const left = (owner: string, rest = '') => `.tmp-model-${owner}.01234567${rest}`

  it('is deleted when its owner is gone, and else stays', async () => {
    const names = [left(goneOwner()), left(earlierBoot()), left(thisOwner()), left(farOwner())]
    for (const name of names) await mkdir(join(folder, name, 'in'), { recursive: true })
    await removeTemporaries(folder)
    expect((await readdir(folder)).sort()).toEqual(names.slice(2).sort())
    const old = new Date(Date.now() - 2 * 86_400_000)
    for (const name of names.slice(2)) await utimes(join(folder, name), old, old)
    await removeTemporaries(folder)
    expect(await readdir(folder)).toEqual([names[2]])
  })

  it('gets its name back when nothing replaced it', async () => {
    await mkdir(join(folder, left(goneOwner(), '.old')))
    await writeFile(join(folder, left(goneOwner(), '.old'), 'weights'), 'x')
    await mkdir(join(folder, left(goneOwner())))
    await using _lock = await lockOutput(join(folder, 'model'), 'whole folder')
    expect(await readFile(join(folder, 'model', 'weights'), 'utf8')).toBe('x')
    expect((await readdir(folder)).sort()).toEqual(['.model.fire-train.lock', 'model'])
    await mkdir(join(folder, left(goneOwner(), '.old')))
    await removeTemporaries(folder)
    expect((await readdir(folder)).sort()).toEqual(['.model.fire-train.lock', 'model'])
  })
})
