// podman over a layer store: containers of images that were never pulled, their content fetched as it is read.
// A registry behind a proxy that counts; the layers are eStargz, with whiteouts; as root and, in podman's own namespaces, as a plain user.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { parseReference } from '../../src/oci/reference.js';
import { plainClient } from '../oci/plain-client.js';
import { startRealRegistry } from '../oci/real-registry.js';
import { type Shaper, startShaper } from '../oci/shaper.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { type MadeLayer, type Member, makeEstargz, pushLayers, sha256 } from './estargz.js';
import { installVarve } from './installed.js';
import { configurePodman, place } from './podman.js';
import { dropNeighbours, makeUser, neighbours, openFuseDevice } from './private.js';
import { quote } from './shell.js';

const packages = ['busybox-static', 'docker-registry', 'podman', 'runc', 'uidmap'];
const rootly = requires({ root: true, features: ['fuse', 'overlayfs'], packages });
const plainly = requires({ root: true, features: ['fuse', 'userns', 'plain-user'], packages });

const MB = 1 << 20;
const big = randomBytes(12 * MB);
const APPLETS = ['sh', 'cat', 'ls', 'stat', 'sha256sum', 'head', 'id', 'find', 'sort', 'dd'];

interface Image {
  readonly layers: readonly MadeLayer[];
  readonly bytes: number;
  /** As podman names it: the proxy, which counts, is its registry. */
  readonly name: string;
  readonly shaper: Shaper;
}

/** busybox and much that nobody reads; a layer that hides and replaces some of it; a third one of metadata. */
function layers(): MadeLayer[] {
  const folder = (name: string): Member => ({ name, type: 'dir' });
  const file = (name: string, content: string | Uint8Array, mode = 0o644): Member => ({
    name,
    content: Buffer.from(content),
    mode,
  });
  const below = makeEstargz([
    ...['bin', 'etc', 'tmp', 'proc', 'sys', 'dev', 'data', 'data/gone', 'data/again'].map(folder),
    file('bin/busybox', readFileSync('/bin/busybox'), 0o755),
    ...APPLETS.map((name): Member => ({ name: `bin/${name}`, type: 'symlink', link: 'busybox' })),
    file('etc/passwd', 'root:x:0:0:root:/:/bin/sh\n'),
    file('data/big', big),
    ...['data/gone/file', 'data/again/file', 'data/keep', 'data/other'].map((name) =>
      file(name, `${name}\n`),
    ),
    { name: 'data/hard', type: 'hardlink', link: 'data/keep' },
  ]);
  const middle = makeEstargz([
    folder('data'),
    file('data/.wh.gone', ''),
    folder('data/again'),
    file('data/again/.wh..wh..opq', ''),
    file('data/again/fresh', 'fresh\n'),
    file('data/other', 'changed\n', 0o640),
  ]);
  const above = makeEstargz([folder('data'), { ...file('data/owned', 'owned\n'), uid: 7 }]);
  return [below, middle, above];
}

async function pushedImage(t: TestContext): Promise<Image> {
  const registry = await startRealRegistry(t);
  const made = layers();
  const client = plainClient(t);
  const bytes = await pushLayers(client, parseReference(`${registry.host}/app:1`), made);
  const shaper = await startShaper(t, { to: registry.host });
  return { layers: made, bytes, name: `${shaper.host}/app:1`, shaper };
}

/** Configuration of podman; the folder is `place` in the script's mount namespace. */
function configure(folder: string, registry: string): Record<string, string> {
  const stores = `[storage.options]\nadditionallayerstores = ["${place}/layers:ref"]`;
  const env = configurePodman(folder, stores);
  const conf = `[[registry]]\nlocation = "${registry}"\ninsecure = true\n`;
  writeFileSync(join(folder, 'registries.conf'), conf);
  for (const name of ['layers', 'images', 'tmp']) mkdirSync(join(folder, name));
  return {
    ...env,
    CONTAINERS_REGISTRIES_CONF: `${place}/registries.conf`,
    XDG_RUNTIME_DIR: `${place}/runtime`,
    VARVE_RUNTIME_DIR: `${place}/runtime`,
    VARVE_SUPERVISOR_IDLE: '300',
    TMPDIR: `${place}/tmp`,
  };
}

/** A shell in a mount namespace of its own, which is told one script after the other: this process counts meanwhile. */
class Session {
  readonly #child: ChildProcess;
  #said = '';
  #heard: (() => void) | undefined;

  constructor(t: TestContext, folder: string, env: Record<string, string>, run = '') {
    const start = `${dropNeighbours} mount --bind ${quote(folder)} ${place}; ${openFuseDevice} cd ${place}; ${run} bash -euo pipefail`;
    const words = ['--mount', '--propagation', 'private', 'bash', '-euo', 'pipefail', '-c', start];
    this.#child = spawn('unshare', words, {
      env: { ...process.env, ...env, ...neighbours(), LC_ALL: 'C' },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#said += text;
        this.#heard?.();
      });
    }
    const gone = new Promise((done) => this.#child.once('close', done));
    void gone.then(() => this.#heard?.());
    t.after(async () => {
      this.#child.kill('SIGKILL');
      await gone;
    });
  }

  /** Runs a script, which must succeed. @returns what it printed to standard output. */
  async run(script: string): Promise<string> {
    const mark = randomBytes(8).toString('hex');
    this.#said = '';
    this.#child.stdin?.write(
      `printf '<%s>' ${mark}; ( ${script}\n) </dev/null; printf '</%s>' ${mark}\n`,
    );
    const found = new RegExp(`<${mark}>([^]*)</${mark}>`);
    for (;;) {
      const said = found.exec(this.#said);
      if (said !== null) return (said[1] as string).trim();
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) {
        throw new Error(`${script}\n${this.#said}`);
      }
      await new Promise<void>((done) => {
        this.#heard = done;
      });
    }
  }
}

const LOOK = `stat -c '%n %A %u %h %s' /data/* /data/again/*; cat /data/keep /data/other /data/again/fresh /data/owned`;
const LOOKED = `
/data/again drwxr-xr-x 0 1 
/data/big -rw-r--r-- 0 1 ${big.length}
/data/hard -rw-r--r-- 0 2 10
/data/keep -rw-r--r-- 0 2 10
/data/other -rw-r----- 0 1 8
/data/owned -rw-r--r-- 7 1 6
/data/again/fresh -rw-r--r-- 0 1 6
data/keep
changed
fresh
owned`.trim();

const withoutSizesOfFolders = (said: string): string =>
  said.replace(/^(\S+ d\S+ \d+) \d+ \d+$/gm, '$1 1 ');

/** Files that podman has of layers: none but its own notes. */
const CONTENT = `find store/overlay -type f ! -name link ! -name lower ! -name additionallayer ! -name '.has-*' -size +0`;

const look = (name: string): string => `podman run --rm ${name} sh -c ${quote(LOOK)} 2>/dev/null`;

/** The first container, and what podman has of the image. */
async function runsWithoutPulling(session: Session, { name, bytes, shaper }: Image): Promise<void> {
  const before = shaper.bytes.down;
  assert.equal(withoutSizesOfFolders(await session.run(look(name))), LOOKED);
  const first = shaper.bytes.down - before;
  assert.ok(first < bytes / 4, `the first container has fetched ${first} of ${bytes} bytes`);
  assert.equal(await session.run(CONTENT), '');
}

async function asRoot(t: TestContext, image: Image, varve: string): Promise<void> {
  const { name, shaper } = image;
  const home = tempDir(t);
  const session = new Session(t, home, configure(home, shaper.host));
  const mount = `${varve} layer-store -q --store images --plain-http -o fill=off,prefetch=off layers`;
  await session.run(mount);
  await runsWithoutPulling(session, image);

  // A second container of the same layers.
  const after = shaper.bytes.down;
  assert.equal(withoutSizesOfFolders(await session.run(look(name))), LOOKED);
  const second = shaper.bytes.down - after;
  assert.ok(second < image.bytes / 100, `the second container has fetched ${second} bytes`);

  // A part of a file; all of it below.
  const part = `podman run --rm ${name} sh -c 'dd if=/data/big bs=1k skip=5000 count=300 2>/dev/null | sha256sum'`;
  const before = shaper.bytes.down;
  const wanted = sha256(big.subarray(5_120_000, 5_120_000 + 307_200)).slice('sha256:'.length);
  assert.equal((await session.run(part)).split(' ')[0], wanted);
  assert.ok(shaper.bytes.down - before < 4 * MB);

  // A layer as it came from the registry, whole.
  await session.run(`podman save -q -o saved.tar ${name}`);
  for (const { diffId } of image.layers) {
    const saved = await session.run(`tar -xOf saved.tar ${diffId.slice(7)}.tar | sha256sum`);
    assert.equal(`sha256:${saved.split(' ')[0]}`, diffId);
  }

  // A server that dies is replaced under the container's feet.
  const server = `${varve} status --json layers | sed -n 's/.*"serverPid": *\\([0-9]*\\).*/\\1/p' | head -1`;
  const read = `for i in 1 2 3; do sha256sum /data/big; done; cat /data/hard; ls /data/again`;
  const through = await session.run(
    `(sleep 1; kill -9 $(${server})) & podman run --rm ${name} sh -c '${read}; sleep 1; ${read}'`,
  );
  assert.equal(through.match(new RegExp(sha256(big).slice(7), 'g'))?.length, 6, through);
  assert.equal(through.match(/^(?:data.keep|fresh)$/gm)?.length, 4, through);

  // Changes of a container, and an image of them on top of layers that are not podman's.
  await session.run(`podman run --name one ${name} sh -c 'echo more >>/data/keep; >/data/new'`);
  assert.equal(
    await session.run('podman diff one | grep data | sort'),
    'A /data/new\nC /data\nC /data/keep',
  );
  await session.run('podman commit -q one two; podman rm one');
  assert.equal(
    await session.run('podman run --rm two cat /data/keep /data/again/fresh'),
    'data/keep\nmore\nfresh',
  );
  // What podman has from here is not removed under its feet.
  const refused = await session.run(`! ${varve} images --store images --rm ${name} 2>&1`);
  assert.match(refused, /has 3 layers of it from the layer store: .*podman rmi/);
  await session.run(`podman rmi -f two ${name}`);
  assert.equal(await session.run('ls store/overlay'), 'l');
  assert.equal(await session.run('find images/layer-store -name "*.uses*"'), '');
  await session.run(`${varve} umount layers; ${varve} images -q --store images --rm ${name}`);
  assert.equal(await session.run('ls images/layers'), '');
}

/** A lookup of a layer waits for its registry for ever. */
async function besideSilence(t: TestContext, image: Image, varve: string): Promise<void> {
  const asking = new Set<Socket>();
  const silent = createServer((socket) => {
    asking.add(socket);
    socket.on('error', () => {});
  });
  await new Promise<void>((done) => silent.listen(0, '127.0.0.1', done));
  t.after(() => {
    silent.close();
    for (const socket of asking) socket.destroy();
  });
  const { port } = silent.address() as AddressInfo;
  const home = tempDir(t);
  const session = new Session(t, home, configure(home, image.shaper.host));
  await session.run(`${varve} layer-store -q --store images --plain-http -o fill=off layers`);
  const place = (name: string): string => `layers/${Buffer.from(name).toString('base64')}`;
  const digest = sha256(Buffer.from('none'));
  const [layer] = image.layers as [MadeLayer];
  const known = `${place(image.name)}/${sha256(layer.blob)}`;
  const stuck = await session.run(
    `stat ${place(`127.0.0.1:${port}/app:1`)}/${digest} >/dev/null 2>&1 & echo $!`,
  );
  assert.equal(await session.run(`cat ${known}/diff/data/keep`), 'data/keep');
  await session.run(`kill -0 ${stuck}`);
  // What an image has not is not there, and may be asked for again.
  await session.run(`! stat ${place(image.name)}/${digest} 2>/dev/null`);
  await session.run(`kill -9 ${stuck}; while [ -e /proc/${stuck} ]; do sleep 0.05; done`);
  // The registry is not needed for what was found before, nor the server that found it.
  await session.run(
    `${varve} umount layers; ${varve} layer-store -q --store images -o fill=off layers`,
  );
  assert.equal(await session.run(`ls layers/*`), sha256(layer.blob));
  assert.equal(await session.run(`cat ${known}/diff/data/keep`), 'data/keep');
  // Records outlive every server.
  assert.notEqual(await session.run('ls images/layer-store/1.json'), '');
  await session.run(`${varve} umount layers`);
}

async function asPlainUser(t: TestContext, image: Image, varve: string): Promise<void> {
  const user = makeUser(join(tempDir(t), 'home'));
  t.after(() => user.remove());
  const home = join(user.home, 'podman');
  mkdirSync(home);
  const env = configure(home, image.shaper.host);
  const words = Object.entries(env)
    .map(([key, value]) => `${key}=${value}`)
    .join(' ');
  const run = `chown -R ${user.name}: .; ${user.run} env ${words} bash -euo pipefail -c 'cd ${place}; exec bash -euo pipefail'; exit;`;
  const session = new Session(t, home, env, run);
  // podman's own namespaces: there its root has the files of root.
  await session.run(
    `podman unshare ${varve} layer-store -q --store images --plain-http -o fill=off,prefetch=off layers 2>/dev/null`,
  );
  await runsWithoutPulling(session, image);
  await session.run(
    `podman rmi -f ${image.name}; podman unshare ${varve} umount layers; podman system migrate`,
  );
}

test('podman and a layer store', { skip: rootly }, async (t) => {
  const image = await pushedImage(t);
  const { varve } = installVarve(join(tempDir(t), 'package'));
  await t.test('images that were not pulled run as root', (t) => asRoot(t, image, varve));
  await t.test('a registry that does not answer holds up nobody but who asks it', (t) =>
    besideSilence(t, image, varve),
  );
  await t.test('images that were not pulled run as a plain user', { skip: plainly }, (t) =>
    asPlainUser(t, image, varve),
  );
});
