import assert from 'node:assert/strict';
import { test } from 'node:test';
import { topText } from '../../src/cli/top.js';
import type { LayerStatus } from '../../src/lazy/protocol.js';

const MIB = 1 << 20;

const layer: LayerStatus = {
  id: `sha256:${'0123456789ab'.repeat(6).slice(0, 64)}`,
  folder: '/srv/layer',
  form: 'varve',
  mountpoints: ['/mnt'],
  chunks: 80,
  residentChunks: 20,
  totalBytes: 80 * MIB,
  residentBytes: 20 * MIB,
  waiting: [],
  fetchedBytes: 7 * MIB,
  rate: 2 * MIB,
  way: 'server',
} as unknown as LayerStatus;

test('what is here, how fast the rest comes and when it will be here', () => {
  const lines = topText({ pid: 7, layers: [layer] }).split('\n');
  assert.equal(lines[0], 'loader 7');
  assert.match(lines[2] as string, /^0123456789ab {2}\[#{5}\.{15}\] {2}20\.0 MiB of 80\.0 MiB/);
  assert.match(lines[2] as string, /2\.0 MiB\/s {2}30 s +0 waits {2,}\/mnt$/);
});

test('who waits, and why nothing comes', () => {
  const pids = [process.pid];
  const waiting = [{ chunk: 12, waiters: 3, milliseconds: 2500, mountpoints: ['/mnt'], pids }];
  const text = topText({
    pid: 7,
    layers: [{ ...layer, rate: 0, waiting, trouble: 'connection refused' }],
  });
  assert.match(text, /connection refused/);
  assert.match(text, /3 readers \(.+ \d+\) of chunk 12 for 2\.5 s/);
  assert.match(text, / - {2,}1 wait/);
});

test('nothing to load is one line', () => {
  assert.equal(topText({ pid: 0, layers: [] }), 'Nothing is being loaded.');
});
