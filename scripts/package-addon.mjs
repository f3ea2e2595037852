/** The addon of each package: which can be built here, how, and what it asks of the machine that loads it. */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { arm64Tree, buildTarget, crossCompiler, has, hostTree } from './native.mjs'

/** Without its scope. */
const shortName = ({ name }) => name.split('/')[1]

/** Why a package cannot be made here; undefined if it can. */
function obstacle({ platform, arch, cuda }) {
  if (platform !== process.platform) return `needs ${platform}`
  if (cuda && !has('nvcc')) return 'needs nvcc'
  if (arch === process.arch) return undefined
  if (arch !== 'arm64') return `needs a machine with ${arch}`
  return has(crossCompiler) ? undefined : `needs ${crossCompiler} (Debian: apt-get install g++-aarch64-linux-gnu)`
}

/**
 * The packages to make: those that are named, or all that can be made here.
 * @throws if a named one is unknown or cannot be made.
 */
export function choose(packages, names) {
  const unknown = names.filter((name) => !packages.some((each) => shortName(each) === name))
  if (unknown.length > 0)
    throw new Error(`unknown: ${unknown.join(', ')}; known: ${packages.map(shortName).join(', ')}`)
  return packages.filter((each) => {
    const reason = obstacle(each)
    if (names.length > 0 && !names.includes(shortName(each))) return false
    if (reason !== undefined && names.length > 0) throw new Error(`${each.name} cannot be made here: it ${reason}`)
    if (reason !== undefined) console.log(`${each.name} is left out: it ${reason}`)
    return reason === undefined
  })
}

/** Builds the addon of a package and writes it, stripped, to a path. @returns the oldest glibc it loads with. */
export function buildAddon({ name, arch, cuda }, path) {
  const tree = arch === process.arch ? hostTree : arm64Tree
  const target = cuda ? 'fire' : 'fire_plain'
  if (!buildTarget(tree, target)) throw new Error(`building ${name} failed`)
  execFileSync(`${tree.tools}strip`, ['--strip-unneeded', '-o', path, join(tree.folder, 'Release', `${target}.node`)])
  return readGlibc(execFileSync('readelf', ['--wide', '--version-info', '--dynamic', path], { encoding: 'utf8' }))
}

/** What every system with glibc has, and Node itself loads. */
const expectedLibraries = /^(libc|libm|libdl|libpthread|librt|libgcc_s|ld-linux-\S+)\.so\.\d$/

/**
 * The oldest glibc that has all versions of symbols that readelf lists.
 * @throws if the addon wants a library that not every system has.
 */
export function readGlibc(text) {
  const foreign = [...text.matchAll(/\(NEEDED\).*\[(.*)\]/g)]
    .map(([, name]) => name)
    .filter((name) => !expectedLibraries.test(name))
  if (foreign.length > 0) throw new Error(`the addon needs ${foreign.join(', ')}, which not every machine has`)
  const versions = [...text.matchAll(/Name: GLIBC_(\d+)\.(\d+)/g)].map(([, major, minor]) => [
    Number(major),
    Number(minor),
  ])
  if (versions.length === 0) throw new Error('the addon names no version of glibc')
  return versions
    .sort((a, b) => a[0] - b[0] || a[1] - b[1])
    .at(-1)
    .join('.')
}
