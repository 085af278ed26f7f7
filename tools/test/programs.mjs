/**
 * `node --import …/tools/test/programs.mjs FILE.ts`: runs a TypeScript program of this repository as buildPrograms() has compiled it into
 * build/programs. Modules keep the addresses of their sources, so that files beside them are found.
 */

import * as module from 'node:module'
import { load, resolve } from './programs-hooks.mjs'

// Node.js before 22.15 runs hooks on a thread of their own.
if ('registerHooks' in module) module.registerHooks({ resolve, load })
else module.register('./programs-hooks.mjs', import.meta.url)
