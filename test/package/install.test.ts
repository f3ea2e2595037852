/**
 * The packages as they are published, installed into an empty folder and used by another account: no compiler in its PATH, no
 * right to write to what is installed. They are made once; `npm run test:install` names further programs of Node to use them with.
 */
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packagesFor } from '../../src/engine/prebuilt.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const isRoot = process.getuid?.() === 0
const nobody = 65534
const [prebuilt] = packagesFor({
  platform: process.platform,
  arch: process.arch as NodeJS.Architecture,
  hasGpuDriver: false,
})

/** By `npm run test:install`, for which a platform without a package is a failure. */
const isAsked = process.env.FIRE_INSTALL_NODES !== undefined

const nodes = [
  process.execPath,
  ...(process.env.FIRE_INSTALL_NODES ?? '').split(delimiter).filter((path) => path !== ''),
].map((path) => ({ path, version: spawnSync(path, ['--version'], { encoding: 'utf8' }).stdout.trim() }))

/** Not below the tests' own folder, which is closed to other accounts. */
const temporary = (name: string): string => mkdtempSync(join(tmpdir(), name))
const tarballs = temporary('fire-train-tarballs-')

interface Result {
  status: number | null
  stdout: string
  stderr: string
}

function programPath(name: string): string {
  const folder = (process.env.PATH ?? '').split(delimiter).find((each) => existsSync(join(each, name)))
  if (folder === undefined) throw new Error(`${name} is not in PATH`)
  return realpathSync(join(folder, name))
}

/** Nobody may write; everybody may read. */
function setWritable(folder: string, writable: boolean): void {
  for (const name of ['.', ...readdirSync(folder, { recursive: true, encoding: 'utf8' })]) {
    const path = join(folder, name)
    if (existsSync(path)) chmodSync(path, writable ? 0o755 : 0o555)
  }
}

beforeAll(() => {
  if (prebuilt === undefined) throw new Error(`No package has the engine for ${process.platform} ${process.arch}`)
  const script = join(root, 'scripts', 'package.mjs')
  const packing = spawnSync(process.execPath, [script, prebuilt.split('/')[1], '--out', tarballs], {
    encoding: 'utf8',
  })
  if (packing.status !== 0) throw new Error(`${packing.stdout}\n${packing.stderr}`)
}, 480_000)

afterAll(() => rmSync(tarballs, { recursive: true, force: true }))

describe.skipIf(prebuilt === undefined && !isAsked).each(nodes)(
  'the packages with Node $version',
  ({ path: program, version: nodeVersion }) => {
    const world = temporary('fire-train-install-')
    const [programs, app, home] = ['programs', 'app', 'home'].map((name) => join(world, name))
    const installed = join(app, 'node_modules', 'fire-train')
    const work = join(app, 'work')

    /** Runs a program with nothing but node, npm, npx and sh in PATH. */
    function run(command: string, args: string[], options: { cwd: string; user?: boolean; env?: object }): Result {
      const { cwd, user = false, env } = options
      const { status, stdout, stderr, error } = spawnSync(join(programs, command), args, {
        cwd,
        encoding: 'utf8',
        env: { PATH: programs, HOME: user ? home : process.env.HOME, LANG: 'C.UTF-8', ...env },
        ...(user && isRoot && { uid: nobody, gid: nobody }),
      })
      if (error) throw error
      return { status, stdout, stderr }
    }

    /** `npx fire-train …`, as the account that may not write to the package. */
    const fireTrain = (...args: string[]): Result =>
      run('npx', ['--no', 'fire-train', ...args], {
        cwd: work,
        user: true,
        env: { npm_config_update_notifier: 'false' },
      })

    beforeAll(() => {
      for (const folder of [programs, app, home, work]) mkdirSync(folder, { recursive: true })
      chmodSync(world, 0o755)
      if (isRoot) for (const folder of [home, work]) chownSync(folder, nobody, nobody)
      copyFileSync(program, join(programs, 'node'))
      for (const name of ['npm', 'npx', 'sh']) symlinkSync(programPath(name), join(programs, name))
      writeFileSync(join(app, 'package.json'), '{ "private": true, "type": "module" }\n')
      const files = readdirSync(tarballs).map((name) => join(tarballs, name))
      const flags = ['--prefer-offline', '--no-audit', '--no-fund']
      const { status, stderr } = run('npm', ['install', ...flags, ...files], { cwd: app })
      if (status !== 0) throw new Error(stderr)
      setWritable(join(app, 'node_modules'), false)
    }, 480_000)

    afterAll(() => {
      if (existsSync(join(app, 'node_modules'))) setWritable(join(app, 'node_modules'), true)
      rmSync(world, { recursive: true, force: true })
    })

    it('ran no script while they were installed', () => {
      const lock = JSON.parse(readFileSync(join(app, 'node_modules', '.package-lock.json'), 'utf8'))
      const withScripts = Object.entries<{ hasInstallScript?: boolean }>(lock.packages)
        .filter(([, { hasInstallScript }]) => hasInstallScript)
        .map(([name]) => name)
      expect(withScripts).toEqual([])
      expect(existsSync(join(installed, 'build'))).toBe(false)
    })

    it('say what they need and where they come from', () => {
      const manifest = (folder: string) => JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
      const own = manifest(join(root))
      expect(manifest(installed)).toMatchObject({
        version: own.version,
        optionalDependencies: { [prebuilt]: own.version },
      })
      expect(manifest(join(app, 'node_modules', prebuilt))).toMatchObject({
        ...{ version: own.version, os: ['linux'], cpu: [process.arch], libc: ['glibc'] },
        config: { glibc: expect.stringMatching(/^2\.\d+$/) },
      })
    })

    it('load the prebuilt engine', () => {
      const { status, stdout } = fireTrain('doctor', '--json')
      const { engine, version, node } = JSON.parse(stdout)
      expect({ status, node, engine }).toMatchObject({
        status: 0,
        node: nodeVersion,
        engine: { from: prebuilt, version },
      })
    })

    it('run the whole method', () => {
      const { status, stderr } = fireTrain('demo', '--quick', '--quiet')
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
      expect(readFileSync(join(work, 'fire-demo', 'report.html'), 'utf8')).toContain('</html>')
    }, 120_000)

    it('say what to do in a folder where they may not write', () => {
      const { status, stderr } = fireTrain('demo', '--quick', '--out', join(installed, 'demo'))
      expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringContaining('ERR_FIRE_IO: Writing') })
      expect(stderr).toContain('Give this user the right to it, or name another place.')
    })

    it('serve a typed program', () => {
      const source = join(app, 'program')
      cpSync(join(root, 'test', 'consumer'), source, { recursive: true })
      const typescript = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
      const types = ['--typeRoots', join(root, 'node_modules', '@types'), '--outDir', join(source, 'out')]
      expect(run('node', [typescript, '-p', source, ...types], { cwd: app }).stdout).toBe('')
      const program = join(source, 'out', 'main.js')
      const model = join(installed, 'models', 'phantom')
      const { status, stdout, stderr } = run('node', [program, model, join(work, 'program')], { cwd: work, user: true })
      expect({ status, stderr }).toMatchObject({ status: 0, stderr: expect.stringMatching(/^4\/4 loss /m) })
      expect(JSON.parse(stdout).answers).toEqual([expect.stringMatching(/^(Yes|No), .*\.$/)])
    }, 120_000)

    it('say what a build would need', () => {
      const { status, stderr } = fireTrain('build')
      expect(status).toBe(1)
      expect(stderr).toContain('ERR_FIRE_NATIVE_BINDING')
      expect(stderr).toContain('a C++20 compiler, cmake 3.24 or newer, ninja or make not found')
      expect(stderr).toContain('apt-get install -y g++ cmake ninja-build')
    })

    it('say what is missing without the prebuilt engine', () => {
      setWritable(join(app, 'node_modules'), true)
      rmSync(join(app, 'node_modules', prebuilt), { recursive: true })
      const { status, stdout } = fireTrain('doctor')
      expect(status).toBe(1)
      expect(stdout).toContain(`tried ${prebuilt}: not installed`)
      expect(stdout).toContain('fire-train build')
    })
  },
)
