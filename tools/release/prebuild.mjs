/**
 * Makes prebuilds/<platform>/: `node tools/release/prebuild.mjs [--target linux-arm64|win32-x64]`.
 *
 * Without --target for this machine: prebuildify → node-gyp → binding.gyp → tools/build/native.mjs. node-gyp asks for Node's headers, which the
 * build never uses; the running Node's own are named to it so that nothing is downloaded. With it by a cross compiler, without a GPU backend.
 */

import { spawnSync } from 'node:child_process'
import { existsSync, rmSync } from 'node:fs'
import path from 'node:path'
import { CROSS, crossBuild } from '../build/cross.mjs'
import { root } from '../repository.mjs'

function crossPrebuild(target) {
  if (!CROSS.includes(target)) {
    console.error(`release:prebuild: --target takes ${CROSS.join(' or ')}, received '${target ?? ''}'`)
    process.exit(2)
  }
  const directory = path.join(root, 'prebuilds', target)
  rmSync(directory, { recursive: true, force: true })
  console.log(`release:prebuild: ${path.relative(root, crossBuild('release:prebuild', target, directory))}`)
}

function ownPrebuild(args) {
  const env = { ...process.env }
  const nodedir = path.resolve(process.execPath, '../..')
  if (!env.npm_config_nodedir && existsSync(path.join(nodedir, 'include/node/node_api.h'))) {
    env.npm_config_nodedir = nodedir
  }
  const prebuildify = path.join(root, 'node_modules/prebuildify/bin.js')
  const flags = ['--napi', '--strip', '--tag-libc', '-t', process.versions.node, ...args]
  return spawnSync(process.execPath, [prebuildify, ...flags], { cwd: root, env, stdio: 'inherit' }).status
}

const args = process.argv.slice(2)
if (args[0] === '--target') crossPrebuild(args[1])
else process.exit(ownPrebuild(args) ?? 1)
