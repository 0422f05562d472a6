// Which mode an image's mount gets, and which wishes are refused, as a table.
// Under test: src/stack/image-plan.ts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Mode, planMode } from '../../src/stack/image-plan.js';

const root = { euid: 0, mayMount: true, initialNamespace: true, full: true };
const inside = { euid: 0, mayMount: true, initialNamespace: false, full: false };
const plain = { euid: 1000, mayMount: false, initialNamespace: true, full: false };
const who = { root, inside, plain } as const;

/** Who, in a namespace of its own (run), writable, wish; the mode, or how the refusal begins. */
const rows: readonly [keyof typeof who, boolean, boolean, Mode | undefined, Mode | RegExp][] = [
  ['root', false, false, undefined, 'kernel'],
  ['root', false, true, undefined, 'kernel'],
  ['root', true, false, undefined, 'overlay'],
  ['root', false, false, 'overlay', 'overlay'],
  ['root', false, false, 'follow', 'follow'],
  ['root', true, true, 'kernel', 'kernel'],
  ['root', false, true, 'follow', /^mode=follow: it is read-only/],
  ['inside', false, false, undefined, 'overlay'],
  ['inside', false, true, undefined, 'overlay'],
  ['inside', true, true, undefined, 'overlay'],
  ['inside', true, false, 'follow', 'follow'],
  ['inside', true, false, 'kernel', /^mode=kernel: only root/],
  ['plain', false, false, undefined, 'follow'],
  ['plain', false, true, undefined, /^upperdir: without root .* `varve run`/],
  ['plain', false, false, 'kernel', /^mode=kernel: only root/],
  ['plain', false, false, 'overlay', /^mode=overlay: mounting is not permitted here/],
];

for (const [name, isPrivate, writable, wanted, expected] of rows) {
  const words = [name, isPrivate ? 'run' : 'mount', writable ? 'writable' : '', wanted ?? ''];
  test(words.filter((word) => word !== '').join(', '), () => {
    const plan = (): Mode =>
      planMode(wanted, { rights: who[name], private: isPrivate, writable }).mode;
    if (typeof expected === 'string') assert.equal(plan(), expected);
    else assert.throws(plan, { name: 'MountError', message: expected });
  });
}
