import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ErofsImage } from '../../src/erofs/image.js';
import { ErofsLayer } from '../../src/layer/erofs.js';
import { closeFile, isContent, readFile, seekFile } from '../../src/layer/layer.js';
import { SEEK } from '../../src/linux/constants.js';
import { E } from '../../src/linux/errno.js';
import { FileSource } from '../../src/linux/file-source.js';
import { mapMemory, putBytes, scratch, u8 } from '../../src/linux/memory.js';
import { MAIN } from '../cli/cli.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { layerSuite } from './suite.js';
import { file, makeTree, type Tree } from './tree.js';

mapMemory();
const NAME = scratch + 0x14000;
const OUT = scratch + 0x10000;

let index = 0;

/** A layer of an image of the tree. @param options of `varve image build`. */
function erofsLayer(t: TestContext, tree: Tree, options: readonly string[] = []): ErofsLayer {
  const folder = join(tempDir(t), 'layer');
  mkdirSync(folder);
  makeTree(folder, tree);
  const path = `${folder}.img`;
  const build = [MAIN, 'image', 'build', '-q', ...options, '-o', path, folder];
  execFileSync(process.execPath, build, { stdio: 'inherit' });
  const source = FileSource.open(path);
  const layer = new ErofsLayer({
    index: index++,
    label: path,
    image: ErofsImage.open(source),
    log: (line) => assert.fail(line),
    showsTrustedAsUser: false,
    close: () => source.close(),
  });
  t.after(() => layer.close());
  return layer;
}

layerSuite('EROFS layer', (t, tree) => erofsLayer(t, tree));
layerSuite('compressed EROFS layer', (t, tree) =>
  erofsLayer(t, tree, ['-z', 'lz4hc', '--tail-packing']),
);

const skip = requires({ root: true });

test('content is read by a number that stands for it, at any offset, and ends with it', {
  skip,
}, (t) => {
  const text = Array.from({ length: 20_000 }, (_, i) => `line ${i}\n`).join('');
  const layer = erofsLayer(t, { f: file(text) }, ['-z', 'lz4hc', '-C', '65536']);
  putBytes(NAME, 'f');
  const content = layer.open(layer.root, NAME);
  assert.ok(isContent(content));
  for (const [at, size] of [
    [0, 100],
    [4095, 2],
    [65_535, 40_000],
    [text.length - 5, 100],
  ] as const) {
    const n = readFile(content, OUT, size, at);
    assert.equal(
      Buffer.from(u8.subarray(OUT, OUT + n)).toString('latin1'),
      text.slice(at, at + size),
    );
  }
  assert.equal(readFile(content, OUT, 10, text.length), 0);
  assert.equal(seekFile(content, 0, SEEK.DATA), 0);
  assert.equal(seekFile(content, 0, SEEK.HOLE), text.length);
  assert.equal(seekFile(content, text.length, SEEK.DATA), -E.NXIO);
  closeFile(content);
  assert.equal(readFile(content, OUT, 10, 0), -E.BADF);
});

test('holes of a chunked image are told', { skip }, (t) => {
  const layer = erofsLayer(t, { f: file('start', { size: 1 << 20 }) }, ['--chunksize', '4096']);
  putBytes(NAME, 'f');
  const content = layer.open(layer.root, NAME);
  assert.equal(seekFile(content, 0, SEEK.HOLE), 4096);
  assert.equal(seekFile(content, 8192, SEEK.DATA), -E.NXIO);
  assert.equal(seekFile(content, 8192, SEEK.HOLE), 8192);
  closeFile(content);
});
