// Manifests of strangers: what is read from them, what is refused, and which image of several is taken.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Index,
  MEDIA_TYPES,
  parseManifest,
  parsePlatform,
  selectPlatform,
} from '../../src/oci/manifest.js';

const digest = `sha256:${'1'.repeat(64)}`;
const entry = { mediaType: 'application/octet-stream', digest, size: 3 };
const manifest = {
  schemaVersion: 2,
  mediaType: MEDIA_TYPES.ociManifest,
  config: entry,
  layers: [entry],
};
const index = { schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [entry] };

const parse = (document: unknown, contentType?: string) =>
  parseManifest(Buffer.from(JSON.stringify(document)), contentType, 'it');

test('OCI and Docker, manifest and index', () => {
  for (const mediaType of [MEDIA_TYPES.ociManifest, MEDIA_TYPES.dockerManifest]) {
    assert.deepEqual(parse({ ...manifest, mediaType }, mediaType), { ...manifest, mediaType });
  }
  for (const mediaType of [MEDIA_TYPES.ociIndex, MEDIA_TYPES.dockerList]) {
    assert.deepEqual(parse({ ...index, mediaType }, mediaType), { ...index, mediaType });
  }
  // OCI 1.0 let a manifest be silent about its type.
  const { mediaType: _, ...silent } = manifest;
  assert.deepEqual(parse(silent, `${MEDIA_TYPES.ociManifest}; charset=utf-8`), manifest);
  assert.deepEqual(parse(silent, 'application/json'), manifest);
});

const many = (count: number) => Array.from({ length: count }, () => entry);
const layer = (change: object) => ({ ...manifest, layers: [{ ...entry, ...change }] });
for (const [what, document, kind, contentType] of [
  ['no object', [], 'wrong'],
  ['schema 1', { ...manifest, schemaVersion: 1 }, 'wrong'],
  ['another type', { ...manifest, mediaType: 'text/html' }, 'wrong'],
  ['two types', manifest, 'wrong', MEDIA_TYPES.dockerManifest],
  ['both at once', { ...manifest, manifests: [] }, 'wrong'],
  ['both at once, as an index', { ...index, layers: [] }, 'wrong'],
  ['no layers', { ...manifest, layers: undefined }, 'wrong'],
  ['no config', { ...manifest, config: undefined }, 'wrong'],
  ['no size', layer({ size: undefined }), 'wrong'],
  ['a negative size', layer({ size: -1 }), 'wrong'],
  ['a size beyond all numbers', layer({ size: 2 ** 60 }), 'wrong'],
  ['another algorithm', layer({ digest: `md5:${'1'.repeat(32)}` }), 'wrong'],
  ['a digest with a path in it', layer({ digest: `sha256:../../${'1'.repeat(58)}` }), 'wrong'],
  ['annotations of another form', layer({ annotations: { a: 1 } }), 'wrong'],
  ['a layer from elsewhere', layer({ urls: ['https://other.example/x'] }), 'refused'],
  ['too many layers', { ...manifest, layers: many(5000) }, 'limit'],
  ['too many images', { ...index, manifests: many(5000) }, 'limit'],
  ['too many bytes', { ...manifest, padding: 'x'.repeat(4 << 20) }, 'limit'],
] as const) {
  test(`refused: ${what}`, () => {
    assert.throws(() => parse(document, contentType), { name: 'RegistryError', kind });
  });
}

test('refused: no JSON, no UTF-8', () => {
  for (const bytes of [Buffer.from('{'), Buffer.from([0x22, 0xff, 0x22])]) {
    assert.throws(() => parseManifest(bytes, undefined, 'it'), { kind: 'wrong' });
  }
});

const platforms = (...names: string[]): Index => ({
  ...index,
  schemaVersion: 2,
  manifests: names.map((name, at) => ({ ...entry, size: at, platform: parsePlatform(name) })),
});

for (const [wanted, names, chosen] of [
  ['linux/amd64', ['windows/amd64', 'linux/arm64', 'linux/amd64'], 2],
  ['linux/arm64', ['linux/arm64/v8'], 0],
  ['linux/arm64/v8', ['linux/arm64'], 0],
  ['linux/arm', ['linux/arm/v5', 'linux/arm/v7', 'linux/arm/v6'], 1],
  ['linux/arm/v6', ['linux/arm/v5', 'linux/arm/v7'], 0],
  ['linux/amd64', ['linux/amd64/v3', 'linux/amd64'], 1],
  ['linux/amd64', ['linux/amd64/v3'], 0],
] as const) {
  test(`${wanted} of ${names.join(', ')}`, () => {
    const found = selectPlatform(platforms(...names), parsePlatform(wanted), 'it');
    assert.equal(found.size, chosen);
  });
}

test('no image for this platform: those that are there are named', () => {
  assert.throws(
    () =>
      selectPlatform(platforms('linux/s390x', 'linux/arm/v7'), parsePlatform('linux/arm/v6'), 'it'),
    {
      kind: 'absent',
      message: 'it: no image for linux/arm/v6; there are linux/s390x, linux/arm/v7',
    },
  );
  for (const text of ['linux', 'linux/', 'linux/arm/', 'a/b/c/d']) {
    assert.throws(() => parsePlatform(text), { kind: 'refused' });
  }
});
