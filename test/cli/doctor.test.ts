import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { renderDoctor } from '../../lib/cli/doctor.js'
import { makePaint } from '../../lib/cli/format.js'
import { type Facts, judge } from '../../lib/doctor/checks.js'
import { doctor } from '../../lib/doctor/doctor.js'
import type { DoctorReport } from '../../lib/doctor/report.js'
import { skippedOnWindows } from '../helpers/platform.js'
import { runCommand } from '../helpers/run-program.js'
import { removeDirectories, temporaryDirectory } from '../helpers/scratch.js'

afterAll(removeDirectories)

const report = doctor()

/** What the report must look like to a program. */
const SCHEMA = {
  package: { version: expect.stringMatching(/^\d+\.\d+\.\d+/), root: expect.any(String), isBundled: false },
  node: { version: process.versions.node, napi: expect.any(String), electron: '', addonsAllowed: true },
  os: { platform: process.platform, arch: process.arch, release: expect.any(String) },
  libc: { name: expect.stringMatching(/^(glibc|musl|unknown|none)$/) },
  cpu: { model: expect.any(String), cores: expect.any(Number) },
  threads: { count: expect.any(Number), limitedBy: expect.any(String) },
  memory: { totalBytes: expect.any(Number), freeBytes: expect.any(Number) },
  container: expect.any(Boolean),
  native: { found: expect.any(Boolean) },
  cuda: { cards: expect.any(Array), compiledArchitectures: expect.any(Array), reason: expect.any(String) },
  devices: expect.arrayContaining([expect.objectContaining({ id: 'reference', available: true })]),
  environment: expect.any(Object),
  selfTest: expect.any(Array),
  checks: expect.any(Array),
  ok: expect.any(Boolean),
}

/** The report with facts changed as on a sick machine; what the named row then says. */
function rowOf(name: string, change: (facts: Facts) => void) {
  const facts = { ...structuredClone(report), environment: {} } as Facts
  change(facts)
  const row = judge(facts).find(check => check.name === name)
  if (!row) throw new Error(`no row '${name}'`)
  return row
}

describe('doctor()', () => {
  it('reports plain data', () => {
    expect(report).toMatchObject(SCHEMA)
    expect(JSON.parse(JSON.stringify(report))).toMatchObject(SCHEMA)
    for (const check of report.checks) {
      expect(check).toMatchObject({
        name: expect.any(String),
        ok: expect.any(Boolean),
        detail: expect.stringMatching(/./),
      })
      expect('fix' in check).toBe(!check.ok)
      expect(`${check.detail}${check.fix ?? ''}`).not.toContain('\n')
    }
    expect(report.ok).toBe(report.checks.every(check => check.ok))
  })

  it('has run a layer on every device that serves, in every dtype', () => {
    const usable = report.devices.filter(device => device.available && device.id !== 'reference')
    const tested = usable.length > 0 ? usable.map(device => device.id) : ['reference']
    expect([...new Set(report.selfTest.map(result => result.device))]).toEqual(tested)
    expect(report.selfTest).toHaveLength(3 * tested.length)
    for (const result of report.selfTest) {
      expect(result.problem).toBeUndefined()
      expect(result.relativeError).toBeLessThanOrEqual(result.bound)
    }
  })

  it.each<[string, (facts: Facts) => void, RegExp]>([
    ['Node.js', facts => Object.assign(facts.node, { version: '18.20.0' }), /install Node.js 20\.19/],
    [
      'package files',
      facts => {
        Object.assign(facts.package, { root: '/srv/app', isBundled: true })
        const fix = 'Copy the folder node_modules/sparse-experts/prebuilds to /srv/app/out/prebuilds'
        facts.native = { found: false, error: { code: 'ERR_MOE_NATIVE_LOAD', message: 'bundled', fix } }
      },
      /^Copy the folder .* to \/srv\/app\/out\/prebuilds$/,
    ],
    ['addons allowed', facts => Object.assign(facts.node, { addonsAllowed: false }), /--no-addons/],
    // No addon here: a prebuild's floor counts. An addon: what it asks for itself, more or less than that.
    [
      'C library',
      facts => {
        facts.libc = { name: 'glibc', version: '2.33', glibcxx: '3.4.30' }
        facts.native = { found: false }
      },
      /sparse-experts build/,
    ],
    [
      'C library',
      facts => {
        facts.libc = { name: 'glibc', version: '2.36', glibcxx: '3.4.30' }
        const error = { code: 'ERR_MOE_NATIVE_LOAD', message: "version `GLIBC_2.38' not found" }
        facts.native = { found: false, path: '/x.node', needs: { glibc: '2.38', glibcxx: null }, error }
      },
      /sparse-experts build/,
    ],
    [
      'C library',
      facts => {
        facts.libc = { name: 'glibc', version: '2.36', glibcxx: '3.4.30' }
        facts.native = { found: false, path: '/x.node', needs: { glibc: '2.34', glibcxx: '3.4.32' } }
      },
      /sparse-experts build/,
    ],
    [
      'native addon',
      facts => {
        const fix = 'Install the package again.'
        facts.native = {
          found: false,
          error: { code: 'ERR_MOE_NATIVE_VERSION', message: 'it is of 0.0.9', fix },
        }
      },
      /^Install the package again\.$/,
    ],
    [
      'processor',
      facts => Object.assign(facts.cpu, { instructionSet: 'scalar', instructionSets: ['avx2'] }),
      /build/,
    ],
    ['threads', facts => Object.assign(facts.threads, { count: 16, quota: 1.5 }), /SPARSE_EXPERTS_THREADS=2/],
    [
      'processor',
      facts => {
        facts.native = { found: true }
        facts.environment.SPARSE_EXPERTS_CPU_ISA = 'avx9'
        const cpu = facts.devices.find(device => device.id === 'cpu')
        Object.assign(cpu!, {
          available: false,
          reason: 'SPARSE_EXPERTS_CPU_ISA=avx9: no such instruction set',
        })
      },
      /unset SPARSE_EXPERTS_CPU_ISA/,
    ],
    ['memory', facts => Object.assign(facts.memory, { freeBytes: 1e8 }), /free some/],
    [
      'environment',
      facts => Object.assign(facts.environment, { SPARSE_EXPERTS_THREAD: '2' }),
      /SPARSE_EXPERTS_THREADS/,
    ],
    [
      'CUDA',
      facts => {
        facts.devices = facts.devices.filter(device => !device.id.startsWith('cuda'))
        facts.cuda = {
          driver: '535.10',
          cards: [{ name: 'NVIDIA H200', computeCapability: '9.0' }],
          compiledArchitectures: ['sm_80'],
          reason: 'no kernel image for the device',
        }
      },
      /driver|build/,
    ],
    [
      'self-test cpu',
      facts => {
        facts.selfTest = [
          { device: 'cpu', dtype: 'f32', ok: false, relativeError: 1, bound: 5e-6, problem: 'far off' },
        ]
      },
      /report/,
    ],
  ])('knows the story of %s', (name, change, fix) => {
    const row = rowOf(name, change)
    expect(row.ok).toBe(false)
    expect(row.fix).toMatch(fix)
  })

  it('judges an old C library by what the addon asks for, not by the floor of prebuilds', () => {
    const row = rowOf('C library', facts => {
      facts.libc = { name: 'glibc', version: '2.31', glibcxx: '3.4.28' }
      facts.native = { found: true, path: '/x.node', needs: { glibc: '2.28', glibcxx: null } }
    })
    expect(row).toMatchObject({ ok: true, detail: 'glibc 2.31; the addon needs 2.28' })
  })

  it('finds no fault with a machine that has no NVIDIA GPU', () => {
    const row = rowOf('CUDA', facts => {
      facts.devices = facts.devices.filter(device => !device.id.startsWith('cuda'))
      facts.cuda = {
        driver: null,
        cards: [],
        compiledArchitectures: [],
        reason: 'this build has no CUDA backend',
      }
      facts.container = false
    })
    expect(row.ok).toBe(true)
  })

  it('renders every row and every fix', () => {
    const sick: DoctorReport = {
      ...report,
      checks: judge({ ...report, environment: {}, native: { found: false } }),
      ok: false,
    }
    const text = renderDoctor(sick, makePaint({}, {})).join('\n')
    for (const check of sick.checks) expect(text).toContain(check.name)
    expect(text).toMatch(/→ run 'npx sparse-experts build'/)
    expect(text).toMatch(/\d+ checks? failed\./)
  })
})

describe('sparse-experts doctor', () => {
  it('prints the report as JSON, status 1 exactly when a check fails', async () => {
    const { status, stdout } = await runCommand(['doctor', '--json'])
    const printed = JSON.parse(stdout)
    expect(printed).toMatchObject(SCHEMA)
    expect(status).toBe(printed.ok ? 0 : 1)
    const named = await runCommand(['doctor'], { SPARSE_EXPERTS_NATIVE_PATH: '/nowhere/x.node' })
    expect(named.status).toBe(1)
    expect(named.stdout).toMatch(
      /→ SPARSE_EXPERTS_NATIVE_PATH is set to '\/nowhere\/x\.node': correct or unset it/,
    )
    expect(named.stdout).toMatch(/✓ {2}self-test reference/)
    const text = await runCommand(['doctor'], { SPARSE_EXPERTS_THRAEDS: '3' })
    expect(text.status).toBe(1)
    expect(text.stdout).toContain('nothing reads SPARSE_EXPERTS_THRAEDS')
  })
})

const noShell = skippedOnWindows('doctor beside a GPU', 'its nvidia-smi is a script of a POSIX shell')
describe.skipIf(noShell)('sparse-experts doctor beside an NVIDIA GPU', () => {
  it('names the card, its driver, and what is missing', async () => {
    const directory = await temporaryDirectory()
    const script = "#!/bin/sh\necho 'NVIDIA H200, 9.0, 580.65.06'\necho 'NVIDIA H200, 9.0, 580.65.06'\n"
    await writeFile(path.join(directory, 'nvidia-smi'), script, { mode: 0o755 })
    const { stdout } = await runCommand(['doctor', '--json'], { PATH: `${directory}:${process.env.PATH}` })
    const { cuda, checks, devices } = JSON.parse(stdout)
    expect(cuda.driver).toBe('580.65.06')
    expect(cuda.cards).toEqual(Array(2).fill({ name: 'NVIDIA H200', computeCapability: '9.0' }))
    const row = checks.find((check: { name: string }) => check.name === 'CUDA')
    const serves = devices.some(
      (device: { id: string; available: boolean }) => device.id.startsWith('cuda') && device.available,
    )
    expect(row.ok).toBe(serves)
    if (!serves)
      expect(row.detail).toContain('NVIDIA H200 (compute 9.0), NVIDIA H200 (compute 9.0), driver 580.65.06')
  })
})

const nativeTools = import(new URL('../../tools/build/native-tools.mjs', import.meta.url).href) as Promise<{
  missingTools(version: (command: string) => string | undefined): string[]
  describeMissing(missing: string[], system: { platform: string; release: string }): string
}>

describe('sparse-experts build', () => {
  it('says what is missing and how to get it', async () => {
    const { status, stdout, stderr } = await runCommand(['build'], { PATH: await temporaryDirectory() })
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
    expect(stderr).toMatch(
      /this machine lacks CMake .* or newer.*\. .*(apt-get|dnf|apk|pacman|zypper|brew|package manager).*cmake\.org/,
    )
    expect(stderr).toMatch(
      /^error \[ERR_MOE_BUILD_FAILED\]: The build needs tools that are not here; .+\n→ Install .+$/m,
    )
  })

  it.each([
    [
      'Debian',
      'linux',
      'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\n',
      /'apt-get install cmake g\+\+ make' installs them/,
    ],
    ['Linux Mint', 'linux', 'ID=linuxmint\nID_LIKE="ubuntu debian"\n', /'apt-get install/],
    [
      'Rocky Linux',
      'linux',
      'ID="rocky"\nID_LIKE="rhel centos fedora"\n',
      /'dnf install cmake gcc-c\+\+ make'/,
    ],
    ['Amazon Linux', 'linux', 'ID="amzn"\nID_LIKE="fedora"\n', /'dnf install/],
    ['Alpine', 'linux', 'NAME="Alpine Linux"\nID=alpine\n', /'apk add cmake g\+\+ make'/],
    ['Arch', 'linux', 'ID=arch\n', /'pacman -S cmake gcc make'/],
    [
      'openSUSE',
      'linux',
      'ID="opensuse-leap"\nID_LIKE="suse opensuse"\n',
      /'zypper install cmake gcc-c\+\+ make'/,
    ],
    ['another one', 'linux', '', /with the system's package manager/],
    ['macOS', 'darwin', '', /'xcode-select --install' and 'brew install cmake'/],
    ['Windows', 'win32', '', /MSYS2/],
  ])('advises what %s has', async (_, platform, release, advice) => {
    const { describeMissing } = await nativeTools
    const text = describeMissing(['CMake 3.24 or newer', 'make or ninja'], { platform, release })
    expect(text).toMatch(/^this machine lacks CMake 3\.24 or newer and make or ninja\. /)
    expect(text).toMatch(advice)
    expect(text).toContain("'pip install cmake', or https://cmake.org/download")
    // What is there and too old is the newest that the system's own packages have.
    const old = describeMissing(['CMake 3.24 or newer (it has 3.22.1)'], { platform, release })
    expect(old).not.toMatch(advice)
    expect(old).toContain('pip install cmake')
    expect(describeMissing(['make or ninja'], { platform, release })).not.toContain('pip')
  })

  it('accepts any of the compilers and generators', async () => {
    const { missingTools } = await nativeTools
    const among =
      (...here: string[]) =>
      (command: string) =>
        here.includes(command) ? `${command} version 3.99.1` : undefined
    const generator = process.platform === 'win32' ? 'ninja' : 'make'
    expect(missingTools(among('cmake', 'c++', generator))).toEqual([])
    expect(missingTools(among('c++', generator))).toEqual([
      expect.stringMatching(/^CMake \d+\.\d+ or newer$/),
    ])
    expect(missingTools(command => (command === 'cmake' ? 'cmake version 3.1.0' : 'here'))).toEqual([
      expect.stringContaining('it has 3.1.0'),
    ])
    if (process.platform === 'linux' && !process.env.CXX) {
      expect(missingTools(among('cmake', 'clang++', 'ninja'))).toEqual([])
      expect(missingTools(among('cmake'))).toEqual(['a C++17 compiler', 'make or ninja'])
    }
  })
})
