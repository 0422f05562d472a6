import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemorySource } from '../../src/bytes/source.js';
import { ErofsImage } from '../../src/erofs/image.js';
import { PathSearch } from '../../src/imagefs/path-search.js';
import { imageOf } from './sample.js';

const line = (path: string, mode: string): string => `${path} 0 ${mode} 2 0 0 0 1.0 - - -`;

function imageWith(paths: readonly string[]): ErofsImage {
  const dump = [
    line('/', '40755'),
    ...paths.map((path) => line(path, path.endsWith('.d') ? '40755' : '100644')),
  ];
  return ErofsImage.open(new MemorySource(imageOf(`${dump.join('\n')}\n`, 1)));
}

/** nid of a path. */
function nidOf(image: ErofsImage, path: string): number {
  let nid: number = image.rootNid;
  for (const name of path.split('/').slice(1)) {
    nid = image.lookup(image.inode(nid), Buffer.from(name)) as number;
  }
  return nid;
}

const deep = Array.from({ length: 40 }, (_, i) => `${'/deep.d'.repeat(i + 1)}`);
const wide = Array.from({ length: 3000 }, (_, i) => `/wide.d/f${String(i).padStart(5, '0')}`);
const image = imageWith([...deep, `${deep.at(-1)}/end`, '/wide.d', ...wide]);

function runs(search: PathSearch): number {
  let steps = 1;
  while (search.step()) assert.ok(++steps < 100_000);
  return steps;
}

test('paths of inodes are found, however many are asked for', () => {
  const search = new PathSearch(image);
  const asked = ['/wide.d/f00000', '/wide.d/f02999', '/wide.d', `${deep.at(-1)}/end`];
  const told: string[] = [];
  asked.forEach((path, i) => {
    assert.equal(
      search.find(nidOf(image, path), (found) => told.push(found)),
      i === 0,
    );
  });
  runs(search);
  assert.deepEqual(told.sort(), asked.sort());
});

test('what is asked for during a walk is found by the next, and who asks twice is told twice', () => {
  const search = new PathSearch(image);
  const told: string[] = [];
  const tell = (path: string) => told.push(path);
  search.find(nidOf(image, '/wide.d/f02999'), tell);
  const more = search.step();
  assert.equal(search.find(nidOf(image, '/wide.d/f00001'), tell), !more);
  search.find(nidOf(image, '/wide.d/f00001'), tell);
  runs(search);
  assert.deepEqual(told.sort(), ['/wide.d/f00001', '/wide.d/f00001', '/wide.d/f02999']);
});

test('an inode without a name is told by its number, and the walk ends', () => {
  const search = new PathSearch(image);
  const told: string[] = [];
  search.find(123_456_789, (path) => told.push(path));
  runs(search);
  assert.deepEqual(told, ['nid 123456789']);
  // And works again.
  search.find(nidOf(image, '/wide.d'), (path) => told.push(path));
  runs(search);
  assert.equal(told[1], '/wide.d');
});

test('of a flood only so many are looked for', () => {
  const search = new PathSearch(image);
  const told: string[] = [];
  for (let i = 0; i < 3000; i++)
    search.find(nidOf(image, wide[i] as string), (path) => told.push(path));
  assert.equal(told.length, 2000);
  runs(search);
  assert.equal(told.length, 3000);
  assert.equal(told.filter((path) => path.startsWith('/wide.d/')).length, 1000);
});
