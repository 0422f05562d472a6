// One real round of a bench: the same payload as an initramfs and as an image, booted once each.
// Needs Debian's kernel, which apt-get fetches once.

import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { bootOnce } from '../../src/boot/bench/machine.js';
import { runBench } from '../../src/boot/bench/run.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { debianKernel } from '../vm/kernel.js';

const packages = ['busybox-static', 'dmsetup', 'e2fsprogs', 'kmod', 'lz4', 'qemu-system-x86'];
const needs = {
  skip: process.arch === 'x64' ? requires({ packages }) : 'needs an x86-64 processor',
};

test(
  'a payload boots as an archive and as an image, and nothing of the bench stays',
  needs,
  async (t) => {
    const { vmlinux, root, release } = debianKernel([]);
    const scratch = join(tempDir(t), 'scratch');
    mkdirSync(scratch);
    const progress: string[] = [];
    const report = await runBench({
      kernel: vmlinux,
      modules: { folder: root, release },
      payloads: [8_000_000],
      variants: ['lz4', 'varve-verity'],
      rounds: 1,
      memory: 256,
      leastMemory: false,
      seconds: 90,
      scratch,
      onProgress: (text) => progress.push(text),
    });
    const [archive, image] = report.results;
    assert.deepEqual([archive?.variant, image?.variant], ['lz4', 'varve-verity']);
    for (const result of report.results) {
      const { init, wall, memory } = result.best;
      assert.ok(init > 0 && wall > 0 && memory > 1e6 && memory < 256e6, JSON.stringify(result));
      assert.ok(result.stored > 1e6 && Math.abs(result.bytes - 8e6) < 1e5, JSON.stringify(result));
    }
    // The archive comes with the kernel; of the image less is read than there is.
    assert.equal(archive?.best.read, 0);
    assert.ok((image?.best.read ?? 0) > 1e6 && (image?.best.read ?? 0) < (image?.stored ?? 0));
    assert.ok(progress.some((text) => /^round 1 of 1: 8 MB, lz4: init after [\d.]+ s$/.test(text)));
    assert.deepEqual(readdirSync(scratch), []);
  },
);

test('a machine that does not come to init is switched off and says so', needs, async (t) => {
  const { vmlinux } = debianKernel([]);
  const initrd = join(tempDir(t), 'empty.cpio');
  const machine = { kernel: vmlinux, initrd, memory: 128, seconds: 60 };
  await assert.rejects(bootOnce(machine), {
    name: 'BootFailed',
    message: /before init: qemu.*initrd/,
  });
  writeFileSync(initrd, '');
  await assert.rejects(bootOnce({ ...machine, seconds: 0.2 }), {
    name: 'BootFailed',
    message: /^no init within 0.2 s: /,
  });
});
