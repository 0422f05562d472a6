import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { applyUpper } from '../../src/ops/apply/apply.js';
import { stackToApply } from '../../src/ops/apply/layers.js';
import { flatten } from '../../src/ops/layers/flatten.js';
import { split } from '../../src/ops/layers/split.js';
import { readRules } from '../../src/ops/layers/split-rules.js';
import { outputNamed, writeTree } from '../../src/ops/layers/tree-output.js';
import { writeCuts } from '../../src/ops/layers/write-cuts.js';
import { findStack, openLayers } from '../../src/ops/open-stack.js';
import { compareTrees, showDifferences } from '../../src/tree/compare.js';
import { scan } from '../../src/tree/scan.js';
import { openTreeSource } from '../../src/tree/source.js';
import { isWhiteout, type TreeNode, walk } from '../../src/tree/tree.js';
import { makeFilesystems } from '../oracle/explore.js';
import { buildLayer, makeLayers } from '../oracle/layers.js';
import { Random } from '../oracle/random.js';
import { readTree } from '../oracle/tree.js';
import { run } from '../overlay/stack.js';
import { campaign } from '../support/campaign.js';
import { requires } from '../support/requires.js';
import { AT, must, O, sys } from '../support/sys.js';
import { tempDir } from '../support/temp.js';
import { growStacks, throughKernel } from './stacks.js';

const skip = requires({
  root: true,
  features: ['fuse', 'overlayfs', 'erofs', 'loop', 'ext4', 'tmpfs'],
  packages: ['e2fsprogs'],
});

const rounds = campaign('rounds', 1);
const firstSeed = campaign('seed', 1);

/** The tree of a folder or an archive, compared while it is open. */
function mustEqual(expected: TreeNode, path: string, what: string, isLayer = false): void {
  const tree = openTreeSource(path);
  // A layer has those of a nested overlay escaped.
  const ignoreXattr = (name: string): boolean => isLayer && name.startsWith('trusted.overlay.');
  try {
    assert.equal(showDifferences(compareTrees(expected, tree.root, { ignoreXattr })), '', what);
  } finally {
    tree.close();
  }
}

/** As the kernel shows it, which lists whiteouts of directories that one layer alone has; without times of reading. */
function linesOf(mountpoint: string): string[] {
  const root = must(sys.open(AT.FDCWD, mountpoint, O.DIRECTORY));
  try {
    const { lines } = readTree(root, () => true);
    return [...lines].map(([path, line]) => `${path} ${line.replace(/ atime=\S+/, '')}`).sort();
  } finally {
    sys.close(root);
  }
}

async function flattened(
  layers: readonly string[],
  into: string,
  keepWhiteouts = false,
): Promise<void> {
  const opened = openLayers(await findStack({ layers }));
  try {
    await writeTree(flatten(opened, { keepWhiteouts }), outputNamed(into));
  } finally {
    opened.close();
  }
}

test('any stack as a directory, an image, an archive and fewer layers shows the same', {
  skip,
}, async (t) => {
  const filesystems = makeFilesystems(tempDir(t));
  for (let seed = firstSeed; seed < firstSeed + rounds; seed++) {
    const [, stack] = growStacks(seed * 2 + 1, 3, 250, filesystems);
    assert.ok(stack);
    const base = `${stack.mountpoint}-flat`;
    mkdirSync(base);
    const layers = [stack.upper, ...stack.lowers];
    const what = `seed ${seed}, ${layers.length} layers`;
    for (const name of ['directory', 'a.tar', 'b.tar', 'a.erofs', 'b.erofs']) {
      await flattened(layers, join(base, name));
    }
    for (const kind of ['tar', 'erofs']) {
      const [a, b] = ['a', 'b'].map((name) => readFileSync(join(base, `${name}.${kind}`)));
      assert.ok(a?.equals(b as Buffer), `${what}: the same bytes twice: ${kind}`);
    }
    const some = 1 + (seed % (layers.length - 1));
    await flattened(layers.slice(0, some), join(base, 'some'), true);
    const [image, mounted, seen] = ['a.erofs', 'mounted', 'seen'].map((name) => join(base, name));
    for (const path of [mounted, seen]) mkdirSync(path as string);
    const rest = layers.slice(some);
    // The union's root has the attributes of its topmost layer.
    const lowerdir = [join(base, 'some'), ...rest].join(':');
    const options = `lowerdir=${lowerdir},redirect_dir=follow,metacopy=on`;
    throughKernel(stack, ({ root }) => {
      // An archive holds no sockets.
      mustEqual(root, join(base, 'directory'), `${what}: directory`, true);
      run('mount', ['-t', 'erofs', '-o', 'loop,ro', image as string, mounted as string]);
      mustEqual(root, mounted as string, `${what}: image`, true);
      run('umount', [mounted as string]);
      run('mount', ['-t', 'overlay', 'overlay', '-o', options, seen as string]);
      assert.deepEqual(
        linesOf(seen as string),
        linesOf(stack.mountpoint),
        `${what}: ${some} as one`,
      );
      run('umount', [seen as string]);
    });
    console.log(`${what}: the same`);
    await applied(stack.lowers, stack.upper, what, join(base, 'directory'));
  }
});

/** Everything merged into the lowest layer. */
async function applied(
  lowers: readonly string[],
  upper: string,
  what: string,
  wanted: string,
): Promise<void> {
  const lowest = lowers.at(-1) as string;
  const named = await findStack({ layers: [upper, ...lowers] });
  const opened = openLayers(named);
  try {
    const { stack } = stackToApply(named, opened, lowest);
    const report = await applyUpper(stack, lowest);
    assert.deepEqual(report.conflicts, [], what);
    assert.ok(report.applied);
  } finally {
    opened.close();
  }
  const expected = scan(wanted);
  mustEqual(expected.root, lowest, `${what}: applied to the lowest`, true);
  expected.close();
}

/** Rules that a tree of test/oracle gives something to do. */
function randomRules(random: Random): string[] {
  const tests = [
    ...['a/', 'b', 'c/*', '/d', '**/e', '[fg]*', '!a', '*.', 'h/**'],
    ...['size>4095', 'size<100', 'type=symlink', 'type=directory', 'uid=0', 'gid=1000'],
    ...['newer=2010-01-01', 'older=1200000000', 'type=device', 'type=file'],
  ];
  return Array.from({ length: 1 + random.below(5) }, () => {
    const words = Array.from({ length: 1 + random.below(2) }, () => random.pick(tests));
    return `${random.pick(['x', 'y', 'z'])}=${words.join(' ')}`;
  });
}

test('any tree that was cut by any rules is the same again when the layers are stacked', {
  skip,
}, async (t: TestContext) => {
  const folder = tempDir(t);
  run('mount', ['-t', 'tmpfs', 'none', folder]);
  for (let seed = firstSeed; seed < firstSeed + 10 * rounds; seed++) {
    const random = new Random(seed);
    const base = join(folder, String(seed));
    const [source, into, seen] = ['source', 'into', 'seen'].map((name) => join(base, name));
    assert.ok(source && into && seen);
    for (const path of [base, source, seen]) mkdirSync(path);
    buildLayer(source, makeLayers(random, 1, true)[0] ?? []);
    const texts = randomRules(random);
    const what = `seed ${seed}: ${texts.join('; ')}`;
    const tree = scan(source);
    const { cuts } = split(tree.root, readRules(texts, undefined, 'rest'));
    const link = random.oneIn(2) ? source : undefined;
    const files: string[] = [];
    for (const { root } of cuts) {
      walk(root, (path, node) => {
        if (node.entries === undefined) files.push(path);
        assert.ok(!isWhiteout(node));
      });
    }
    assert.equal(new Set(files).size, files.length, `${what}: a file is in one layer`);
    await writeCuts(cuts, into, { format: 'directory', link });
    const layers = cuts.map(({ name }) => join(into, name));
    if (random.oneIn(2)) layers.reverse();
    if (layers.length === 1) layers.push(join(base, 'empty'));
    if (layers.length === 2) mkdirSync(join(base, 'empty'), { recursive: true });
    const options = `lowerdir=${layers.join(':')}`;
    run('mount', ['-t', 'overlay', 'overlay', '-o', options, seen]);
    try {
      // A file that was linked has another ctime, which a tree takes for a change.
      const now = scan(source);
      mustEqual(now.root, seen, what);
      now.close();
    } finally {
      run('umount', [seen]);
      tree.close();
    }
    rmSync(base, { recursive: true });
  }
});
