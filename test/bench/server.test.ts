import { describe, expect, it } from 'vitest'
import { StepServer } from '../../src/bench/server.js'

const node = (script: string): string[] => [process.execPath, '-e', script]

const counting = `
console.log(JSON.stringify({ ready: true, variant: 'x', dtype: 'f32' }))
let step = 0
require('node:readline').createInterface({ input: process.stdin }).on('line', () =>
  console.log(JSON.stringify({ step: ++step })))`

describe('a process that serves steps', () => {
  it('answers each step and ends when it is let go', async () => {
    const server = new StepServer('ours', node(counting))
    expect(await server.ready()).toMatchObject({ ready: true, variant: 'x' })
    expect([await server.step(), await server.step()]).toEqual([{ step: 1 }, { step: 2 }])
    await server.close()
    await expect(server.step()).rejects.toThrow('ours ended before it answered')
  })

  it('passes on what a process wrote before it died', async () => {
    const server = new StepServer('peer', node('console.error("no such model"); process.exit(3)'))
    const failure = { code: 'ERR_FIRE_BENCH', detail: { variant: 'peer', exitCode: 3 } }
    await expect(server.ready()).rejects.toMatchObject(failure)
    await expect(server.ready()).rejects.toThrow('peer ended before it answered (exit code 3)\nno such model')
    await server.close()
  })

  it('names a program that is not there', async () => {
    const server = new StepServer('peer', ['/no/such/python'])
    await expect(server.ready()).rejects.toThrow(/peer ended before it answered \(.*ENOENT/)
    await server.close()
  })

  it('ends with the reason of the signal', async () => {
    const stop = new AbortController()
    const server = new StepServer('ours', node(counting), stop.signal)
    await server.ready()
    const answer = server.step().then(() => server.step())
    stop.abort(new Error('enough'))
    await expect(answer).rejects.toMatchObject({ code: 'ERR_FIRE_ABORTED', cause: { message: 'enough' } })
    await server.close()
  })
})
