// `varve down`: unmounts named stacks, each before what it stands on.
// Run by main.ts; unmounting is umount.ts's.
// Manual: stack-commands.ts.

import { downOrder } from '../named/order.js';
import type { Stack, StackFile } from '../named/stacks.js';
import { type StackState, stateOf } from '../named/state.js';
import { mountOfStack } from '../named/up.js';
import { MountError } from '../stack/errors.js';
import { type KnownMount, knownMounts } from '../stack/mounts-known.js';
import { unmount } from '../stack/unmount.js';
import type { Arguments } from './args.js';
import { EXIT, exitCodeOf, lineOf } from './exit-codes.js';
import { defaultOptions } from './mounting.js';
import { print, remark } from './output.js';
import { fileOf, stacksOf } from './stack.js';

interface Outcome {
  readonly name: string;
  readonly outcome: 'unmounted' | 'unchanged' | 'failed' | 'planned';
  readonly mountpoint?: string;
  readonly error?: string;
}

export async function run(given: Arguments): Promise<number> {
  const file = await fileOf(given);
  const wanted = stacksOf(given, file);
  for (const stack of wanted) mountOfStack(stack, file);
  const order = downOrder(wanted, file);
  const how = { lazy: given.has('lazy'), force: given.has('force') };
  const json = given.has('json');
  const outcomes: Outcome[] = [];
  let code: number = EXIT.ok;
  for (const stack of order) {
    const { name } = stack;
    try {
      const now = await look(stack, file);
      const { state, mountpoint } = now;
      if (
        state === 'base' ||
        state === 'down' ||
        (state === 'occupied' && !wanted.includes(stack))
      ) {
        if (!wanted.includes(stack)) continue;
        outcomes.push({ name, outcome: 'unchanged', mountpoint });
        if (!json) remark(given, `${name} is down already`);
        continue;
      }
      refuse(stack, now, wanted, given.has('recursive'));
      if (given.has('dry-run')) {
        outcomes.push({ name, outcome: 'planned', mountpoint });
        if (!json && !given.has('quiet')) {
          process.stdout.write(`${name}: would be unmounted from ${mountpoint}\n`);
        }
        continue;
      }
      const { heldElsewhere } = await unmount(mountpoint as string, how);
      outcomes.push({ name, outcome: 'unmounted', mountpoint });
      const held = heldElsewhere === true ? ', though another mount namespace still holds it' : '';
      if (!json) remark(given, `${name} is down${held}`);
    } catch (error) {
      if (code === EXIT.ok) code = exitCodeOf(error);
      outcomes.push({ name, outcome: 'failed', error: lineOf(error) });
      if (!json) process.stderr.write(`varve: ${lineOf(error)}\n`);
      // What stands on it is still there.
      break;
    }
  }
  if (json) print(given, outcomes, () => '');
  return code;
}

async function look(stack: Stack, file: StackFile): Promise<StackState & { mount?: KnownMount }> {
  return stateOf(stack, file, await knownMounts(), defaultOptions());
}

/** @throws MountError of kind `busy`. */
function refuse(
  stack: Stack,
  { state, mountpoint, why }: StackState,
  wanted: readonly Stack[],
  recursive: boolean,
): void {
  const { name } = stack;
  if (state === 'occupied') {
    throw new MountError(
      'busy',
      `${name}: ${mountpoint}: ${why}: it is none of varve's: use umount(8)`,
    );
  }
  if (wanted.includes(stack) || recursive) return;
  const names = wanted.map((other) => other.name).join(', ');
  throw new MountError(
    'busy',
    `${names}: ${name} stands on it and is up: take that down first, or say --recursive`,
  );
}
