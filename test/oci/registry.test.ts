// The registry client against Debian's docker-registry: what is pushed is what is read.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { parseReference } from '../../src/oci/reference.js';
import { requires } from '../support/requires.js';
import { sha256 } from './fake-registry.js';
import { plainClient } from './plain-client.js';
import { startRealRegistry } from './real-registry.js';
import { startShaper } from './shaper.js';

const skip = requires({ packages: ['docker-registry'] });
const OCI = 'application/vnd.oci.image.manifest.v1+json';

test('a blob, a range of it, a manifest and a referrer', { skip }, async (t) => {
  const { host } = await startRealRegistry(t);
  const shaper = await startShaper(t, { to: host, latency: 2 });
  const registry = plainClient(t, { retries: 4 });
  const ref = parseReference(`${shaper.host}/some/name:one`);

  const large = randomBytes(3_000_000);
  const digest = sha256(large);
  assert.equal(await registry.hasBlob(ref, digest), false);
  const opened: number[] = [];
  await registry.pushBlob(ref, digest, large.length, async function* (from) {
    opened.push(from);
    // The first time the connection breaks on the way.
    for (let at = from; at < large.length; at += 100_000) {
      yield large.subarray(at, at + 100_000);
      if (opened.length === 1 && at >= 1_000_000) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        shaper.cut();
      }
    }
  });
  // distribution keeps nothing of a request that broke off, or gives up the upload.
  assert.ok(opened.length >= 2);
  assert.equal(await registry.hasBlob(ref, digest), true);
  const sent = shaper.bytes.up;
  await registry.pushBlob(ref, digest, large.length, () => assert.fail('sent again'));
  assert.ok(shaper.bytes.up - sent < 2000);

  const layer = { mediaType: 'application/octet-stream', digest, size: large.length };
  const read: Uint8Array[] = [];
  for await (const piece of await registry.blob(ref, layer)) read.push(piece);
  assert.ok(Buffer.concat(read).equals(large));
  for (const [at, length] of [
    [0, 1],
    [12_345, 67_890],
    [large.length - 5, 5],
    [7, 0],
  ] as const) {
    const part = await registry.range(ref, layer, at, length);
    assert.ok(part.equals(large.subarray(at, at + length)), `${at} ${length}`);
  }

  const empty = Buffer.from('{}');
  await registry.pushBlob(ref, sha256(empty), 2, async function* () {
    yield empty;
  });
  const config = {
    mediaType: 'application/vnd.oci.empty.v1+json',
    digest: sha256(empty),
    size: 2,
  };
  const bytes = Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: OCI, config, layers: [layer] }),
  );
  assert.equal(await registry.pushManifest(ref, bytes, OCI), sha256(bytes));
  const descriptor = { mediaType: OCI, digest: sha256(bytes), size: bytes.length };
  assert.deepEqual(await registry.resolve(ref), descriptor);
  const fetched = await registry.manifest(ref);
  assert.deepEqual(fetched.descriptor, descriptor);
  assert.ok(fetched.bytes.equals(bytes));
  assert.deepEqual((await registry.image(ref)).manifest.layers, [layer]);

  const note = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI,
      artifactType: 'text/note',
      config,
      layers: [],
      subject: descriptor,
    }),
  );
  await registry.pushManifest({ ...ref, tag: undefined, digest: sha256(note) }, note, OCI);
  const notes = await registry.referrers(ref, descriptor.digest, 'text/note');
  assert.deepEqual(
    notes.map(({ digest }) => digest),
    [sha256(note)],
  );
  assert.deepEqual(await registry.referrers(ref, descriptor.digest, 'text/other'), []);

  const other = parseReference(`${shaper.host}/other`);
  assert.equal(await registry.mountBlob(other, digest, 'some/name'), true);
  assert.equal(await registry.hasBlob(other, digest), true);
});
