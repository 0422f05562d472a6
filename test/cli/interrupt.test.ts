// Ctrl-C of pull, mount REF and run REF at any moment: the command ends by the signal, and nothing is left of it.
// In CI a few moments of each; `--rounds 100` is the campaign.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { mixed } from '../lazy/tar-image.js';
import { startFakeRegistry } from '../oci/fake-registry.js';
import { Random } from '../oracle/random.js';
import { Caller } from '../registry/debian-image.js';
import { campaign } from '../support/campaign.js';
import { processesWith } from '../support/processes.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { MAIN } from './cli.js';

const rounds = campaign('rounds', 4);
const seed = campaign('seed', 1);
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

interface End {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly milliseconds: number;
  readonly err: string;
}

test('nothing is left', {
  skip: requires({ root: true, features: ['fuse', 'erofs'], packages: ['busybox-static'] }),
}, async (t) => {
  const fake = await startFakeRegistry(t);
  const folder = tempDir(t);
  const tree = join(folder, 'tree');
  for (const name of ['bin', 'proc', 'dev', 'sys'])
    mkdirSync(join(tree, name), { recursive: true });
  copyFileSync('/bin/busybox', join(tree, 'bin/busybox'));
  symlinkSync('busybox', join(tree, 'bin/sleep'));
  writeFileSync(join(tree, 'large'), mixed(3_000_000, 1));
  const ref = `${fake.host}/os:1`;
  await new Caller(join(folder, 'pusher')).must('push', '--plain-http', '-q', tree, ref);
  // Every phase takes its time.
  fake.on = async () => {
    await sleep(40);
    return undefined;
  };
  const caller = new Caller(join(folder, 'user'));
  const runtime = caller.env['VARVE_RUNTIME_DIR'] as string;
  const mnt = join(folder, 'mnt');
  mkdirSync(mnt);
  const random = new Random(seed);
  let stores = 0;

  /** @param after milliseconds; undefined: not at all. */
  const start = async (
    words: string[],
    warm: boolean,
    after?: number,
    name?: NodeJS.Signals,
  ): Promise<End> => {
    const store = join(folder, warm ? 'warm' : `store-${stores++}`);
    const [command = '', ...rest] = words;
    const args = [MAIN, command, '--plain-http', '--store', store, ...rest];
    // A group of its own, as a terminal would make.
    const child = spawn(process.execPath, args, {
      env: caller.env,
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const begun = performance.now();
    let err = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
    const timer =
      after === undefined
        ? undefined
        : setTimeout(() => process.kill(-(child.pid as number), name ?? 'SIGINT'), after);
    // Once it is reaped, before its output has ended, its number is nobody's.
    child.once('exit', () => clearTimeout(timer));
    const end = await new Promise<End>((done) => {
      child.once('close', (code, signal) => {
        done({ code, signal, milliseconds: performance.now() - begun, err });
      });
    });
    if (end.signal !== null) assertNothing(store, words, after as number, end);
    return end;
  };

  const assertNothing = (store: string, words: string[], after: number, end: End): void => {
    const what = `${words.join(' ')} after ${Math.round(after)} ms, seed ${seed}: ${end.err}`;
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8');
    assert.ok(!mounts.includes(` ${folder}`), `${what}: ${mounts}`);
    assert.deepEqual(
      namesIn(runtime).filter((name) => name.startsWith('run-')),
      [],
      what,
    );
    const staged = namesIn(join(store, 'layers')).filter((name) => name.startsWith('.new-'));
    assert.deepEqual(staged, [], what);
    assert.doesNotMatch(end.err, /error|closed|aborted/i, what);
  };

  const commands: string[][] = [
    ['pull', ref],
    ['mount', '--lazy', ref, mnt],
    ['run', '-q', ref, '--', 'sleep', '0.1'],
    ['run', '-q', '--backend=fuse', '--writable', ref, '--', 'sleep', '0.1'],
  ];
  await start(['pull', '--lazy', ref], true);
  const cases = [
    ...commands.map((words) => [words, false] as const),
    // Without a pull in front the signal comes while it is mounted, runs, and is taken down.
    ...commands.slice(1).map((words) => [words, true] as const),
  ];
  for (const [words, warm] of cases) {
    const whole = await start(words, warm);
    assert.equal(whole.code, 0, whole.err);
    if (words[0] === 'mount') await caller.must('umount', mnt);
    let interrupted = 0;
    for (let round = 0; round < rounds; round++) {
      const name = SIGNALS[random.below(SIGNALS.length)] as NodeJS.Signals;
      const end = await start(words, warm, random.below(Math.ceil(whole.milliseconds)), name);
      if (end.signal === null) assert.equal(end.code, 0, end.err);
      else assert.equal(end.signal, name);
      if (end.signal !== null) interrupted++;
      else if (words[0] === 'mount') await caller.must('umount', mnt);
    }
    const time = `${Math.round(whole.milliseconds)} ms`;
    t.diagnostic(`${words[0]}${warm ? ' (warm)' : ''}: ${interrupted} of ${rounds} in ${time}`);
  }
  // Loader, servers and supervisor end by themselves.
  while (processesWith('VARVE_RUNTIME_DIR', runtime).length > 0) await sleep(50);
});

function namesIn(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
