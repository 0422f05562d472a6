// `varve run REF`: the command has the image's user, directory and environment, and nothing of this machine runs with them.
// Images of the store, no registry. What an image puts in the place of its passwd file keeps nobody waiting.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { buildLayer } from '../../src/lazy/build/build-layer.js';
import { type RunConfig, writeImage } from '../../src/lazy/image-record.js';
import { openTreeSource } from '../../src/tree/source.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { cliIn } from './cli.js';

const skip = requires({
  root: true,
  packages: ['busybox-static'],
  features: ['fuse', 'overlayfs', 'erofs'],
});

const NAME = 'registry.example/box:1';

test('a command runs as the image says', { skip }, async (t) => {
  const folder = tempDir(t);
  const tree = join(folder, 'tree');
  for (const name of ['', 'bin', 'etc', 'srv', 'proc', 'dev', 'sys']) mkdirSync(join(tree, name));
  copyFileSync('/bin/busybox', join(tree, 'bin/busybox'));
  symlinkSync('busybox', join(tree, 'bin/sh'));
  writeFileSync(join(tree, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\napp:x:77:78::/srv:/bin/sh\n');
  const store = join(folder, 'store');
  const pack = async (config: RunConfig): Promise<void> => {
    const { root, close } = openTreeSource(tree);
    const layer = await buildLayer(root, store);
    close();
    const digest = `sha256:${'0'.repeat(64)}`;
    const layers = [layer.read().id];
    writeImage(store, { version: 1, name: NAME, digest, platform: 'linux/amd64', config, layers });
  };
  const cli = cliIn(folder);
  const run = (...words: string[]) => cli.run('run', '--store', store, NAME, '--', ...words);
  const show = 'busybox id -u; busybox id -g; pwd; echo $HOME $LD_PRELOAD';

  // Neither is unshare(1) looked for in this PATH, nor does it load this library.
  const env = ['PATH=/bin', 'LD_PRELOAD=/nowhere.so'];
  await pack({ user: 'app', workdir: '/srv', env });
  const ran = run('sh', '-c', show);
  assert.deepEqual(ran.out.split('\n'), ['77', '78', '/srv', '/srv /nowhere.so', '']);
  assert.doesNotMatch(ran.err, /ld\.so/);
  assert.equal(ran.code, 0);
  assert.equal(run('sh', '-c', 'exit 5').code, 5);
  assert.equal(run('nothing').code, 127);

  await pack({ user: '5', workdir: '/nowhere' });
  const lost = run('sh', '-c', show);
  assert.match(lost.err, /working directory \/nowhere/);
  assert.notEqual(lost.code, 0);

  rmSync(join(tree, 'etc/passwd'));
  assert.equal(spawnSync('mkfifo', [join(tree, 'etc/passwd')]).status, 0);
  await pack({ user: 'app' });
  const unknown = run('sh', '-c', show);
  assert.match(unknown.err, /the image runs as app/);
  assert.notEqual(unknown.code, 0);
});
