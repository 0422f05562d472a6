// The loader with the real registry client, against a server that fails in every way: each failure comes to what is defined for it.
// Under test: lazy/load/registry-ranges.ts, whole.ts, and what scheduler.ts makes of the errors of oci/.
// Content is compared whenever something was announced; no failure may ever lead to other bytes.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { Loader } from '../../src/lazy/load/loader.js';
import { limitsOf, registryRanges } from '../../src/lazy/load/registry-ranges.js';
import { E } from '../../src/linux/errno.js';
import { makeTempDir, removeTempDir } from '../support/temp.js';
import { type FakeLayer, makeLayer, manySizes } from './fake-layer.js';
import { type Collector, use } from './users.js';

type Behaviour = (request: IncomingMessage, response: ServerResponse, origin: Buffer) => void;

/** What a good registry answers. */
const good: Behaviour = (request, response, origin) => {
  const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
  if (from === undefined) {
    response.writeHead(200, { 'content-length': origin.length }).end(origin);
    return;
  }
  const part = origin.subarray(Number(from), Number(to) + 1);
  response
    .writeHead(206, {
      'content-length': part.length,
      'content-range': `bytes ${from}-${to}/${origin.length}`,
    })
    .end(part);
};

const ignoresRanges: Behaviour = (request, response, origin) => {
  delete request.headers.range;
  good(request, response, origin);
};

const status =
  (code: number, headers = {}): Behaviour =>
  (_request, response) => {
    response.writeHead(code, headers).end();
  };

interface Place {
  readonly layer: FakeLayer;
  readonly loader: Loader;
  behave: Behaviour;
  requests: number;
}

async function place(
  t: { after(fn: () => Promise<void> | void): void },
  sizes: readonly number[],
): Promise<Place> {
  const folder = makeTempDir();
  const layer = makeLayer(join(folder, 'layer'), sizes);
  const server = createServer((request, response) => {
    at.requests++;
    at.behave(request, response, layer.origin);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()));
  const { port } = server.address() as AddressInfo;
  const source = { registry: `127.0.0.1:${port}`, repository: 'app', plainHttp: true };
  writeFileSync(layer.folder.record, JSON.stringify({ ...layer.folder.read(), sources: [source] }));
  const env = { HOME: '/nowhere' };
  const limits = limitsOf({ VARVE_CONNECTIONS: '4' });
  const loader = new Loader({
    ...registryRanges({ env, limits, retries: 0, timeout: 300 }),
    pause: [10, 40],
    quiet: 5,
  });
  t.after(async () => {
    await loader.end();
    server.closeAllConnections();
    server.close();
    removeTempDir(folder);
  });
  const at: Place = { layer, loader, behave: good, requests: 0 };
  return at;
}

function assertTrue({ folder, table, blob }: FakeLayer, told: Collector): void {
  const found = readFileSync(folder.blob);
  for (const i of told.arrived) {
    const end = table.at(i) + table.length(i);
    assert.ok(found.subarray(table.at(i), end).equals(blob.subarray(table.at(i), end)), `${i}`);
  }
}

const rows: { readonly name: string; readonly behave: Behaviour; readonly trouble: RegExp }[] = [
  { name: '401', behave: status(401), trouble: /credentials|401|log in/i },
  { name: '404', behave: status(404), trouble: /./ },
  { name: '429', behave: status(429, { 'retry-after': '0' }), trouble: /./ },
  { name: '500', behave: status(500), trouble: /./ },
  {
    name: 'an answer that breaks off',
    behave: (_request, response) => {
      response.writeHead(206, { 'content-length': 8192 }).write('x'.repeat(100));
      setTimeout(() => response.destroy(), 5);
    },
    trouble: /./,
  },
  { name: 'silence', behave: () => {}, trouble: /./ },
  {
    name: 'other bytes than were asked for',
    behave: (request, response, origin) => {
      request.headers.range = 'bytes=1-8192';
      good(request, response, origin);
    },
    trouble: /./,
  },
];

for (const { name, behave, trouble } of rows) {
  test(`${name}: EIO or patience, as it was asked for; then it is used again`, async (t) => {
    const at = await place(t, new Array<number>(12).fill(8192));
    at.behave = behave;
    const hasty = await use(at.loader, at.layer.folder.path, { stall: 'eio' });
    hasty.open.want(4, 2);
    await hasty.told.until(({ refused }) => refused.get(4) === E.IO && refused.get(5) === E.IO);
    const patient = await use(at.loader, at.layer.folder.path);
    patient.open.want(4, 2);
    assert.match(at.loader.status().layers[0]?.trouble ?? '', trouble);
    at.behave = good;
    await patient.told.until(({ arrived }) => arrived.size === 2);
    assertTrue(at.layer, patient.told);
    assert.equal(hasty.told.arrived.size, 0);
  });
}

test('wrong bytes of the right length are refused and never seen', async (t) => {
  const at = await place(t, new Array<number>(12).fill(8192));
  at.behave = (request, response, origin) => {
    const wrong = Buffer.from(origin).map((byte) => byte ^ 0x55);
    good(request, response, Buffer.from(wrong));
  };
  const { open, told } = await use(at.loader, at.layer.folder.path);
  open.want(0, 12);
  await told.until(({ refused }) => refused.size === 12);
  assert.ok(readFileSync(at.layer.folder.blob).every((byte) => byte === 0));
  at.behave = good;
  open.want(0, 12);
  await told.until(({ arrived }) => arrived.size === 12);
  assertTrue(at.layer, told);
});

test('a registry that ignores ranges is read from the beginning, once, when that has proved to be better', async (t) => {
  const at = await place(t, manySizes(200));
  at.behave = ignoresRanges;
  const { open, told } = await use(at.loader, at.layer.folder.path);
  open.want(150, 1);
  await told.until(({ arrived }) => arrived.has(150));
  assertTrue(at.layer, told);
  await at.loader.perform({ op: 'fill', mountpoint: '/mnt' });
  await told.until(({ completed }) => completed === 1);
  assert.ok(readFileSync(at.layer.folder.blob).equals(at.layer.blob));
  assert.ok(at.requests <= 8, `${at.requests} requests`);
});

test('a whole origin that breaks off is gone on with, wrong bytes in it are refused', async (t) => {
  const at = await place(t, manySizes(200));
  at.behave = ignoresRanges;
  const { open, told } = await use(at.loader, at.layer.folder.path);
  open.want(150, 1);
  await told.until(({ arrived }) => arrived.has(150));
  const bad = at.layer.table.from(100) + 20;
  let broken = 0;
  at.behave = (request, response, origin) => {
    const damaged = Buffer.from(origin);
    damaged[bad] = (damaged[bad] as number) ^ 1;
    if (broken++ > 0) {
      ignoresRanges(request, response, damaged);
      return;
    }
    response.writeHead(200, { 'content-length': origin.length });
    response.write(damaged.subarray(0, origin.length >>> 2), () => response.destroy());
  };
  open.want(0, 200);
  await told.until(({ arrived, refused }) => arrived.size + refused.size >= 200);
  assertTrue(at.layer, told);
  assert.ok(told.refused.has(100));
  assert.ok(told.refused.size <= 4, 'only what shares its unit');
  at.behave = good;
  open.want(0, 200);
  await told.until(({ arrived }) => arrived.size === 200);
  assertTrue(at.layer, told);
});
