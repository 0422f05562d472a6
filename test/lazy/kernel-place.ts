// A place with a tree as a lazy layer, mounted by the kernel, and the loader that tests start for it.
// Used by the tests of the kernel's way in.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { DEFAULT_POLICY, type LoadPolicy } from '../../src/lazy/protocol.js';
import { mapMemory } from '../../src/linux/memory.js';
import { checkLayers } from '../../src/stack/check.js';
import { mountByKernel } from '../../src/stack/kernel-mount.js';
import { mountLazyByKernel } from '../../src/stack/lazy-kernel.js';
import { parseOptions } from '../../src/stack/options.js';
import { sourceOfStack } from '../../src/stack/ours.js';
import type { MountSpec } from '../../src/stack/spec.js';
import { askSupervisor, findSupervisor } from '../../src/supervisor/client.js';
import { makeRuntime } from '../../src/supervisor/folder.js';
import { tempDir } from '../support/temp.js';
import { type LazyLayer, lazyLayer } from './lazy-layer.js';

/** What the tests need of the machine. */
export const KERNEL_WAY = { root: true, features: ['pre-content', 'erofs', 'overlayfs'] } as const;

/** Arguments of node. */
export const LOADER = [fileURLToPath(new URL('./kernel-loader.js', import.meta.url))];
export const NO_FILL: LoadPolicy = { ...DEFAULT_POLICY, fill: false, prefetch: false };

interface Ran {
  readonly status: number | null;
  /** What it wrote, errors too. */
  readonly stdout: string;
}

/** A program that must end in time, whatever it waits for. */
export function run(...words: string[]): Promise<Ran> {
  return runFor(60, ...words);
}

/** As run(), with so many seconds. */
export async function runFor(seconds: number, ...words: string[]): Promise<Ran> {
  const child = spawn('timeout', ['-s', 'KILL', `${seconds}`, ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  child.stdout.on('data', (piece) => (stdout += piece));
  child.stderr.on('data', (piece) => (stdout += piece));
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, stdout };
}

export interface Place {
  readonly folder: string;
  readonly tree: string;
  readonly layer: LazyLayer;
  readonly mnt: string;
  mount(policy?: LoadPolicy): Promise<void>;
  /** As if there were no loader. @param at absent: `mnt`. */
  mountPlain(at?: string): Promise<void>;
  /** By umount(8): nothing of varve is asked. */
  umount(): Promise<void>;
  /** Says something to the layer's registry (kernel-loader.ts); undefined takes it back. */
  tell(name: string, text?: string): void;
  /** Requests that reached the registry. */
  requests(): number;
}

/** A tree with programs, small files and large ones, as a lazy layer. */
export async function place(
  t: Parameters<typeof tempDir>[0],
  { store, chunkSize, big = 8 << 20 }: { store?: string; chunkSize?: number; big?: number } = {},
): Promise<Place> {
  mapMemory();
  const folder = tempDir(t);
  const tree = join(folder, 'tree');
  mkdirSync(join(tree, 'etc/deep'), { recursive: true });
  for (const name of ['bash', 'dash']) copyFileSync(`/bin/${name}`, join(tree, name));
  for (let i = 0; i < 200; i++)
    writeFileSync(join(tree, `etc/deep/${i}`), `file ${i}\n`.repeat(i * 7));
  writeFileSync(join(tree, 'big'), randomBytes(big));
  const layer = await lazyLayer(tree, folder, {
    ...(store && { store }),
    ...(chunkSize && { chunkSize }),
  });
  const mnt = join(folder, 'mnt');
  mkdirSync(mnt);
  const spec = (at = mnt): MountSpec => {
    const parsed = parseOptions([`lowerdir=${layer.folder.meta},ro`], { defaults: '' });
    return checkLayers(parsed, at, false);
  };
  const how = {
    verity: 'off',
    folder: makeRuntime(process.env, 0).folder,
    source: sourceOfStack([layer.folder.meta]),
    asked: { what: 'backend=kernel', instead: '--backend=fuse' },
  } as const;
  const mount = (policy = NO_FILL): Promise<void> =>
    mountLazyByKernel(spec(), { ...how, policy, loader: LOADER });
  const mountPlain = async (at?: string): Promise<void> => mountByKernel(spec(at), how);
  const umount = async (): Promise<void> => {
    assert.deepEqual(await run('umount', mnt), { status: 0, stdout: '' });
  };
  const control = (name: string): string => join(layer.control, name);
  const tell = (name: string, text?: string): void => {
    if (text === undefined) rmSync(control(name), { force: true });
    else writeFileSync(control(name), text);
  };
  const requests = (): number =>
    existsSync(control('requests'))
      ? readFileSync(control('requests'), 'latin1').split('\n').length - 1
      : 0;
  return { folder, tree, layer, mnt, mount, mountPlain, umount, tell, requests };
}

/** For mounts that do not say which loader they want. */
export async function startLoader(): Promise<void> {
  (await askSupervisor({ op: 'load', program: LOADER })).supervisor.close();
}

export async function loaderPid(): Promise<number | undefined> {
  const supervisor = await findSupervisor();
  try {
    const { loader } = (await supervisor?.ask({ op: 'list' })) ?? {};
    return loader === undefined || loader.pid === 0 ? undefined : loader.pid;
  } finally {
    supervisor?.close();
  }
}

export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await holds()); tries++) {
    assert.ok(tries < 600, `${what}: not within 30 s`);
    await sleep(50);
  }
}
