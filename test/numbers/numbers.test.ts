// No inode number changes, none is there twice, listings name the same, and st_dev is one: each row of filesystems through
// copy-up, a cache drop, a remount, layers that join anywhere, and folders that move.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { campaign } from '../support/campaign.js';
import { type Feature, requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { ROWS } from './filesystems.js';
import { measure } from './matrix.js';

const objects = campaign('ops', 5000);

for (const row of ROWS) {
  const skip = requires({
    root: true,
    features: ['fuse', ...(row.needs.features as readonly Feature[])],
    packages: row.needs.packages,
  });
  test(`${row.name}: ${objects} objects keep their numbers`, { skip }, async (t) => {
    await measure(row, 'varve', objects, tempDir(t), (cell) => {
      const { event, compared, ...faults } = cell;
      assert.deepEqual(
        { event, ...faults },
        { event, changed: 0, duplicates: 0, devices: 1, listedOtherwise: 0 },
      );
      assert.ok(compared >= objects * 0.9, `${event}: ${compared} compared`);
    });
  });
}
