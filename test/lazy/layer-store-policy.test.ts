// Layers of an image of another platform are layers of an image, too: none is used that policy.json does not accept.
// Under test: src/lazy/podman/find-layer.ts.

import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { layerStoreCommands } from '../../src/lazy/podman/commands.js';
import { hostPlatform, MEDIA_TYPES } from '../../src/oci/manifest.js';
import { startFakeRegistry } from '../oci/fake-registry.js';
import { tempDir } from '../support/temp.js';
import { addImage, layerFolder, tarOf } from './tar-image.js';

test('of an index only the images that are signed', async (t) => {
  const fake = await startFakeRegistry(t);
  const folder = tempDir(t);
  const tar = tarOf(layerFolder(folder));
  const other = Buffer.concat([tar, Buffer.alloc(512)]);
  const reference = `${fake.host}/app:tag`;
  const images = [tar, other].map((bytes) => addImage(fake, 'app', [{ bytes }], [bytes]));
  const [own, foreign] = images as [(typeof images)[0], (typeof images)[0]];
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const attach = (digest: string): void => {
    const identity = { 'docker-reference': reference };
    const type = 'cosign container image signature';
    const critical = { identity, image: { 'docker-manifest-digest': digest }, type };
    const payload = Buffer.from(JSON.stringify({ critical, optional: {} }));
    const signature = sign('sha256', payload, privateKey).toString('base64');
    const config = {
      mediaType: MEDIA_TYPES.ociConfig,
      digest: fake.addBlob(Buffer.from('{}')),
      size: 2,
    };
    const layer = {
      mediaType: 'application/vnd.dev.cosign.simplesigning.v1+json',
      digest: fake.addBlob(payload),
      size: payload.length,
      annotations: { 'dev.cosignproject.cosign/signature': signature },
    };
    const mediaType = MEDIA_TYPES.ociManifest;
    const manifest = { schemaVersion: 2, mediaType, config, layers: [layer] };
    fake.addManifest('app', `${digest.replace(':', '-')}.sig`, mediaType, manifest);
  };
  attach(own.digest);
  const mediaType = MEDIA_TYPES.ociManifest;
  fake.addManifest('app', 'tag', MEDIA_TYPES.ociIndex, {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociIndex,
    manifests: [
      { mediaType, digest: own.digest, size: own.size, platform: hostPlatform() },
      {
        mediaType,
        digest: foreign.digest,
        size: foreign.size,
        platform: { os: 'linux', architecture: 's390x' },
      },
    ],
  });
  const policyFile = join(folder, 'policy.json');
  const keyData = Buffer.from(publicKey.export({ type: 'spki', format: 'pem' }));
  const requirement = { type: 'sigstoreSigned', keyData: keyData.toString('base64') };
  writeFileSync(policyFile, JSON.stringify({ default: [requirement] }));
  const find = ({ layers }: (typeof images)[0]): Promise<object> => {
    // Nothing that a command knows already.
    const perform = layerStoreCommands({ env: { HOME: '/nowhere' }, retries: 0 });
    const asked = { store: join(folder, 'store'), reference, policyFile, trustIndex: false };
    const digest = layers[0]?.digest as string;
    const command = { op: 'layer', ...asked, digest, plainHttp: true } as const;
    return perform(command, new Promise(() => {})) as Promise<object>;
  };
  assert.ok('number' in (await find(own)));
  assert.deepEqual(await find(foreign), {});
  assert.equal(fake.count('GET', new RegExp(foreign.layers[0]?.digest as string)), 0);
  attach(foreign.digest);
  assert.ok('number' in (await find(foreign)));
});
