// A SQLite database that takes transactions until its filesystem fails, and whether those that were answered are all there.
// Used by crash.ts. The database lies in the lower layer at first.
// Follows: sqlite.org/atomiccommit.html; synchronous=EXTRA syncs the folder after the journal was removed.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { run } from '../overlay/stack.js';

export const DATABASE = 'data.db';
const JOURNALS = ['delete', 'wal', 'truncate', 'persist'] as const;

/** Makes the database in the current folder of a layer. */
export function makeDatabase(path: string): void {
  run('sqlite3', [
    path,
    `CREATE TABLE a (n INTEGER PRIMARY KEY, x BLOB); CREATE TABLE b (n INTEGER PRIMARY KEY, x BLOB);
     INSERT INTO a VALUES (0, zeroblob(300000)); INSERT INTO b VALUES (0, zeroblob(10));`,
  ]);
}

export interface Transactions {
  /** Number of the last transaction that was answered. */
  answered(): number;
  /** Resolves once the filesystem has failed. */
  readonly ended: Promise<unknown>;
}

/** Adds a row to each of two tables in one transaction, again and again. */
export function startTransactions(path: string, seed: number): Transactions {
  const journal = JOURNALS[seed % JOURNALS.length];
  const shell = spawn('sqlite3', ['-bail', path], { stdio: ['pipe', 'pipe', 'ignore'] });
  const ended = once(shell, 'exit');
  let last = 0;
  let next = 1;
  shell.stdin.on('error', () => {});
  const send = (): void => {
    const size = (next * 977) % 9000;
    shell.stdin.write(
      `BEGIN; INSERT INTO a VALUES (${next}, zeroblob(${size})); INSERT INTO b VALUES (${next}, 'x'); COMMIT;
       SELECT 'done ${next}';\n`,
    );
    next++;
  };
  let text = '';
  shell.stdout.setEncoding('utf8').on('data', (some: string) => {
    text += some;
    const lines = text.split('\n');
    text = lines.pop() as string;
    for (const line of lines) {
      if (!line.startsWith('done ')) continue;
      last = Number(line.slice(5));
      send();
    }
  });
  shell.stdin.write(`PRAGMA journal_mode=${journal}; PRAGMA synchronous=EXTRA;\n`);
  send();
  return { answered: () => last, ended };
}

/** Throws when the database is damaged, or a transaction is missing that was answered, or half of one is there. */
export function checkDatabase(path: string, last: number): void {
  const said = run('sqlite3', [
    path,
    `PRAGMA integrity_check; SELECT count(*), max(n) FROM a; SELECT count(*), max(n) FROM b;`,
  ]);
  const [integrity, a, b] = said.split('\n');
  assert.equal(integrity, 'ok');
  assert.equal(a, b, 'half a transaction');
  const [count, most] = (a as string).split('|').map(Number) as [number, number];
  assert.equal(count, most + 1, 'a transaction is missing between others');
  assert.ok(most >= last, `${last} transactions were answered, ${most} are there`);
}
