// Names of images: what a short name stands for, and what is no name.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatReference, namesRegistry, parseReference } from '../../src/oci/reference.js';

const HEX = 'a'.repeat(64);

for (const [text, full] of [
  ['debian', 'docker.io/library/debian:latest'],
  ['debian:12', 'docker.io/library/debian:12'],
  ['someone/tool', 'docker.io/someone/tool:latest'],
  ['docker.io/debian', 'docker.io/library/debian:latest'],
  ['index.docker.io/library/debian', 'docker.io/library/debian:latest'],
  ['localhost/a', 'localhost/a:latest'],
  ['localhost:5000/a/b/c:x', 'localhost:5000/a/b/c:x'],
  ['[::1]:5000/a', '[::1]:5000/a:latest'],
  [`quay.io/a/b@sha256:${HEX}`, `quay.io/a/b@sha256:${HEX}`],
  [`quay.io/a/b:t@sha256:${HEX}`, `quay.io/a/b:t@sha256:${HEX}`],
  ['docker://quay.io/a__b/c-d.e', 'quay.io/a__b/c-d.e:latest'],
  ['Host/a', 'Host/a:latest'],
  ['host/a', 'docker.io/host/a:latest'],
] as const) {
  test(`${text} is ${full}`, () => assert.equal(formatReference(parseReference(text)), full));
}

for (const text of [
  '',
  'Debian',
  'quay.io/',
  'quay.io/A',
  'quay.io/a//b',
  'quay.io/a:',
  'quay.io/a:-x',
  'quay.io/../a',
  'quay.io/a@sha256:12',
  `quay.io/a@md5:${'a'.repeat(32)}`,
  `quay.io/a@sha256:${'A'.repeat(64)}`,
  'quay.io:port/a',
  'user@quay.io/a',
  'quay.io/a b',
  'quay.io?x=/a',
  `quay.io/${'a/'.repeat(200)}a`,
]) {
  test(`'${text.slice(0, 40)}' is no name`, () => {
    assert.throws(() => parseReference(text), { name: 'RegistryError', kind: 'refused' });
  });
}

test('whether a name says which registry it means', () => {
  const told = ['debian', 'a/b', 'localhost/a', 'quay.io/a', 'h:1/a'].filter(namesRegistry);
  assert.deepEqual(told, ['localhost/a', 'quay.io/a', 'h:1/a']);
});
