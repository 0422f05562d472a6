// policy.json: which images are accepted, and that nobody else's signature, nor one of another image, is taken.

import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { MEDIA_TYPES } from '../../src/oci/manifest.js';
import { checkPolicy } from '../../src/oci/policy.js';
import { loadPolicy, requirementsFor } from '../../src/oci/policy-file.js';
import { parseReference } from '../../src/oci/reference.js';
import { Registry } from '../../src/oci/registry.js';
import { tempDir } from '../support/temp.js';
import { type FakeRegistry, sha256, startFakeRegistry } from './fake-registry.js';

const ANY = [{ type: 'insecureAcceptAnything' }];
const NO = [{ type: 'reject' }];
const OTHER = `sha256:${'0'.repeat(64)}`;

type Context = Parameters<typeof startFakeRegistry>[0];

function policyFile(t: Context, policy: unknown): string {
  const path = join(tempDir(t), 'policy.json');
  writeFileSync(path, typeof policy === 'string' ? policy : JSON.stringify(policy));
  return path;
}

test('the narrowest scope decides', (t) => {
  const scopes = [
    '',
    'r.example:5000',
    'r.example:5000/a',
    'r.example:5000/a/b',
    'r.example:5000/a/b:t',
    `r.example:5000/a/b@${OTHER}`,
    '*.example',
    '*.sub.example',
  ];
  // A requirement that tells where it stands.
  const marked = (scope: string) => [
    {
      type: 'sigstoreSigned',
      keyPath: '/x',
      signedIdentity: { type: 'exactRepository', dockerRepository: `m/${scopes.indexOf(scope)}` },
    },
  ];
  const docker = Object.fromEntries(scopes.map((scope) => [scope, marked(scope)]));
  const file = policyFile(t, { default: NO, transports: { docker, dir: { '': ANY } } });
  const policy = loadPolicy(file, {})!;
  for (const [name, scope] of [
    ['r.example:5000/a/b:t', 'r.example:5000/a/b:t'],
    ['r.example:5000/a/b:u', 'r.example:5000/a/b'],
    [`r.example:5000/a/b@${OTHER}`, `r.example:5000/a/b@${OTHER}`],
    ['r.example:5000/a/c', 'r.example:5000/a'],
    ['r.example:5000/ab', 'r.example:5000'],
    ['r.example/a', '*.example'],
    ['x.sub.example/a', '*.sub.example'],
    ['sub.example/a', '*.example'],
    ['debian', ''],
  ] as const) {
    const [found] = requirementsFor(policy, parseReference(name));
    assert.deepEqual(
      found!.type === 'sigstoreSigned' && found.identity,
      { type: 'exactRepository', repository: `docker.io/m/${scopes.indexOf(scope)}` },
      name,
    );
  }
  const plain = loadPolicy(policyFile(t, { default: NO }), {})!;
  assert.deepEqual(requirementsFor(plain, parseReference('debian')), NO);
});

const key = { type: 'sigstoreSigned', keyPath: '/x' };
for (const policy of [
  '{',
  '[]',
  {},
  { default: [] },
  { default: ANY, transports: [] },
  { default: ANY, other: 1 },
  { default: [{ type: 'unheardOf' }] },
  { default: [{ type: 'reject', unless: 'friday' }] },
  { default: ANY, transports: { docker: { '': [] } } },
  { default: [{ type: 'sigstoreSigned' }] },
  { default: [{ ...key, keyData: 'x' }] },
  { default: [{ ...key, keyPath: [] }] },
  { default: [{ ...key, fulcio: {} }] },
  { default: [{ ...key, rekorPublicKeyPath: '/y' }] },
  { default: [{ ...key, signedIdentity: { type: 'any' } }] },
  { default: [{ ...key, signedIdentity: { type: 'matchExact', more: 1 } }] },
  { default: [{ ...key, signedIdentity: { type: 'remapIdentity', prefix: 'a' } }] },
]) {
  test(`a policy that is not understood is no permission: ${JSON.stringify(policy)}`, (t) => {
    assert.throws(() => loadPolicy(policyFile(t, policy), {}), { kind: 'policy' });
  });
}

test("the user's policy, the one that was named, and none", (t) => {
  const home = tempDir(t);
  assert.throws(() => loadPolicy(join(home, 'absent'), {}), { kind: 'policy' });
  mkdirSync(join(home, 'containers'));
  const path = join(home, 'containers/policy.json');
  writeFileSync(path, JSON.stringify({ default: NO }));
  chmodSync(path, 0o600);
  assert.equal(loadPolicy(undefined, { XDG_CONFIG_HOME: home })?.path, path);
});

/** An image in a fake registry, and a way to sign it as cosign does. */
async function signedImage(t: Context) {
  const fake = await startFakeRegistry(t);
  const registry = new Registry({ plainHttp: true, env: {}, retries: 0 });
  t.after(() => registry.close());
  const config = {
    mediaType: MEDIA_TYPES.ociConfig,
    digest: fake.addBlob(Buffer.from('{}')),
    size: 2,
  };
  const manifest = { schemaVersion: 2, mediaType: MEDIA_TYPES.ociManifest, config, layers: [] };
  const digest = fake.addManifest('a/b', 't', manifest.mediaType, manifest);
  const ref = parseReference(`${fake.host}/a/b:t`);
  const { descriptor } = await registry.manifest(ref);
  const check = (requirement: object, name = ref, index?: { digest: string }) =>
    checkPolicy(registry, name, descriptor, {
      env: {},
      policyFile: policyFile(t, {
        default: NO,
        transports: { docker: { [fake.host]: [requirement] } },
      }),
      ...(index === undefined ? {} : { index: { ...descriptor, ...index } }),
    });
  return { fake, registry, digest, ref, descriptor, check };
}

interface Signing {
  key: KeyObject;
  reference: string;
  digest: string;
  /** Changes of the payload. */
  critical?: object;
  /** Changes after signing. */
  spoil?: (payload: Buffer) => Buffer;
}

/** Attaches signatures to a manifest: a tag beside it, a layer for each. */
function attach(fake: FakeRegistry, digest: string, signings: Signing[]): void {
  const config = {
    mediaType: MEDIA_TYPES.ociConfig,
    digest: fake.addBlob(Buffer.from('{}')),
    size: 2,
  };
  const layers = signings.map(({ key, reference, digest: image, critical, spoil }) => {
    const document = {
      critical: {
        identity: { 'docker-reference': reference },
        image: { 'docker-manifest-digest': image },
        type: 'cosign container image signature',
        ...critical,
      },
      optional: { creator: 'test' },
    };
    const payload = Buffer.from(JSON.stringify(document));
    const signature = sign(key.asymmetricKeyType === 'ed25519' ? null : 'sha256', payload, key);
    const sent = spoil?.(payload) ?? payload;
    return {
      mediaType: 'application/vnd.dev.cosign.simplesigning.v1+json',
      digest: fake.addBlob(sent),
      size: sent.length,
      annotations: { 'dev.cosignproject.cosign/signature': signature.toString('base64') },
    };
  });
  const manifest = { schemaVersion: 2, mediaType: MEDIA_TYPES.ociManifest, config, layers };
  fake.addManifest('a/b', `${digest.replace(':', '-')}.sig`, manifest.mediaType, manifest);
}

const pem = (key: KeyObject): Buffer => Buffer.from(key.export({ type: 'spki', format: 'pem' }));
const signedBy = (key: KeyObject, more: object = {}) => ({
  type: 'sigstoreSigned',
  keyData: pem(key).toString('base64'),
  ...more,
});

const pairs = {
  'ECDSA P-256': generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  RSA: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  Ed25519: generateKeyPairSync('ed25519'),
};
const { privateKey, publicKey } = pairs['ECDSA P-256'];
const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' });

for (const [name, pair] of Object.entries(pairs)) {
  test(`signed with ${name}`, async (t) => {
    const { fake, digest, check } = await signedImage(t);
    const requirement = signedBy(pair.publicKey);
    await assert.rejects(check(requirement), {
      kind: 'policy',
      message: /it has no sigstore signature; /,
    });
    attach(fake, digest, [
      { key: stranger.privateKey, reference: `${fake.host}/a/b:t`, digest },
      { key: pair.privateKey, reference: `${fake.host}/a/b:t`, digest },
    ]);
    await check(requirement);
    const file = join(tempDir(t), 'key.pub');
    writeFileSync(file, pem(pair.publicKey));
    await check({ type: 'sigstoreSigned', keyPath: file });
    await check({
      type: 'sigstoreSigned',
      keyDatas: [signedBy(publicKey).keyData, signedBy(pair.publicKey).keyData],
    });
    await assert.rejects(check(signedBy(generateKeyPairSync('ed25519').publicKey)), {
      kind: 'policy',
      message: /none of its signatures is by a key that is accepted/,
    });
    await assert.rejects(check({ type: 'sigstoreSigned', keyPath: `${file}.absent` }), {
      kind: 'policy',
    });
    await assert.rejects(check({ type: 'sigstoreSigned', keyData: 'bm8ga2V5' }), {
      kind: 'policy',
    });
  });
}

test('signatures that prove nothing', async (t) => {
  const { fake, digest, check } = await signedImage(t);
  const good = { key: privateKey, reference: `${fake.host}/a/b:t`, digest };
  for (const [what, bad] of Object.entries({
    'of another image': { ...good, digest: OTHER },
    'of another name': { ...good, reference: `${fake.host}/a/c:t` },
    'of another tag': { ...good, reference: `${fake.host}/a/b:u` },
    'of another type': { ...good, critical: { type: 'something else' } },
    'with a condition that nobody knows': { ...good, critical: { 'not-after': 'friday' } },
    'without an image': { ...good, critical: { image: {} } },
    'changed afterwards': {
      ...good,
      spoil: (payload: Buffer) => Buffer.from(payload.toString().replace('test', 'tes!')),
    },
    'of no name': { ...good, reference: 'A B' },
  })) {
    attach(fake, digest, [bad]);
    await assert.rejects(check(signedBy(publicKey)), { kind: 'policy' }, what);
  }
  attach(fake, digest, [good]);
  await check(signedBy(publicKey));
  // A registry that mixes them up: the signature of one image beside another.
  await assert.rejects(check({ type: 'signedBy', keyType: 'GPGKeys' }), {
    kind: 'policy',
    message: /which Varve does not verify/,
  });
  await assert.rejects(check({ type: 'reject' }), { kind: 'policy', message: /it is rejected/ });
});

test('which names a signature may have', async (t) => {
  const { fake, digest, check, ref } = await signedImage(t);
  const { host } = fake;
  const byDigest = { registry: ref.registry, repository: ref.repository, digest };
  const rows: Array<[identity: object, signed: string, byTag: boolean, byDigest: boolean]> = [
    [{ type: 'matchExact' }, `${host}/a/b:t`, true, false],
    [{ type: 'matchExact' }, `${host}/a/b@${digest}`, false, true],
    [{ type: 'matchExact' }, `${host}/a/b`, false, false],
    [{ type: 'matchRepoDigestOrExact' }, `${host}/a/b:t`, true, true],
    [{ type: 'matchRepoDigestOrExact' }, `${host}/a/b:u`, false, true],
    [{ type: 'matchRepoDigestOrExact' }, `${host}/a/b`, false, true],
    [{ type: 'matchRepoDigestOrExact' }, `${host}/a/c:t`, false, false],
    [{ type: 'matchRepository' }, `${host}/a/b`, true, true],
    [{ type: 'matchRepository' }, `${host}/a/b:u`, true, true],
    [{ type: 'matchRepository' }, `${host}/a`, false, false],
    [{ type: 'exactReference', dockerReference: 'x.example/y:1' }, 'x.example/y:1', true, true],
    [{ type: 'exactReference', dockerReference: 'x.example/y:1' }, 'x.example/y:2', false, false],
    [
      { type: 'exactRepository', dockerRepository: 'debian' },
      'docker.io/library/debian:7',
      true,
      true,
    ],
    [{ type: 'exactRepository', dockerRepository: 'debian' }, `${host}/a/b:t`, false, false],
    [
      { type: 'remapIdentity', prefix: `${host}/a`, signedPrefix: 'x.example' },
      'x.example/b:t',
      true,
      true,
    ],
    [
      { type: 'remapIdentity', prefix: `${host}/a`, signedPrefix: 'x.example' },
      `${host}/a/b:t`,
      false,
      false,
    ],
    [
      { type: 'remapIdentity', prefix: `${host}/aa`, signedPrefix: 'x.example' },
      `${host}/a/b:t`,
      true,
      true,
    ],
  ];
  for (const [signedIdentity, reference, tag, pinned] of rows) {
    attach(fake, digest, [{ key: privateKey, reference, digest }]);
    for (const [name, accepted] of [
      [ref, tag],
      [byDigest, pinned],
    ] as const) {
      const checked = check(signedBy(publicKey, { signedIdentity }), name);
      const what = `${JSON.stringify(signedIdentity)} ${reference}`;
      if (accepted) await assert.doesNotReject(checked, what);
      else await assert.rejects(checked, { kind: 'policy' }, what);
    }
  }
});

test('an index that is signed vouches for what was chosen from it', async (t) => {
  const { fake, check } = await signedImage(t);
  const index = sha256(Buffer.from('index'));
  attach(fake, index, [{ key: privateKey, reference: `${fake.host}/a/b:t`, digest: index }]);
  await assert.rejects(check(signedBy(publicKey)), { kind: 'policy' });
  await check(signedBy(publicKey), undefined, { digest: index });
});

test('an image is fetched by its policy, whatever its form', async (t) => {
  const { fake, ref, digest, descriptor } = await signedImage(t);
  const platform = { os: 'linux', architecture: 'amd64' };
  const index = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociIndex,
    manifests: [{ ...descriptor, platform }],
  };
  const whole = fake.addManifest('a/b', 'index', MEDIA_TYPES.ociIndex, index);
  const fetch = (tag: string, requirement: object) => {
    const file = policyFile(t, { default: [requirement] });
    const registry = new Registry({ plainHttp: true, env: {}, retries: 0, policyFile: file });
    t.after(() => registry.close());
    return registry.image({ ...ref, tag }, platform);
  };
  assert.equal((await fetch('t', ANY[0]!)).signed, false);
  for (const tag of ['t', 'index']) {
    await assert.rejects(fetch(tag, NO[0]!), { kind: 'policy' });
    await assert.rejects(fetch(tag, signedBy(publicKey)), { kind: 'policy' });
  }
  attach(fake, digest, [{ key: privateKey, reference: `${fake.host}/a/b:t`, digest }]);
  attach(fake, whole, [{ key: privateKey, reference: `${fake.host}/a/b:index`, digest: whole }]);
  for (const tag of ['t', 'index']) {
    const image = await fetch(tag, signedBy(publicKey));
    assert.deepEqual([image.signed, image.descriptor.digest], [true, digest]);
  }
  // The signature of one name does not do for another one of the same image.
  fake.addManifest('a/b', 'other', MEDIA_TYPES.ociIndex, index);
  await assert.rejects(fetch('other', signedBy(publicKey)), {
    kind: 'policy',
    message: /signed as another image/,
  });
});
