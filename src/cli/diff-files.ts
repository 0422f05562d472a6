// The files that `varve diff` writes: a page, and a layer in a tar archive.
// Called by diff.ts where --html or --tar asks for one; each appears under its name when it is complete.
// Forms: report/html.ts, docs/diff.md; OCI image-spec v1.1, layer.md.

import { documentOf } from '../report/document.js';
import { pageOf } from '../report/html.js';
import { textsOf } from '../report/page-texts.js';
import { bytesText } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import * as tar from '../tree/tar-write.js';
import { show } from '../tree/tree.js';
import { deltaTree } from '../union/delta.js';
import { removeSockets, toOciForm } from '../union/oci-form.js';
import type { Arguments } from './args.js';
import type { Compared } from './diff-compared.js';
import { counted, remark } from './output.js';
import { writeFile } from './output-file.js';

/** `--tar`. @param target a path, or `-`. */
export async function writeTar(
  given: Arguments,
  { stack, changes }: Compared,
  target: string,
): Promise<void> {
  if (stack === undefined) {
    throw new MountError('option', '--tar: whole trees make no layer: leave --trees out');
  }
  const { marks } = stack.upper;
  const root = deltaTree(stack, changes, { marks });
  const sockets = removeSockets(root, marks, stack.before);
  if (sockets > 0) remark(given, `${counted(sockets, 'socket')} left out: tar cannot hold them`);
  const reserved = given.has('kernel') ? undefined : toOciForm(root, marks);
  if (reserved !== undefined) {
    throw new MountError(
      'layer',
      `${show(reserved)}: in an OCI layer this name would delete another one: write --kernel, or rename it`,
    );
  }
  const bytes = await writeFile(target, (write) => tar.writeTar(root, write));
  if (target !== '-') remark(given, `${target}: ${bytesText(bytes)}`);
}

/** `--html`. @param target a path, or `-`. */
export async function writePage(
  given: Arguments,
  { changes, names }: Compared,
  target: string,
): Promise<void> {
  const texts = textsOf(changes);
  const document = documentOf(changes, names);
  const bytes = await writeFile(target, (write) => {
    for (const piece of pageOf(document, texts)) write(Buffer.from(piece));
  });
  if (target !== '-') remark(given, `${target}: ${bytesText(bytes)}`);
  if (texts.leftOut === 0) return;
  const files = counted(texts.leftOut, 'file');
  remark(given, `the page has no room for the lines of ${files}: --patch has them`);
}
