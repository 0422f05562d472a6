// Lines of the control socket, and the folder it lies in.
// Under test: src/supervisor/protocol.ts, src/supervisor/folder.ts. No process is started.

import assert from 'node:assert/strict';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import {
  candidateFolders,
  dropOldLogs,
  existingRuntimes,
  folderFault,
  makeRuntime,
  namespaceId,
} from '../../src/supervisor/folder.js';
import { lineReader, MAX_LINE, toLine } from '../../src/supervisor/protocol.js';
import { tempDir } from '../support/temp.js';

function collect(chunks: readonly (string | Buffer)[]): { lines: unknown[]; refused: string[] } {
  const lines: unknown[] = [];
  const refused: string[] = [];
  const take = lineReader(
    (line) => lines.push(line),
    (reason) => refused.push(reason),
  );
  for (const chunk of chunks) take(Buffer.from(chunk));
  return { lines, refused };
}

test('lines are put together from whatever pieces they come in', () => {
  const text = toLine({ id: 1, name: 'é\n' }) + toLine({ id: 2 });
  for (const size of [1, 2, 3, 7, text.length]) {
    const bytes = Buffer.from(text);
    const chunks: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size));
    assert.deepEqual(
      collect(chunks).lines,
      [{ id: 1, name: 'é\n' }, { id: 2 }],
      `pieces of ${size}`,
    );
  }
});

test('what is no object ends the conversation', () => {
  assert.match(collect(['nonsense\n']).refused.join(), /no JSON/);
  assert.match(collect(['3\n']).refused.join(), /no object/);
  assert.match(collect(['null\n']).refused.join(), /no object/);
  assert.match(collect([Buffer.alloc(MAX_LINE + 1, 0x20)]).refused.join(), /longer than/);
});

test('folders to try: the own one alone; else by user', () => {
  assert.deepEqual(candidateFolders({ VARVE_RUNTIME_DIR: '/x', XDG_RUNTIME_DIR: '/y' }, 0), ['/x']);
  assert.deepEqual(candidateFolders({ XDG_RUNTIME_DIR: '/y' }, 0).slice(0, 2), [
    '/run/varve',
    '/y/varve',
  ]);
  assert.deepEqual(candidateFolders({ XDG_RUNTIME_DIR: '/y' }, 7)[0], '/y/varve');
  assert.match(candidateFolders({}, 7)[0] as string, /^\/tmp\/varve-\d+$/);
  assert.equal(candidateFolders({ XDG_RUNTIME_DIR: 'relative' }, 7).length, 1);
});

test('a folder must be a directory of this user that nobody else may enter', (t) => {
  const folder = tempDir(t);
  const euid = process.geteuid?.() ?? 0;
  const make = (name: string, mode: number): string => {
    mkdirSync(join(folder, name));
    chmodSync(join(folder, name), mode);
    return join(folder, name);
  };
  assert.equal(folderFault(make('good', 0o700), euid), undefined);
  assert.match(folderFault(make('open', 0o755), euid) ?? '', /others may enter/);
  assert.match(folderFault(join(folder, 'good'), euid + 1) ?? '', /belongs to user/);
  assert.match(folderFault(join(folder, 'none'), euid) ?? '', /does not exist/);
  writeFileSync(join(folder, 'file'), '');
  assert.match(folderFault(join(folder, 'file'), euid) ?? '', /not a directory/);
  symlinkSync('good', join(folder, 'link'));
  assert.match(folderFault(join(folder, 'link'), euid) ?? '', /not a directory/);
});

test('logs of servers whose supervisor was killed go after a while; others stay', (t) => {
  const folder = join(tempDir(t), 'run');
  const runtime = makeRuntime({ VARVE_RUNTIME_DIR: folder }, process.geteuid?.() ?? 0);
  const kept = [runtime.log, runtime.serverLog('2'), join(folder, '1-1.7.log')];
  const old = runtime.serverLog('1');
  for (const log of [...kept, old]) writeFileSync(log, '');
  const hourAgo = new Date(Date.now() - 3_600_000);
  for (const log of [old, runtime.log, kept[2] as string]) utimesSync(log, hourAgo, hourAgo);
  dropOldLogs(runtime);
  assert.deepEqual(readdirSync(folder).sort(), kept.map((path) => basename(path)).sort());
});

test('a new folder is private; the socket carries the namespaces', (t) => {
  const folder = join(tempDir(t), 'run');
  const env = { VARVE_RUNTIME_DIR: folder };
  const euid = process.geteuid?.() ?? 0;
  assert.deepEqual(existingRuntimes(env, euid), []);
  const runtime = makeRuntime(env, euid);
  assert.equal(statSync(folder).mode & 0o777, 0o700);
  assert.equal(runtime.socket, join(folder, `${namespaceId()}.sock`));
  assert.match(namespaceId(), /^\d+-\d+$/);
  assert.equal(existingRuntimes(env, euid)[0]?.socket, runtime.socket);
  chmodSync(folder, 0o711);
  assert.throws(() => makeRuntime(env, euid), /others may enter it.*set VARVE_RUNTIME_DIR/);
  assert.throws(
    () => makeRuntime({ VARVE_RUNTIME_DIR: `${folder}/${'x'.repeat(100)}` }, euid),
    /too long for a socket/,
  );
});
