// Who we are: tokens, passwords, helpers, and to whom none of them is ever sent.

import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseChallenges } from '../../src/oci/auth.js';
import { findCredentials } from '../../src/oci/credentials.js';
import { parseReference } from '../../src/oci/reference.js';
import { Registry } from '../../src/oci/registry.js';
import { tempDir } from '../support/temp.js';
import { type FakeRegistry, sha256, startFakeRegistry } from './fake-registry.js';

const CONTENT = Buffer.from('content');

type Context = Parameters<typeof startFakeRegistry>[0];

async function started(t: Context, auths?: object) {
  const fake = await startFakeRegistry(t);
  const home = tempDir(t);
  const env: NodeJS.ProcessEnv = { HOME: home, XDG_RUNTIME_DIR: home, PATH: process.env['PATH'] };
  if (auths !== undefined) {
    mkdirSync(join(home, 'containers'));
    writeFileSync(join(home, 'containers/auth.json'), JSON.stringify(auths));
  }
  const registry = new Registry({ plainHttp: true, env, retries: 2, pause: 1 });
  t.after(() => registry.close());
  const digest = fake.addBlob(CONTENT);
  const layer = { mediaType: 'x/y', digest, size: CONTENT.length };
  return { fake, registry, ref: parseReference(`${fake.host}/a/b:t`), layer, home, env };
}

const basic = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`;
const entry = (text: string) => ({ auth: Buffer.from(text).toString('base64') });

/** A token service in the fake registry itself; `accept` says which tokens are good now. */
function tokenService(
  fake: FakeRegistry,
  state: { accept: string; password?: string; life?: number; asked: URL[]; bodies: string[] },
): void {
  fake.on = async (request, response) => {
    const url = new URL(request.url ?? '', `http://${fake.host}`);
    if (url.pathname === '/token') {
      state.asked.push(url);
      let body = '';
      for await (const piece of request) body += String(piece);
      state.bodies.push(body);
      if (state.password !== undefined && request.headers.authorization !== state.password) {
        response.writeHead(401).end();
        return true;
      }
      response.end(JSON.stringify({ token: state.accept, expires_in: state.life ?? 300 }));
      return true;
    }
    if (request.headers.authorization === `Bearer ${state.accept}`) return false;
    refuse(response, `Bearer realm="http://${fake.host}/token",service="the, service"`);
    return true;
  };
}

function refuse(response: ServerResponse, challenge: string): void {
  response.writeHead(401, { 'www-authenticate': challenge });
  response.end('{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}');
}

test('an anonymous token, one for all requests of a repository, another one when it is refused', async (t) => {
  const { fake, registry, ref, layer } = await started(t);
  const state = { accept: 'one', asked: [] as URL[], bodies: [] };
  tokenService(fake, state);
  const parts = await Promise.all([0, 1, 2].map((at) => registry.range(ref, layer, at, 4)));
  assert.deepEqual(parts.map(String), ['cont', 'onte', 'nten']);
  assert.equal(state.asked.length, 1);
  assert.equal(state.asked[0]!.searchParams.get('service'), 'the, service');
  assert.equal(state.asked[0]!.searchParams.get('scope'), 'repository:a/b:pull');
  const before = fake.requests.length;
  await registry.range(ref, layer, 0, 4);
  assert.equal(fake.requests.length, before + 1);
  state.accept = 'two';
  await Promise.all([0, 1, 2].map((at) => registry.range(ref, layer, at, 4)));
  assert.equal(state.asked.length, 2);
  await registry.mountBlob(ref, layer.digest, 'c/d');
  assert.deepEqual(state.asked[2]!.searchParams.getAll('scope'), [
    'repository:a/b:pull,push',
    'repository:c/d:pull',
  ]);
  // A push asks for one token, with which it also looks whether the blob is there.
  await registry.pushBlob(ref, sha256(Buffer.of(1)), 1, async function* () {
    yield Buffer.of(1);
  });
  assert.equal(state.asked[3]!.searchParams.get('scope'), 'repository:a/b:pull,push');
  assert.equal(state.asked.length, 4);
});

test('a token for a name and password; a wrong one is told at once', async (t) => {
  const { fake, registry, ref, layer } = await started(t, { auths: {} });
  const state = { accept: 'one', password: basic('me:secret'), asked: [] as URL[], bodies: [] };
  tokenService(fake, state);
  await assert.rejects(registry.range(ref, layer, 0, 4), {
    kind: 'auth',
    message: /^the token service .* refuses an anonymous client \(401\)$/,
  });
  assert.equal(fake.requests.length, 2);
  const { env, home } = await started(t, { auths: { [fake.host]: entry('me:secret') } });
  const other = new Registry({
    plainHttp: true,
    env,
    authFile: join(home, 'containers/auth.json'),
  });
  t.after(() => other.close());
  assert.equal(String(await other.range(ref, layer, 0, 4)), 'cont');
  assert.equal(state.asked.at(-1)!.searchParams.get('account'), 'me');
});

test('a refresh token', async (t) => {
  const { fake, ref, layer } = await started(t);
  const auths = { [fake.host]: { auth: entry('<token>:').auth, identitytoken: 're fresh' } };
  const { env } = await started(t, { auths });
  const state = { accept: 'one', asked: [] as URL[], bodies: [] as string[] };
  tokenService(fake, state);
  const registry = new Registry({ plainHttp: true, env });
  t.after(() => registry.close());
  assert.equal(String(await registry.range(ref, layer, 0, 4)), 'cont');
  assert.deepEqual(Object.fromEntries(new URLSearchParams(state.bodies[0])), {
    grant_type: 'refresh_token',
    refresh_token: 're fresh',
    client_id: 'varve',
    scope: 'repository:a/b:pull',
    service: 'the, service',
  });
});

test('Basic, and what is done when it is wrong', async (t) => {
  const { fake, ref, layer } = await started(t);
  const { env } = await started(t, { auths: { [fake.host]: entry('me:se:cret') } });
  let password = basic('me:se:cret');
  fake.on = (request, response) => {
    if (request.headers.authorization === password) return false;
    refuse(response, 'Basic realm="here"');
    return true;
  };
  const registry = new Registry({ plainHttp: true, env });
  t.after(() => registry.close());
  assert.equal(String(await registry.range(ref, layer, 0, 4)), 'cont');
  password = basic('me:other');
  const before = fake.requests.length;
  await assert.rejects(registry.range(ref, layer, 0, 4), {
    kind: 'auth',
    message: /denied to the credentials in use \(401\): authentication required$/,
  });
  assert.equal(fake.requests.length, before + 1);
});

test('a host may be written in any way', async (t) => {
  const { fake, layer } = await started(t);
  const name = fake.host.replace('127.0.0.1', 'LocalHost');
  const { env } = await started(t, { auths: { [name]: entry('me:secret') } });
  fake.on = (request, response) => {
    if (request.headers.authorization === basic('me:secret')) return false;
    refuse(response, 'Basic realm="here"');
    return true;
  };
  const registry = new Registry({ plainHttp: true, env });
  t.after(() => registry.close());
  assert.equal(String(await registry.range(parseReference(`${name}/a`), layer, 0, 4)), 'cont');
});

test('credentials stay behind when another host takes over', async (t) => {
  const { fake, ref, layer } = await started(t);
  const storage = await startFakeRegistry(t);
  storage.addBlob(CONTENT);
  const { env } = await started(t, { auths: { [fake.host]: entry('me:secret') } });
  fake.on = (request, response) => {
    if (request.headers.authorization === undefined) {
      refuse(response, 'Basic realm="here"');
    } else if (request.url?.endsWith('/moved')) {
      response
        .writeHead(307, { location: `http://me:secret@${storage.host}${request.url.slice(0, -6)}` })
        .end();
    } else {
      response.writeHead(307, { location: `${request.url}/moved`, 'set-cookie': 'a=b' }).end();
    }
    return true;
  };
  const registry = new Registry({ plainHttp: true, env });
  t.after(() => registry.close());
  assert.equal(String(await registry.range(ref, layer, 0, 4)), 'cont');
  assert.deepEqual(
    fake.requests.map(({ headers }) => headers.authorization),
    [undefined, basic('me:secret'), basic('me:secret')],
  );
  const [asked] = storage.requests;
  assert.equal(asked!.headers.range, 'bytes=0-3');
  assert.equal(asked!.headers.authorization, undefined);
  assert.equal(asked!.headers.cookie, undefined);
  // The next part is asked for there at once, and by the registry again when that fails.
  await registry.range(ref, layer, 2, 4);
  assert.deepEqual([fake.requests.length, storage.requests.length], [3, 2]);
  assert.equal(storage.requests[1]!.headers.authorization, undefined);
  storage.on = (_, response) => {
    if (storage.requests.length > 3) return false;
    response.writeHead(403).end();
    return true;
  };
  assert.equal(String(await registry.range(ref, layer, 1, 3)), 'ont');
  assert.deepEqual([fake.requests.length, storage.requests.length], [5, 4]);
  // A stranger's challenge is not answered with them either.
  storage.on = (_, response) => {
    refuse(response, 'Basic realm="give me"');
    return true;
  };
  await assert.rejects(registry.range(ref, layer, 0, 4), { kind: 'auth' });
  assert.ok(storage.requests.every(({ headers }) => headers.authorization === undefined));
});

test('what is pushed is not sent to another host, and redirects end', async (t) => {
  const { fake, registry, ref, layer } = await started(t);
  const other = await startFakeRegistry(t);
  fake.on = (request, response) => {
    if (request.method === 'HEAD') return false;
    response.writeHead(307, { location: `http://${other.host}${request.url}` }).end();
    return true;
  };
  const index = Buffer.from('{"schemaVersion":2,"manifests":[]}');
  const type = 'application/vnd.oci.image.index.v1+json';
  await assert.rejects(registry.pushManifest(ref, index, type), { kind: 'refused' });
  assert.equal(other.requests.length, 0);
  fake.on = (request, response) => {
    response.writeHead(302, { location: request.url }).end();
    return true;
  };
  await assert.rejects(registry.range(ref, layer, 0, 4), { kind: 'refused' });
});

test('credentials: files in their order, the most specific entry, helpers', async (t) => {
  const home = tempDir(t);
  const env: NodeJS.ProcessEnv = {
    HOME: home,
    XDG_RUNTIME_DIR: join(home, 'run'),
    PATH: `${home}:${process.env['PATH']}`,
  };
  const write = (path: string, content: unknown): void => {
    mkdirSync(join(home, path, '..'), { recursive: true });
    writeFileSync(
      join(home, path),
      typeof content === 'string' ? content : JSON.stringify(content),
    );
  };
  const find = async (registry: string, repository = 'a/b', more: object = {}) => {
    const helpers = ['containers-auth.json'];
    const found = await findCredentials({ registry, repository, env, helpers, ...more });
    return found?.identityToken ?? found?.registryToken ?? found?.password;
  };
  write('run/containers/auth.json', {
    auths: {
      'r.example': entry('me:run'),
      'r.example/a': entry('me:a'),
      'r.example/a/b/c': entry('me:abc'),
    },
  });
  write('.config/containers/auth.json', {
    auths: { 'r.example': entry('me:config'), 'c.example:5000': entry('me:c') },
  });
  write('.docker/config.json', {
    auths: {
      'https://index.docker.io/v1/': entry('me:hub'),
      'https://old.example/v1/': entry('me:old'),
      'kept.example': {},
      'token.example': { registrytoken: 'ready' },
    },
    credHelpers: { 'helped.example': 'test' },
    credsStore: 'test',
  });
  write(
    'docker-credential-test',
    `#!/bin/sh
[ "$1" = get ] || exit 2
read -r host || :
case $host in
*helped.example) echo '{"ServerURL":"x","Username":"me","Secret":"helped"}' ;;
*kept.example) echo '{"ServerURL":"x","Username":"<token>","Secret":"kept"}' ;;
broken.example) echo 'the keychain is locked'; exit 1 ;;
*) echo 'credentials not found in native keychain'; exit 1 ;;
esac
`,
  );
  chmodSync(join(home, 'docker-credential-test'), 0o755);
  assert.equal(await find('r.example'), 'a');
  assert.equal(await find('r.example', 'a/b/c'), 'abc');
  assert.equal(await find('r.example', 'ab/c'), 'run');
  assert.equal(await find('c.example:5000'), 'c');
  assert.equal(await find('c.example'), undefined);
  assert.equal(await find('docker.io'), 'hub');
  assert.equal(await find('old.example'), 'old');
  assert.equal(await find('helped.example'), 'helped');
  assert.equal(await find('kept.example'), 'kept');
  assert.equal(await find('token.example'), 'ready');
  assert.equal(await find('helped.example', 'a/b', { helpers: ['test'] }), 'helped');
  await assert.rejects(find('broken.example'), {
    kind: 'auth',
    message: 'docker-credential-test failed for broken.example: the keychain is locked',
  });
  await assert.rejects(find('x.example', 'a', { helpers: ['nobody-has-this'] }), {
    kind: 'auth',
    message: /not installed/,
  });
  await assert.rejects(find('x.example', 'a', { helpers: ['../test'] }), { kind: 'auth' });
  // A file that was named is the only one.
  write('only.json', { auths: { 'c.example:5000': entry('me:only') } });
  assert.equal(await find('c.example:5000', 'a', { authFile: join(home, 'only.json') }), 'only');
  env['REGISTRY_AUTH_FILE'] = join(home, 'only.json');
  assert.equal(await find('r.example'), undefined);
  write('only.json', '{');
  await assert.rejects(find('r.example'), { kind: 'auth', message: /only\.json is no JSON file/ });
  delete env['REGISTRY_AUTH_FILE'];
  env['DOCKER_CONFIG'] = join(home, 'elsewhere');
  assert.equal(await find('docker.io'), undefined);
});

for (const [text, expected] of [
  ['Basic realm="a"', [['basic', { realm: 'a' }]]],
  [
    'Bearer realm="https://a/b",service="c",scope="x:y:z,w"',
    [['bearer', { realm: 'https://a/b', service: 'c', scope: 'x:y:z,w' }]],
  ],
  [
    'Negotiate, Basic realm="a, b", Bearer realm=plain , service="q\\"q"',
    [
      ['negotiate', {}],
      ['basic', { realm: 'a, b' }],
      ['bearer', { realm: 'plain', service: 'q"q' }],
    ],
  ],
  ['', []],
  ['"', []],
] as const) {
  test(`challenges: ${text}`, () => {
    assert.deepEqual(
      parseChallenges(text).map(({ scheme, parameters }) => [scheme, parameters]),
      expected,
    );
  });
}
