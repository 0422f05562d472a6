import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ResidencyLayer, residencyPage } from '../../src/report/residency-page.js';

const AT = new Date('2026-01-02T03:04:05Z');

const layer = (map: ResidencyLayer['map'], chunks: number): ResidencyLayer => ({
  id: `sha256:${'ab'.repeat(32)}`,
  form: 'varve',
  mountpoints: ['/mnt/<a&b>'],
  chunks,
  residentChunks: 2,
  totalBytes: 4096,
  residentBytes: 1024,
  fetchedBytes: 512,
  rate: 0,
  ...(map === undefined ? {} : { map }),
});

/** Classes of the cells, in their order. */
function cells(page: string): string[] {
  return [...page.matchAll(/<rect class="([^"]+)"/g)].map(([, classes]) => classes as string);
}

test('a cell a chunk where they fit: absent, here, waited for', () => {
  const map = [
    [0, 2],
    [1, 2],
    [2, 1],
  ] as const;
  const page = residencyPage({ pid: 42, layers: [layer(map, 5)] }, AT);
  assert.deepEqual(cells(page), ['h0', 'h0', 'h4', 'h4', 'h0 w']);
  assert.match(page, /a cell is one chunk/);
  assert.match(page, /1\.0 KiB of 4\.0 KiB \(25 %\)/);
  assert.match(page, /loader 42/);
});

test('more chunks than cells: each cell says how much of it is here', () => {
  const page = residencyPage(
    {
      pid: 1,
      layers: [
        layer(
          [
            [1, 5761],
            [0, 5759],
          ],
          11520,
        ),
      ],
    },
    AT,
  );
  const found = cells(page);
  assert.equal(found.length, 3840);
  assert.equal(found[1919], 'h4');
  assert.match(found[1920] as string, /^h[12]$/);
  assert.equal(found[1921], 'h0');
  assert.match(page, /a cell is 3 chunks/);
});

test('names are text, never markup, and nothing runs', () => {
  const bad = { ...layer([[1, 1]], 1), trouble: '<script>alert(1)</script>' };
  const page = residencyPage({ pid: 1, layers: [bad] }, AT);
  assert.ok(!page.includes('<script'));
  assert.ok(page.includes('/mnt/&lt;a&amp;b&gt;'));
  assert.match(page, /default-src 'none'/);
});

test('without layers it says so', () => {
  assert.match(residencyPage({ pid: 0, layers: [] }, AT), /Nothing is being loaded/);
});
