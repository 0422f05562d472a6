// Registries that misbehave: each kind of damage has its defined result, and wrong bytes never come out.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { Limits } from '../../src/oci/limits.js';
import type { Descriptor } from '../../src/oci/manifest.js';
import { parseReference } from '../../src/oci/reference.js';
import { Registry, type RegistryOptions } from '../../src/oci/registry.js';
import { type FakeRegistry, sha256, startFakeRegistry } from './fake-registry.js';

const CONTENT = randomBytes(300_000);

type Context = Parameters<typeof startFakeRegistry>[0];

async function started(
  t: Context,
  options: RegistryOptions = {},
): Promise<{
  fake: FakeRegistry;
  registry: Registry;
  ref: ReturnType<typeof parseReference>;
  layer: Descriptor;
  lines: string[];
}> {
  const fake = await startFakeRegistry(t);
  const lines: string[] = [];
  const registry = new Registry({
    plainHttp: true,
    env: {},
    retries: 3,
    pause: 1,
    log: (line) => lines.push(line),
    ...options,
  });
  t.after(() => registry.close());
  const digest = fake.addBlob(CONTENT);
  const layer = { mediaType: 'application/octet-stream', digest, size: CONTENT.length };
  return { fake, registry, ref: parseReference(`${fake.host}/a/b:t`), layer, lines };
}

async function readAll(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const read: Uint8Array[] = [];
  for await (const piece of pieces) read.push(piece);
  return Buffer.concat(read);
}

/** What comes out before a download fails, and with what. */
async function failing(
  pieces: AsyncIterable<Uint8Array>,
): Promise<{ bytes: number; kind: string | undefined }> {
  let bytes = 0;
  try {
    for await (const piece of pieces) bytes += piece.length;
  } catch (error) {
    return { bytes, kind: (error as { kind?: string }).kind };
  }
  return { bytes, kind: undefined };
}

test('a blob of other bytes never comes out whole', async (t) => {
  const { fake, registry, ref, layer } = await started(t);
  const other = Buffer.from(CONTENT);
  other[299_999]! ^= 1;
  fake.blobs.set(layer.digest, other);
  const { bytes, kind } = await failing(await registry.blob(ref, layer));
  assert.equal(kind, 'wrong');
  assert.ok(bytes < CONTENT.length);
});

for (const [what, length] of [
  ['longer', 300_001],
  ['shorter', 299_999],
] as const) {
  test(`a blob that is ${what} than the descriptor says`, async (t) => {
    const { fake, registry, ref, layer } = await started(t);
    fake.blobs.set(layer.digest, Buffer.concat([CONTENT, Buffer.alloc(1)]).subarray(0, length));
    assert.equal((await failing(await registry.blob(ref, layer))).kind, 'wrong');
    // The same without a content-length to tell it.
    fake.on = (_, response) => {
      response.writeHead(200, { 'transfer-encoding': 'chunked' });
      response.end(fake.blobs.get(layer.digest));
      return true;
    };
    const { bytes, kind } = await failing(await registry.blob(ref, layer));
    assert.ok(kind === 'wrong' || kind === 'network', kind);
    assert.ok(bytes < CONTENT.length);
  });
}

test('a download that breaks off is continued, as often as it gets on', async (t) => {
  const { fake, registry, ref, layer } = await started(t);
  fake.on = (request, response) => {
    const from = Number(/bytes=([0-9]+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    if (from + 30_000 >= CONTENT.length) return false;
    const headers = {
      'content-length': CONTENT.length - from,
      'content-range': `bytes ${from}-${CONTENT.length - 1}/${CONTENT.length}`,
    };
    response.writeHead(from === 0 ? 200 : 206, headers);
    response.write(CONTENT.subarray(from, from + 30_000), () => response.destroy());
    return true;
  };
  assert.ok((await readAll(await registry.blob(ref, layer))).equals(CONTENT));
  assert.ok(fake.requests.length > 5, 'more often than it is tried without progress');
});

test('a download is continued by a registry that ignores ranges', async (t) => {
  const { fake, registry, ref, layer } = await started(t);
  fake.ranges = false;
  fake.on = (_, response) => {
    if (fake.requests.length > 1) return false;
    response.writeHead(200, { 'content-length': CONTENT.length });
    response.write(CONTENT.subarray(0, 100_000), () => response.destroy());
    return true;
  };
  assert.ok((await readAll(await registry.blob(ref, layer))).equals(CONTENT));
  assert.equal(fake.requests.length, 2);
});

test('a registry that stalls is left and asked again', async (t) => {
  const { fake, registry, ref, layer, lines } = await started(t, { timeout: 100, retries: 9 });
  fake.on = (_, response) => {
    if (fake.requests.length === 1) return true;
    if (fake.requests.length > 2) return false;
    response.writeHead(200, { 'content-length': CONTENT.length });
    response.write(CONTENT.subarray(0, 1000));
    return true;
  };
  assert.ok((await readAll(await registry.blob(ref, layer))).equals(CONTENT));
  // A machine that is busy elsewhere for so long counts as a registry that stalls.
  assert.ok(fake.requests.length >= 3);
  assert.match(lines[0]!, /: no answer for too long; trying again in 0\.0 s$/);
  fake.on = () => true;
  const hurried = new Registry({ plainHttp: true, env: {}, timeout: 100, retries: 0 });
  t.after(() => hurried.close());
  await assert.rejects(hurried.range(ref, layer, 0, 10), { kind: 'network' });
});

test('a registry that sends a byte now and then stalls, too', async (t) => {
  const { fake, registry, ref, layer } = await started(t, { timeout: 200, retries: 0 });
  fake.on = (_, response) => {
    response.writeHead(200, { 'content-length': CONTENT.length });
    const timer = setInterval(() => response.write('x'), 20);
    response.on('close', () => clearInterval(timer));
    return true;
  };
  const { bytes, kind } = await failing(await registry.blob(ref, layer));
  assert.deepEqual([bytes < 100, kind], [true, 'network']);
  await assert.rejects(registry.range(ref, layer, 0, 1000), { kind: 'network' });
});

test('a registry that is not there', async (t) => {
  const { fake, registry, ref, layer, lines } = await started(t);
  await fake.stop();
  await assert.rejects(registry.resolve(ref), { kind: 'network' });
  await assert.rejects(registry.range(ref, layer, 0, 10), { kind: 'network' });
  assert.equal(lines.length, 6);
});

for (const [status, kind, times] of [
  [401, 'auth', 1],
  [403, 'auth', 1],
  [404, 'absent', 1],
  [416, 'range', 1],
  [418, 'refused', 1],
  [429, 'busy', 4],
  [500, 'busy', 4],
  [503, 'busy', 4],
] as const) {
  test(`status ${status} is '${kind}'`, async (t) => {
    const { fake, registry, ref, layer } = await started(t);
    fake.on = (_, response) => {
      response.writeHead(status).end('{"errors":[{"message":"for a \\u001b[31mreason"}]}');
      return true;
    };
    const told = { name: 'RegistryError', kind, status, message: /: for a \?\[31mreason$/ };
    await assert.rejects(registry.range(ref, layer, 0, 10), told);
    assert.equal(fake.requests.length, times);
    await assert.rejects(readAll(await registry.blob(ref, layer)), told);
    await assert.rejects(registry.manifest(ref), told);
  });
}

test('Retry-After is kept, by other requests too', async (t) => {
  const sleeps: number[] = [];
  let now = 0;
  const clock = {
    now: () => now,
    sleep: async (milliseconds: number) => {
      sleeps.push(milliseconds);
      now += milliseconds;
    },
  };
  const { fake, registry, ref, layer } = await started(t, { clock });
  fake.on = (_, response) => {
    if (fake.requests.length > 1) return false;
    response.writeHead(429, { 'retry-after': '7' }).end();
    return true;
  };
  assert.equal((await registry.range(ref, layer, 5, 5)).length, 5);
  assert.deepEqual(sleeps, [7000]);
  fake.on = (_, response) => {
    response.writeHead(503, { 'retry-after': '3600' }).end();
    return true;
  };
  await assert.rejects(registry.range(ref, layer, 5, 5), { kind: 'busy', retryAfter: 3600 });
  assert.deepEqual(sleeps, [7000]);
});

test('ranges of a registry that ignores them are cut out of the whole', async (t) => {
  const { fake, registry, ref, layer } = await started(t);
  fake.ranges = false;
  for (const [at, length] of [
    [0, 10],
    [123_456, 100_000],
    [299_990, 10],
  ] as const) {
    const bytes = await registry.range(ref, layer, at, length);
    assert.ok(bytes.equals(CONTENT.subarray(at, at + length)));
  }
  // What lies in front comes too slowly.
  const hurried = new Registry({ plainHttp: true, env: {}, timeout: 50 });
  t.after(() => hurried.close());
  fake.on = (_, response) => {
    response.writeHead(200, { 'content-length': CONTENT.length });
    let at = 0;
    const timer = setInterval(() => response.write(CONTENT.subarray(at, (at += 100))), 10);
    response.on('close', () => clearInterval(timer));
    return true;
  };
  await assert.rejects(hurried.range(ref, layer, 200_000, 10), { kind: 'range' });
});

test('a part that is not the part which was asked for', async (t) => {
  const { fake, registry, ref, layer } = await started(t);
  for (const range of ['bytes 1-10/300000', 'bytes 0-9/300001', 'bytes=0-9', undefined]) {
    fake.on = (_, response) => {
      response.writeHead(206, range === undefined ? {} : { 'content-range': range });
      response.end(CONTENT.subarray(0, 10));
      return true;
    };
    await assert.rejects(registry.range(ref, layer, 0, 10), { kind: 'wrong' }, range);
  }
  fake.on = (_, response) => {
    response.writeHead(206, { 'content-range': 'bytes 0-9/300000', 'content-length': 5 });
    response.end(CONTENT.subarray(0, 5));
    return true;
  };
  await assert.rejects(registry.range(ref, layer, 0, 10), { kind: 'wrong' });
  await assert.rejects(registry.range(ref, layer, 299_999, 2), { kind: 'wrong' });
});

test('a manifest without end, and one of other bytes', async (t) => {
  const { fake, registry, ref } = await started(t);
  fake.on = (_, response) => {
    response.writeHead(200, { 'content-type': 'application/vnd.oci.image.manifest.v1+json' });
    const more = (): void => {
      while (!response.destroyed && response.write(Buffer.alloc(65_536, 32)));
    };
    response.on('drain', more);
    more();
    return true;
  };
  await assert.rejects(registry.manifest(ref), { kind: 'limit' });
  fake.on = undefined;
  const type = 'application/vnd.oci.image.index.v1+json';
  const index = { schemaVersion: 2, mediaType: type, manifests: [] };
  const digest = fake.addManifest('a/b', 't', type, index);
  assert.equal((await registry.manifest(ref)).descriptor.digest, digest);
  fake.manifests.get(`a/b@${digest}`)!.bytes = Buffer.from('{"schemaVersion":2,"manifests":[]}');
  const pinned = { ...ref, tag: undefined, digest };
  await assert.rejects(registry.manifest(pinned), { kind: 'wrong' });
  await assert.rejects(registry.resolve(pinned), { kind: 'wrong' });
});

test('an index in an index is not followed', async (t) => {
  const { fake, registry, ref } = await started(t);
  const type = 'application/vnd.oci.image.index.v1+json';
  const index = (manifests: unknown[]) => ({ schemaVersion: 2, mediaType: type, manifests });
  const inner = fake.addManifest('a/b', 'inner', type, index([]));
  const platform = { os: 'linux', architecture: 'amd64' };
  const size = fake.manifests.get('a/b:inner')!.bytes.length;
  fake.addManifest('a/b', 't', type, index([{ mediaType: type, digest: inner, size, platform }]));
  await assert.rejects(registry.image(ref, platform), { kind: 'wrong' });
});

test('an upload that breaks off is continued where the registry has it', async (t) => {
  const { fake, registry, ref } = await started(t);
  const large = randomBytes(2_000_000);
  const digest = sha256(large);
  const opened: number[] = [];
  await registry.pushBlob(ref, digest, large.length, async function* (from) {
    opened.push(from);
    yield large.subarray(from, from + 500_000);
    while (fake.uploading() < 500_000) await new Promise((resolve) => setTimeout(resolve, 5));
    // A source that fails is no failure of the registry; a connection that breaks is.
    if (opened.length === 1) fake.dropConnections();
    yield large.subarray(from + 500_000);
  });
  assert.ok(fake.blobs.get(digest)?.equals(large));
  assert.deepEqual(opened, [0, 500_000]);
  await assert.rejects(
    registry.pushBlob(ref, `sha256:${'0'.repeat(64)}`, 5, () => {
      throw new Error('gone');
    }),
    /^Error: gone$/,
  );
});

test('a request is ended by its signal, and all by closing', async (t) => {
  const { fake, registry, ref, layer } = await started(t);
  fake.on = () => true;
  const controller = new AbortController();
  const one = registry.range(ref, layer, 0, 10, controller.signal);
  controller.abort(new Error('enough'));
  await assert.rejects(one, /^Error: enough$/);
  const other = registry.manifest(ref);
  setTimeout(() => registry.close(), 10);
  await assert.rejects(other, { kind: 'network', message: 'the registry client was closed' });
});

test('a mistake of the program is no failure of the network: it comes out as it is, at once', async (t) => {
  const mistakes = [
    new TypeError("Cannot read properties of undefined (reading 'x')"),
    new RangeError('Invalid array length'),
    Object.assign(new TypeError('an argument is wrong'), { code: 'ERR_INVALID_ARG_TYPE' }),
    Object.assign(new Error('what was asked is wrong'), { code: 'UND_ERR_INVALID_ARG' }),
    new Error('no code'),
  ];
  for (const mistake of mistakes) {
    const { fake, registry, ref, layer, lines } = await started(t, {
      limits: Object.assign(new Limits(), {
        moved: () => Promise.reject(mistake),
      }),
    });
    await assert.rejects(registry.range(ref, layer, 0, 10), (error) => error === mistake);
    assert.equal(fake.requests.length, 1);
    assert.deepEqual(lines, []);
  }
  const { fake, registry, ref, layer, lines } = await started(t);
  const broken = Object.assign(new Error('the line is down'), { code: 'ENETDOWN' });
  let failures = 2;
  const limits = new Limits();
  const other = new Registry({
    plainHttp: true,
    env: {},
    retries: 3,
    pause: 1,
    limits: Object.assign(limits, {
      moved: () => (failures-- > 0 ? Promise.reject(broken) : Promise.resolve()),
    }),
  });
  t.after(() => other.close());
  assert.ok((await other.range(ref, layer, 5, 10)).equals(CONTENT.subarray(5, 15)));
  assert.ok(fake.requests.length >= 3);
  assert.ok((await registry.range(ref, layer, 5, 10)).equals(CONTENT.subarray(5, 15)));
  assert.deepEqual(lines, []);
});
