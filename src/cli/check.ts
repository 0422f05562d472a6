// `varve check`: what of an upper no longer fits the layers below it, each as one line.
// Run by main.ts; overlay/misfits.ts looks.
// Manual: commands.ts.

import { stackMeant } from '../named/resolve.js';
import type { Misfit } from '../overlay/misfits.js';
import { checkUpper, stackOfMount, stackOfOptions } from '../stack/check-upper.js';
import { MountError } from '../stack/errors.js';
import { parseOptions } from '../stack/options.js';
import type { MountSpec } from '../stack/spec.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { counted, print } from './output.js';

export async function run(given: Arguments): Promise<number> {
  const [path] = given.operands;
  const options = given.values('options');
  if ((path === undefined) === (options.length === 0)) {
    const what = path === undefined ? 'no stack is named' : 'a stack is named twice';
    throw new MountError('option', `${what}: write a mount point, or -o lowerdir=...,upperdir=...`);
  }
  const spec =
    path === undefined
      ? stackOfOptions(parseOptions(options, { defaults: '' }))
      : await stackOfWord(path);
  const all = given.has('all');
  const silent = given.has('quiet') || given.has('json');
  const misfits: Misfit[] = [];
  let found = 0;
  let harmless = 0;
  const check = checkUpper(spec);
  let step = check.next();
  for (; step.done !== true; step = check.next()) {
    const misfit = step.value;
    if (misfit.harmless) harmless++;
    else found++;
    if (given.has('json')) misfits.push(misfit);
    if (!silent && (all || !misfit.harmless)) process.stdout.write(`${lineOfMisfit(misfit)}\n`);
  }
  const { objects, unverified } = step.value;
  const code = found === 0 ? EXIT.ok : EXIT.layer;
  const { upperdir } = spec;
  if (given.has('json')) {
    const shown = misfits.map((misfit) => ({ ...misfit, path: text(misfit.path) }));
    const figures = { upperdir, ok: found === 0, found, harmless, objects, unverified };
    print(given, { ...figures, misfits: shown }, () => '');
    return code;
  }
  if (given.has('quiet')) return code;
  const verdict =
    found === 0 ? 'fits its lowers' : `${counted(found, 'object')} that no longer fit`;
  const more = [
    counted(objects, 'object'),
    ...(harmless > 0 && !all ? [`${harmless} harmless: --all lists them`] : []),
    ...(unverified > 0 ? [`${unverified} whose origin nobody can look for`] : []),
  ];
  process.stdout.write(`${upperdir}: ${verdict}: ${more.join(', ')}\n`);
  return code;
}

/** The stack on a mount point, or of a name: as it is mounted, else as the file says. */
async function stackOfWord(nameOrPath: string): Promise<MountSpec> {
  const meant = await stackMeant(nameOrPath);
  if ('mount' in meant) return stackOfMount(meant.mount);
  return stackOfOptions(parseOptions(meant.options, { defaults: '' }));
}

/** A path's bytes as text. */
function text(path: string): string {
  return Buffer.from(path, 'latin1').toString();
}

function lineOfMisfit({ kind, path, message }: Misfit): string {
  return `${kind}: ${text(path)}: ${message}`;
}
