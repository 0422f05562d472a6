// What a command that `varve try` runs cannot do: reach, change or outlive anything outside of its sandbox.
// Under test: src/sandbox/ as a whole, with a hostile command, as root and as a plain user. The table is in docs/try.md.
// Each attempt is one that works outside; what is asserted is how it fails.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { skip, tryPlace } from './try-place.js';

/** Prints what each attempt came to, as JSON: an error code, or what it got. */
const HOSTILE = `
const fs = require('node:fs');
const { spawnSync, spawn } = require('node:child_process');
const { VICTIM, SECRET, SOCKET } = process.env;
const found = {};
const attempt = (name, what) => {
  try { found[name] = what() ?? 'done'; } catch (error) { found[name] = error.code ?? String(error); }
};
const sh = (text) => {
  const { status, stdout } = spawnSync('sh', ['-c', text + ' 2>&1'], { encoding: 'utf8' });
  return status === 0 ? 'done: ' + stdout : 'failed';
};
attempt('kill outside', () => process.kill(Number(VICTIM), 'SIGKILL'));
attempt('see outside', () => fs.readdirSync('/proc/' + VICTIM).length);
attempt('processes', () => fs.readdirSync('/proc').filter((n) => /^[0-9]+$/.test(n)).length < 10);
attempt('root of init', () => fs.readdirSync('/proc/1/root'));
attempt('memory of init', () => fs.openSync('/proc/1/mem', 'r+'));
attempt('descriptor of init', () => fs.openSync('/proc/1/fd/3', 'r+'));
attempt('trace init', () => sh('strace -f -o /dev/null -p 1'));
attempt('trials', () => fs.readdirSync(process.env.VARVE_TRIALS).length);
attempt('sysctl', () => fs.openSync('/proc/sys/vm/swappiness', 'w'));
attempt('sysrq', () => fs.openSync('/proc/sysrq-trigger', 'w'));
attempt('sysfs', () => fs.openSync('/sys/kernel/profiling', 'w'));
attempt('memory', () => fs.readFileSync('/proc/kcore').length);
attempt('make a device', () => sh('mknod disk b 7 0 && head -c1 disk'));
attempt('devices', () => fs.readdirSync('/dev').sort().join());
attempt('descriptors', () => sh('ls /proc/self/fd').replaceAll('\\n', ' '));
attempt('new privileges', () => /NoNewPrivs:\\t(.)/.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1]);
attempt('trusted mounts', () => fs.readFileSync('/proc/self/mountinfo', 'utf8').trim().split('\\n')
  .filter((line) => !line.includes('nosuid')).join());
attempt('unmount', () => sh('umount -l /dev || umount -l /proc || umount -l /'));
attempt('remount', () => sh('mount -o remount,bind,rw /sys || mount -o remount,rw /proc/sys'));
attempt('nested', () => sh('unshare -rm sh -c "umount -l /sys || umount -l /dev || mount -o remount,bind,rw /sys || mount -t sysfs s /mnt"'));
attempt('chroot', () => sh('unshare -r sh -c "mkdir -p j/k && exec chroot j/k /bin/true"; unshare -r chroot /proc/1/root ls ' + SECRET));
attempt('host name', () => sh('hostname evil'));
attempt('clock', () => sh('date -s 2001-01-01'));
attempt('session', () => sh('test "$(ps -o sid= -p $PPID | tr -d " ")" = ' + process.pid));
attempt('queue', () => sh('ipcrm -q ' + process.env.QUEUE));
attempt('environment', () => Object.keys(process.env).filter((n) => /^(SSH_AUTH_SOCK|DBUS_|DOCKER_HOST|OTHER_SOCKET)/.test(n)).join());
spawn('sleep', ['98765'], { detached: true, stdio: 'ignore' }).unref();
fs.writeFileSync(SECRET, 'stolen');
const connect = (name, path, then) => require('node:net').connect(path)
  .on('error', (error) => { found[name] = error.code; then(); })
  .on('connect', () => { found[name] = 'connected'; then(); });
connect('socket', SOCKET.slice(3), () => {
  console.log(JSON.stringify(found));
  process.exit(0);
});
`;

const DEVICES = 'fd,full,mqueue,null,ptmx,pts,random,shm,stderr,stdin,stdout,tty,urandom,zero';

for (const root of [true, false]) {
  const who = root ? 'root' : 'a plain user';
  test(`${who}: what a hostile command cannot do`, {
    skip: skip || requires({ packages: ['strace', 'procps'] }),
  }, async (t) => {
    const victim = spawn('sleep', ['1000'], { stdio: 'ignore' });
    t.after(() => victim.kill('SIGKILL'));
    const p = tryPlace(t, root, {
      VICTIM: String(victim.pid),
      SSH_AUTH_SOCK: '/nowhere',
      DBUS_SESSION_BUS_ADDRESS: 'unix:path=/nowhere',
      DOCKER_HOST: 'unix:///nowhere',
    });
    p.sh('echo mine > secret');
    const queue = /\d+/.exec(p.sh('ipcmk -Q').out)?.[0] ?? '';
    t.after(() => spawnSync('ipcrm', ['-q', queue]));
    await listen(t, p.at('socket'));
    writeFileSync(p.at('hostile.cjs'), HOSTILE);
    const swappiness = readFileSync('/proc/sys/vm/swappiness', 'utf8');
    const name = hostname();
    const ran = p.run(
      ...[
        '-q',
        '--no',
        '--env',
        `SOCKET=at ${p.at('socket')}`,
        '--env',
        `OTHER_SOCKET=${p.at('socket')}`,
      ],
      ...['--env', `SECRET=${p.at('project/secret')}`, '--env', `VARVE_TRIALS=${p.at('trials')}`],
      ...['--env', `QUEUE=${queue}`, '--', 'node', p.at('hostile.cjs')],
    );
    assert.equal(ran.code, 0, ran.err);
    const sealed = root ? 'EROFS' : 'EACCES';
    assert.deepEqual(JSON.parse(ran.out), {
      'kill outside': 'ESRCH',
      'see outside': 'ENOENT',
      processes: true,
      'root of init': 'EACCES',
      'memory of init': 'EACCES',
      'descriptor of init': 'EACCES',
      'trace init': 'failed',
      trials: 0,
      sysctl: sealed,
      sysrq: existing('/proc/sysrq-trigger', sealed),
      sysfs: existing('/sys/kernel/profiling', 'EROFS'),
      memory: existing('/proc/kcore', root ? 0 : 'EACCES'),
      'make a device': 'failed',
      devices: DEVICES,
      descriptors: 'done: 0 1 2 3 ',
      'new privileges': '1',
      'trusted mounts': '',
      unmount: 'failed',
      remount: 'failed',
      nested: 'failed',
      chroot: 'failed',
      'host name': 'failed',
      clock: 'failed',
      session: 'done: ',
      queue: 'failed',
      environment: '',
      socket: 'ECONNREFUSED',
    });
    assert.equal(victim.exitCode ?? victim.signalCode, null);
    assert.equal(readFileSync(p.at('project/secret'), 'utf8'), 'mine\n');
    assert.equal(readFileSync('/proc/sys/vm/swappiness', 'utf8'), swappiness);
    assert.equal(hostname(), name);
    assert.equal(p.sh(`ipcrm -q ${queue}`).code, 0, 'it was there all the time');
    assert.deepEqual([p.left(), p.trials()], [[], []]);
    assert.deepEqual(readdirSync(p.project), ['secret']);
  });
}

/** Connects to a path, or to an abstract name behind an @. */
const CONNECT = `require('node:net').connect(process.argv[1].replace('@', String.fromCharCode(0)))
  .on('error', (error) => console.log(error.code)).on('data', (data) => { console.log(String(data)); process.exit(); })`;

test('sockets are reached where it is allowed', { skip }, async (t) => {
  const p = tryPlace(t, false, { SSH_AUTH_SOCK: 'replaced below' });
  const path = p.at('agent');
  await listen(t, path);
  const connect = (...flags: string[]): string =>
    p.run('-q', '--no', ...flags, '--', 'node', '-e', CONNECT, path).out.trim();
  assert.equal(connect(), 'ECONNREFUSED');
  assert.equal(connect(`--allow-sockets=${path}`), 'hello');
  const agent = ['--env', `SSH_AUTH_SOCK=${path}`, '--allow-sockets=gpg-agent,ssh-agent'];
  assert.equal(connect(...agent), 'hello');
  const variable = p.run('-q', '--no', ...agent, '--', 'sh', '-c', 'echo $SSH_AUTH_SOCK').out;
  assert.equal(variable.trim(), path);
});

test('sockets are out of reach beside what is mounted while the sandbox is made', {
  skip,
}, async (t) => {
  const bin = tempDir(t);
  const p = tryPlace(t, false, { PATH: `${bin}:${process.env['PATH']}` });
  // Between the plan, which finds no mount below the folder, and the namespaces, which have one.
  const asked = [`touch ${p.at('home/go')}`, `until [ -e ${p.at('done')} ]; do sleep 0.02; done`];
  writeFileSync(
    join(bin, 'unshare'),
    `#!/bin/sh\n${asked.join('\n')}\nexec /usr/bin/unshare "$@"\n`,
    { mode: 0o755 },
  );
  chmodSync(bin, 0o755);
  for (const name of ['late', 'deep']) mkdirSync(p.at(name));
  await listen(t, p.at('deep/socket'));
  const mount = `mount -t tmpfs late ${p.at('late')}; touch ${p.at('done')}`;
  const wait = `until [ -e ${p.at('home/go')} ]; do sleep 0.02; done`;
  const helper = spawn('sh', ['-c', `${wait}; ${mount}`], { stdio: 'ignore' });
  t.after(() => {
    helper.kill('SIGKILL');
    spawnSync('umount', ['-l', p.at('late')]);
  });
  const ran = p.run('-q', '--no', '--', 'node', '-e', CONNECT, p.at('deep/socket'));
  assert.equal(readFileSync('/proc/self/mounts', 'utf8').includes(p.at('late')), true);
  assert.equal(ran.out.trim(), 'ECONNREFUSED', ran.err);
});

test('abstract sockets are out of reach, with the network of the machine', {
  skip: skip || requires({ features: ['socket-scope'] }),
}, async (t) => {
  const p = tryPlace(t, true);
  const name = `varve-try-${process.pid}`;
  await listen(t, `@${name}`);
  const connect = (...flags: string[]): string =>
    p.run('-q', '--no', ...flags, '--', 'node', '-e', CONNECT, `@${name}`).out.trim();
  assert.equal(connect(), 'EPERM');
  assert.equal(connect('--net=none'), 'ECONNREFUSED');
  assert.equal(connect('--allow-sockets'), 'hello');
});

test('the network, as asked', { skip: skip || requires({ packages: ['iproute2'] }) }, (t) => {
  const p = tryPlace(t, false);
  const interfaces = [
    '--',
    'sh',
    '-c',
    'ip -o link | wc -l; ip -o addr show lo | grep -c 127.0.0.1',
  ];
  const outside = p.sh('ip -o link | wc -l').out.trim();
  assert.equal(p.run('-q', '--no', ...interfaces).out, `${outside}\n1\n`);
  assert.equal(p.run('-q', '--no', '--net=none', ...interfaces).out, '1\n1\n');
});

test('binds, variables, a host name, devices and the root of a plain user', { skip }, (t) => {
  const p = tryPlace(t, false);
  p.sh('mkdir real; echo old > real/file; echo old > sealed');
  const script = `echo new > real/file; echo new > /tmp/shown/x; echo new > sealed; id -u; hostname; echo "$A$HOME"; umask; ls /dev/disk /dev/cpu`;
  const ran = p.run(
    ...['-q', '--no', '--root', '--bind', 'real', '--bind', `${p.at('home')}:/tmp/shown`],
    ...['--bind', 'sealed:sealed:ro'.replace(':sealed', `:${p.at('project/sealed')}`)],
    ...['--hostname', 'box', '--env', 'A=b', '--env', 'HOME', '--', 'sh', '-c', script],
  );
  assert.equal(ran.out, '0\nbox\nb\n0022\n', ran.err);
  assert.match(ran.err, /cannot create sealed: Read-only/);
  assert.equal(p.sh('cat real/file sealed ../home/x').out, 'new\nold\nnew\n');
  const host = p.run('-q', '--no', '--dev=host', '--', 'sh', '-c', 'ls /dev | wc -l');
  assert.ok(Number(host.out) > 20, host.err);
});

/** What an attempt comes to where the machine has such a file at all. */
function existing(path: string, otherwise: string | number): string | number {
  return statSync(path, { throwIfNoEntry: false }) === undefined ? 'ENOENT' : otherwise;
}

/** A server of its own process: this one waits for the command meanwhile. */
const SERVE = `const path = process.argv[1].replace('@', String.fromCharCode(0));
  require('node:net').createServer((client) => client.end('hello')).listen(path, () => {
    if (!process.argv[1].startsWith('@')) require('node:fs').chmodSync(path, 0o777);
    console.log('ready');
  });`;

/** @param path or an abstract name behind an @. */
function listen(t: { after(fn: () => void): void }, path: string): Promise<void> {
  const server = spawn(process.execPath, ['-e', SERVE, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => server.kill('SIGKILL'));
  return new Promise((done) => server.stdout.once('data', () => done()));
}
