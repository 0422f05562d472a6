// Names without a registry mean the same to push, images and run as to pull: what registries.conf says.

import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { startFakeRegistry } from '../oci/fake-registry.js';
import { Caller } from '../registry/debian-image.js';
import { tempDir } from '../support/temp.js';

test('an alias, one registry to search, several', async (t) => {
  const fake = await startFakeRegistry(t);
  const folder = tempDir(t);
  const conf = join(folder, 'registries.conf');
  const search = (...registries: string[]): void => {
    const list = registries.map((name) => `"${name}"`).join(', ');
    const alias = `[aliases]\n"app" = "${fake.host}/team/application"\n`;
    writeFileSync(conf, `unqualified-search-registries = [${list}]\n${alias}`);
  };
  const caller = new Caller(folder);
  caller.env['CONTAINERS_REGISTRIES_CONF'] = conf;
  const tree = join(folder, 'tree');
  mkdirSync(tree);
  writeFileSync(join(tree, 'file'), 'content\n');
  const push = (...words: string[]) => caller.varve('push', '--plain-http', '-q', ...words);

  search(fake.host, 'other.example');
  assert.equal((await push(tree, 'app:2')).code, 0);
  assert.ok(fake.manifests.has('team/application:2'));
  const several = await push(tree, 'tool');
  assert.equal(several.code, 2);
  const names = `${fake.host}/tool:latest or other.example/tool:latest`;
  assert.equal(
    several.err,
    `varve: 'tool' names no registry, and registries.conf several: write ${names}\n`,
  );
  // What it is like lies where it goes to.
  assert.equal((await push('--like', 'app:2', tree, `${fake.host}/tool:1`)).code, 0);
  assert.equal((await push('--like', 'tool:1', tree, 'app:3')).code, 0);

  // An image by its short name is a source, too.
  search(fake.host);
  assert.equal((await push('app:2', 'tool')).code, 0);
  assert.ok(fake.manifests.has('tool:latest'));
  const removed = await caller.varve('images', '-q', '--rm', 'app:2', 'tool');
  assert.equal(removed.code, 0, removed.err);
  const left = (await caller.must('images')).out;
  assert.doesNotMatch(left, /application:2|tool:latest/);
  assert.match(left, /application:3/);
});
