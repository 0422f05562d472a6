// Images as podman itself pushes them: zstd:chunked is lazy, and the tree is the one that was imported.
// The forms of layers in all detail are test/lazy/tar-pull.test.ts; this is to notice when podman writes something else.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ErofsImage } from '../../src/erofs/image.js';
import { imageTree } from '../../src/erofs/to-tree.js';
import { ChunkTable } from '../../src/lazy/chunk-table.js';
import { LayerFolder } from '../../src/lazy/layer-folder.js';
import { pullImage } from '../../src/lazy/pull/pull.js';
import { FileSource } from '../../src/linux/file-source.js';
import { parseReference } from '../../src/oci/reference.js';
import { Registry } from '../../src/oci/registry.js';
import { compareTrees, showDifferences } from '../../src/tree/compare.js';
import { scan } from '../../src/tree/scan.js';
import { startRealRegistry } from '../oci/real-registry.js';
import { requires } from '../support/requires.js';
import { tempDir } from '../support/temp.js';
import { shell } from './shell.js';

const packages = ['attr', 'busybox-static', 'docker-registry', 'libcap2-bin', 'podman'];
const skip = requires({ root: true, packages });

/** One of everything that a layer can have, all of one whole second, which is what podman keeps. */
const makeTree = `
  mkdir -p "$TREE"/{bin,data/deep,data/sticky}; cd "$TREE"
  cp /bin/busybox bin/; ln -s busybox bin/sh; ln bin/busybox data/deep/hard
  chmod 1777 data/sticky; cp bin/busybox data/root; chmod 6755 data/root
  cp bin/busybox data/able; setcap cap_net_raw+ep data/able
  echo owned >data/owned; chown 123456789:4000000000 data/owned; setfattr -n user.note -v 'a b' data/owned
  mkfifo data/fifo; mknod data/device c 250 300
  truncate -s 9M data/zeros; { head -c 3000 bin/busybox; head -c 70001 /dev/zero; head -c 999 bin/busybox; } >data/holes
  long=data/$(printf 'n%.0s' {1..200}); echo long >"$long"; ln -s "$(printf 't%.0s' {1..200})" data/link
  find . -exec touch -h -d @1700000000 {} +
`;

test('podman push in zstd:chunked, and in zstd where the registry has that already', {
  skip,
}, async (t) => {
  const folder = tempDir(t);
  const registry = await startRealRegistry(t);
  const tree = join(folder, 'tree');
  mkdirSync(join(folder, 'tmp'));
  const env = {
    TREE: tree,
    TMPDIR: join(folder, 'tmp'),
    CONTAINERS_STORAGE_CONF: join(folder, 'storage.conf'),
    CONTAINERS_CONF: join(folder, 'containers.conf'),
  };
  const storage = `driver = "vfs"\ngraphroot = "${folder}/store"\nrunroot = "${folder}/run"\n`;
  writeFileSync(env.CONTAINERS_STORAGE_CONF, `[storage]\n${storage}`);
  writeFileSync(env.CONTAINERS_CONF, '[engine]\nevents_logger = "file"\n');
  shell(makeTree, { env });
  shell(
    'tar -C "$TREE" -c --format=posix --xattrs --xattrs-include="*" . | podman import -q - base',
    {
      env,
    },
  );
  const client = new Registry({ plainHttp: true });
  t.after(() => client.close());
  const source = scan(tree);
  t.after(() => source.close());
  for (const [compression, form] of [
    ['zstd:chunked', 'zstd:chunked'],
    ['zstd', 'tar+zstd'],
  ] as const) {
    // Another repository, from whose neighbour podman takes the layer, and leaves out what it says of its table.
    const name = `${registry.host}/${compression.replace(':', '-')}:1`;
    shell(`podman push -q --tls-verify=false --compression-format ${compression} base ${name}`, {
      env,
    });
    const store = join(folder, `images-${compression}`);
    const options = { plainHttp: true };
    const pull = (lazy: boolean) =>
      pullImage(client, parseReference(name), store, { ...options, lazy });
    const { layers } = await pull(true);
    assert.equal(layers.length, 1);
    const layer = LayerFolder.of(store, layers[0] as string);
    assert.equal(layer.read().form, form);
    assert.equal(layer.isComplete, form !== 'zstd:chunked');
    await pull(false);
    const [meta, blob] = [FileSource.open(layer.meta), FileSource.open(layer.blob)];
    const image = ErofsImage.open(meta, [blob]);
    const found = compareTrees(source.root, imageTree(image, image.inode(image.rootNid)));
    meta.close();
    blob.close();
    // podman makes the root itself.
    assert.equal(showDifferences(found.filter(({ path }) => path !== '/')), '');
    if (form !== 'zstd:chunked') continue;
    const table = new ChunkTable(readFileSync(layer.table));
    const isOdd = (_: unknown, i: number): boolean => table.at(i) % 512 !== 0;
    assert.ok(Array.from({ length: table.count }).some(isOdd), 'chunks begin anywhere');
  }
});
