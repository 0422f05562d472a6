// `varve image check`: everything about an image that can be verified, each fault as one line.
// Run by main.ts; erofs/check.ts looks.
// Manual: image-commands.ts.

import { type CheckResult, checkImage, type Problem } from '../erofs/check.js';
import { bytesText } from '../report/words.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { shown, withImage } from './image.js';
import { counted, print } from './output.js';

/** Faults printed in full; an image of random bytes has more than anybody reads. */
const MOST = 1000;

export function run(given: Arguments): Promise<number> {
  const path = given.operands[0] as string;
  return withImage(given, (image) => {
    const problems: Problem[] = [];
    const text = !given.has('json') && !given.has('quiet');
    let found = 0;
    const check = checkImage(image, { data: !given.has('metadata') });
    let result: CheckResult;
    for (;;) {
      const step = check.next();
      if (step.done === true) {
        result = step.value;
        break;
      }
      found++;
      if (found > MOST) continue;
      problems.push(step.value);
      if (text) process.stdout.write(`${problemText(step.value)}\n`);
    }
    const unseen = found - problems.length;
    const all = problems.map((problem) => ({
      ...problem,
      path: problem.path === undefined ? undefined : shown(problem.path),
    }));
    if (given.has('json')) {
      print(given, { image: path, ok: found === 0, found, ...result, problems: all }, () => '');
    } else if (text) {
      if (unseen > 0) process.stdout.write(`and ${counted(unseen, 'more fault')}\n`);
      const looked = `${counted(result.inodes, 'inode')}, ${bytesText(result.bytes)} of data`;
      process.stdout.write(
        found === 0
          ? `${path}: whole: ${looked}\n`
          : `${path}: ${counted(found, 'fault')}: ${looked}\n`,
      );
    }
    return found === 0 ? EXIT.ok : EXIT.layer;
  });
}

function problemText({ path, message }: Problem): string {
  return path === undefined ? message : `${shown(path)}: ${message}`;
}
