import assert from 'node:assert/strict';
import { test } from 'node:test';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { explore, type Plan, tell } from './explore.js';

const skip = requires({
  root: true,
  features: ['fuse', 'overlayfs', 'erofs', 'loop', 'ext4', 'tmpfs'],
  packages: ['e2fsprogs', 'fuse-overlayfs'],
});

const plan = {
  seed: campaign('seed', 1),
  // Mounting takes longer than a thousand operations.
  opsPerStack: 2000,
  patience: 60_000,
  failures: 1,
  report: (line: string) => console.log(line),
} satisfies Partial<Plan>;

test('the kernel agrees with itself: what is compared does not depend on chance', { skip }, (t) => {
  const summary = explore({ ...plan, subject: 'kernel', ops: 2000, folder: tempDir(t) });
  assert.deepEqual(summary.failed.map(tell), []);
});

test('another implementation is caught, so the oracle can fail', { skip }, (t) => {
  const { failed } = explore({
    ...plan,
    subject: 'fuse-overlayfs',
    ops: 2000,
    patience: 0,
    folder: tempDir(t),
  });
  assert.equal(failed.length, 1);
});

test('the same operations on varve and on kernel overlayfs leave the same tree', { skip }, (t) => {
  const subject = process.env['VARVE_TEST_SUBJECT'] ?? 'varve';
  const ops = campaign('ops', 20_000);
  const summary = explore({ ...plan, subject, ops, folder: tempDir(t) });
  assert.deepEqual(summary.failed.map(tell), []);
  assert.ok(ops < 20_000 || summary.kinds >= 50, `only ${summary.kinds} kinds`);
});

test('the same over lowers that are images, mounted by the kernel for the oracle', {
  skip,
}, (t) => {
  const ops = campaign('ops', 20_000) / 5;
  const summary = explore({ ...plan, subject: 'varve', ops, images: true, folder: tempDir(t) });
  assert.deepEqual(summary.failed.map(tell), []);
});
