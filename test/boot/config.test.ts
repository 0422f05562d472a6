// initoverlayfs.conf and IMAGE.verity: what is written is what the storage-init understands, and nothing is said twice.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BootConfig, parseConfig, parseVerity, writeConfig } from '../../src/boot/config.js';

const config: BootConfig = {
  bootfs: 'LABEL=boot',
  bootfstype: 'auto',
  raw: false,
  timeout: 30,
  onFailure: 'shell',
  overlaySize: '50%',
  layers: [{ fs: '/a.img', fstype: 'erofs', verify: 'none', size: 8192, digest: '0'.repeat(64) }],
};

test('what is written is read', () => {
  assert.deepEqual(parseConfig(writeConfig(config), 'x'), config);
});

test('what would be refused at boot is not written', () => {
  const layer = config.layers[0] as BootConfig['layers'][0];
  for (const wrong of [
    { bootfs: 'LABEL=a b' },
    // The shell of the storage-init takes no zeros before a number.
    { overlaySize: '050%' },
    { timeout: -1 },
    { layers: [{ ...layer, fs: '/a b.img' }] },
    { layers: [{ ...layer, fs: '/a.img\nverify none' }] },
  ])
    assert.throws(() => writeConfig({ ...config, ...wrong }), { kind: 'option' });
});

test('a key that is said twice is refused: readers would not agree which one counts', () => {
  const verity = `version 1\nsize 8192\nroothash ${'0'.repeat(64)}\nsalt 00\ndata-blocks 1\nhash-offset 4096\n`;
  assert.equal(parseVerity(verity, 'x').dataBlocks, 1);
  const again = `${verity}roothash ${'1'.repeat(64)}\n`;
  assert.throws(() => parseVerity(again, 'x'), /x:7: roothash is said twice/);
});
