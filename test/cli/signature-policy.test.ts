// --signature-policy: the file that is named decides, also about an image that is here already.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { addImage, tarOf } from '../lazy/tar-image.js';
import { startFakeRegistry } from '../oci/fake-registry.js';
import { Caller, run } from '../registry/debian-image.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';

test('pull, mount and run hold an image to the policy that is named', async (t) => {
  const fake = await startFakeRegistry(t);
  const folder = tempDir(t);
  const policy = (name: string, type: string): string => {
    const path = join(folder, name);
    writeFileSync(path, JSON.stringify({ default: [{ type }] }));
    return path;
  };
  const [no, any] = [policy('no.json', 'reject'), policy('any.json', 'insecureAcceptAnything')];
  const tree = join(folder, 'tree');
  const mnt = join(folder, 'mnt');
  for (const path of [tree, mnt]) mkdirSync(path);
  writeFileSync(join(tree, 'file'), 'content\n');
  const ref = `${fake.host}/signed:1`;
  await new Caller(join(folder, 'pusher')).must('push', '--plain-http', '-q', tree, ref);

  const caller = new Caller(join(folder, 'user'));
  const flags = (file: string) => ['--plain-http', '-q', '--signature-policy', file];
  const refused = async (command: string, ...operands: string[]): Promise<void> => {
    const ran = await caller.varve(command, ...flags(no), ...operands);
    assert.equal(ran.code, 4, ran.err);
    assert.match(ran.err, /signed:1: it is rejected; .*no\.json demands it\n$/);
  };
  await refused('pull', ref);
  assert.equal((await caller.must('images')).out, 'No images.\n');
  await caller.must('pull', ...flags(any), ref);
  // What is here came by another policy.
  await refused('mount', ref, mnt);
  await refused('run', ref, '--', 'true');
  await refused('record', ref, '--', 'true');
  await refused('push', '--index', ref, ref);
  const absent = await caller.varve('pull', ...flags(join(folder, 'none.json')), ref);
  assert.equal(absent.code, 4);
  assert.match(absent.err, /none\.json: ENOENT/);
  const empty = await caller.varve('pull', '--plain-http', '--signature-policy=', ref);
  assert.equal(empty.code, 2);
});

test('a layer store shows what the policy accepts that is named, and asks again when it is another', {
  skip: requires({ features: ['fuse'] }),
}, async (t) => {
  const fake = await startFakeRegistry(t);
  const folder = tempDir(t);
  const policy = (name: string, document: object): string => {
    const path = join(folder, name);
    writeFileSync(path, JSON.stringify(document));
    return path;
  };
  const any = policy('any.json', { default: [{ type: 'insecureAcceptAnything' }] });
  const no = policy('no.json', { default: [{ type: 'reject' }] });
  const [tree, mnt] = [join(folder, 'tree'), join(folder, 'mnt')];
  for (const path of [tree, mnt]) mkdirSync(path);
  writeFileSync(join(tree, 'file'), 'content\n');
  const tar = tarOf(tree);
  const { layers } = addImage(fake, 'app', [{ bytes: tar }], [tar]);
  const ref = Buffer.from(`${fake.host}/app:tag`).toString('base64');
  const layer = join(mnt, ref, layers[0]?.digest as string);
  const caller = new Caller(join(folder, 'user'));
  /** What is seen through a layer store that holds images to this policy. */
  const shows = async (file: string): Promise<readonly string[] | undefined> => {
    const flags = ['--plain-http', '-q', '--signature-policy', file];
    await caller.must('layer-store', ...flags, mnt);
    try {
      // A child looks: this process is the registry.
      await run(['ls', join(layer, 'diff')]);
      return existsSync(layer) ? readdirSync(join(layer, 'diff')) : undefined;
    } finally {
      await caller.must('umount', mnt);
    }
  };
  t.after(() => caller.varve('umount', '--force', mnt));

  assert.deepEqual(await shows(any), ['file']);
  // It is here, and yet no more.
  assert.equal(await shows(no), undefined);
  const before = fake.requests.length;
  assert.deepEqual(await shows(any), ['file']);
  assert.equal(fake.requests.length, before);
  policy('any.json', { default: [{ type: 'insecureAcceptAnything' }], transports: {} });
  assert.deepEqual(await shows(any), ['file']);
  assert.ok(fake.requests.length > before);
  const absent = await caller.varve('layer-store', '--signature-policy', join(folder, 'x'), mnt);
  assert.equal(absent.code, 4);
  assert.match(absent.err, /x: ENOENT/);
});
