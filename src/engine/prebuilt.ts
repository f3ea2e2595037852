/** The packages that hold a built addon, one a kind of machine. `scripts/package.mjs` makes them, npm chooses among them. */
import { existsSync } from 'node:fs'

/** A package with `fire.node` in it. */
export interface PrebuiltPackage {
  name: string
  platform: NodeJS.Platform
  arch: NodeJS.Architecture
  /** Whether it has the GPU backend beside the CPU. */
  cuda: boolean
}

/** Named as node-llama-cpp names its own: scope, platform, processor, backend. */
export const prebuiltPackages: readonly PrebuiltPackage[] = [
  { name: '@fire-train/linux-x64', platform: 'linux', arch: 'x64', cuda: false },
  { name: '@fire-train/linux-x64-cuda', platform: 'linux', arch: 'x64', cuda: true },
  { name: '@fire-train/linux-arm64', platform: 'linux', arch: 'arm64', cuda: false },
]

/** What a machine must have for a package, beside platform and processor: `config` of its package.json. */
export interface Requirements {
  /** The oldest glibc that has every symbol the addon asks for, read from the addon when it is packed. */
  glibc: string
}

/** What decides among the packages. */
export interface Machine {
  platform: NodeJS.Platform
  arch: NodeJS.Architecture
  hasGpuDriver: boolean
}

/** Where drivers of NVIDIA show themselves: Linux, containers, the Linux of Windows. */
const driverFiles = ['/proc/driver/nvidia/version', '/dev/nvidiactl', '/dev/dxg']

export function thisMachine(): Machine {
  return {
    platform: process.platform,
    arch: process.arch as NodeJS.Architecture,
    hasGpuDriver: driverFiles.some(existsSync),
  }
}

/** The packages for a machine, in the order to try: with a driver that of the GPU first. Each computes on a CPU too. */
export function packagesFor({ platform, arch, hasGpuDriver }: Machine): string[] {
  return prebuiltPackages
    .filter((each) => each.platform === platform && each.arch === arch)
    .sort((a, b) => (hasGpuDriver ? -1 : 1) * (Number(a.cuda) - Number(b.cuda)))
    .map(({ name }) => name)
}

/**
 * Why an engine that came from a package sees no GPU, and what to do; undefined for one that has the GPU backend, or that
 * was built from the sources.
 */
export function whyNoGpu(from: string, { platform, arch, hasGpuDriver }: Machine): string | undefined {
  if (prebuiltPackages.find(({ name }) => name === from)?.cuda !== false) return undefined
  if (!hasGpuDriver)
    return 'no driver of an NVIDIA GPU on this machine, so the engine without the GPU backend was loaded'
  const withGpu = prebuiltPackages.find((each) => each.platform === platform && each.arch === arch && each.cuda)
  if (withGpu) return `${from} has no GPU backend (npm install ${withGpu.name})`
  return `${from} has no GPU backend, and there is no package with one for ${platform} ${arch} (docs/install.md: compiling it)`
}

/**
 * Why what a package requires is not there. To ask only after a failure to load: Node's report of the system takes its time,
 * and a system that has every symbol needs no comparison of versions.
 *
 * @param glibc null where the C library is another one, as on Alpine.
 */
export function unmetRequirement({ glibc: required }: Requirements, glibc = systemGlibc()): string | undefined {
  if (glibc === null) return `needs glibc ${required}, and this system has another C library`
  return isOlder(glibc, required) ? `needs glibc ${required} or newer, this system has ${glibc}` : undefined
}

function systemGlibc(): string | null {
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined
  return report?.header?.glibcVersionRuntime ?? null
}

function isOlder(version: string, than: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const [thanMajor = 0, thanMinor = 0] = than.split('.').map(Number)
  return major < thanMajor || (major === thanMajor && minor < thanMinor)
}
