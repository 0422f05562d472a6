// A Debian image in a registry, used before it is here: run, compared while it loads and after, the registry gone in the end.
// Both ways in: the kernel alone (fanotify) and our server. The oracle is the tree that was pushed.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { requires } from '../support/requires.js';
import {
  type Caller,
  DEBIAN_PACKAGES,
  type DebianImage,
  debianImage,
  script,
} from './debian-image.js';

const skip = requires({
  root: true,
  features: ['fuse', 'overlayfs', 'erofs'],
  packages: DEBIAN_PACKAGES,
});

/** 20 ms there and back, 100 Mbit/s. */
function slow({ shaper }: DebianImage): void {
  shaper.latency = 10;
  shaper.rate = 12_500_000;
}

function fast({ shaper }: DebianImage): void {
  shaper.latency = 0;
  shaper.rate = Number.POSITIVE_INFINITY;
}

interface LoaderView {
  readonly pid: number;
  readonly layers: readonly {
    readonly residentBytes: number;
    readonly totalBytes: number;
    readonly fetchedBytes: number;
  }[];
}

async function loading(caller: Caller): Promise<LoaderView> {
  return JSON.parse((await caller.must('top', '--json')).out) as LoaderView;
}

/** Names, types, owners, modes, links, xattrs and content. */
async function sameTree(image: DebianImage, mnt: string): Promise<void> {
  await script(`
    diff -r --no-dereference -x dev "${image.root}" "${mnt}"
    list() { cd "$1"; find . -printf '%P %y %m %U %G %n %s %l\\n' | sort; }
    diff <(list "${image.root}" | sed 's/ d \\(.*\\) [0-9]* [0-9]* $/ d \\1/') <(list "${mnt}" | sed 's/ d \\(.*\\) [0-9]* [0-9]* $/ d \\1/')`);
}

async function mounted(
  t: TestContext,
  image: DebianImage,
  name: string,
  ...flags: string[]
): Promise<{ caller: Caller; mnt: string; said: string }> {
  const caller = image.caller(name);
  const mnt = join(caller.folder, 'mnt');
  mkdirSync(mnt);
  const { err } = await caller.must('mount', '--lazy', '--plain-http', ...flags, image.ref, mnt);
  t.after(async () => {
    await caller.varve('umount', '--force', mnt);
  });
  return { caller, mnt, said: err };
}

test('a Debian image of a slow registry', { skip }, async (t) => {
  const image = await debianImage(t);

  await t.test('a command runs before a tenth of the image is here', async () => {
    slow(image);
    const before = image.shaper.bytes.down;
    const caller = image.caller('run');
    const command = [
      'run',
      '--plain-http',
      '--no-fill',
      image.ref,
      '--',
      '/bin/bash',
      '-c',
      'apt-get --version',
    ];
    const ran = await caller.must(...command);
    assert.match(ran.out, /^apt \d/);
    assert.equal(ran.out, await script(`chroot "${image.root}" apt-get --version`));
    const fetched = image.shaper.bytes.down - before;
    const whole = Number(await script(`du -sb "${image.registry.folder}" | cut -f1`));
    assert.ok(fetched < whole / 10, `${fetched} of ${whole} bytes`);
    fast(image);
  });

  for (const backend of ['kernel', 'fuse'] as const) {
    await t.test(
      `${backend}: the same tree while it loads and after, without the registry`,
      async (t) => {
        const { caller, mnt, said } = await mounted(t, image, backend, `--backend=${backend}`);
        assert.match(said, backend === 'kernel' ? /kernel/ : /server/);
        await sameTree(image, mnt);
        assert.equal(await script(`"${mnt}/usr/bin/perl" -e 'print 6*7'`), '42');
        const held = await script(`exec 7<"${mnt}/usr/bin/perl"; sha256sum <&7 | cut -d' ' -f1`);
        assert.equal(held, await script(`sha256sum <"${image.root}/usr/bin/perl" | cut -d' ' -f1`));
        await caller.must('detach', '--wait', mnt);
        assert.equal((await loading(caller)).layers.length, 0);
        await image.registry.stop();
        try {
          writeFileSync('/proc/sys/vm/drop_caches', '3');
          await sameTree(image, mnt);
        } finally {
          await image.registry.start();
        }
      },
    );
  }

  await t.test('what is not read is not fetched, also when all metadata changes', async (t) => {
    const place = join(image.folder, 'writable');
    for (const name of ['upper', 'work']) mkdirSync(join(place, name), { recursive: true });
    const options = `upperdir=${place}/upper,workdir=${place}/work`;
    for (const backend of ['kernel', 'fuse'] as const) {
      const { caller, mnt } = await mounted(
        t,
        image,
        `writable-${backend}`,
        '--no-fill',
        `--backend=${backend}`,
        '-o',
        options,
      );
      const before = await loading(caller);
      await script(`
        cd "${mnt}/usr/share"
        chown -R 1000:1000 .
        chmod -R g+w doc
        find doc -type f | sed -n 1,200p | xargs touch ${backend === 'kernel' ? '-c' : ''} -d 2020-01-01
        mv doc documents; mv documents doc`);
      const after = await loading(caller);
      const fetched = (view: LoaderView): number =>
        view.layers.reduce((sum, l) => sum + l.fetchedBytes, 0);
      assert.equal(fetched(after), fetched(before), backend);
      const some = 'usr/share/base-passwd/passwd.master';
      // By a child: this process is the wire.
      await script(`cmp "${mnt}/${some}" "${image.root}/${some}"`);
      await caller.must('umount', mnt);
      await script(
        `rm -rf "${place}/upper" "${place}/work"; mkdir "${place}/upper" "${place}/work"`,
      );
    }
  });

  await t.test(
    'a second push sends nothing, and one of a changed tree what was changed',
    async () => {
      const caller = image.caller('pusher');
      const sent = async (ref: string): Promise<number> => {
        const before = image.shaper.bytes.up;
        await caller.must('push', '--plain-http', '-q', image.root, ref);
        return image.shaper.bytes.up - before;
      };
      const whole = Number(await script(`du -sb "${image.registry.folder}" | cut -f1`));
      const again = await sent(image.ref);
      assert.ok(again < whole / 100, `${again} of ${whole}`);
      await script(`
      cd "${image.root}"
      find usr -type f -size +1k | sort | awk 'NR % 20 == 0' | while read -r f; do printf changed >>"$f"; done`);
      const changed = await sent(`${image.shaper.host}/os:2`);
      assert.ok(changed < whole / 10, `${changed} of ${whole}`);
      assert.ok(existsSync(join(caller.folder, 'images')));
    },
  );
});
