// What a bench makes of its turns: minimums, the smallest that works, what init reported, ticks and charts.
// Oracle of the charts: librsvg, which reads them as strict XML and draws them.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { chartsOf, writeCharts } from '../../src/boot/bench/charts.js';
import { BootFailed, readReport, reportingInit } from '../../src/boot/bench/machine.js';
import type { BenchReport } from '../../src/boot/bench/run.js';
import { leastThat, minimums, spread } from '../../src/boot/bench/statistics.js';
import { chartSvg, roundTicks, spreadOut } from '../../src/boot/bench/svg.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

test('the minimum of each figure is taken by itself', () => {
  const turns = [
    { init: 3, read: 10 },
    { init: 2, read: 12 },
    { init: 4, read: 9 },
  ];
  assert.deepEqual(minimums(turns), { init: 2, read: 9 });
  assert.throws(() => minimums([]), RangeError);
  assert.equal(spread([2, 2.5, 2.2]), 1.25);
});

test('the smallest value that works is found in few questions', async () => {
  for (let border = 48; border <= 528; border += 16) {
    const asked: number[] = [];
    const range = { least: 48, most: 512, step: 16 };
    const found = await leastThat(range, (value) => {
      asked.push(value);
      return Promise.resolve(value >= border);
    });
    assert.equal(found, border > 512 ? undefined : border);
    assert.ok(asked.length <= 6, `${border}: ${asked}`);
    assert.equal(new Set(asked).size, asked.length);
  }
});

test('what lies between two steps is rounded up, but not beyond the largest', async () => {
  const from = (border: number) => (value: number) => Promise.resolve(value >= border);
  assert.equal(await leastThat({ least: 10, most: 100, step: 16 }, from(33)), 48);
  assert.equal(await leastThat({ least: 10, most: 100, step: 16 }, from(100)), 100);
});

test('the report of init is read among what else is on the console', () => {
  const line = 'varve-bench: uptime 2.47 total 1511172 available 1401500 sectors 4755';
  const console = `[    1.97] Freeing\r\nSeaBIOS\r\n${line}\r\n[    2.6] reboot: Power down\r\n`;
  assert.deepEqual(readReport(console, 3.5), {
    init: 2.47,
    wall: 3.5,
    memory: (1511172 - 1401500) * 1024,
    read: 4755 * 512,
  });
  assert.equal(readReport(`${line.slice(0, -3)}`, 1), undefined);
  assert.match(reportingInit('/bin/sh'), /^#!\/bin\/sh\n/);
});

test('a boot that failed says what was said last, or what says most', () => {
  const cases = [
    ['', 'stopped: it said nothing'],
    ['one\r\ntwo\r\n\r\n', 'stopped: two'],
    [
      '[ 2.1] Kernel panic - not syncing: VFS\r\n[ 2.2] end\r\n',
      'stopped: [ 2.1] Kernel panic - not syncing: VFS',
    ],
    [
      'varve-boot: FAILED: device not found: x: y\r\nlater',
      'stopped: varve-boot: FAILED: device not found: x: y',
    ],
  ] as const;
  for (const [console, message] of cases) {
    assert.equal(new BootFailed('stopped', console).message, message);
  }
});

test('ticks are round, begin at zero and reach the largest value', () => {
  const rows: [number, number[]][] = [
    [9.8, [0, 2, 4, 6, 8, 10]],
    [297.2, [0, 50, 100, 150, 200, 250, 300]],
    [300, [0, 50, 100, 150, 200, 250, 300]],
    [0.3, [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]],
    [1, [0, 0.2, 0.4, 0.6, 0.8, 1]],
    [14, [0, 2.5, 5, 7.5, 10, 12.5, 15]],
    [0, [0, 1]],
  ];
  for (const [most, ticks] of rows) assert.deepEqual(roundTicks(most), ticks, String(most));
});

test('labels move apart as little as it takes, within bounds', () => {
  assert.deepEqual(spreadOut([10, 50, 90], 10, 0, 100), [10, 50, 90]);
  assert.deepEqual(spreadOut([10, 12, 90], 10, 0, 100), [10, 20, 90]);
  assert.deepEqual(spreadOut([98, 99, 100], 10, 0, 100), [80, 90, 100]);
  assert.deepEqual(spreadOut([-5, 3], 10, 0, 100), [0, 10]);
});

const VARIANTS = ['gzip', 'lz4', 'varve', 'varve-verity', 'none', 'zstd', 'xz', 'varve-btrfs', 'a'];

const report: BenchReport = {
  version: 1,
  kernel: '/boot/vmlinuz',
  release: '6.1.0 <&"odd">',
  memory: 512,
  rounds: 2,
  results: VARIANTS.flatMap((variant, i) =>
    [10, 100, 300].map((size) => {
      const turn = { init: 2 + (size * i) / 200, wall: 3, memory: (100 + size * i) * 1e6, read: 0 };
      const payload = { payload: `${size} MB`, bytes: size * 1e6, files: 1 };
      return { ...payload, variant, stored: 1, built: 1, turns: [turn], best: turn };
    }),
  ),
};

test('a chart has its ticks, a line and a label of each variant, and nothing outside of it', () => {
  for (const chart of Object.values(chartsOf(report))) {
    const svg = chartSvg(chart);
    assert.equal(svg.match(/<polyline /g)?.length, VARIANTS.length);
    for (const variant of VARIANTS) {
      // In the legend, and where its line ends.
      const texts = [...svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map(([, text]) => text ?? '');
      assert.equal(texts.filter((text) => text.split(' ').at(-1) === variant).length, 2, variant);
    }
    for (const tick of [0, 50, 300]) assert.ok(svg.includes(`>${tick}</text>`), String(tick));
    assert.ok(svg.includes('Linux 6.1.0 &lt;&amp;&quot;odd&quot;&gt;'));
    for (const [, x, y] of svg.matchAll(/points="(?:[\d.]+,[\d.]+ )*?([\d.]+),([\d.]+)/g)) {
      assert.ok(Number(x) >= 84 && Number(x) <= 764, x);
      assert.ok(Number(y) >= 122 && Number(y) <= 524, y);
    }
  }
  assert.throws(() => chartSvg({ ...chartsOf(report)['time'], series: [] } as never), RangeError);
});

test('librsvg reads the charts and draws them', {
  skip: requires({ packages: ['librsvg2-bin'] }),
}, async (t) => {
  const folder = tempDir(t);
  await writeCharts(report, folder);
  for (const name of ['time', 'memory']) {
    const png = readFileSync(join(folder, `${name}.png`));
    assert.deepEqual([png.readUInt32BE(16), png.readUInt32BE(20)], [1920, 1200]);
  }
  // What is no XML is refused: the oracle does look.
  const broken = readFileSync(join(folder, 'time.svg'), 'utf8').replace('</svg>', '');
  assert.notEqual(spawnSync('rsvg-convert', { input: broken }).status, 0);
});
