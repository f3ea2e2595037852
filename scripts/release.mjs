/**
 * `npm run release`: checks that this tree may be published, then packs it. Every check runs even when one before it failed.
 * `-- --publish` also publishes what was packed; without it nothing leaves this machine.
 */
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { changelogProblem } from './changelog.mjs'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const packages = join(root, 'dist-packages')
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const text = (path) => readFileSync(join(root, path), 'utf8')

const output = (command, args) => spawnSync(command, args, { cwd: root, encoding: 'utf8' }).stdout.trim()
const npm = (...args) => spawnSync('npm', args, { cwd: root, stdio: 'inherit' }).status === 0

/** What a check found wrong, or undefined. */
const checks = {
  'the tree has no changes': () => output('git', ['status', '--porcelain']) || undefined,
  'the version is new': () =>
    output('git', ['tag', '--list', `v${version}`]) ? `there is a tag v${version}` : undefined,
  'the changelog has this version': () => changelogProblem(text('CHANGELOG.md'), version),
  'CITATION.cff has this version': () =>
    text('CITATION.cff').includes(`\nversion: ${version}\n`) ? undefined : `its version is not ${version}`,
  'documents are up to date': () => (npm('run', 'docs:check') ? undefined : 'npm run docs:check'),
  'lint, types and tests pass': () => (npm('test') ? undefined : 'npm test'),
  'every package packs': async () => (npm('run', 'package', '--', ...(await kinds())) ? undefined : 'npm run package'),
}

/** By name, because a package that cannot be made here is then no longer left out. */
async function kinds() {
  const { prebuiltPackages } = await import(pathToFileURL(join(root, 'dist', 'engine', 'prebuilt.js')).href)
  return prebuiltPackages.map(({ name }) => name.split('/')[1])
}

const problems = []
for (const [name, check] of Object.entries(checks)) {
  console.log(`\n── ${name}`)
  const found = await check()
  console.log(found === undefined ? 'yes' : `no: ${found}`)
  if (found !== undefined) problems.push(`${name}: no, ${found.split('\n')[0]}`)
}

if (problems.length > 0) {
  console.error(`\nNot released:\n${problems.map((each) => `  ${each}`).join('\n')}`)
  process.exit(1)
}

// Those of platforms first: the main package names them.
const tarballs = readdirSync(packages)
  .filter((name) => name.endsWith('.tgz'))
  .sort((a, b) => b.length - a.length)
if (process.argv.includes('--publish')) {
  for (const name of tarballs) if (!npm('publish', '--access', 'public', join(packages, name))) process.exit(1)
  console.log(`\nPublished. Now: git tag v${version} && git push --tags`)
} else {
  console.log(`\n${tarballs.join(', ')} may be published: npm run release -- --publish`)
}
