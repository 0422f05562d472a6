// How registries are reached: TLS and certs.d, proxies, limits of connections and bandwidth.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer as createPlain, request as httpRequest } from 'node:http';
import { createServer } from 'node:https';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { type Clock, Limits } from '../../src/oci/limits.js';
import { proxyFor } from '../../src/oci/proxy.js';
import { parseReference } from '../../src/oci/reference.js';
import { Registry } from '../../src/oci/registry.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { sha256, startFakeRegistry } from './fake-registry.js';
import { startShaper } from './shaper.js';

/** An authority, a server's certificate for 127.0.0.1 and a client's, in a folder. */
function makeCertificates(folder: string): void {
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
  };
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.crt', '-subj', '/CN=ca');
  const issued = ['-CA', 'ca.crt', '-CAkey', 'ca.key'];
  const names = ['-addext', 'subjectAltName=IP:127.0.0.1'];
  openssl(
    'req',
    '-x509',
    ...key,
    ...issued,
    ...names,
    '-keyout',
    's.key',
    '-out',
    's.crt',
    '-subj',
    '/CN=s',
  );
  openssl(
    'req',
    '-x509',
    ...key,
    ...issued,
    '-keyout',
    'me.key',
    '-out',
    'me.cert',
    '-subj',
    '/CN=me',
  );
}

const BLOB = Buffer.from('content');
const LAYER = { mediaType: 'x/y', digest: sha256(BLOB), size: BLOB.length };

test('TLS: unknown certificates are refused, those of certs.d are taken', {
  skip: requires({ packages: ['openssl'] }),
}, async (t) => {
  const folder = tempDir(t);
  makeCertificates(folder);
  const read = (name: string): string => readFileSync(join(folder, name), 'utf8');
  const names: string[] = [];
  let location: string | undefined;
  const options = {
    key: read('s.key'),
    cert: read('s.crt'),
    ca: read('ca.crt'),
    requestCert: true,
    rejectUnauthorized: false,
  };
  const server = createServer(options, (request, response) => {
    const peer = (request.socket as TLSSocket).getPeerCertificate();
    names.push(String(peer.subject?.CN ?? ''));
    if (location === undefined) response.end(BLOB);
    else if (location === 'token') {
      response
        .writeHead(401, { 'www-authenticate': `Bearer realm="http://127.0.0.1:1/token"` })
        .end();
    } else response.writeHead(307, { location }).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  const host = `127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;
  const ref = parseReference(`${host}/a:t`);
  const home = tempDir(t);
  const env: NodeJS.ProcessEnv = { HOME: home };
  const ask = async (more: NodeJS.ProcessEnv = {}): Promise<string> => {
    const registry = new Registry({ env: { ...env, ...more }, retries: 0 });
    try {
      return String(await registry.range(ref, LAYER, 0, LAYER.size));
    } finally {
      registry.close();
    }
  };
  await assert.rejects(ask(), { kind: 'refused', message: /: TLS fails: / });
  assert.deepEqual(names, []);
  // Allowed to have any certificate.
  const conf = join(folder, 'registries.conf');
  writeFileSync(conf, `[[registry]]\nlocation = "${host}"\ninsecure = true\n`);
  assert.equal(await ask({ CONTAINERS_REGISTRIES_CONF: conf }), 'content');
  // Its authority is known to the system.
  assert.equal(await ask({ SSL_CERT_FILE: join(folder, 'ca.crt') }), 'content');
  const certs = join(home, '.config/containers/certs.d', host);
  mkdirSync(certs, { recursive: true });
  copyFileSync(join(folder, 'ca.crt'), join(certs, 'ca.crt'));
  assert.equal(await ask(), 'content');
  assert.equal(names.at(-1), '');
  for (const name of ['me.cert', 'me.key']) copyFileSync(join(folder, name), join(certs, name));
  assert.equal(await ask(), 'content');
  assert.equal(names.at(-1), 'me');
  // Neither content nor credentials leave TLS.
  location = 'http://127.0.0.1:1/x';
  await assert.rejects(ask(), { kind: 'refused', message: /not protected by TLS$/ });
  location = 'token';
  await assert.rejects(ask(), { kind: 'refused', message: /wants credentials sent to http:/ });
  writeFileSync(join(certs, 'me.key'), 'no key');
  await assert.rejects(ask(), {
    kind: 'refused',
    message: /its certificates in .* cannot be used/,
  });
});

test('a registry that needs no TLS where registries.conf says so', async (t) => {
  const fake = await startFakeRegistry(t);
  fake.addBlob(BLOB);
  const conf = join(tempDir(t), 'registries.conf');
  writeFileSync(conf, `[[registry]]\nlocation = "${fake.host}"\ninsecure = true\n`);
  const ask = async (env: NodeJS.ProcessEnv): Promise<string> => {
    const registry = new Registry({ env, retries: 0 });
    t.after(() => registry.close());
    return String(await registry.range(parseReference(`${fake.host}/a`), LAYER, 0, 4));
  };
  assert.equal(await ask({ CONTAINERS_REGISTRIES_CONF: conf }), 'cont');
  await assert.rejects(ask({ CONTAINERS_REGISTRIES_CONF: '/dev/null' }), {
    kind: 'refused',
    message: /does not speak TLS: --plain-http, or /,
  });
});

test('through a proxy, with and without TLS', async (t) => {
  const fake = await startFakeRegistry(t);
  fake.addBlob(BLOB);
  const seen: string[] = [];
  const [, port] = fake.host.split(':');
  const proxy = createPlain((request, response) => {
    seen.push(`${request.method} ${new URL(request.url!).host}`);
    const { pathname } = new URL(request.url!);
    const onward = httpRequest(
      { host: '127.0.0.1', port, path: pathname, headers: request.headers },
      (answer) => {
        response.writeHead(answer.statusCode!, answer.headers);
        answer.pipe(response);
      },
    );
    onward.end();
  });
  proxy.on('connect', (request, socket) => {
    seen.push(`CONNECT ${request.url}`);
    const onward = connect(Number(port), '127.0.0.1', () =>
      socket.write('HTTP/1.1 200 OK\r\n\r\n'),
    );
    onward.pipe(socket).pipe(onward);
    for (const one of [socket, onward]) one.on('error', () => {});
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    proxy.closeAllConnections();
    proxy.close();
  });
  const address = proxy.address();
  const at = `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;
  const env = { CONTAINERS_REGISTRIES_CONF: '/dev/null', HTTP_PROXY: at, HTTPS_PROXY: at };
  const plain = new Registry({ plainHttp: true, env, retries: 0 });
  t.after(() => plain.close());
  // The name does not exist: only the proxy can find it.
  const ref = parseReference('registry.example:5000/a');
  assert.equal(String(await plain.range(ref, LAYER, 0, 4)), 'cont');
  const secure = new Registry({ env, retries: 0 });
  t.after(() => secure.close());
  await assert.rejects(secure.range(ref, LAYER, 0, 4), { kind: 'refused' });
  assert.deepEqual(seen, ['GET registry.example:5000', 'CONNECT registry.example:5000']);
});

for (const [url, noProxy, direct] of [
  ['https://a.example/', '', false],
  ['https://a.example/', 'a.example', true],
  ['https://b.a.example/', 'a.example', true],
  ['https://a.example/', '.a.example', false],
  ['https://b.a.example/', 'x, *.a.example', true],
  ['https://xa.example/', 'a.example', false],
  ['https://a.example:5000/', 'a.example:5000', true],
  ['https://a.example:5001/', 'a.example:5000', false],
  ['https://a.example/', '*', true],
  ['https://10.1.2.3/', '10.0.0.0/8', true],
  ['https://11.1.2.3/', '10.0.0.0/8', false],
  ['https://[fd00::1]/', 'fd00::/16', true],
  ['https://localhost:5000/', '', true],
  ['http://127.0.0.1:5000/', '', true],
  ['http://a.example/', '', true],
] as const) {
  test(`${url} with no_proxy=${noProxy} goes ${direct ? 'directly' : 'through the proxy'}`, () => {
    const found = proxyFor(new URL(url), { https_proxy: 'p.example:3128', NO_PROXY: noProxy });
    assert.equal(found, direct ? undefined : 'http://p.example:3128');
  });
}

test('no more connections than allowed, and nobody is forgotten', async (t) => {
  const fake = await startFakeRegistry(t);
  fake.addBlob(BLOB);
  let open = 0;
  let most = 0;
  fake.on = async (_, response) => {
    most = Math.max(most, ++open);
    response.once('close', () => open--);
    await new Promise((resolve) => setTimeout(resolve, 5));
    return false;
  };
  const limits = new Limits({ connections: 3 });
  const ref = parseReference(`${fake.host}/a`);
  const registries = [0, 1].map(
    () => new Registry({ plainHttp: true, env: {}, limits, retries: 0 }),
  );
  t.after(() => {
    for (const registry of registries) registry.close();
  });
  const gone = new AbortController();
  const asked = Array.from({ length: 20 }, (_, at) => {
    const signal = at % 5 === 4 ? gone.signal : undefined;
    return registries[at % 2]!.range(ref, LAYER, 0, 7, signal).then(String, () => 'gone');
  });
  gone.abort();
  const answers = await Promise.all(asked);
  assert.equal(answers.filter((text) => text === 'content').length, 16);
  assert.equal(most, 3);
  // Blobs that are left early, failures and aborts give their connections back.
  for (let at = 0; at < 6; at++) {
    for await (const _ of await registries[0]!.blob(ref, LAYER)) break;
    await assert.rejects(
      registries[0]!.range(ref, { ...LAYER, digest: sha256(Buffer.of(1)) }, 0, 7),
    );
  }
  assert.equal(String(await registries[0]!.range(ref, LAYER, 0, 7)), 'content');
});

test('a connection lives on from request to request', async (t) => {
  const fake = await startFakeRegistry(t);
  const content = randomBytes(500_000);
  const layer = { mediaType: 'x/y', digest: fake.addBlob(content), size: content.length };
  const registry = new Registry({ plainHttp: true, env: {}, retries: 0 });
  t.after(() => registry.close());
  const ref = parseReference(`${fake.host}/a:t`);
  for (let at = 0; at < 10; at++) await registry.range(ref, layer, at * 1000, 40_000);
  for await (const _ of await registry.blob(ref, layer));
  await assert.rejects(registry.resolve(ref), { kind: 'absent' });
  await assert.rejects(registry.manifest(ref), { kind: 'absent' });
  await registry.pushBlob(ref, sha256(BLOB), BLOB.length, async function* () {
    yield BLOB;
  });
  // A range without content-length.
  fake.on = (_, response) => {
    const headers = { 'transfer-encoding': 'chunked', 'content-range': 'bytes 0-9/500000' };
    response.writeHead(206, headers).end(content.subarray(0, 10));
    return true;
  };
  assert.ok((await registry.range(ref, layer, 0, 10)).equals(content.subarray(0, 10)));
  await registry.range(ref, layer, 0, 10);
  // A second one is opened when a request comes while the end of another is being told.
  assert.ok(fake.connections <= 2, `${fake.connections} connections`);
});

test('the limit of bandwidth is shared, and counted apart for both ways', async () => {
  let now = 0;
  const clock = {
    now: () => now,
    sleep: async (milliseconds: number) => {
      now += milliseconds;
    },
  };
  const limits = new Limits({ bytesPerSecond: 1000 }, clock);
  for (let at = 0; at < 10; at++) await limits.moved(1000, 'down');
  assert.equal(now, 10_000 - 100);
  await limits.moved(1000, 'up');
  assert.equal(now, 10_000 - 100 + 900);
  // An hour of silence is no hour of full speed.
  now += 3_600_000;
  const before = now;
  for (let at = 0; at < 10; at++) await limits.moved(1000, 'down');
  assert.equal(now - before, 10_000 - 100);
});

test('the rate becomes another while somebody waits', async () => {
  let now = 0;
  const sleepers = new Set<{ readonly due: number; readonly wake: () => void }>();
  const clock: Clock = {
    now: () => now,
    sleep: (milliseconds, signal) =>
      new Promise((resolve, reject) => {
        const sleeper = { due: now + milliseconds, wake: resolve };
        sleepers.add(sleeper);
        signal?.addEventListener('abort', () => sleepers.delete(sleeper) && reject(signal.reason));
      }),
  };
  const pass = async (milliseconds: number): Promise<void> => {
    now += milliseconds;
    for (const sleeper of sleepers) {
      if (sleeper.due <= now) sleepers.delete(sleeper) && sleeper.wake();
    }
    await new Promise((done) => setImmediate(done));
  };
  const limits = new Limits({ bytesPerSecond: 1000 }, clock);
  let through = 0;
  const move = (bytes: number, signal?: AbortSignal): Promise<unknown> =>
    limits.moved(bytes, 'down', signal).then(() => {
      through += bytes;
    });
  void move(50_100);
  void move(50_000);
  await pass(49_999);
  assert.equal(through, 0);
  // A byte of the first is left, and all of the second.
  limits.bytesPerSecond = 50_000;
  await pass(1);
  assert.equal(through, 50_100);
  await pass(998);
  assert.equal(through, 50_100);
  limits.bytesPerSecond = 1;
  await pass(50_000);
  assert.equal(through, 50_100);
  // Whoever waits hears of both: that he may go, and that there is no limit any more.
  const gone = new AbortController();
  const given = assert.rejects(move(1_000_000, gone.signal), /enough/);
  gone.abort(new Error('enough'));
  await given;
  limits.bytesPerSecond = 0;
  await pass(0);
  assert.equal(through, 100_100);
  assert.equal(sleepers.size, 0);
  await move(1_000_000_000);
});

test('the shaper: content unchanged, round trips, rate and cuts as they were set', async (t) => {
  const fake = await startFakeRegistry(t);
  const content = randomBytes(300_000);
  const layer = { mediaType: 'x/y', digest: fake.addBlob(content), size: content.length };
  const shaper = await startShaper(t, { to: fake.host, latency: 20, rate: 1_000_000 });
  const registry = new Registry({ plainHttp: true, env: {}, pause: 1 });
  t.after(() => registry.close());
  const ref = parseReference(`${shaper.host}/a`);
  const begun = performance.now();
  const whole = await registry.range(ref, layer, 0, content.length);
  // Never faster; how much slower is the machine's affair.
  assert.ok(performance.now() - begun >= 300 + 40 - 5);
  assert.ok(whole.equals(content));
  assert.ok(shaper.bytes.down > content.length && shaper.bytes.up > 100);
  const reading = registry.range(ref, layer, 0, content.length);
  while (fake.requests.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
  shaper.cut();
  assert.ok((await reading).equals(content));
  assert.ok(fake.requests.length >= 3);
});
