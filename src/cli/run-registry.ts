// `varve run REF [-- COMMAND]`: a command whose root directory is an image of a registry.
// Run by run.ts and record.ts. The mount stands outside, where its loader is; the command gets namespaces of its own (image-inside.ts).
// Follows: the OCI image specification (config: Env, Entrypoint, Cmd, User, WorkingDir).

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RunConfig } from '../lazy/image-record.js';
import { MountError } from '../stack/errors.js';
import type { Mounted } from '../stack/mount.js';
import { namespaceMaker } from '../stack/private-namespace.js';
import { privilege } from '../stack/privilege.js';
import { layersOfImage, mountRegistryImage } from '../stack/registry-mount.js';
import { makeRuntime } from '../supervisor/folder.js';
import type { Arguments } from './args.js';
import { EXIT, lineOf } from './exit-codes.js';
import type { InsideOrders } from './image-inside.js';
import { type Interrupt, interruptibly } from './interrupt.js';
import { lazyOptions } from './lazy-options.js';
import { backendOf, defaultOptions } from './mounting.js';
import { type Obtained, obtainImage } from './obtain-image.js';
import { remark } from './output.js';
import { bindsOf, type Ended, endAs } from './run-command.js';
import { FORWARDED, forwardSignals } from './signals.js';

/** Beginning of the folders of commands that run, with the process id behind it. */
const PREFIX = 'run-';

/** @param recording the order of first use is to be written down. @returns the command's exit code. */
export function runReference(given: Arguments, recording = false): Promise<number> {
  return interruptibly((interrupt) => runImage(given, recording, interrupt));
}

async function runImage(
  given: Arguments,
  recording: boolean,
  interrupt: Interrupt,
): Promise<number> {
  const { operands, before = operands.length } = given;
  const [text] = operands;
  if (text === undefined || before !== 1) {
    throw new MountError('option', 'write: varve run [flags] REF [-- COMMAND [ARG...]]');
  }
  const { folder } = makeRuntime(process.env, process.geteuid?.() ?? 0);
  sweep(folder);
  const obtained = await obtainImage(given, text, {
    lazy: !given.has('no-lazy'),
    fresh: false,
    // What is recorded is what the command uses, in its order.
    mounts: { prefetches: !recording },
    signal: interrupt.signal,
  });
  try {
    return await runObtained(given, obtained, recording, interrupt);
  } finally {
    await obtained.ahead?.end();
  }
}

async function runObtained(
  given: Arguments,
  { store, image, ahead }: Obtained,
  recording: boolean,
  interrupt: Interrupt,
): Promise<number> {
  const { operands, before = operands.length } = given;
  const { folder } = makeRuntime(process.env, process.geteuid?.() ?? 0);
  if (recording && layersOfImage(store, image).every(({ isComplete }) => isComplete)) {
    throw new MountError(
      'option',
      `${image.name}: all of its content is here, so nobody is asked for it: \`varve evict ${operands[0]}\`, then record`,
    );
  }
  const words = wordsOf(image.config, operands.slice(before), image.name);
  const folders = layersOfImage(store, image).map(({ path }) => path);
  void ahead?.starts(folders, programsOf(words));
  const binds = bindsOf(given.values('bind'), true);
  const place = join(folder, `${PREFIX}${process.pid}-${randomBytes(4).toString('hex')}`);
  const mountpoint = join(place, 'root');
  mkdirSync(mountpoint, { recursive: true, mode: 0o700 });
  let mounted: Mounted | undefined;
  let end: Ended;
  try {
    mounted = await mountRegistryImage({
      store,
      image,
      mountpoint,
      options: [
        ...lazyOptions(given),
        ...(recording ? ['record=on', 'fill=off', 'prefetch=off'] : []),
        ...ownerOptions(),
        ...writableOptions(given, place),
        ...given.values('options'),
      ],
      defaults: defaultOptions(),
      // The kernel asks for what is missing alone: only our server sees all that is used.
      backend: recording ? 'fuse' : backendOf(given),
      trace: given.has('trace'),
    });
    void ahead?.end();
    interrupt.signal.throwIfAborted();
    remark(given, `${image.name} is served by ${whoServes(mounted)}: ${mounted.plan.reason}`);
    end = await runInNamespace(
      { mountpoint, words, binds, config: configOf(given, image.config) },
      place,
      interrupt,
    );
  } finally {
    await takeDown(mounted, place);
  }
  return endAs(end);
}

const whoServes = ({ plan, served }: Mounted): string =>
  plan.backend === 'kernel'
    ? "the kernel's overlayfs"
    : `varve's server (process ${served?.status.pid})`;

/** The program and its arguments. @throws MountError where neither the caller nor the image names one. */
function wordsOf(
  { entrypoint = [], cmd = [] }: RunConfig,
  asked: readonly string[],
  name: string,
): readonly string[] {
  if (asked.length > 0) return asked;
  const words = [...entrypoint, ...cmd];
  if (words.length > 0) return words;
  throw new MountError(
    'option',
    `${name}: names no command of its own: write varve run REF -- COMMAND`,
  );
}

const SHELL = /(?:^|\/)(?:ba|da|a|k|z)?sh$/;
/** Programs of a script that are named before it runs. */
const MOST_PROGRAMS = 8;

/** What the command runs, as far as its words tell: of a shell's script (`sh -c`) the first word of each command. */
export function programsOf(words: readonly string[]): string[] {
  const [program = ''] = words;
  const flag = words.findIndex((word, k) => k > 0 && /^-[a-z]*c$/.test(word));
  if (!SHELL.test(program) || flag < 0) return [program];
  const commands = (words[flag + 1] ?? '').split(/[;&|(){}\n]+|\b(?:exec|then|else|do)\b/);
  const named = commands
    .map((command) => /^\s*(?:\w+=\S*\s+)*([\w./+-]+)(?=\s|$)/.exec(command)?.[1])
    .filter((name) => name !== undefined);
  return [...new Set([program, ...named])].slice(0, MOST_PROGRAMS + 1);
}

/** The image's, with the user that was asked for. */
function configOf(given: Arguments, config: RunConfig): RunConfig {
  const user = given.value('user');
  return user === undefined ? config : { ...config, user };
}

/** Without root the command is root of its namespace, which is the caller outside: so files are the caller's. */
function ownerOptions(): string[] {
  if (privilege().mayMount) return [];
  return [`squash_to_uid=${process.geteuid?.()}`, `squash_to_gid=${process.getegid?.()}`];
}

/** `--writable`: an upper that goes with the command. */
function writableOptions(given: Arguments, place: string): string[] {
  if (!given.has('writable')) return [];
  const [upper, work] = [join(place, 'upper'), join(place, 'work')];
  mkdirSync(upper, 0o755);
  mkdirSync(work, 0o755);
  return [`upperdir=${upper},workdir=${work},volatile`];
}

/** Becomes unshare(1), which becomes `varve image-inside`. */
function runInNamespace(orders: InsideOrders, place: string, interrupt: Interrupt): Promise<Ended> {
  const file = join(place, 'orders.json');
  writeFileSync(file, JSON.stringify(orders), { mode: 0o600 });
  const { program, args } = namespaceMaker();
  const [node, script] = process.argv as [string, string];
  const words = [...args, node, ...process.execArgv, script, 'image-inside', file];
  return new Promise((done) => {
    // From here on signals are the command's.
    const quiet = forwardSignals(() => child);
    interrupt.disarm();
    const child = spawn(program, words, { stdio: 'inherit' });
    child.once('error', (error) => {
      quiet();
      process.stderr.write(`varve: run: ${program}: ${lineOf(error)}\n`);
      done({ code: EXIT.failed });
    });
    child.once('exit', (code, signal) => {
      quiet();
      done(signal === null ? { code: code ?? EXIT.failed } : { code: EXIT.failed, signal });
    });
  });
}

async function takeDown(mounted: Mounted | undefined, place: string): Promise<void> {
  for (const signal of FORWARDED) process.on(signal, () => {});
  mounted?.served?.supervisor.close();
  if (mounted !== undefined) {
    const { unmount } = await import('../stack/unmount.js');
    const path = mounted.spec.mountpoint;
    // What the command left running may hold it: it goes when that ends.
    await unmount(path, { lazy: false, force: false }).catch(() =>
      unmount(path, { lazy: true, force: false }),
    );
  }
  removePlace(place);
}

/** Never what is mounted there: that may be somebody's upper. @throws Error when it is still mounted. */
function removePlace(place: string): void {
  try {
    rmdirSync(join(place, 'root'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  rmSync(place, { recursive: true, force: true });
}

/** Removes what killed calls have left: their mounts and folders. */
function sweep(folder: string): void {
  for (const name of readdirSync(folder)) {
    const [, pid] = /^run-(\d+)-/.exec(name) ?? [];
    if (pid === undefined || isAlive(Number(pid))) continue;
    const place = join(folder, name);
    void import('../stack/unmount.js')
      .then(({ unmount }) => unmount(join(place, 'root'), { lazy: true, force: false }))
      .catch(() => {})
      .then(() => removePlace(place))
      .catch(() => {});
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
