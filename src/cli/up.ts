// `varve up`: mounts named stacks, each after what it stands on.
// Run by main.ts; one stack is mounted by named/up.ts.
// Manual: stack-commands.ts.

import { standsOn, upOrder } from '../named/order.js';
import type { Stack } from '../named/stacks.js';
import { stateOf } from '../named/state.js';
import { missingDirectories, mountOfStack, type UpResult, upStack } from '../named/up.js';
import { MountError } from '../stack/errors.js';
import { knownMounts } from '../stack/mounts-known.js';
import type { Arguments } from './args.js';
import { EXIT, exitCodeOf, lineOf } from './exit-codes.js';
import { defaultOptions } from './mounting.js';
import { print, remark } from './output.js';
import { fileOf, stacksOf } from './stack.js';

/** What became of one stack, for programs. */
interface Outcome {
  readonly name: string;
  readonly outcome: 'mounted' | 'unchanged' | 'failed' | 'skipped' | 'planned';
  readonly mountpoint?: string;
  readonly backend?: string;
  readonly mode?: string;
  readonly reason?: string;
  readonly pid?: number;
  readonly made?: readonly string[];
  readonly error?: string;
}

export async function run(given: Arguments): Promise<number> {
  const file = await fileOf(given);
  const wanted = stacksOf(given, file);
  for (const stack of wanted) mountOfStack(stack, file);
  const order = upOrder(wanted, file);
  const create = given.has('create');
  const defaults = defaultOptions();
  const failed = new Set<Stack>();
  const outcomes: Outcome[] = [];
  let code: number = EXIT.ok;
  for (const stack of order) {
    const { name } = stack;
    try {
      const missing = standsOn(stack, file).find((other) => failed.has(other));
      if (missing !== undefined) {
        throw new MountError('layer', `${name}: not mounted: it stands on ${missing.name}`);
      }
      if (given.has('dry-run')) {
        const { state, mountpoint, why } = stateOf(stack, file, await knownMounts(), defaults);
        const made = missingDirectories(stack, create || stack.create);
        const outcome = state === 'up' ? 'unchanged' : 'planned';
        outcomes.push({ name, outcome, mountpoint, made, reason: why });
        if (!given.has('json')) say(given, plan(name, state, mountpoint, made, why));
        continue;
      }
      const result = await upStack(stack, { file, defaults, create });
      outcomes.push(outcomeOf(name, result));
      if (!given.has('json')) remark(given, sentence(name, result));
    } catch (error) {
      failed.add(stack);
      if (code === EXIT.ok) code = exitCodeOf(error);
      outcomes.push({ name, outcome: 'failed', error: lineOf(error) });
      if (!given.has('json')) process.stderr.write(`varve: ${lineOf(error)}\n`);
    }
  }
  if (given.has('json')) print(given, outcomes, () => '');
  return code;
}

function say(given: Arguments, text: string): void {
  if (!given.has('quiet')) process.stdout.write(`${text}\n`);
}

function plan(
  name: string,
  state: string,
  mountpoint: string | undefined,
  made: readonly string[],
  why: string | undefined,
): string {
  const what = state === 'down' ? `would be mounted at ${mountpoint}` : `is ${state}`;
  const more = why === undefined ? '' : `: ${why}`;
  const folders = state === 'down' && made.length > 0 ? `, making ${made.join(', ')}` : '';
  return `${name}: ${what}${more}${folders}`;
}

function outcomeOf(name: string, { mountpoint, mounted, made }: UpResult): Outcome {
  if (mounted === undefined) return { name, outcome: 'unchanged', mountpoint, made };
  const { plan: chosen, mode, served } = mounted;
  const { backend, reason } = chosen;
  const pid = served?.status.pid;
  return { name, outcome: 'mounted', mountpoint, backend, mode, reason, pid, made };
}

function sentence(name: string, { mountpoint, mounted, made }: UpResult): string {
  if (mounted === undefined) return `${name} is up already, at ${mountpoint}`;
  const { plan: chosen, served, mode } = mounted;
  const by =
    mode !== undefined
      ? `mode ${mode}`
      : chosen.backend === 'kernel'
        ? "the kernel's overlayfs"
        : `varve's server (process ${served?.status.pid})`;
  const folders = made.length === 0 ? '' : `; made ${made.join(', ')}`;
  return `${name} is up at ${mountpoint}, served by ${by}: ${chosen.reason}${folders}`;
}
