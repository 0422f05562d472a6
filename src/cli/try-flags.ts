// The flags of `varve try`, checked: what is wanted, what is to become of it, how it is shown.
// Used by try.ts before anything is done.
// The table is try-commands.ts.

import type { TryWish } from '../ops/try/prepare.js';
import { MountError } from '../stack/errors.js';
import type { Arguments } from './args.js';

export type Choice = 'yes' | 'yes-if-ok' | 'no' | 'keep' | 'ask' | 'default';

const FORMS = ['tree', 'name-status', 'stat', 'json', 'patch', 'none'] as const;
export type Form = (typeof FORMS)[number];

/** @throws MountError of kind `option`. */
export function choiceOf(given: Arguments): Choice {
  const chosen = ['yes', 'no', 'keep'].filter((name) => given.has(name));
  if (chosen.length > 1) {
    throw new MountError('option', `--${chosen[0]} and --${chosen[1]}: choose one`);
  }
  if (given.has('if-ok') && !given.has('yes')) {
    throw new MountError('option', '--if-ok: goes with --yes only');
  }
  if (given.has('yes')) return given.has('if-ok') ? 'yes-if-ok' : 'yes';
  if (chosen.length === 1) return chosen[0] as Choice;
  return process.stdin.isTTY === true && process.stderr.isTTY === true ? 'ask' : 'default';
}

/** @throws MountError of kind `option`. */
export function formOf(given: Arguments): Form {
  return oneOf(given, 'diff', FORMS, given.has('quiet') || given.has('json') ? 'none' : 'tree');
}

function oneOf<T extends string>(
  given: Arguments,
  flag: string,
  words: readonly T[],
  otherwise: T,
): T {
  const value = given.value(flag) ?? otherwise;
  if (!(words as readonly string[]).includes(value)) {
    throw new MountError('option', `--${flag}=${value}: one of ${words.join(', ')}`);
  }
  return value as T;
}

/** The command is '' where kept changes alone are meant. @throws MountError of kind `option`. */
export function wishOf(given: Arguments): TryWish {
  const usage = 'write: varve try [flags] -- COMMAND [ARG...]';
  const { operands, before } = given;
  if (before === undefined && operands.length > 0) {
    throw new MountError('option', `-- is missing: ${usage}`);
  }
  if (before !== undefined && before > 0) {
    throw new MountError('option', `${operands[0]}: nothing may stand before --: ${usage}`);
  }
  const [command = '', ...args] = operands;
  const resume = given.value('resume');
  if (command === '' && (resume === undefined || before !== undefined)) {
    throw new MountError('option', `the command is missing: ${usage}`);
  }
  if (resume !== undefined && given.has('on')) {
    throw new MountError('option', '--on: the directories of kept changes are what they were');
  }
  const keep = given.value('keep');
  if (resume !== undefined && keep !== undefined && keep !== '') {
    throw new MountError('option', '--keep: kept changes stay where they are: write --keep alone');
  }
  const hostname = given.value('hostname');
  if (hostname !== undefined && !/^[A-Za-z0-9.-]{1,64}$/.test(hostname)) {
    throw new MountError('option', `--hostname=${hostname}: letters, digits, dots and dashes`);
  }
  const sockets = given.has('allow-sockets')
    ? given.values('allow-sockets').flatMap((words) => words.split(',').filter((w) => w !== ''))
    : undefined;
  return {
    command,
    args,
    on: given.values('on'),
    asRoot: given.has('root'),
    net: oneOf(given, 'net', ['host', 'none'], 'host'),
    dev: oneOf(given, 'dev', ['minimal', 'host'], 'minimal'),
    env: given.values('env'),
    binds: given.values('bind'),
    hostname,
    sockets,
    state: given.value('state'),
    folder: keep === '' ? undefined : keep,
    resume,
  };
}
