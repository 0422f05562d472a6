// `varve try`: runs a command over the system, shows what it has changed, and does with that what was asked for.
// Run by main.ts; the sandbox is sandbox/, the trial on disk and its commit ops/try/. What this prints goes to stderr.
// Exit codes: the command's, 128 and a signal's number, 125 to 127 as env(1).

import { constants } from 'node:os';
import { resolve } from 'node:path';
import { commitTry } from '../ops/try/commit.js';
import type { TryConflict } from '../ops/try/conflicts.js';
import { prepareTry } from '../ops/try/prepare.js';
import { hasNews, readResult, type TryResult } from '../ops/try/result.js';
import { keepTry, openTry, removeTry, type TrySession } from '../ops/try/session.js';
import type { Sandbox, SandboxEnd } from '../sandbox/launch.js';
import { EXIT_SANDBOX } from '../sandbox/plan.js';
import { MountError } from '../stack/errors.js';
import type { Arguments } from './args.js';
import { lineOf } from './exit-codes.js';
import { counted, remark } from './output.js';
import { FORWARDED } from './signals.js';
import { askOutcome } from './try-ask.js';
import { type Choice, choiceOf, type Form, formOf, wishOf } from './try-flags.js';
import { listTries } from './try-list.js';
import {
  changesDocument,
  openReport,
  type Report,
  showChanges,
  showConflicts,
  type TryDocument,
} from './try-show.js';

/** A trial whose command has ended, and what is to become of it. */
interface Ended {
  readonly given: Arguments;
  readonly choice: Choice;
  readonly form: Form;
  readonly report: Report;
  readonly session: TrySession;
  /** What is known of the command, for the report. */
  readonly about: Pick<TryDocument, 'version' | 'command' | 'exitCode' | 'signal' | 'status'>;
}

export async function run(given: Arguments): Promise<number> {
  if (given.has('list')) return listTries(given);
  const asked = { given, choice: choiceOf(given), form: formOf(given) };
  const wish = wishOf(given);
  if (wish.command === '') {
    const session = openTry(resolve(wish.resume as string));
    const about = aboutOf(session.record.command);
    return decide({ ...asked, report: openReport(given), session, about });
  }
  const report = openReport(given);
  const { session, remarks, start } = prepareTry(wish, process.env);
  for (const text of remarks) remark(given, `try: ${text}`);
  const end = await passSignals(start((text) => remark(given, `try: ${text}`)));
  const command = [wish.command, ...wish.args];
  if (end.kind === 'ended') {
    return decide({ ...asked, report, session, about: aboutOf(command, end) });
  }
  // The command did not run: there is nothing to decide. What was kept before stays.
  if (wish.resume === undefined) removeTry(session);
  else keepTry(session);
  process.stderr.write(`varve: try: ${end.text}\n`);
  const about = { ...aboutOf(command), status: end.code };
  report({ ...about, outcome: 'failed', error: end.text });
  return end.code;
}

/** Whoever says one of these again means it. */
const FATAL: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGHUP', 'SIGQUIT'];

async function passSignals(sandbox: Sandbox): Promise<SandboxEnd> {
  const seen = new Set<NodeJS.Signals>();
  // The session of the command has no terminal of its own.
  const handlers = FORWARDED.map((signal) => {
    const handler = (): void => {
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

function aboutOf(command: readonly string[], end?: SandboxEnd & { kind: 'ended' }): Ended['about'] {
  const { code = null, signal = null } = end ?? {};
  const status = signal === null ? (code ?? 0) : 128 + constants.signals[signal];
  return { version: 1, command, exitCode: code, signal, status };
}

async function decide(ended: Ended): Promise<number> {
  const { session, report, about } = ended;
  let result: TryResult | undefined;
  try {
    result = readResult(session);
    return await carryOut(ended, result);
  } catch (error) {
    keepTry(session);
    const text = `${lineOf(error)}; the changes are kept: varve try --resume ${session.folder}`;
    process.stderr.write(`varve: try: ${text}\n`);
    const refused = error instanceof Refused ? { conflicts: forReport(error.conflicts) } : {};
    const failed = { status: EXIT_SANDBOX.failed, outcome: 'failed', error: text } as const;
    report({ ...about, ...failed, ...refused, kept: session.folder });
    return EXIT_SANDBOX.failed;
  } finally {
    result?.close();
  }
}

async function carryOut(ended: Ended, result: TryResult): Promise<number> {
  const { given, form, session, report, about } = ended;
  const news = hasNews(result);
  showChanges(form, result);
  const changes = given.has('json') ? { changes: changesDocument(result) } : {};
  switch (await outcomeOf(ended, result, news)) {
    case 'yes': {
      const { conflicts, committed } = await commitTry(session, result, given.has('force'));
      if (!committed) throw refused(conflicts);
      removeTry(session);
      remark(given, news ? 'committed' : 'no changes');
      const outcome = news ? 'committed' : 'unchanged';
      report({ ...about, outcome, conflicts: forReport(conflicts), ...changes });
      return about.status;
    }
    case 'keep':
      keepTry(session);
      remark(
        given,
        `kept in ${session.folder}: varve try --resume ${session.folder} shows it again, --yes commits, --no discards`,
      );
      report({ ...about, outcome: 'kept', kept: session.folder, ...changes });
      return about.status;
    default:
      removeTry(session);
      remark(given, news ? 'discarded: the system is as it was' : 'no changes');
      report({ ...about, outcome: news ? 'discarded' : 'unchanged', ...changes });
      return about.status;
  }
}

async function outcomeOf(
  { given, choice, about: { status } }: Ended,
  result: TryResult,
  news: boolean,
): Promise<'yes' | 'no' | 'keep'> {
  switch (choice) {
    case 'yes-if-ok':
      return status === 0 ? 'yes' : 'no';
    case 'default':
      return news ? 'keep' : 'no';
    case 'ask':
      if (!news) return 'no';
      if (status !== 0) remark(given, `try: the command returned ${status}`);
      return askOutcome(result);
    default:
      return choice;
  }
}

class Refused extends MountError {
  readonly conflicts: readonly TryConflict[];

  constructor(conflicts: readonly TryConflict[]) {
    const places = counted(conflicts.length, 'place');
    super(
      'busy',
      `commit refused, nothing was done: the system has changed since in ${places}, --force overrides`,
    );
    this.conflicts = conflicts;
  }
}

function refused(conflicts: readonly TryConflict[]): Refused {
  showConflicts(conflicts);
  return new Refused(conflicts);
}

function forReport(conflicts: readonly TryConflict[]): TryDocument['conflicts'] {
  return conflicts.map(({ path, message }) => ({
    path: Buffer.from(path, 'latin1').toString(),
    message,
  }));
}
