import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
// @ts-expect-error a plain script without types
import { readGlibc } from '../../scripts/package-addon.mjs'
import { checkTools } from '../../src/engine/build.js'
import { packagesFor, unmetRequirement, whyNoGpu } from '../../src/engine/prebuilt.js'
import { NativeBindingError } from '../../src/errors.js'
import { temporaryFolder } from '../fakes/world.js'

describe('prebuilt packages', () => {
  it('are tried with the GPU first where there is a driver', () => {
    const x64 = { platform: 'linux', arch: 'x64' } as const
    expect(packagesFor({ ...x64, hasGpuDriver: true })).toEqual(['@fire-train/linux-x64-cuda', '@fire-train/linux-x64'])
    expect(packagesFor({ ...x64, hasGpuDriver: false })).toEqual([
      '@fire-train/linux-x64',
      '@fire-train/linux-x64-cuda',
    ])
    expect(packagesFor({ platform: 'linux', arch: 'arm64', hasGpuDriver: true })).toEqual(['@fire-train/linux-arm64'])
    expect(packagesFor({ platform: 'darwin', arch: 'arm64', hasGpuDriver: false })).toEqual([])
  })

  it('say why they see no GPU, and which one would', () => {
    const x64 = { platform: 'linux', arch: 'x64' } as const
    expect(whyNoGpu('@fire-train/linux-x64', { ...x64, hasGpuDriver: true })).toBe(
      '@fire-train/linux-x64 has no GPU backend (npm install @fire-train/linux-x64-cuda)',
    )
    expect(whyNoGpu('@fire-train/linux-x64', { ...x64, hasGpuDriver: false })).toMatch(/^no driver of an NVIDIA GPU/)
    const arm = { platform: 'linux', arch: 'arm64', hasGpuDriver: true } as const
    expect(whyNoGpu('@fire-train/linux-arm64', arm)).toContain('no package with one for linux arm64')
    // These look for themselves.
    for (const from of ['@fire-train/linux-x64-cuda', '/clone/build/Release/fire.node'])
      expect(whyNoGpu(from, { ...x64, hasGpuDriver: true })).toBeUndefined()
  })

  it.each([
    ['2.34', undefined],
    ['2.100', undefined],
    ['3.0', undefined],
    ['2.28', 'needs glibc 2.34 or newer, this system has 2.28'],
    ['2.4', 'needs glibc 2.34 or newer, this system has 2.4'],
    [null, 'needs glibc 2.34, and this system has another C library'],
  ])('on glibc %s', (glibc, reason) => {
    expect(unmetRequirement({ glibc: '2.34' }, glibc)).toBe(reason)
  })
})

describe('the floor of glibc', () => {
  const library = (name: string): string => ` 0x01 (NEEDED)  Shared library: [${name}]\n`
  const symbol = (version: string): string => `  0x0010:   Name: ${version}  Flags: none  Version: 5\n`

  it('is the newest version that a symbol asks for', () => {
    const text = ['GLIBC_2.4', 'GLIBC_2.34', 'GLIBC_2.9', 'GCC_4.8.0'].map(symbol).join('')
    expect(readGlibc(library('libc.so.6') + library('libgcc_s.so.1') + text)).toBe('2.34')
  })

  it('is refused to an addon that needs a library of its own', () => {
    expect(() => readGlibc(library('libopenblas.so.0') + symbol('GLIBC_2.4'))).toThrow('libopenblas.so.0')
    expect(() => readGlibc(library('libc.so.6'))).toThrow('no version')
  })
})

describe('what a build needs', () => {
  it('is named, with the command that installs it', async () => {
    const PATH = await temporaryFolder()
    const check = (cuda: 'on' | 'auto') => () => checkTools({ cuda }, { PATH })
    expect(check('auto')).toThrow(NativeBindingError)
    expect(check('auto')).toThrow(/a C\+\+20 compiler, cmake 3\.24 or newer, ninja or make not found$/)
    expect(check('on')).toThrow(/ninja or make, nvcc not found$/)
  })

  it('is a cmake that is new enough', async () => {
    const PATH = await temporaryFolder()
    const program = (name: string, says: string) =>
      writeFile(join(PATH, name), `#!/bin/sh\necho "${says}"\n`, { mode: 0o755 })
    await program('g++', 'g++ 12.2.0')
    await program('make', 'GNU Make 4.3')
    await program('cmake', 'cmake version 3.9.6')
    expect(() => checkTools({ cuda: 'auto' }, { PATH })).toThrow(/compiled here: cmake 3\.24 or newer not found/)
    await program('cmake', 'cmake version 3.25.1')
    expect(() => checkTools({ cuda: 'auto' }, { PATH })).not.toThrow()
  })
})
