// `varve stack check`: every mistake in a file of stacks, and whether each stack could be mounted now.
// Run by main.ts.
// Manual: stack-commands.ts.

import { findStackFile, searchHere } from '../named/find.js';
import { upOrder } from '../named/order.js';
import { requestOf } from '../named/request.js';
import {
  loadStacks,
  type Stack,
  type StackFile,
  StackFileError,
  spellProblem,
} from '../named/stacks.js';
import { stateOf } from '../named/state.js';
import { missingDirectories } from '../named/up.js';
import { checkLayers } from '../stack/check.js';
import { MountError } from '../stack/errors.js';
import { knownMounts } from '../stack/mounts-known.js';
import { privilege } from '../stack/privilege.js';
import type { Arguments } from './args.js';
import { EXIT, exitCodeOf, lineOf } from './exit-codes.js';
import { defaultOptions } from './mounting.js';
import { counted, print } from './output.js';

export async function run(given: Arguments): Promise<number> {
  const search = searchHere(given.operands[0] ?? given.value('file'));
  let file: StackFile;
  try {
    file = await loadStacks(search);
  } catch (error) {
    if (!(error instanceof StackFileError)) throw error;
    const path = findStackFile(search) as string;
    const { problems } = error;
    print(given, { file: path, ok: false, problems, stacks: [] }, () =>
      given.has('quiet') ? '' : problems.map((problem) => spellProblem(path, problem)).join('\n'),
    );
    return EXIT.usage;
  }
  const known = await knownMounts();
  let code: number = EXIT.ok;
  const results: { name: string; ok: boolean; error?: string }[] = [];
  for (const stack of file.stacks.values()) {
    try {
      upOrder([stack], file);
      if (!given.has('syntax')) tryStack(stack, file, known);
      results.push({ name: stack.name, ok: true });
    } catch (error) {
      if (!(error instanceof MountError)) throw error;
      if (code === EXIT.ok) code = exitCodeOf(error);
      results.push({ name: stack.name, ok: false, error: lineOf(error) });
    }
  }
  print(given, { file: file.path, ok: code === EXIT.ok, problems: [], stacks: results }, () => {
    if (given.has('quiet')) return '';
    const wrong = results.flatMap(({ error }) => error ?? []);
    const verdict =
      wrong.length === 0 ? 'right' : `${counted(wrong.length, 'stack')} of them cannot be mounted`;
    return [...wrong, `${file.path}: ${counted(results.length, 'stack')}, ${verdict}`].join('\n');
  });
  return code;
}

/** @throws MountError when the stack could not be mounted. */
function tryStack(
  stack: Stack,
  file: StackFile,
  known: Awaited<ReturnType<typeof knownMounts>>,
): void {
  if (stack.mount === undefined && stack.layers.length === 0) return;
  const request = requestOf(stack, file, defaultOptions());
  if (stack.mount === undefined) return;
  const { state } = stateOf(stack, file, known, defaultOptions());
  // What is up has shown that it can be mounted.
  if (state !== 'down') return;
  const all = request.kind === 'stack' ? request.options : request.parsed.options;
  // What `up` makes is not there yet: then the lowers are what can be looked at.
  const made = missingDirectories(stack, stack.create).length > 0;
  const options = made ? { ...all, upperdir: undefined, workdir: undefined } : all;
  try {
    checkLayers(options, made ? '/proc' : stack.mount.path, !privilege().full, '/');
  } catch (error) {
    if (!(error instanceof MountError)) throw error;
    const at = { ...stack.at, message: `${stack.name}: ${error.message}` };
    throw new MountError(error.kind, spellProblem(file.path, at));
  }
}
