// `varve try`: runs a command over the system, shows what it has changed, and does with that what was asked for.
// Run by main.ts; the sandbox is sandbox/, the trial on disk and its commit ops/try/. What this prints goes to stderr.
// Exit codes: the command's, 128 and a signal's number, 125 to 127 as env(1).

import { constants } from 'node:os';
import { resolve } from 'node:path';
import { commitTry } from '../ops/try/commit.js';
import type { TryConflict } from '../ops/try/conflicts.js';
import { prepareTry, type TryWish } from '../ops/try/prepare.js';
import { hasNews, readResult, type TryResult } from '../ops/try/result.js';
import { keepTry, openTry, removeTry, type TrySession } from '../ops/try/session.js';
import type { Sandbox, SandboxEnd } from '../sandbox/launch.js';
import { EXIT_SANDBOX } from '../sandbox/plan.js';
import { MountError } from '../stack/errors.js';
import type { Arguments } from './args.js';
import { lineOf } from './exit-codes.js';
import { remark } from './output.js';
import { askOutcome } from './try-ask.js';
import { type Choice, choiceOf, type Form, formOf, wishOf } from './try-flags.js';
import { listTries } from './try-list.js';
import {
  changesDocument,
  showChanges,
  showConflicts,
  type TryDocument,
  writeDocument,
} from './try-show.js';

export async function run(given: Arguments): Promise<number> {
  if (given.has('list')) return listTries(given);
  const choice = choiceOf(given);
  const form = formOf(given);
  const wish = wishOf(given);
  if (wish.command === '')
    return decide(given, choice, form, openTry(resolve(wish.resume as string)));
  const prepared = prepareTry(wish, process.env);
  const { session } = prepared;
  for (const text of prepared.remarks) remark(given, `try: ${text}`);
  const sandbox = prepared.start((text) => remark(given, `try: ${text}`));
  const end = await passSignals(sandbox);
  if (end.kind === 'failed') return fail(given, wish, session, end);
  return decide(given, choice, form, session, end, [wish.command, ...wish.args]);
}

/** Signals that reach only this process: the session of the command has no terminal of its own. */
const PASSED: readonly NodeJS.Signals[] = [
  'SIGTERM',
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGUSR1',
  'SIGUSR2',
];
const FATAL: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGHUP', 'SIGQUIT'];

async function passSignals(sandbox: Sandbox): Promise<SandboxEnd> {
  const seen = new Set<NodeJS.Signals>();
  const handlers = PASSED.map((signal) => {
    const handler = (): void => {
      // Whoever says it again means it.
      if (FATAL.includes(signal) && seen.has(signal)) sandbox.kill();
      else sandbox.signal(signal);
      seen.add(signal);
    };
    process.on(signal, handler);
    return { signal, handler };
  });
  const end = await sandbox.end;
  for (const { signal, handler } of handlers) process.off(signal, handler);
  return end;
}

/** The command did not run: there is nothing to decide. */
function fail(
  given: Arguments,
  wish: TryWish,
  session: TrySession,
  end: SandboxEnd & { kind: 'failed' },
): number {
  const { code, text } = end;
  // What was kept before is not thrown away.
  if (wish.resume === undefined) removeTry(session);
  else keepTry(session);
  process.stderr.write(`varve: try: ${text}\n`);
  writeDocument(given, {
    version: 1,
    command: [wish.command, ...wish.args],
    exitCode: null,
    signal: null,
    status: code,
    outcome: 'failed',
    error: text,
  });
  return code;
}

type Ended = SandboxEnd & { kind: 'ended' };

async function decide(
  given: Arguments,
  choice: Choice,
  form: Form,
  session: TrySession,
  end?: Ended,
  command: readonly string[] = session.record.command,
): Promise<number> {
  let result: TryResult | undefined;
  try {
    result = readResult(session);
    return await carryOut(given, choice, form, session, result, documentOf(command, end));
  } catch (error) {
    keepTry(session);
    const text = `${lineOf(error)}; the changes are kept: varve try --resume ${session.folder}`;
    process.stderr.write(`varve: try: ${text}\n`);
    writeDocument(given, {
      ...documentOf(command, end),
      status: EXIT_SANDBOX.failed,
      outcome: 'failed',
      kept: session.folder,
      error: text,
    });
    return EXIT_SANDBOX.failed;
  } finally {
    result?.close();
  }
}

async function carryOut(
  given: Arguments,
  choice: Choice,
  form: Form,
  session: TrySession,
  result: TryResult,
  ended: ReturnType<typeof documentOf>,
): Promise<number> {
  const { status } = ended;
  const news = hasNews(result);
  showChanges(form, result);
  let what = choice;
  if (what === 'yes-if-ok') what = status === 0 ? 'yes' : 'no';
  if (what === 'ask') {
    if (news && status !== 0) remark(given, `try: the command returned ${status}`);
    what = news ? await askOutcome(result) : 'no';
  }
  if (what === 'default') what = news ? 'keep' : 'no';
  const done = {
    ...ended,
    ...(given.has('json') ? { changes: changesDocument(result) } : {}),
  };
  switch (what) {
    case 'yes':
      return commit(given, session, result, done);
    case 'keep':
      keepTry(session);
      remark(
        given,
        `kept in ${session.folder}: varve try --resume ${session.folder} shows it again, --yes commits, --no discards`,
      );
      writeDocument(given, { ...done, outcome: 'kept', kept: session.folder });
      return status;
    default:
      removeTry(session);
      remark(given, news ? 'discarded: the system is as it was' : 'no changes');
      writeDocument(given, { ...done, outcome: news ? 'discarded' : 'unchanged' });
      return status;
  }
}

async function commit(
  given: Arguments,
  session: TrySession,
  result: TryResult,
  done: Omit<TryDocument, 'outcome'>,
): Promise<number> {
  const { conflicts, committed } = await commitTry(session, result, given.has('force'));
  const told = conflicts.map(forDocument);
  if (!committed) {
    showConflicts(conflicts);
    throw new MountError(
      'busy',
      `commit refused, nothing was done: the system has changed since in ${conflicts.length === 1 ? 'one place' : `${conflicts.length} places`}, --force overrides`,
    );
  }
  removeTry(session);
  const news = hasNews(result);
  remark(given, news ? 'committed' : 'no changes');
  writeDocument(given, { ...done, outcome: news ? 'committed' : 'unchanged', conflicts: told });
  return done.status;
}

function forDocument({ path, message }: TryConflict): { path: string; message: string } {
  return { path: Buffer.from(path, 'latin1').toString(), message };
}

function statusOf(end: Ended | undefined): number {
  if (end === undefined) return 0;
  return end.signal === null ? (end.code ?? 0) : 128 + constants.signals[end.signal];
}

function documentOf(
  command: readonly string[],
  end: Ended | undefined,
): Pick<TryDocument, 'version' | 'command' | 'exitCode' | 'signal' | 'status'> {
  const ended = { exitCode: end?.code ?? null, signal: end?.signal ?? null };
  return { version: 1, command, ...ended, status: statusOf(end) };
}
