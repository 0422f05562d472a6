// A writable stack over a lazy layer: what changes metadata fetches nothing, what changes content waits for it, and only that does.
// Under test: src/overlay/{copy-data,copy-up,io}.ts, the default of metacopy in stack/check.ts, with the real loader over a file.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  linkSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { requires } from '../support/requires.js';
import { fusePlace } from './fuse-place.js';
import { run, until } from './kernel-place.js';

const skip = requires({ root: true });
const SAME = { status: 0, stdout: '' };

test('metadata changes without content, and the content that is read later is the layer’s', {
  skip,
}, async (t) => {
  const p = await fusePlace(t);
  await p.mountFuse('fill=off', true);
  const script = `cd ${p.mnt} && chown -R 12:34 . && chmod -R g+w . && mv dash sh && find . -exec touch -d @1000 {} + &&
    mv etc/deep etc/shallow && ln big large && setfattr -n user.a -v b bash && rm etc/shallow/7`;
  assert.deepEqual(await run('sh', '-c', script), SAME);
  writeFileSync(join(p.mnt, 'etc/shallow/8'), 'replaced');
  truncateSync(join(p.mnt, 'etc/shallow/9'), 0);
  assert.equal(p.requests(), 0, 'nothing was fetched');
  const seen = statSync(join(p.mnt, 'sh'));
  assert.deepEqual([seen.uid, seen.gid, seen.mtimeMs], [12, 34, 1_000_000]);
  assert.deepEqual(await run('cmp', join(p.tree, 'dash'), join(p.mnt, 'sh')), SAME);
  assert.deepEqual(await run('cmp', join(p.tree, 'big'), join(p.mnt, 'large')), SAME);
  for (const name of ['shallow/8', 'shallow/9', 'deep/7', 'deep/8', 'deep/9']) {
    rmSync(join(name.startsWith('deep') ? p.tree : p.mnt, 'etc', name));
  }
  assert.deepEqual(await run('diff', '-r', `${p.tree}/etc/deep`, `${p.mnt}/etc/shallow`), SAME);
  await p.unmountFuse();
});

test('a copy-up waits for its content and nobody waits for it; it survives its server, and fails as a whole', {
  skip,
}, async (t) => {
  const p = await fusePlace(t);
  await p.mountFuse('fill=off', true);
  assert.deepEqual(await run('cmp', join(p.tree, 'dash'), join(p.mnt, 'dash')), SAME);
  p.tell('stall', '');
  const append = (name: string): Promise<{ status: number | null; stdout: string }> =>
    run('sh', '-c', `printf end >> ${join(p.mnt, name)}`);
  const copies = [append('big'), append('bash'), append('etc/deep/150')];
  await until('three copies wait', async () => (await p.waiting()) === 3);
  // Others go on, also those who change something.
  appendFileSync(join(p.mnt, 'dash'), 'more');
  chmodSync(join(p.mnt, 'etc/deep/3'), 0o600);
  renameSync(join(p.mnt, 'etc/deep/4'), join(p.mnt, 'etc/four'));
  linkSync(join(p.mnt, 'etc/deep/5'), join(p.mnt, 'etc/five'));
  const first = await p.server();
  process.kill(first, 'SIGKILL');
  await until('another server has them', async () => {
    return (await p.server()) !== first && (await p.waiting()) === 3;
  });
  p.tell('stall');
  for (const copied of await Promise.all(copies)) assert.deepEqual(copied, SAME);
  for (const name of ['big', 'bash', 'etc/deep/150']) {
    const whole = Buffer.concat([readFileSync(join(p.tree, name)), Buffer.from('end')]);
    assert.ok(readFileSync(join(p.mnt, name)).equals(whole), name);
  }
  await p.unmountFuse();
  assert.deepEqual(readdirSync(join(p.folder, 'work/work')), []);
});

test('content that does not come fails a copy-up, which leaves nothing; a writer that is killed is gone', {
  skip,
}, async (t) => {
  const p = await fusePlace(t);
  p.tell('stall', '');
  await p.mountFuse('fill=off,stall=1', true);
  const refused = await run('sh', '-c', `printf end >> ${join(p.mnt, 'big')}`);
  assert.match(refused.stdout, /I\/O error|Input\/output error/);
  assert.deepEqual(readdirSync(p.upper), []);
  assert.deepEqual(readdirSync(join(p.folder, 'work/work')), []);
  p.tell('stall');
  await until('it comes', async () => {
    return (await run('sh', '-c', `printf end >> ${join(p.mnt, 'big')}`)).status === 0;
  });
  assert.equal(readFileSync(join(p.mnt, 'big')).subarray(-3).toString(), 'end');
  await p.unmountFuse();

  await p.mountFuse('fill=off', true);
  p.tell('stall', '');
  const writer = spawn('sh', ['-c', `printf end >> ${join(p.mnt, 'bash')}`], { stdio: 'ignore' });
  const end = once(writer, 'exit');
  await until('it waits', async () => (await p.waiting()) > 0);
  writer.kill('SIGKILL');
  assert.equal((await end)[1], 'SIGKILL');
  p.tell('stall');
  await p.unmountFuse();
});

test('a stack of layers that is written to under random readers while it arrives', {
  skip,
}, async (t) => {
  const p = await fusePlace(t, { chunkSize: 16384 });
  p.tell('latency', '3');
  await p.mountFuse('fill=on', true);
  const script = fileURLToPath(new URL('./random-reader.js', import.meta.url));
  const stop = join(p.folder, 'stop');
  const reader = run(process.execPath, script, p.tree, p.mnt, stop);
  for (let i = 0; i < 200; i += 9) appendFileSync(join(p.mnt, `etc/deep/${i}`), 'end');
  await until('the layer is complete', () => p.layer.folder.isComplete);
  writeFileSync(stop, '');
  const { wrong, errors } = JSON.parse((await reader).stdout) as Record<string, unknown>;
  assert.deepEqual({ wrong, errors }, { wrong: [], errors: [] });
  for (let i = 0; i < 200; i++) {
    const expected = `file ${i}\n`.repeat(i * 7) + (i % 9 === 0 ? 'end' : '');
    assert.equal(readFileSync(join(p.mnt, `etc/deep/${i}`), 'latin1'), expected);
  }
  await p.unmountFuse();
});
