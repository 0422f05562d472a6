import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { applyUpper } from '../../src/ops/apply.js';
import { applyFolders } from '../../src/stack/pending-apply.js';
import { compareTrees, showDifferences } from '../../src/tree/compare.js';
import { extractTree } from '../../src/tree/extract.js';
import { scan } from '../../src/tree/scan.js';
import { stackOf } from '../../src/union/changes.js';
import { viewDirectory } from '../../src/union/directory-view.js';
import { makeFilesystems } from '../oracle/explore.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { growStacks, throughKernel } from './stacks.js';

const skip = requires({
  root: true,
  features: ['fuse', 'overlayfs', 'loop', 'ext4', 'tmpfs'],
  packages: ['e2fsprogs'],
});

const rounds = campaign('rounds', 6);
const firstSeed = campaign('seed', 1);

test('after any history, the lower alone shows what the stack showed', { skip }, async (t) => {
  const folder = tempDir(t);
  const filesystems = makeFilesystems(folder);
  for (let seed = firstSeed; seed < firstSeed + rounds; seed++) {
    for (const stack of growStacks(seed * 2, 1, 300, filesystems)) {
      const wanted = `${stack.mountpoint}-wanted`;
      throughKernel(stack, ({ root }) => extractTree(root, wanted));
      const [lower] = stack.lowers as [string];
      const views = [stack.upper, lower].map((path) => viewDirectory(path, 'trusted.overlay.'));
      try {
        const [upper, below] = views as [(typeof views)[0], (typeof views)[0]];
        const report = await applyUpper(stackOf([upper, below]), lower, {
          upper: stack.upper,
          move: seed % 2 === 0,
        });
        assert.deepEqual(report.conflicts, []);
        assert.ok(report.applied);
      } finally {
        for (const view of views) view.close();
      }
      const [expected, actual] = [scan(wanted), scan(lower)];
      const what = compareTrees(expected.root, actual.root);
      assert.equal(showDifferences(what), '', `seed ${seed}, upper of ${stack.by}`);
      expected.close();
      actual.close();
      assert.deepEqual(readdirSync(stack.upper), [], 'the upper is empty');
      for (const left of applyFolders(lower)) assert.ok(!existsSync(left), left);
    }
    spawnSync('sh', ['-c', `rm -rf ${filesystems.ext4}/* ${filesystems.tmpfs}/[0-9]*`]);
  }
});
