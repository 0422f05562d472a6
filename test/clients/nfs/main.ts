// An NFS server and a client of it, for nfs.test.ts: nfs-ganesha exports a folder, libnfs works on it.
// Runs in mount and network namespaces of its own: `node main.js FOLDER EXPORTED RESTARTS`, FOLDER for its own files;
// RESTARTS is a command that replaces varve's server, or "". Prints what was done as JSON; any failed call ends it.
// Options: ganesha-core-config(8), ganesha-vfs-config(8); calls: nfsc/libnfs.h.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import koffi from 'koffi';

const [folder = '', exported = '', restarts = ''] = process.argv.slice(2);

const lib = koffi.load('libnfs.so.13');
const c = {
  init: lib.func('void *nfs_init_context()'),
  destroy: lib.func('void nfs_destroy_context(void *nfs)'),
  error: lib.func('const char *nfs_get_error(void *nfs)'),
  version: lib.func('int nfs_set_version(void *nfs, int version)'),
  mount: lib.func('int nfs_mount(void *nfs, const char *server, const char *path)'),
  open: lib.func('int nfs_open(void *nfs, const char *path, int flags, _Out_ void **fh)'),
  creat: lib.func('int nfs_creat(void *nfs, const char *path, int mode, _Out_ void **fh)'),
  pread: lib.func(
    'int nfs_pread(void *nfs, void *fh, uint64_t at, uint64_t n, _Out_ uint8_t *buf)',
  ),
  pwrite: lib.func('int nfs_pwrite(void *nfs, void *fh, uint64_t at, uint64_t n, uint8_t *buf)'),
  close: lib.func('int nfs_close(void *nfs, void *fh)'),
  mkdir: lib.func('int nfs_mkdir(void *nfs, const char *path)'),
  unlink: lib.func('int nfs_unlink(void *nfs, const char *path)'),
  rename: lib.func('int nfs_rename(void *nfs, const char *from, const char *to)'),
};

/** A mounted export. Every failure throws, ESTALE among them. */
class Client {
  readonly #nfs: unknown;
  calls = 0;

  constructor(version: 3 | 4, path: string) {
    this.#nfs = c.init();
    c.version(this.#nfs, version);
    this.#check(c.mount(this.#nfs, '127.0.0.1', path), `mount ${path}`);
  }

  #check(result: number, what: string): number {
    this.calls++;
    if (result < 0) throw new Error(`${what}: ${result} ${c.error(this.#nfs)}`);
    return result;
  }

  open(path: string, flags: number): unknown {
    const out: [unknown] = [null];
    this.#check(c.open(this.#nfs, path, flags, out), `open ${path}`);
    return out[0];
  }

  create(path: string): unknown {
    const out: [unknown] = [null];
    this.#check(c.creat(this.#nfs, path, 0o644, out), `create ${path}`);
    return out[0];
  }

  read(file: unknown, what: string): string {
    const buffer = Buffer.alloc(256);
    const n = this.#check(c.pread(this.#nfs, file, 0, buffer.length, buffer), `read ${what}`);
    return buffer.toString('latin1', 0, n);
  }

  write(file: unknown, text: string, what: string): void {
    const bytes = Buffer.from(text);
    this.#check(c.pwrite(this.#nfs, file, 0, bytes.length, bytes), `write ${what}`);
  }

  close(file: unknown): void {
    this.#check(c.close(this.#nfs, file), 'close');
  }

  mkdir(path: string): void {
    this.#check(c.mkdir(this.#nfs, path), `mkdir ${path}`);
  }

  unlink(path: string): void {
    this.#check(c.unlink(this.#nfs, path), `unlink ${path}`);
  }

  rename(from: string, to: string): void {
    this.#check(c.rename(this.#nfs, from, to), `rename ${from}`);
  }

  /** Opens, compares and closes. */
  expect(path: string, content: string): void {
    const file = this.open(path, 0);
    const found = this.read(file, path);
    this.close(file);
    if (found !== content) throw new Error(`${path}: ${found} instead of ${content}`);
  }

  end(): void {
    c.destroy(this.#nfs);
  }
}

/** Few entries and no descriptors are kept, so that ganesha opens handles again and again. */
const configuration = `
NFS_CORE_PARAM { Protocols = 3, 4; Enable_NLM = false; Enable_RQUOTA = false; }
NFSV4 { Graceless = true; RecoveryBackend = fs; }
MDCACHE { Entries_HWMark = 64; Cache_FDs = false; }
EXPORT {
  Export_Id = 1; Path = ${exported}; Pseudo = /v4; Access_Type = RW; Squash = None;
  Protocols = 3, 4; Transports = TCP; SecType = sys; Filesystem_Id = 192.168;
  FSAL { Name = VFS; }
}
`;

function startServer(): ChildProcess[] {
  const config = join(folder, 'ganesha.conf');
  writeFileSync(config, configuration);
  for (const path of ['/run/rpcbind', '/run/ganesha', '/var/lib/nfs/ganesha']) {
    mkdirSync(path, { recursive: true });
  }
  const log = join(folder, 'ganesha.log');
  const flags = ['-F', '-L', log, '-f', config, '-p', '/run/ganesha/pid'];
  return [
    spawn('rpcbind', ['-w', '-f'], { stdio: 'ignore' }),
    spawn('ganesha.nfsd', flags, { stdio: 'ignore' }),
  ];
}

/** The export, once the server is there. */
async function connect(version: 3 | 4, path: string): Promise<Client> {
  for (let tries = 1; ; tries++) {
    try {
      return new Client(version, path);
    } catch (error) {
      if (tries === 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

const DIRS = 20;
const FILES = 100;
const lowerName = (d: number, f: number): string => `/d${d}/f${f}`;
const lowerText = (d: number, f: number): string => `file ${f} of directory ${d}`;
const disturbed = { drops: 0, restarts: 0 };

/** The kernel forgets, or the server is replaced, in the middle of everything. */
function disturb(): void {
  writeFileSync('/proc/sys/vm/drop_caches', '2');
  disturbed.drops++;
  if (restarts === '') return;
  const { status, stderr } = spawnSync('sh', ['-c', restarts], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${restarts}: ${stderr}`);
  disturbed.restarts++;
}

function work(v3: Client): void {
  for (let d = 0; d < DIRS; d++) {
    for (let f = 0; f < FILES; f++) v3.expect(lowerName(d, f), lowerText(d, f));
    if (d % 4 === 3) disturb();
  }
  // Open files of the client are handles: nothing else is left of them after each disturbance.
  const held = Array.from({ length: DIRS }, (_, d) => v3.open(lowerName(d, 0), 2));
  disturb();
  for (const [d, file] of held.entries()) {
    if (v3.read(file, `held ${d}`) !== lowerText(d, 0)) throw new Error(`held file ${d} differs`);
  }
  disturb();
  for (const [d, file] of held.entries()) v3.write(file, `changed ${d}     `, `held ${d}`);
  disturb();
  for (const [d, file] of held.entries()) {
    if (!v3.read(file, `held ${d}`).startsWith(`changed ${d} `))
      throw new Error(`held ${d} is old`);
    v3.close(file);
  }
  for (let d = 0; d < DIRS; d++) {
    v3.mkdir(`/d${d}/new`);
    for (let f = 0; f < FILES / 2; f++) {
      const file = v3.create(`/d${d}/new/n${f}`);
      v3.write(file, `new ${d} ${f}`, 'a new file');
      v3.close(file);
    }
    if (d % 4 === 0) disturb();
    for (let f = 1; f < 10; f++) v3.rename(lowerName(d, f), `/d${d}/new/moved${f}`);
    for (let f = 10; f < 20; f++) v3.unlink(lowerName(d, f));
    if (d % 4 === 2) disturb();
  }
  disturb();
}

function verify(client: Client): void {
  for (let d = 0; d < DIRS; d++) {
    for (let f = 0; f < FILES / 2; f++) client.expect(`/d${d}/new/n${f}`, `new ${d} ${f}`);
    for (let f = 1; f < 10; f++) client.expect(`/d${d}/new/moved${f}`, lowerText(d, f));
    for (let f = 20; f < FILES; f++) client.expect(lowerName(d, f), lowerText(d, f));
    if (d % 4 === 1) disturb();
  }
}

const children = startServer();
try {
  const v3 = await connect(3, exported);
  work(v3);
  verify(v3);
  const v4 = await connect(4, '/v4');
  verify(v4);
  console.log(JSON.stringify({ calls: v3.calls + v4.calls, ...disturbed }));
  v3.end();
  v4.end();
} finally {
  for (const child of children.reverse()) {
    child.kill();
    await new Promise((resolve) => child.once('exit', resolve));
  }
}
