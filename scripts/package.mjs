/**
 * `npm run package [-- NAME…] [--out FOLDER]`: what is published, as tarballs, by default in dist-packages/. The main package
 * has no addon and no install script. A package for each kind of machine has the addon; those made with it are the optional
 * dependencies of the main one. Names are those of src/engine/prebuilt.ts without the scope; without any, all that can be
 * built here are made, and the others are named. publint and attw look at the main tarball.
 */
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { root } from './native.mjs'
import { buildAddon, choose } from './package-addon.mjs'

const { values, positionals } = parseArgs({ allowPositionals: true, options: { out: { type: 'string' } } })
const output = resolve(values.out ?? join(root, 'dist-packages'))
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const { license, author, repository, homepage, engines, version } = manifest

/** npm would take what Python left in bench/peer. */
const isSource = (path) => !path.includes('__pycache__')

function run(command, args, options = {}) {
  const { status, stdout, error } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    ...options,
  })
  if (status === 0) return stdout
  console.error(stdout ?? '')
  throw new Error(`${command} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}`)
}

/** @returns the tarball and its sizes in bytes. */
function pack(folder) {
  const [{ filename, size, unpackedSize }] = JSON.parse(
    run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', output], { cwd: folder }),
  )
  return { path: join(output, filename), size, unpackedSize }
}

/** Compiled anew, so that nothing of deleted sources is in it; without maps, whose sources are not in the package. */
function packMain(folder, optional) {
  for (const name of ['README.md', 'LICENSE', ...manifest.files.filter((each) => each !== 'dist')]) {
    cpSync(join(root, name), join(folder, name), { recursive: true, filter: isSource })
  }
  const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
  const options = ['--outDir', join(folder, 'dist'), '--sourceMap', 'false', '--declarationMap', 'false']
  run(process.execPath, [compiler, '-p', 'tsconfig.build.json', ...options])
  const { scripts: _scripts, devDependencies: _devDependencies, ...published } = manifest
  const optionalDependencies = Object.fromEntries(optional.map(({ name }) => [name, version]))
  writeManifest(folder, { ...published, optionalDependencies })
  return pack(folder)
}

function packAddon(folder, kind) {
  const { name, platform, arch, cuda } = kind
  const glibc = buildAddon(kind, join(folder, 'fire.node'))
  copyFileSync(join(root, 'LICENSE'), join(folder, 'LICENSE'))
  const backend = cuda
    ? 'CPU and NVIDIA GPU (the CUDA runtime is linked in; a driver for CUDA 13 is needed to use it)'
    : 'CPU'
  const description = `The engine of fire-train for ${platform} ${arch}: ${backend}`
  writeFileSync(
    join(folder, 'README.md'),
    `# ${name}\n\n${description}. Needs glibc ${glibc} or newer.\n\nInstall \`fire-train\`; npm chooses this package where it fits.\n`,
  )
  writeManifest(folder, {
    ...{ name, version, description, license, author, repository, homepage, engines },
    ...{ os: [platform], cpu: [arch], libc: ['glibc'], config: { glibc } },
    ...{ main: 'fire.node', files: ['fire.node'], preferUnplugged: true },
  })
  return { glibc, ...pack(folder) }
}

function writeManifest(folder, content) {
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(content, null, 2)}\n`)
}

const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`

function report(name, { path, size, unpackedSize }, remark = '') {
  console.log(
    `${name.padEnd(28)}${mebibytes(size).padStart(9)} packed${mebibytes(unpackedSize).padStart(10)} installed  ${remark}`,
  )
  return path
}

/** What others see of the main package: its entries, their types. Only ES modules are offered, so only they are asked for. */
function check(tarball) {
  const bin = (name) => join(root, 'node_modules', '.bin', name)
  run(bin('publint'), ['--strict', tarball], { stdio: 'inherit' })
  run(bin('attw'), ['--profile', 'esm-only', '--no-emoji', '--format', 'ascii', tarball], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
}

const scratch = mkdtempSync(join(tmpdir(), 'fire-train-package-'))
const stage = (name) => {
  const folder = join(scratch, name.replace('/', '-'))
  mkdirSync(folder)
  return folder
}
try {
  if (!existsSync(join(root, 'dist', 'engine', 'prebuilt.js'))) run('npm', ['run', '--silent', 'build:ts'])
  const { prebuiltPackages } = await import(pathToFileURL(join(root, 'dist', 'engine', 'prebuilt.js')).href)
  const made = choose(prebuiltPackages, positionals)
  mkdirSync(output, { recursive: true })
  for (const name of readdirSync(output).filter((each) => /^fire-train-.*\.tgz$/.test(each))) rmSync(join(output, name))
  for (const each of made) {
    const { glibc, ...packed } = packAddon(stage(each.name), each)
    report(each.name, packed, `glibc ${glibc}`)
  }
  check(report(manifest.name, packMain(stage('main'), made)))
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
