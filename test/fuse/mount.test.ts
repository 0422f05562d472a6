// The protocol on a real mount: memfs is served by a process of its own, this one is the client.
// What a filesystem means by its answers is tested elsewhere; here it is whether they arrive.

import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { abortConnection, mountsBelow } from '../support/mounts.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { SCRIPT, type Served, serveMemory } from './child.js';
import { Command, Trouble } from './memfs.js';
import type { ServeMemory } from './serve-memfs.js';

const fuse = requires({ features: ['fuse'] });
const rootFuse = requires({ root: true, features: ['fuse'] });

function dir(t: TestContext, name = 'mnt'): string {
  const path = join(tempDir(t), name);
  fs.mkdirSync(path);
  return path;
}

async function mounted(t: TestContext, options: ServeMemory = {}): Promise<Served> {
  return await serveMemory(dir(t), options);
}

const code = (call: () => unknown): string | undefined => {
  try {
    call();
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
};

/** Sets an attribute; Node has no call for it. */
const setxattr = (path: string, name: string, value: string): void => {
  const script = 'import os,sys; os.setxattr(sys.argv[1], sys.argv[2], sys.argv[3].encode())';
  execFileSync('python3', ['-c', script, path, name, value]);
};
const getxattr = (path: string, name: string): string =>
  execFileSync('python3', [
    '-c',
    'import os,sys; sys.stdout.write(os.getxattr(sys.argv[1], sys.argv[2]).decode())',
    path,
    name,
  ]).toString();
const python = requires({ commands: ['python3'] });

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until something holds. @throws after a minute. */
async function eventually(holds: () => boolean, within = 60_000): Promise<void> {
  const until = Date.now() + within;
  while (!holds()) {
    assert.ok(Date.now() < until, `not in ${within / 1000} s: ${holds}`);
    await pause(10);
  }
}

for (const mode of [
  { name: 'by default', serve: {} },
  { name: 'without caching and polling', serve: { timeout: 0, spin: 0 } },
  { name: 'with the writeback cache', serve: { writeback: true, timeout: 3600 } },
  { name: 'as Linux 6.1 speaks', serve: { minor: 37 } },
  { name: 'as Linux 5.4 speaks', serve: { minor: 31 } },
  { name: 'with the trace on', serve: { trace: true } },
  { name: 'with ACLs', serve: { acl: true } },
]) {
  test(`files, directories, links, renames: ${mode.name}`, { skip: fuse }, async (t) => {
    const served = await mounted(t, { serve: mode.serve, files: { first: 'one\n' } });
    const m = served.mountpoint;
    const at = (name: string): string => join(m, name);
    assert.equal(served.ready.writeback, mode.serve.writeback ?? false);
    assert.equal(fs.readFileSync(at('first'), 'latin1'), 'one\n');
    fs.appendFileSync(at('first'), 'two\n');
    assert.equal(fs.readFileSync(at('first'), 'latin1'), 'one\ntwo\n');

    const big = Buffer.alloc(3_000_001, 'varve ');
    fs.writeFileSync(at('big'), big, { mode: 0o640 });
    assert.ok(fs.readFileSync(at('big')).equals(big));
    assert.equal(fs.statSync(at('big')).mode & 0o777, 0o640);
    fs.truncateSync(at('big'), 5);
    assert.equal(fs.readFileSync(at('big'), 'latin1'), 'varve');
    fs.chmodSync(at('big'), 0o4755);
    fs.utimesSync(at('big'), 1.5, new Date(-2000));
    const stat = fs.statSync(at('big'));
    assert.deepEqual([stat.mode & 0o7777, stat.atimeMs, stat.mtimeMs], [0o4755, 1500, -2000]);

    fs.mkdirSync(at('d'));
    fs.mkdirSync(at('d/e'));
    fs.renameSync(at('big'), at('d/e/small'));
    fs.linkSync(at('d/e/small'), at('d/hard'));
    assert.equal(fs.statSync(at('d/hard')).nlink, 2);
    fs.symlinkSync('../first', at('d/soft'));
    assert.equal(fs.readlinkSync(at('d/soft')), '../first');
    assert.equal(fs.readFileSync(at('d/soft'), 'latin1'), 'one\ntwo\n');
    assert.deepEqual(fs.readdirSync(at('d')).sort(), ['e', 'hard', 'soft']);
    const odd = Buffer.concat([Buffer.from(`${m}/`), Buffer.from([0xff, 0x80, 0x0a])]);
    fs.writeFileSync(odd, 'x');
    assert.equal(fs.readFileSync(odd, 'latin1'), 'x');
    const listed = fs.readdirSync(m, { encoding: 'buffer' });
    assert.ok(listed.some((name) => name.equals(odd.subarray(m.length + 1))));
    fs.unlinkSync(odd);

    assert.equal(
      code(() => fs.statSync(at('absent'))),
      'ENOENT',
    );
    assert.equal(
      code(() => fs.rmdirSync(at('d'))),
      'ENOTEMPTY',
    );
    assert.equal(
      code(() => fs.mkdirSync(at('d'))),
      'EEXIST',
    );
    assert.equal(
      code(() => fs.statSync(at('n'.repeat(256)))),
      'ENAMETOOLONG',
    );
    fs.writeFileSync(at('absent'), 'now');
    assert.equal(fs.readFileSync(at('absent'), 'latin1'), 'now');
    const { bsize, blocks } = fs.statfsSync(m);
    assert.deepEqual([bsize, blocks], [4096, 1 << 20]);

    const open = fs.openSync(at('d/hard'), 'r+');
    fs.unlinkSync(at('d/hard'));
    fs.unlinkSync(at('d/e/small'));
    fs.writeSync(open, 'V', 0);
    const buffer = Buffer.alloc(10);
    assert.equal(fs.readSync(open, buffer, 0, 10, 0), 5);
    assert.equal(buffer.toString('latin1', 0, 5), 'Varve');
    fs.fsyncSync(open);
    fs.closeSync(open);
    fs.rmSync(at('d'), { recursive: true });
    assert.deepEqual(fs.readdirSync(m).sort(), ['absent', 'first']);

    const end = await served.end();
    assert.equal(end.end, 'unmounted');
    assert.deepEqual([end.handles, end.stopped, end.code], [0, true, 0]);
    const unexpected = served.logs.filter((line) => !/^(->|<-| {3}\()/.test(line));
    assert.deepEqual(unexpected, []);
    if (mode.serve.trace) {
      assert.match(served.logs.join('\n'), /-> \d+ LOOKUP node=1 "absent" uid=\d+ gid=\d+ pid=\d+/);
      assert.match(served.logs.join('\n'), /-> \d+ LOOKUP node=1 "\\xff\\x80\\x0a"/);
    }
  });
}

test('three thousand names are listed once each, while names come and go', {
  skip: fuse,
}, async (t) => {
  const served = await mounted(t);
  const expected: string[] = [];
  for (let i = 0; i < 3000; i++) {
    const name = `${'long'.repeat(i % 40)}${i}`;
    fs.writeFileSync(join(served.mountpoint, name), '');
    expected.push(name);
  }
  assert.deepEqual(fs.readdirSync(served.mountpoint).sort(), expected.sort());
  const handle = fs.opendirSync(served.mountpoint, { bufferSize: 8 });
  const seen = new Set<string>();
  for (let i = 0; ; i++) {
    const entry = handle.readSync();
    if (entry === null) break;
    assert.equal(seen.has(entry.name), false, entry.name);
    seen.add(entry.name);
    fs.unlinkSync(join(served.mountpoint, entry.name));
    if (i < 100) fs.writeFileSync(join(served.mountpoint, `later-${i}`), '');
  }
  handle.closeSync();
  for (const name of expected) assert.ok(seen.has(name), name);
  await served.end();
});

test('directories without handles are opened once, and listed as often as wanted', {
  skip: fuse,
}, async (t) => {
  const served = await mounted(t, {
    memory: { noOpendir: true },
    serve: { trace: true },
    files: { a: '', b: '' },
  });
  for (let i = 0; i < 3; i++) assert.deepEqual(fs.readdirSync(served.mountpoint), ['a', 'b']);
  fs.writeFileSync(join(served.mountpoint, 'c'), '');
  assert.deepEqual(fs.readdirSync(served.mountpoint), ['a', 'b', 'c']);
  fs.unlinkSync(join(served.mountpoint, 'a'));
  assert.deepEqual(fs.readdirSync(served.mountpoint), ['b', 'c']);
  await served.end();
  assert.equal(served.logs.filter((line) => / OPENDIR /.test(line)).length, 1);
  assert.equal(served.logs.filter((line) => / RELEASEDIR /.test(line)).length, 0);
});

test('attributes of files arrive, and go', { skip: fuse || python }, async (t) => {
  const served = await mounted(t, { files: { file: '' } });
  const file = join(served.mountpoint, 'file');
  setxattr(file, 'user.a', 'v'.repeat(5000));
  setxattr(file, 'user.b', '');
  assert.equal(getxattr(file, 'user.a'), 'v'.repeat(5000));
  const script =
    "import os,sys; f=sys.argv[1]; print(os.listxattr(f)); os.removexattr(f,'user.a'); print(os.listxattr(f))";
  const listed = execFileSync('python3', ['-c', script, file]).toString();
  assert.equal(listed, "['user.a', 'user.b']\n['user.b']\n");
  await served.end();
});

test('rename flags, O_TMPFILE, SEEK_DATA, fallocate, copy_file_range, ioctl', {
  skip: fuse || python,
}, async (t) => {
  const served = await mounted(t, { files: { a: 'AAAA', b: 'B' } });
  const script = `
import ctypes, errno, fcntl, os, sys
os.chdir(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
def rename2(a, b, flags):
    r = libc.renameat2(-100, a, -100, b, flags)
    return errno.errorcode[ctypes.get_errno()] if r else 'ok'
print(rename2(b'a', b'b', 1), rename2(b'a', b'b', 2), open('a').read(), open('b').read())
fd = os.open('.', os.O_TMPFILE | os.O_RDWR)
os.write(fd, b'unnamed')
print(os.pread(fd, 20, 0), os.fstat(fd).st_nlink)
os.posix_fallocate(fd, 0, 10000)
print(os.fstat(fd).st_size, os.lseek(fd, 5, os.SEEK_DATA), os.lseek(fd, 5, os.SEEK_HOLE))
other = os.open('copy', os.O_RDWR | os.O_CREAT)
print(os.copy_file_range(fd, other, 7, 0), open('copy').read())
try: fcntl.ioctl(fd, 0x80086601, bytes(8))
except OSError as e: print(errno.errorcode[e.errno])
fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
os.sync()
`;
  const said = execFileSync('python3', ['-c', script, served.mountpoint]).toString();
  assert.deepEqual(said.trim().split('\n'), [
    'EEXIST ok B AAAA',
    "b'unnamed' 0",
    '10000 5 10000',
    '7 unnamed',
    'ENOTTY',
  ]);
  await served.end();
});

test('a handler that throws is EIO, and the next request is served', { skip: fuse }, async (t) => {
  const served = await mounted(t, { files: { file: 'x' } });
  assert.equal(
    code(() => fs.statSync(join(served.mountpoint, Trouble.throws))),
    'EIO',
  );
  assert.equal(
    code(() => fs.statSync(join(served.mountpoint, Trouble.nothing))),
    'EIO',
  );
  assert.equal(fs.readFileSync(join(served.mountpoint, 'file'), 'latin1'), 'x');
  await served.end();
  assert.match(served.logs.join('\n'), /opcode 1 .*asked to[\s\S]*the filesystem returned NaN/);
});

test('lookup counts are balanced: what the kernel drops, it takes back', {
  skip: rootFuse,
}, async (t) => {
  const served = await mounted(t, { serve: { timeout: 3600 } });
  const m = served.mountpoint;
  fs.mkdirSync(join(m, 'd'));
  for (let i = 0; i < 500; i++) {
    fs.writeFileSync(join(m, 'd', `f${i}`), '');
    if (i % 2) fs.linkSync(join(m, 'd', `f${i}`), join(m, `l${i}`));
    fs.readdirSync(join(m, 'd'), { withFileTypes: true });
    if (i % 3) fs.unlinkSync(join(m, 'd', `f${i}`));
  }
  execFileSync('find', [m, '-size', '+1']);
  // Forgets are batched and nobody waits for them.
  for (let i = 0; i < 5; i++) {
    fs.writeFileSync('/proc/sys/vm/drop_caches', '2');
    await pause(50);
  }
  const end = await served.end();
  assert.deepEqual(end.held, []);
  assert.deepEqual(served.logs, []);
});

/** One fsync at a time can wait for a file: the kernel holds its lock meanwhile. */
const slowNames = Array.from({ length: 6 }, (_, i) => `${Trouble.slowSync}-${i}`);
const slowFiles = Object.fromEntries(slowNames.map((name) => [name, 's']));

/** Two mounts: reading a file of the second takes as long as its server is stopped. */
async function slow(t: TestContext, serve: ServeMemory['serve'] = {}, exit = false) {
  const size = 100_000;
  const back = await serveMemory(dir(t, 'back'), { files: { big: 'x'.repeat(size) } });
  const slowTo = join(tempDir(t), 'copy');
  const front = await serveMemory(dir(t, 'front'), {
    memory: { slowFrom: join(back.mountpoint, 'big'), slowTo, slowSize: size },
    files: { ...slowFiles, [Trouble.deferred]: 'd', other: 'o' },
    serve,
    exit,
  });
  const stop = (): boolean => back.child.kill('SIGSTOP');
  const go = (): boolean => back.child.kill('SIGCONT');
  t.after(go);
  stop();
  return { back, front, go, slowTo, size };
}

/** Writes a byte and waits for its fsync. */
const sync = (file: string): ChildProcess =>
  spawn('dd', [
    'if=/dev/zero',
    `of=${file}`,
    'bs=1',
    'count=1',
    'conv=notrunc,fsync',
    'status=none',
  ]);

test('while jobs are parked, others are served; their replies come from workers', {
  skip: fuse,
}, async (t) => {
  const { back, front, go, slowTo, size } = await slow(t, { timeout: 0 }, true);
  const waiting = slowNames.map((name) => sync(join(front.mountpoint, name)));
  await eventually(() => front.logs.filter((line) => line === 'parked').length === 6);
  for (let i = 0; i < 200; i++) fs.statSync(join(front.mountpoint, 'other'));
  for (const child of waiting) assert.equal(child.exitCode, null);
  go();
  for (const child of waiting) {
    if (child.exitCode === null) await once(child, 'exit');
    assert.equal(child.exitCode, 0);
  }
  assert.equal(fs.statSync(slowTo).size, size);
  // The process exits by process.exit() with worker threads alive.
  const end = await front.end();
  assert.deepEqual([end.code, end.handles], [0, 0]);
  await back.end();
});

test('a deferred request is handled again when its job is done', { skip: fuse }, async (t) => {
  const { back, front, go } = await slow(t);
  const cat = spawn('cat', [join(front.mountpoint, Trouble.deferred)]);
  let said = '';
  cat.stdout.setEncoding('latin1').on('data', (text: string) => {
    said += text;
  });
  await eventually(() => front.logs.includes('deferred'));
  assert.equal(fs.readFileSync(join(front.mountpoint, 'other'), 'latin1'), 'o');
  go();
  await once(cat, 'close');
  assert.equal(said, 'd');
  await front.end();
  await back.end();
  assert.deepEqual(front.logs, ['deferred', 'copied 100000']);
});

test('a caller that is killed while its request is deferred ends at once', {
  skip: fuse,
}, async (t) => {
  const { back, front, go } = await slow(t);
  const cat = spawn('cat', [join(front.mountpoint, Trouble.deferred)]);
  await eventually(() => front.logs.includes('deferred'));
  cat.kill('SIGTERM');
  await once(cat, 'exit');
  assert.equal(fs.readFileSync(join(front.mountpoint, 'other'), 'latin1'), 'o');
  go();
  assert.equal(fs.readFileSync(join(front.mountpoint, Trouble.deferred), 'latin1'), 'd');
  const end = await front.end();
  assert.equal(end.handles, 0);
  await back.end();
});

test('a caller that is killed after a harmless signal ends, too', {
  skip: fuse || python,
}, async (t) => {
  const { back, front, go } = await slow(t);
  const script = `import signal,sys; signal.signal(signal.SIGUSR1, lambda *a: None); open(sys.argv[1]).read()`;
  const child = spawn('python3', ['-c', script, join(front.mountpoint, Trouble.deferred)]);
  const ended = once(child, 'exit');
  await eventually(() => front.logs.includes('deferred'));
  child.kill('SIGUSR1');
  // The server is told of this one.
  await pause(100);
  child.kill('SIGKILL');
  assert.equal((await ended)[1], 'SIGKILL');
  go();
  assert.equal(fs.readFileSync(join(front.mountpoint, Trouble.deferred), 'latin1'), 'd');
  await front.end();
  await back.end();
});

test('a caller with a harmless signal goes on waiting', { skip: fuse || python }, async (t) => {
  const { back, front, go } = await slow(t);
  const script = `import signal,sys; signal.signal(signal.SIGUSR1, lambda *a: None); print(open(sys.argv[1]).read())`;
  const child = spawn('python3', ['-c', script, join(front.mountpoint, Trouble.deferred)]);
  let said = '';
  child.stdout.setEncoding('latin1').on('data', (text: string) => {
    said += text;
  });
  await eventually(() => front.logs.includes('deferred'));
  child.kill('SIGUSR1');
  await pause(300);
  assert.equal(child.exitCode, null);
  go();
  await once(child, 'close');
  assert.equal(said, 'd\n');
  await front.end();
  await back.end();
});

test('notifications reach the kernel', { skip: fuse || python }, async (t) => {
  const files = { file: 'x', one: '', two: '', three: '', four: '' };
  const served = await mounted(t, { files, serve: { timeout: 3600 } });
  const m = served.mountpoint;
  const file = join(m, 'file');
  // Whoever drops the machine's caches meanwhile must not drop what is looked at here: open files stay.
  const pin = fs.openSync(file, 'r');
  assert.equal(fs.statSync(file).size, 1);
  setxattr(m, Command.grow, 'file');
  assert.equal(fs.statSync(file).size, 1);
  setxattr(m, Command.invalAttributes, 'file');
  assert.equal(fs.statSync(file).size, 101);

  assert.equal(fs.readFileSync(file).length, 101);
  setxattr(m, Command.grow, 'file');
  setxattr(m, Command.invalContent, 'file');
  await eventually(() => fs.readFileSync(file).length === 201);

  fs.closeSync(pin);

  // Nothing keeps a name in the cache; one of several tries must find it there.
  const keptUntilTold = async (there: boolean): Promise<boolean> => {
    assert.equal(fs.existsSync(join(m, 'new')), there);
    setxattr(m, Command.toggle, 'new');
    const kept = fs.existsSync(join(m, 'new')) === there;
    setxattr(m, Command.invalName, 'new');
    await eventually(() => fs.existsSync(join(m, 'new')) !== there);
    return kept;
  };
  const kept = [0, 0];
  for (let i = 0; i < 10 && kept.includes(0); i++) {
    for (const side of [0, 1]) if (await keptUntilTold(side === 1)) kept[side]++;
  }
  assert.ok(!kept.includes(0), 'names are cached until the notification');

  // As with names: only one that is in the cache can be seen to go.
  let seen = false;
  for (const name of ['file', 'one', 'two', 'three', 'four']) {
    const events: string[] = [];
    const watcher = fs.watch(join(m, name), (event, of) => events.push(`${event} ${of}`));
    t.after(() => watcher.close());
    fs.statSync(join(m, name));
    setxattr(m, Command.remove, name);
    seen = await eventually(() => events.includes(`rename ${name}`), 2000).then(
      () => true,
      () => false,
    );
    watcher.close();
    assert.equal(fs.existsSync(join(m, name)), false);
    if (seen) break;
  }
  assert.ok(seen, 'a watcher learns of a removal');
  const end = await served.end();
  assert.equal(end.code, 0);
});

test('passthrough: the kernel reads and writes the backing file', {
  skip: requires({ root: true, features: ['fuse', 'passthrough'] }),
}, async (t) => {
  const backing = join(tempDir(t), 'backing');
  fs.writeFileSync(backing, 'from below');
  const served = await mounted(t, {
    memory: { backing },
    serve: { passthrough: true, writeback: true },
    files: { file: 'from memory' },
  });
  assert.deepEqual([served.ready.passthrough, served.ready.writeback], [true, false]);
  const file = join(served.mountpoint, 'file');
  const fd = fs.openSync(file, 'r+');
  const buffer = Buffer.alloc(10);
  fs.readSync(fd, buffer, 0, 10, 0);
  assert.equal(buffer.toString('latin1'), 'from below');
  fs.writeSync(fd, 'FROM', 0);
  assert.equal(fs.readFileSync(backing, 'latin1'), 'FROM below');
  fs.closeSync(fd);
  const end = await served.end();
  assert.deepEqual([end.handles, served.logs], [0, []]);
});

test('an aborted connection ends the server', {
  skip: requires({ root: true, features: ['fuse', 'fusectl'] }),
}, async (t) => {
  const served = await mounted(t, { files: { file: 'x' } });
  for (const { minor } of mountsBelow(served.mountpoint)) abortConnection(minor);
  assert.equal(
    code(() => fs.statSync(join(served.mountpoint, 'file'))),
    'ENOTCONN',
  );
  const end = await served.end(false);
  assert.deepEqual([end.end, end.code], ['aborted', 0]);
});

test('a plain user mounts by fusermount3', {
  skip: requires({ root: true, features: ['fuse', 'plain-user'], commands: ['fusermount3'] }),
}, async (t) => {
  const m = dir(t);
  fs.chownSync(m, 65534, 65534);
  const as = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--'];
  const served = await serveMemory(m, { files: { file: 'mine' } }, as);
  assert.equal(served.ready.by, 'fusermount3');
  const read = spawnSync('setpriv', [...as.slice(1), 'cat', join(m, 'file')], {
    encoding: 'latin1',
  });
  assert.equal(read.stdout, 'mine');
  // Without allow_other nobody else gets in, root neither.
  assert.equal(
    code(() => fs.statSync(join(m, 'file'))),
    'EACCES',
  );
  const unmount = spawnSync('setpriv', [...as.slice(1), 'fusermount3', '-u', m], {
    encoding: 'utf8',
  });
  assert.equal(unmount.status, 0, unmount.stderr);
  assert.equal((await served.end(false)).end, 'unmounted');
});

test('root of a user namespace mounts by mount(2)', {
  skip: requires({ features: ['fuse', 'userns'] }),
}, (t) => {
  const m = dir(t);
  const options = JSON.stringify({ files: { file: 'inside' }, serve: { passthrough: true } });
  const script = `
    "$1" "$2" "$3" "$4" > "$3.log" 2>&1 & server=$!
    for i in $(seq 600); do [ -e "$3/file" ] && break; sleep 0.05; done
    cat "$3/file"; umount "$3"; wait $server; echo; cat "$3.log"`;
  const words = ['--user', '--map-root-user', '--mount', 'sh', '-c', script, 'sh'];
  const run = spawnSync('unshare', [...words, process.execPath, SCRIPT, m, options], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  const [content, ready, end] = run.stdout.split('\n');
  assert.equal(content, 'inside', run.stdout + run.stderr);
  const said = JSON.parse(ready ?? '') as { by: string; passthrough: boolean };
  assert.deepEqual([said.by, said.passthrough], ['mount', false]);
  assert.equal((JSON.parse(end ?? '') as { end: string }).end, 'unmounted');
});

test('another descriptor wakes the server, which may end', { skip: fuse }, async (t) => {
  const served = await mounted(t, { wake: true, files: { file: 'x' } });
  assert.equal(fs.readFileSync(join(served.mountpoint, 'file'), 'latin1'), 'x');
  served.child.stdin?.write('\n');
  const end = await served.end(false);
  assert.deepEqual([end.end, end.stopped, end.code], ['woken', true, 0]);
  // Its descriptor went with it.
  assert.equal(
    code(() => fs.readdirSync(served.mountpoint)),
    'ENOTCONN',
  );
});
