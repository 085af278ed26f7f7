/**
 * Makes prebuilds/<platform>-<arch>/ for this machine: prebuildify → node-gyp → binding.gyp → tools/build/native.mjs.
 * node-gyp asks for Node's headers, which the build never uses; the running Node's own are named to it so that nothing is downloaded.
 */

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { root } from '../repository.mjs'

const env = { ...process.env }
const nodedir = path.resolve(process.execPath, '../..')
if (!env.npm_config_nodedir && existsSync(path.join(nodedir, 'include/node/node_api.h'))) {
  env.npm_config_nodedir = nodedir
}

const prebuildify = path.join(root, 'node_modules/prebuildify/bin.js')
const flags = ['--napi', '--strip', '--tag-libc', '-t', process.versions.node, ...process.argv.slice(2)]
process.exit(
  spawnSync(process.execPath, [prebuildify, ...flags], { cwd: root, env, stdio: 'inherit' }).status ?? 1,
)
