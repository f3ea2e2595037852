/**
 * `npm run release`: checks that this tree may be published, and packs it if it may. Every check runs even when one before it
 * failed. `-- --publish` also publishes what was packed; without it nothing leaves this machine.
 */
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { changelogProblem } from './changelog.mjs'
import { choose } from './package-addon.mjs'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const packages = join(root, 'dist-packages')
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const text = (path) => readFileSync(join(root, path), 'utf8')
const { prebuiltPackages } = await import(pathToFileURL(join(root, 'dist', 'engine', 'prebuilt.js')).href)

/** Without their scope. A package that is named and cannot be made is not left out. */
const names = prebuiltPackages.map(({ name }) => name.split('/')[1])

/** What git lists, or why it does not. */
function git(...args) {
  const { status, stdout, stderr, error } = spawnSync('git', args, { cwd: root, encoding: 'utf8' })
  return status === 0 ? stdout.trimEnd() : `git ${args[0]} failed: ${error?.message ?? stderr.trim()}`
}

/** With `CI`, what a check needs and does not find is a failure, not left out. */
const npm = (...args) =>
  spawnSync('npm', args, { cwd: root, stdio: 'inherit', env: { ...process.env, CI: 'true' } }).status === 0

function obstacle() {
  try {
    choose(prebuiltPackages, names)
  } catch (error) {
    return error.message
  }
}

/** What a check found wrong, or undefined. */
const checks = {
  'the tree has no changes': () => git('status', '--porcelain') || undefined,
  'no tag has this version': () => git('tag', '--list', `v${version}`) || undefined,
  'the changelog has this version': () => changelogProblem(text('CHANGELOG.md'), version),
  'CITATION.cff has this version': () =>
    text('CITATION.cff').includes(`\nversion: ${version}\n`) ? undefined : `its version is not ${version}`,
  'package-lock.json has this version': () =>
    JSON.parse(text('package-lock.json')).packages[''].version === version ? undefined : 'npm install',
  'every package can be made here': obstacle,
  'documents are up to date': () => (npm('run', 'docs:check') ? undefined : 'npm run docs:check'),
  'clang-tidy finds nothing': () => (npm('run', 'tidy') ? undefined : 'npm run tidy'),
  'lint, types and tests pass': () => (npm('test') ? undefined : 'npm test'),
  'the packages install and run on Node 20, 22 and 24': () =>
    npm('run', 'test:install') ? undefined : 'npm run test:install',
}

const problems = []
for (const [name, check] of Object.entries(checks)) {
  console.log(`\n── ${name}`)
  const found = check()
  console.log(found === undefined ? 'yes' : `no: ${found}`)
  if (found !== undefined) problems.push(`${name}: no, ${found.split('\n')[0]}`)
}

if (problems.length > 0) {
  console.error(`\nNot released:\n${problems.map((each) => `  ${each}`).join('\n')}`)
  process.exit(1)
}

console.log('\n── packages')
if (!npm('run', 'package', '--', ...names)) process.exit(1)

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
