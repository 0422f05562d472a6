// A file that a command writes: whole or not at all, in place of the one before; devices and symlinks stay what they are.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { tempDir } from '../support/temp.js';

const VARVE = fileURLToPath(new URL('../../bundle/programs/main.js', import.meta.url));
const PAGE = /^<!doctype html>[\s\S]*<\/html>\n$/;

function layers(t: TestContext): string {
  const place = tempDir(t);
  for (const name of ['upper', 'lower', 'out']) mkdirSync(join(place, name));
  writeFileSync(join(place, 'upper/new'), 'new\n');
  return place;
}

const diff = (place: string, target: string) =>
  spawnSync(process.execPath, [VARVE, 'diff', '--html', target, 'upper', 'lower'], {
    cwd: place,
    encoding: 'utf8',
  });

test('a page replaces the file at the end of a symlink, and leaves nothing else', (t) => {
  const place = layers(t);
  writeFileSync(join(place, 'out/page.html'), 'before');
  symlinkSync('page.html', join(place, 'out/link'));
  const { status, stdout, stderr } = diff(place, 'out/link');
  assert.deepEqual([status, stdout], [0, ''], stderr);
  assert.match(stderr, /^varve: out\/link: [\d.]+ KiB\n$/);
  assert.ok(lstatSync(join(place, 'out/link')).isSymbolicLink());
  assert.match(readFileSync(join(place, 'out/page.html'), 'utf8'), PAGE);
  assert.deepEqual(readdirSync(join(place, 'out')).sort(), ['link', 'page.html']);
});

test('a device is written into; what is no place for a file is refused in one line', (t) => {
  const place = layers(t);
  assert.equal(diff(place, '/dev/null').status, 0);
  assert.ok(statSync('/dev/null').isCharacterDevice());
  for (const [target, code] of [
    ['/dev/full', 3],
    ['out', 2],
    ['none/page.html', 3],
    ['upper/new/page.html', 3],
  ] as const) {
    const { status, stderr } = diff(place, target);
    assert.equal(status, code, stderr);
    assert.match(stderr, /^varve: \S+: [^\n]+\n$/);
  }
  assert.deepEqual(readdirSync(join(place, 'out')), []);
});

test('standard output: whole, and no error when its reader goes', async (t) => {
  const place = layers(t);
  assert.match(diff(place, '-').stdout, PAGE);
  const child = spawn(process.execPath, [VARVE, 'diff', '--html', '-', 'upper', 'lower'], {
    cwd: place,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.stdout.destroy();
  let said = '';
  child.stderr.on('data', (text) => {
    said += text;
  });
  const code = await new Promise((resolve) => child.on('close', resolve));
  assert.deepEqual([code, said], [0, '']);
});
