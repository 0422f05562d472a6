// `varve store add`: a directory, an archive or a dump becomes an image of a store.
// Run by main.ts; tree/source.ts reads, store/add.ts stores; this file says what is going on.
// Manual: store-commands.ts.

import { writeComposefs } from '../erofs/composefs.js';
import { bytesText } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import { type AddReport, addImage } from '../store/add.js';
import { requireName, requirePlace } from '../store/images.js';
import { compileExcludes } from '../tree/exclude.js';
import { openTreeSource } from '../tree/source.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { counted, print, remark } from './output.js';
import { StatusLine } from './status-line.js';
import { failing, formatVersionOf, storePath, threadsOf, withStore } from './store.js';

export function run(given: Arguments): Promise<number> {
  const source = given.operands[0] as string;
  const name = given.value('name');
  return withStore(given, undefined, async (store) => {
    // What is wrong with the store or the name is said before a large source is read.
    store.requireWritable();
    if (name !== undefined) {
      requireName(name);
      requirePlace(store, name);
    }
    const line = new StatusLine(given.has('quiet') || given.has('json'));
    const tree = await failing(source, () =>
      openTreeSource(source, {
        excludes: excludesOf(given),
        repeatedXattrs: true,
        onProgress: (names) => line.show(`reading: ${counted(names, 'name')}`),
      }),
    );
    const started = performance.now();
    let report: AddReport;
    try {
      const isFolder = tree.kind === 'folder';
      report = await failing(source, () =>
        addImage(
          store,
          tree.root,
          (root, sink) =>
            // As mkcomposefs: hard links of directories are not kept.
            writeComposefs(root, { version: formatVersionOf(given), splitLinks: isFolder }, sink),
          {
            name,
            threads: threadsOf(given),
            keepContent: tree.kind === 'dump',
            onProgress: (p) =>
              line.show(`${p.filesDone}/${counted(p.files, 'file')}  ${bytesText(p.bytesDone)}`),
          },
        ),
      );
    } finally {
      line.end();
      tree.close();
    }
    const seconds = (performance.now() - started) / 1000;
    tell(given, storePath(given), name, report, seconds);
    return EXIT.ok;
  });
}

function tell(
  given: Arguments,
  store: string,
  name: string | undefined,
  report: AddReport,
  seconds: number,
): void {
  const { digest, known, image, files } = report;
  if (given.has('json')) {
    print(given, { store, digest, name, known, seconds, image, ...files }, () => '');
    return;
  }
  print(given, undefined, () => digest);
  const what = `${counted(files.files, 'file')}, ${bytesText(files.bytes)}`;
  const news = `${counted(files.newObjects, 'new object')}, ${bytesText(files.newBytes)}`;
  const called = name === undefined ? 'no name: the next gc takes it away' : `called ${name}`;
  remark(given, `${what}; ${news}; ${called}; ${seconds.toFixed(1)} s`);
}

function excludesOf(given: Arguments): ReturnType<typeof compileExcludes> {
  try {
    return compileExcludes({ globs: given.values('exclude') });
  } catch (error) {
    throw new MountError('option', `--exclude: ${(error as Error).message}`);
  }
}
