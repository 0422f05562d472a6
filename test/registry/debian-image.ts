// A Debian root of more than 300 MB in a registry of its own, seen through a connection as slow as a test wants.
// Used by the tests of this folder and by bench/lazy.ts; the command line runs as a child that does not block this process, which is the wire.

import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { MAIN } from '../cli/cli.js';
import { makeDebianRoot } from '../clients/debian-root.js';
import { type RealRegistry, startRealRegistry } from '../oci/real-registry.js';
import { type Shaper, startShaper } from '../oci/shaper.js';
import { type Cleanup, makeTempDir, removeTempDir } from '../support/temp.js';

/** Beside the essential packages: what makes the root as large as real ones. */
const PACKAGES = ['apt', 'git', 'perl', 'qemu-system-x86'];
/** What most programs of the machine's packages need. */
export const DEBIAN_PACKAGES = ['docker-registry', 'git', 'qemu-system-x86'];

export interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** A user of varve with an image store and a runtime folder of its own. */
export class Caller {
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;

  constructor(folder: string) {
    this.folder = folder;
    mkdirSync(join(folder, 'run'), { recursive: true, mode: 0o700 });
    this.env = {
      ...process.env,
      VARVE_RUNTIME_DIR: join(folder, 'run'),
      VARVE_IMAGES: join(folder, 'images'),
      VARVE_SUPERVISOR_IDLE: '300',
    };
  }

  /** Runs varve to its end. */
  varve(...args: string[]): Promise<Ran> {
    return run([process.execPath, MAIN, ...args], this.env);
  }

  /** As varve(), which must succeed. */
  async must(...args: string[]): Promise<Ran> {
    const ran = await this.varve(...args);
    if (ran.code !== 0) throw new Error(`varve ${args.join(' ')}: ${ran.code}: ${ran.err}`);
    return ran;
  }
}

/** Runs a program without blocking this process. */
export function run(words: readonly string[], env = process.env, seconds = 120): Promise<Ran> {
  const [program, ...args] = words as [string, ...string[]];
  return new Promise((done, fail) => {
    const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const timer = setTimeout(() => child.kill('SIGKILL'), seconds * 1000);
    let out = '';
    let err = '';
    child.stdout.setEncoding('utf8').on('data', (text) => (out += text));
    child.stderr.setEncoding('utf8').on('data', (text) => (err += text));
    child.once('error', fail);
    child.once('close', (code) => {
      clearTimeout(timer);
      done({ code, out, err });
    });
  });
}

/** Runs a bash script, which must succeed. @returns its output. */
export async function script(text: string, env = process.env): Promise<string> {
  const ran = await run(['bash', '-euo', 'pipefail', '-c', text], { ...env, LC_ALL: 'C' });
  if (ran.code !== 0) throw new Error(`${text.slice(0, 300)}: ${ran.code}\n${ran.out}${ran.err}`);
  return ran.out;
}

export interface DebianImage {
  readonly folder: string;
  /** The tree that was pushed. */
  readonly root: string;
  readonly registry: RealRegistry;
  /** Between the callers and the registry. */
  readonly shaper: Shaper;
  /** The image, as callers name it. */
  readonly ref: string;
  caller(name: string): Caller;
}

/** Makes the root and pushes it, without any delay. @param packages beside the essential ones; empty: a small root. */
export async function debianImage(t: Cleanup, packages = PACKAGES): Promise<DebianImage> {
  const folder = makeTempDir();
  t.after(() => removeTempDir(folder));
  const root = join(folder, 'root');
  makeDebianRoot(root, packages);
  const registry = await startRealRegistry(t);
  const shaper = await startShaper(t, { to: registry.host });
  const caller = (name: string): Caller => new Caller(join(folder, name));
  const pushed = await caller('pusher').must(
    'push',
    '--plain-http',
    '-q',
    root,
    `${registry.host}/os:1`,
  );
  if (!/^sha256:[0-9a-f]{64}\n$/.test(pushed.out)) throw new Error(`push: ${pushed.out}`);
  return { folder, root, registry, shaper, ref: `${shaper.host}/os:1`, caller };
}
