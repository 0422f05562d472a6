import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { mountsBelow } from './mounts.js';
import { requires } from './requires.js';
import { withTempDir } from './temp.js';

test('the folder is gone after a failure, what it refused to show included', async () => {
  let folder = '';
  const failing = withTempDir((made) => {
    folder = made;
    mkdirSync(join(made, 'closed'));
    writeFileSync(join(made, 'closed', 'file'), '');
    execFileSync('chmod', ['0', join(made, 'closed')]);
    throw new Error('on purpose');
  });
  await assert.rejects(failing, /on purpose/);
  assert.equal(existsSync(folder), false);
});

test('mounts inside are detached, nested ones and names with spaces too', {
  skip: requires({ root: true, features: ['tmpfs'] }),
}, async () => {
  const folder = await withTempDir((made) => {
    const outer = join(made, 'a b');
    mkdirSync(outer);
    execFileSync('mount', ['-t', 'tmpfs', 'none', outer]);
    mkdirSync(join(outer, 'inner'));
    execFileSync('mount', ['-t', 'tmpfs', 'none', join(outer, 'inner')]);
    assert.equal(mountsBelow(made).length, 2);
    return made;
  });
  assert.deepEqual(mountsBelow(folder), []);
  assert.equal(existsSync(folder), false);
});
