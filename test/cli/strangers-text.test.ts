// What a registry, an image or a file name says never steers the terminal: every way to the screen shows it harmlessly.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { copyFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { lineOf } from '../../src/cli/exit-codes.js';
import { harmless, table } from '../../src/cli/output.js';
import { topText } from '../../src/cli/top.js';
import type { LayerStatus } from '../../src/lazy/protocol.js';
import { startFakeRegistry } from '../oci/fake-registry.js';
import { Caller } from '../registry/debian-image.js';
import { tempDir } from '../support/temp.js';

/** Title, clearing, 8-bit CSI, backspaces over what was said, another direction, another line. */
const EVIL = '\x1b]0;owned\x07\x1b[2J\x9b31m\b\b\rDone.\u202egnp\nvarve: all is well';

function assertHarmless(text: string): void {
  assert.doesNotMatch(text, /[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/);
}

test('an error of a registry is one line that can be read', async (t) => {
  const fake = await startFakeRegistry(t);
  fake.on = (_, response) => {
    const errors = [{ code: 'DENIED', message: EVIL }];
    response.writeHead(403, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ errors }));
    return true;
  };
  const caller = new Caller(tempDir(t));
  for (const words of [
    ['pull', `${fake.host}/x:1`],
    ['run', `${fake.host}/x:1`, '--', 'true'],
  ]) {
    const [command = '', ...rest] = words;
    const ran = await caller.varve(command, '--plain-http', ...rest);
    assert.equal(ran.code, 4);
    assertHarmless(ran.err);
    assert.equal(ran.err.split('\n').length, 2, ran.err);
    assert.match(ran.err, /owned/);
  }
});

test('what an image says in an error, in a table, in lines', () => {
  assertHarmless(lineOf(new Error(`the image's working directory ${EVIL}`)));
  const rows = table([
    ['NAME', 'SIZE'],
    [EVIL, '1 B'],
  ]);
  assertHarmless(rows);
  assert.equal(rows.split('\n').length, 2);
  assertHarmless(harmless(EVIL));
  assert.equal(harmless('some\ttext\nin two lines: ä €\n'), 'some\ttext\nin two lines: ä €\n');
});

test('top: names of processes and of mount points, and what a registry has said', async (t) => {
  const program = join(tempDir(t), '\x1b[2J\x9bx');
  copyFileSync(realpathSync('/bin/sleep'), program);
  const child = spawn(program, ['60']);
  t.after(() => child.kill('SIGKILL'));
  await new Promise((resolve) => child.once('spawn', resolve));
  const waiting = [
    { chunk: 1, waiters: 1, milliseconds: 1, mountpoints: [EVIL], pids: [child.pid as number] },
  ];
  const layer = { id: `sha256:${'1'.repeat(64)}`, totalBytes: 1, residentBytes: 0, rate: 0 };
  const layers = [
    { ...layer, mountpoints: [EVIL], trouble: EVIL, waiting },
  ] as unknown as LayerStatus[];
  const text = topText({ pid: 7, layers });
  assertHarmless(text);
  assert.match(text, new RegExp(` \\(.* ${child.pid}\\) of chunk 1`));
  assert.equal(text.split('\n').length, 5, text);
});
