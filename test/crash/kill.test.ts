// The server is killed before each system call of an operation. Without a supervisor the next mount shows the old tree or
// the new one; with one the operation ends as if nothing had happened.
// In CI four steps of each operation, on a tmpfs; with --rounds N above 0 each changing call.

import { describe, type TestContext, test } from 'node:test';
import { dir, file, type Tree } from '../layer/tree.js';
import { run } from '../overlay/stack.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { asUser, O, sys } from '../support/sys.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';
import { killAtEveryStep, type Scenario } from './kill.js';

const skip = requires({
  root: true,
  packages: ['strace'],
  features: ['fuse', 'overlayfs', 'tmpfs'],
});

const xattrs = { 'user.kept': 'value' };
const lower: Tree = {
  'a/b/c/deep': file('deep', { mode: 0o4711, uid: 5, gid: 6, xattrs }),
  small: file('small', { mode: 0o640, uid: 1000, xattrs }),
  big: file('b'.repeat(5 << 20)),
  one: file('linked'),
  two: { type: 'link', data: 'one' },
  'd/x': file('x'),
  'd/sub/y': file('y'),
  'e/z': file('z'),
  link: { type: 'symlink', data: 'small' },
  gone: dir(),
};
const below: Tree = { 'd/w': file('w'), 'gone/in': file('') };

const open = (root: number, name: string, flags: number) => {
  const fd = sys.open(root, name, flags | O.CLOEXEC, 0o644);
  if (fd >= 0) sys.close(fd);
};

type Step = (root: number) => unknown;
const scenario = (name: string, step: Step, more: Partial<Scenario> = {}): Scenario => ({
  name,
  lowers: [lower, below],
  run: (s) => s.at((root) => step(root)),
  ...more,
});

/** Made by a program that is not the server's user. */
const user =
  (step: Step): Step =>
  (root) =>
    asUser(1000, 1000, () => step(root));
const open777: Partial<Scenario> = { upper: { d: dir({ mode: 0o777 }) } };

const scenarios: Scenario[] = [
  scenario('copy-up of a small file', (root) => sys.chmod(root, 'small', 0o600)),
  scenario('copy-up of a big file', (root) => sys.chmod(root, 'big', 0o600)),
  scenario('copy-up below a chain of directories', (root) => sys.chmod(root, 'a/b/c/deep', 0o600)),
  scenario('copy-up of a hard-linked file', (root) => sys.chmod(root, 'two', 0o600)),
  scenario('copy-up of a symlink', (root) => sys.chown(root, 'link', 3, 3, 0x100)),
  scenario('copy-up of metadata', (root) => sys.chmod(root, 'big', 0o600), {
    options: 'metacopy=on',
  }),
  scenario('truncating a lower file', (root) => open(root, 'small', O.WRONLY | O.TRUNC)),
  scenario('rename of a file', (root) => sys.rename(root, 'small', 'e/renamed')),
  scenario('rename of a lower directory', (root) => sys.rename(root, 'e', 'f')),
  scenario('rename of a merged directory', (root) => sys.rename(root, 'd', 'e/moved')),
  scenario('rename over a file', (root) => sys.rename(root, 'small', 'd/x')),
  scenario('rename over an empty directory', (root) => sys.rename(root, 'e', 'hollow'), {
    upper: { hollow: dir(), 'hollow/in': { type: 'whiteout' } },
    lowers: [lower, below, { 'hollow/in': file('') }],
  }),
  scenario('exchange of a file and a directory', (root) => sys.rename(root, 'small', 'd', 2)),
  scenario('create over a whiteout', (root) => open(root, 'd/x', O.CREAT | O.WRONLY), {
    upper: { 'd/x': { type: 'whiteout' } },
  }),
  scenario('mkdir over a whiteout', (root) => sys.mkdir(root, 'd/sub', 0o750), {
    upper: { 'd/sub': { type: 'whiteout' } },
  }),
  scenario(
    'create by another user',
    user((root) => open(root, 'd/new', O.CREAT | O.WRONLY)),
    open777,
  ),
  scenario(
    'mkdir by another user',
    user((root) => sys.mkdir(root, 'd/new', 0o700)),
    open777,
  ),
  scenario(
    'symlink by another user',
    user((root) => sys.symlink('t', root, 'd/new')),
    open777,
  ),
  scenario('link of a lower file', (root) => sys.link(root, 'small', 'e/second')),
  scenario('unlink of a lower file', (root) => sys.unlink(root, 'small')),
  scenario('unlink of a copied-up file', (root) => sys.unlink(root, 'small'), {
    upper: { small: file('upper') },
  }),
  scenario('unlink of one of two names', (root) => sys.unlink(root, 'one')),
  scenario('rmdir of a merged directory', (root) => sys.rmdir(root, 'd'), {
    upper: {
      'd/x': { type: 'whiteout' },
      'd/sub': { type: 'whiteout' },
      'd/w': { type: 'whiteout' },
    },
  }),
];

// Only what the operations do is counted, not what an idle server practises.
process.env['VARVE_REHEARSE'] = 'off';

const rounds = campaign('rounds', 0);

// One at a time: they share a supervisor, and it is killed, too.
describe('server and supervisor killed at each step', () => {
  for (const made of scenarios) {
    test(made.name, { skip }, async (t) => {
      await campaignOn(t, 'tmpfs', made, false, false);
      for (let i = 0; i < rounds; i++) {
        await campaignOn(t, 'tmpfs', made, true, false);
        await campaignOn(t, 'disk', made, true, false);
      }
    });
  }
});

// Two at a time: most of the time goes into starting servers.
describe('a server killed at each step is replaced', { concurrency: 2 }, () => {
  for (const made of scenarios) {
    test(made.name, { skip: skip || requires({ features: ['resend'] }) }, async (t) => {
      await campaignOn(t, 'tmpfs', made, false, true);
      for (let i = 0; i < rounds; i++) await campaignOn(t, 'tmpfs', made, true, true);
    });
  }
});

async function campaignOn(
  t: TestContext,
  place: 'tmpfs' | 'disk',
  made: Scenario,
  everything: boolean,
  replaced: boolean,
): Promise<void> {
  const base = makeTempDir();
  try {
    if (place === 'tmpfs') {
      run('mount', ['-t', 'tmpfs', '-o', 'size=64m,mode=755', 'tmpfs', base]);
    }
    const { kills, old, new: now } = await killAtEveryStep(base, made, everything, replaced);
    t.diagnostic(`${place}: ${kills} kills, different states: ${old} old, ${now} new`);
  } finally {
    removeTempDir(base);
  }
}
