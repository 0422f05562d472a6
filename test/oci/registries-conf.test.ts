// registries.conf: which hosts are asked for a name, and what a mirror that fails or lies changes.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { endpointsOf } from '../../src/oci/endpoint.js';
import { formatReference, parseReference } from '../../src/oci/reference.js';
import { loadRegistriesConf } from '../../src/oci/registries-conf.js';
import { Registry } from '../../src/oci/registry.js';
import { candidatesOf } from '../../src/oci/short-name.js';
import { tempDir } from '../support/temp.js';
import { startFakeRegistry } from './fake-registry.js';

const CONF = `
unqualified-search-registries = ["r.example", "docker.io"]
[[registry]]
location = "r.example"
[[registry.mirror]]
location = "m.example:5000/proxy"
insecure = true
[[registry.mirror]]
location = "n.example"
pull-from-mirror = "digest-only"
[[registry]]
prefix = "r.example/moved"
location = "new.example/here"
mirror-by-digest-only = true
[[registry.mirror]]
location = "m.example"
[[registry]]
prefix = "*.bad.example"
blocked = true
[[registry]]
prefix = "docker.io/library"
location = "hub.example/docker"
[aliases]
tool = "quay.io/org/tool"
"other/name" = "quay.io/org/other"
`;
const DIGEST = `sha256:${'1'.repeat(64)}`;

/** The environment in which a text is the only registries.conf. */
function confOf(t: Parameters<typeof tempDir>[0], text: string): NodeJS.ProcessEnv {
  const path = join(tempDir(t), 'registries.conf');
  writeFileSync(path, text);
  return { CONTAINERS_REGISTRIES_CONF: path };
}

test('where names are looked for', (t) => {
  const conf = loadRegistriesConf(confOf(t, CONF));
  const places = (text: string): string[] =>
    endpointsOf(conf, parseReference(text)).map(
      ({ host, repository, insecure, mirror }) =>
        `${host}/${repository}${insecure ? ' insecure' : ''}${mirror ? ' mirror' : ''}`,
    );
  assert.deepEqual(places('r.example/a/b:1'), [
    'm.example:5000/proxy/a/b insecure mirror',
    'r.example/a/b',
  ]);
  assert.deepEqual(places(`r.example/a@${DIGEST}`), [
    'm.example:5000/proxy/a insecure mirror',
    'n.example/a mirror',
    'r.example/a',
  ]);
  assert.deepEqual(places('r.example/moved/x:1'), ['new.example/here/x']);
  assert.deepEqual(places(`r.example/moved/x@${DIGEST}`), [
    'm.example/x mirror',
    'new.example/here/x',
  ]);
  assert.deepEqual(places('r.example/movedx:1').at(-1), 'r.example/movedx');
  assert.deepEqual(places('r.example:5000/a'), ['r.example:5000/a']);
  assert.deepEqual(places('debian'), ['hub.example/docker/debian']);
  assert.deepEqual(places('someone/x'), ['registry-1.docker.io/someone/x']);
  assert.throws(() => places('very.bad.example/x'), {
    kind: 'refused',
    message: /blocks \*\.bad\.example$/,
  });
  assert.deepEqual(places('bad.example/x'), ['bad.example/x']);
});

test('what short names stand for', (t) => {
  const names = (text: string, conf: string): string[] =>
    candidatesOf(loadRegistriesConf(confOf(t, conf)), text).map(formatReference);
  assert.deepEqual(names('tool:3', CONF), ['quay.io/org/tool:3']);
  assert.deepEqual(names(`other/name@${DIGEST}`, CONF), [`quay.io/org/other@${DIGEST}`]);
  assert.deepEqual(names('x', CONF), ['r.example/x:latest', 'docker.io/library/x:latest']);
  assert.deepEqual(names('q.example/tool', CONF), ['q.example/tool:latest']);
  assert.deepEqual(names('x', ''), ['docker.io/library/x:latest']);
  assert.throws(() => names('x', 'unqualified-search-registries = []'), { kind: 'refused' });
  assert.throws(() => names('x', `short-name-mode = "enforcing"\n${CONF}`), {
    kind: 'refused',
    message: "'x' may come from r.example, docker.io; say from which: r.example/x",
  });
});

test("the user's file, and drop-ins over it", (t) => {
  const home = tempDir(t);
  const folder = join(home, '.config/containers');
  mkdirSync(join(folder, 'registries.conf.d'), { recursive: true });
  const write = (name: string, text: string): void => writeFileSync(join(folder, name), text);
  write(
    'registries.conf',
    '[[registry]]\nlocation="r.example"\nblocked=true\n[aliases]\na="x.example/a"',
  );
  write(
    'registries.conf.d/20.conf',
    '[[registry]]\nlocation="r.example"\ninsecure=true\n[aliases]\na=""',
  );
  write(
    'registries.conf.d/10.conf',
    '[[registry]]\nlocation="r.example"\n[[registry.mirror]]\nlocation="m"',
  );
  write('registries.conf.d/30.txt', 'no TOML');
  const conf = loadRegistriesConf({ HOME: home });
  const rule = { prefix: 'r.example', location: 'r.example', insecure: true, blocked: false };
  assert.deepEqual(conf.rules.get('r.example'), { ...rule, mirrors: [] });
  assert.equal(conf.aliases.has('a'), false);
});

for (const [text, message] of [
  ['[[registry]]\nprefix = "a.example"', /has no location$/],
  ['[[registry]]\nblocked = true', /neither prefix nor location$/],
  ['[[registry]]\nlocation = "https://a.example"', /without a scheme$/],
  ['[[registry]]\nlocation = "a.example"\ninsecure = "yes"', /insecure is neither true nor false$/],
  ['[registry]\nlocation = "a.example"', /registry must be written as \[\[registry\]\]$/],
  ['\n\nx = = 1', /: line 3: /],
  ['unqualified-search-registries = "a"', /is no list of texts$/],
  ['short-name-mode = "maybe"', /"?maybe"? is not known$/],
] as const) {
  test(`refused: ${JSON.stringify(text)}`, (t) => {
    assert.throws(() => loadRegistriesConf(confOf(t, text)), { kind: 'refused', message });
  });
}

test('mirrors are asked first, and left when they fail, lack something or lie', async (t) => {
  const own = await startFakeRegistry(t);
  const mirror = await startFakeRegistry(t);
  const content = randomBytes(200_000);
  const digest = own.addBlob(content);
  const layer = { mediaType: 'x/y', digest, size: content.length };
  const ref = parseReference(`${own.host}/a/b:t`);
  const env = confOf(
    t,
    `[[registry]]\nlocation="${own.host}"\ninsecure=true\n[[registry.mirror]]\nlocation="${mirror.host}/m"\ninsecure=true`,
  );
  let now = 0;
  const clock = { now: () => now, sleep: async () => {} };
  const lines: string[] = [];
  const registry = new Registry({ env, clock, pause: 1, log: (line) => lines.push(line) });
  t.after(() => registry.close());
  const read = async (): Promise<Buffer> => {
    const pieces: Uint8Array[] = [];
    for await (const piece of await registry.blob(ref, layer)) pieces.push(piece);
    return Buffer.concat(pieces);
  };
  // It lacks the blob: asked once, and not again for this one.
  assert.ok((await read()).equals(content));
  assert.ok((await read()).equals(content));
  assert.deepEqual([mirror.count('GET', /blobs/), own.count('GET', /blobs/)], [1, 2]);
  assert.match(mirror.requests.at(-1)!.url, /^\/v2\/m\/a\/b\/blobs\//);
  // It has it: after a minute it is asked again, and gives it.
  now += 61_000;
  mirror.addBlob(content);
  assert.ok((await read()).equals(content));
  assert.deepEqual([mirror.count('GET', /blobs/), own.count('GET', /blobs/)], [2, 2]);
  // It breaks off in the middle and then is busy: the registry goes on where it was.
  mirror.on = (request, response) => {
    if (request.headers.range !== undefined) response.writeHead(503).end();
    else {
      response.writeHead(200, { 'content-length': content.length });
      response.write(content.subarray(0, 100_000), () => response.destroy());
    }
    return true;
  };
  assert.ok((await read()).equals(content));
  assert.match(own.requests.at(-1)!.headers.range!, /^bytes=[1-9][0-9]*-$/);
  assert.match(lines.at(-1)!, /^mirror 127\.0\.0\.1:[0-9]+: .*\(503\); asking the next one$/);
  // It lies about a manifest of a known digest.
  now += 61_000;
  const type = 'application/vnd.oci.image.index.v1+json';
  const pinned = own.addManifest('a/b', 't', type, {
    schemaVersion: 2,
    mediaType: type,
    manifests: [],
  });
  mirror.on = (_, response) => {
    response.writeHead(200, { 'content-type': type });
    response.end('{"schemaVersion":2,"manifests":[], "x": 1}');
    return true;
  };
  const fetched = await registry.manifest({ ...ref, digest: pinned });
  assert.equal(fetched.descriptor.digest, pinned);
  // What is pushed goes to the registry itself.
  await registry.pushManifest(ref, fetched.bytes, type);
  assert.equal(mirror.count('PUT', /./), 0);
});

test('names without a registry are looked for in turn', async (t) => {
  const [one, two] = [await startFakeRegistry(t), await startFakeRegistry(t)];
  const type = 'application/vnd.oci.image.index.v1+json';
  two.addManifest('tool', 'latest', type, { schemaVersion: 2, mediaType: type, manifests: [] });
  const env = confOf(t, `unqualified-search-registries = ["${one.host}", "${two.host}"]`);
  const registry = new Registry({ env, plainHttp: true });
  t.after(() => registry.close());
  assert.equal(formatReference(await registry.named('tool')), `${two.host}/tool:latest`);
  one.on = (_, response) => response.writeHead(400).end() !== undefined;
  await assert.rejects(registry.named('tool'), { kind: 'refused' });
});
