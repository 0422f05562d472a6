// The server of a mount is killed at random moments under programs at work: they see no error, and nothing differs afterwards.
// In CI a few kills of each kind of mount; `--rounds 200` is the campaign.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { pattern } from '../oracle/layers.js';
import { campaign } from '../support/campaign.js';
import { sampleStore } from '../support/composefs.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { killWhileWorking, type Load } from './campaign.js';

const kills = campaign('rounds', 12);
const seed = campaign('seed', 1);
/** In CI nobody has time to wait for a kill. */
const longestPause = kills > 20 ? 1000 : 150;
const skip = requires({
  root: true,
  features: ['fuse', 'overlayfs', 'resend'],
  packages: ['sqlite3', 'git'],
});

const varveMain = fileURLToPath(new URL('../../bundle/programs/main.js', import.meta.url));

function shell(cwd: string, script: string): void {
  const env = { ...process.env, HOME: '/nonexistent', GIT_CONFIG_NOSYSTEM: '1' };
  const result = spawnSync(
    'bash',
    ['-euc', `varve() { '${process.execPath}' '${varveMain}' "$@"; }\n${script}`],
    {
      cwd,
      encoding: 'utf8',
      timeout: 120_000,
      env,
    },
  );
  assert.equal(result.status, 0, `${script}: ${result.stderr}`);
}

/** A tree to read and copy, and a repository to clone. */
function fill(lower: string): void {
  for (let i = 0; i < 600; i++) {
    const path = join(lower, 'tree', `d${i % 25}`, `e${i % 5}`);
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, `f${i}`), pattern(i, (i * 337) % 30_000));
  }
  writeFileSync(join(lower, 'tree', 'large'), pattern(1, 9_000_000));
  for (let i = 0; i < 60; i++) {
    mkdirSync(join(lower, 'repo', `d${i % 6}`), { recursive: true });
    writeFileSync(join(lower, 'repo', `d${i % 6}`, `f${i}`), pattern(i, 300 + i * 60));
  }
  shell(
    join(lower, 'repo'),
    `git init -q -b main; git add --all; git -c user.name=t -c user.email=t@example.org commit -q -m first
     ln ../tree/d1/e1/f1 ../tree/hard; ln -s large ../tree/link; mkfifo ../tree/fifo`,
  );
}

async function run(t: TestContext, mountpoint: string, base: string, loads: readonly Load[]) {
  const tree = loads.find((load) => load.source?.endsWith('tree'))?.source ?? mountpoint;
  const outcome = await killWhileWorking({
    ...{ mountpoint, loads, kills, seed, base, longestPause },
    victims: ['sh', '-c', `find "${tree}" -type f -exec cat {} + >/dev/null`],
  });
  t.diagnostic(JSON.stringify(outcome));
  assert.equal(outcome.restarts, kills, 'each kill is counted');
  for (const [kind, rounds] of Object.entries(outcome.rounds))
    assert.ok(rounds > 0, `${kind} did nothing`);
  // A server that goes on gathers caches; what a succession loses would add up with every kill.
  const [early, late] = outcome.memory;
  assert.ok(late < early + 64 * 2 ** 20, `memory grows from ${early} to ${late} bytes`);
}

describe('the server is killed', () => {
  for (const place of ['tmpfs', 'disk'] as const) {
    test(`a writable stack on ${place}`, { skip }, async (t) => {
      const base = tempDir(t);
      const stack = join(base, 'stack');
      mkdirSync(stack);
      if (place === 'tmpfs') shell(base, 'mount -t tmpfs -o size=2g stack stack');
      shell(stack, 'mkdir lower upper work mnt');
      fill(join(stack, 'lower'));
      shell(
        stack,
        `find lower -type f -exec sha256sum {} + | sort >before
        varve mount -q --backend=fuse -o lowerdir=lower,upperdir=upper,workdir=work mnt`,
      );
      const mnt = join(stack, 'mnt');
      const on = (kind: string, source?: string): Load => ({
        ...{ kind, folder: join(mnt, `work-${kind}`) },
        ...(source === undefined ? {} : { source: join(mnt, source) }),
      });
      const loads = [
        on('file'),
        on('names'),
        on('sqlite'),
        on('git', 'repo'),
        on('tar', 'tree'),
        on('stalls'),
      ];
      if (spawnSync('sh', ['-c', 'command -v fsx']).status === 0) loads.push(on('fsx'));
      await run(t, mnt, base, loads);
      shell(
        stack,
        `varve umount -q mnt
        find lower -type f -exec sha256sum {} + | sort | cmp - before
        test -z "$(ls -A work/work)"
        # A mount namespace that another test has made may hold a copy of the mount for a while.
        for i in $(seq 60); do
          said=$(varve mount -q --backend=fuse -o lowerdir=lower,upperdir=upper,workdir=work mnt 2>&1) && break
          case $said in *"in use by another mount"*) sleep 1 ;; *) echo "$said" >&2; exit 1 ;; esac
        done
        diff -r --no-dereference -x fifo lower/tree mnt/work-tar/one
        test "$(sqlite3 mnt/work-sqlite/data.db 'PRAGMA integrity_check')" = ok
        varve umount -q mnt`,
      );
    });
  }

  test('a read-only stack of an image', { skip }, async (t) => {
    const base = tempDir(t);
    mkdirSync(join(base, 'lower'));
    fill(join(base, 'lower'));
    shell(
      base,
      `mkdir mnt; varve image build -q -z lz4 -o img lower
      varve mount -q --backend=fuse -o lowerdir=img mnt`,
    );
    const mnt = join(base, 'mnt');
    await run(t, mnt, base, readers(base, join(mnt, 'tree')));
    shell(base, 'diff -r --no-dereference -x fifo lower mnt; varve umount -q mnt');
  });

  test('an image alone', { skip }, async (t) => {
    const base = tempDir(t);
    mkdirSync(join(base, 'lower'));
    fill(join(base, 'lower'));
    shell(
      base,
      'mkdir mnt; varve image build -q -z lz4 -o img lower; varve image mount -q --backend=fuse img mnt',
    );
    const mnt = join(base, 'mnt');
    await run(t, mnt, base, readers(base, join(mnt, 'tree')));
    shell(base, 'diff -r --no-dereference -x fifo lower mnt; varve umount -q mnt');
  });

  for (const mode of ['overlay', 'follow'] as const) {
    test(`a composefs image in mode ${mode}`, { skip }, async (t) => {
      const base = tempDir(t);
      const { tree, store, name } = sampleStore(base);
      shell(base, `mkdir mnt; varve mount -q --image ${name} --store ${store} --mode ${mode} mnt`);
      const mnt = join(base, 'mnt');
      await run(t, mnt, base, readers(base, mnt));
      shell(base, `diff -r --no-dereference '${tree}' mnt; varve umount -q mnt`);
    });
  }
});

function readers(base: string, source: string): Load[] {
  return [
    { kind: 'reads', folder: join(base, 'one'), source },
    { kind: 'reads', folder: join(base, 'two'), source },
    { kind: 'stalls', folder: join(base, 'three'), source },
  ];
}
