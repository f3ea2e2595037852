import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ArgumentError } from '../../src/errors.js'
import { hubAccess } from '../../src/hub/index.js'
import { temporaryFolder } from '../fakes/world.js'

describe('hubAccess', () => {
  it('reads the environment as the tools of Hugging Face do', async () => {
    const home = await temporaryFolder()
    await writeFile(join(home, 'token'), 'hf_file\n')
    const file = { value: 'hf_file', source: join(home, 'token') }
    expect(await hubAccess(undefined, { HF_HOME: home })).toMatchObject({ token: file, offline: false })
    expect((await hubAccess(undefined, { HF_TOKEN_PATH: join(home, 'token') })).token).toEqual(file)
    expect((await hubAccess(undefined, { HF_HOME: home, HF_TOKEN: 'hf_a' })).token).toEqual({
      value: 'hf_a',
      source: 'HF_TOKEN',
    })
    expect((await hubAccess('MINE', { HF_TOKEN: 'hf_a', MINE: 'hf_b' })).token?.value).toBe('hf_b')
    expect((await hubAccess(undefined, { HF_HOME: join(home, 'none') })).token).toBeUndefined()
    expect((await hubAccess(undefined, { HF_HOME: home, HF_ENDPOINT: 'http://mirror/hub/' })).endpoint).toBe(
      'http://mirror/hub',
    )
    expect((await hubAccess(undefined, { HF_HOME: home, HF_HUB_OFFLINE: 'true' })).offline).toBe(true)
    expect((await hubAccess(undefined, { HF_HOME: home, HF_HUB_OFFLINE: '0' })).offline).toBe(false)
  })

  it('refuses a variable that holds nothing and an endpoint that is no address', async () => {
    await expect(hubAccess('MINE', { HF_TOKEN: 'x' })).rejects.toThrow('The variable MINE holds no token')
    await expect(hubAccess(undefined, { HF_ENDPOINT: 'mirror' })).rejects.toThrow(ArgumentError)
  })

  it('repeats neither a password nor a token', async () => {
    const hidden = /^(?!.*4711)/s
    await expect(hubAccess(undefined, { HF_ENDPOINT: 'http://me:4711@mirror' })).rejects.toThrow(hidden)
    await expect(hubAccess('hf_4711', {})).rejects.toThrow(hidden)
    await expect(hubAccess(undefined, { HF_TOKEN: 'hf_\n4711' })).rejects.toThrow(hidden)
  })
})
