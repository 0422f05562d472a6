// `varve image build --composefs`: an image of metadata alone, byte for byte that of mkcomposefs, and the objects beside it.
// Run by image-build.ts; store/ingest.ts hashes and stores the files, erofs/composefs.ts writes the image.
// Manual: image-commands.ts.

import { writeSync } from 'node:fs';
import { writeComposefs } from '../erofs/composefs.js';
import { ImageFile } from '../erofs/write-sink.js';
import { bytesText } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import { makeFolder } from '../store/folder.js';
import { type IngestStats, ingestTree } from '../store/ingest.js';
import { VerityHasher } from '../store/verity.js';
import type { SourceTree } from '../tree/tree.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { counted, print, remark } from './output.js';
import { failing, formatVersionOf, threadsOf } from './store.js';

/** Flags that mean something for these images only. */
export const COMPOSEFS_FLAGS = ['digest-store', 'format-version', 'print-digest'] as const;

/** Flags of other images. */
const OTHER_FLAGS = [
  ...['compress', 'cluster', 'tail-packing', 'fragments', 'dedupe', 'chunksize', 'blobdev'],
  ...['uuid', 'label'],
];

/** What is wrong with the flags is said before the source is read. */
export function checkComposefsFlags(given: Arguments): void {
  const other = OTHER_FLAGS.find((flag) => given.has(flag) || given.value(flag) !== undefined);
  if (other !== undefined) {
    throw new MountError(
      'option',
      `--${other}: a composefs image has no such choice: leave it out`,
    );
  }
  if (given.value('output') === undefined && !given.has('print-digest')) {
    throw new MountError(
      'option',
      'image build: no image named: write -o IMAGE, or --print-digest',
    );
  }
  formatVersionOf(given);
  threadsOf(given);
}

/** @param tree is changed: contents become objects. */
export async function buildComposefs(
  given: Arguments,
  source: string,
  tree: SourceTree,
  show: (text: string) => void,
): Promise<number> {
  const started = performance.now();
  const out = given.value('output');
  const store = given.value('digest-store');
  if (tree.kind === 'dump' && store !== undefined) {
    throw new MountError(
      'option',
      `--digest-store: ${source} is a dump, which has no content to store`,
    );
  }
  const files = await failing(source, () => ingest(given, tree, store, show));
  const hasher = new VerityHasher();
  const report = await failing(out ?? source, () => write(given, tree, out, hasher));
  const digest = hasher.digest().toString('hex');
  const seconds = (performance.now() - started) / 1000;
  if (given.has('json')) {
    print(given, { image: out, digest, seconds, ...report, ...files }, () => '');
    return EXIT.ok;
  }
  if (given.has('print-digest')) print(given, undefined, () => digest);
  if (out !== undefined) {
    const objects =
      store === undefined
        ? ''
        : `, ${counted(files.newObjects, 'new object')} of ${bytesText(files.newBytes)} in ${store}`;
    remark(
      given,
      `${out}: ${counted(report.inodes, 'object')} in ${bytesText(report.bytes)}, format ${report.version}, ${digest}${objects}, ${seconds.toFixed(1)} s`,
    );
  }
  return EXIT.ok;
}

/** A dump says of each file where it is; of all else the files are read. */
async function ingest(
  given: Arguments,
  tree: SourceTree,
  store: string | undefined,
  show: (text: string) => void,
): Promise<IngestStats> {
  if (tree.kind === 'dump') {
    return { files: 0, bytes: 0, inlineFiles: 0, newObjects: 0, newBytes: 0 };
  }
  if (store !== undefined) makeFolder(store);
  return ingestTree(tree.root, store, {
    threads: threadsOf(given),
    onProgress: (p) =>
      show(`${p.filesDone}/${counted(p.files, 'file')}  ${bytesText(p.bytesDone)}`),
  });
}

interface Written {
  readonly version: number;
  readonly inodes: number;
  readonly bytes: number;
}

async function write(
  given: Arguments,
  { root, kind }: SourceTree,
  out: string | undefined,
  hasher: VerityHasher,
): Promise<Written> {
  const options = { version: formatVersionOf(given), splitLinks: kind === 'folder' };
  if (out === undefined || out === '-') {
    return writeComposefs(root, options, (bytes) => {
      hasher.update(bytes);
      if (out === '-') for (let at = 0; at < bytes.length; ) at += writeSync(1, bytes, at);
    });
  }
  const image = new ImageFile(out);
  try {
    const report = writeComposefs(root, options, (bytes) => {
      hasher.update(bytes);
      image.write(image.written, bytes);
    });
    await image.publish(report.bytes);
    return report;
  } catch (error) {
    await image.discard();
    throw error;
  }
}
