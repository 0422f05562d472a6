// Runs one test file as a process of its own in a folder of its own, and leaves nothing behind:
// processes, mounts and files of the test are taken down however it ends. Used by test/run.ts.

import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { detachBelow, mountsBelow } from './mounts.js';
import { endProcessesWith, processesWith } from './processes.js';
import type { ReportLine } from './reporter.js';
import { removeTempDir } from './temp.js';

/** Its value in a process's environment is the sandbox folder of the test that started it. */
const mark = 'VARVE_TEST_SANDBOX';

export interface FileRun {
  /** The node binary that runs it. */
  node: string;
  /** Compiled test file. */
  script: string;
  /** Folder that this run may fill; made here, deleted at the end. */
  sandbox: string;
  /** Regular expression over test names, or undefined for all. */
  namePattern: string | undefined;
  /** Milliseconds without an event or a byte of output after which it counts as hung. */
  patience: number;
  environment: NodeJS.ProcessEnv;
}

export interface FileResult {
  lines: ReportLine[];
  /** Last part of what it printed. */
  output: string;
  /** What hung and where, as text, when it was killed for that. */
  hung: string | undefined;
  /** How it ended when it failed without saying so in its report. */
  ending: string | undefined;
  /** Mount points that it left behind. */
  leftMounts: string[];
}

/** Milliseconds after which a file counts as hung that has failed and runs no test any more: what the failure left keeps it. */
const afterFailure = 60_000;

/** Only the end of a flood is kept, in characters. */
const outputLimit = 65_536;

export async function runFile(run: FileRun): Promise<FileResult> {
  const { sandbox } = run;
  const runtime = join(sandbox, 'run');
  mkdirSync(runtime, { recursive: true });
  // Tests as root let plain users look inside; a runtime folder is private by its specification.
  chmodSync(sandbox, 0o755);
  chmodSync(runtime, 0o700);
  const report = `${sandbox}.report`;
  const reporter = fileURLToPath(new URL('./reporter.js', import.meta.url));
  const preload = new URL('./preload.js', import.meta.url).href;
  const args = [`--import=${preload}`];
  args.push(`--test-reporter=${reporter}`, '--test-reporter-destination=stdout');
  if (run.namePattern !== undefined) args.push(`--test-name-pattern=${run.namePattern}`);
  const child = spawn(run.node, [...args, run.script], {
    env: {
      ...run.environment,
      [mark]: sandbox,
      VARVE_TEST_REPORT: report,
      TMPDIR: sandbox,
      XDG_RUNTIME_DIR: runtime,
      // A supervisor of its own, root's too: it ends with the sandbox and nobody else's mounts with it.
      VARVE_RUNTIME_DIR: runtime,
      // mkfs, losetup and mount.fuse live there, and a plain user's PATH may lack it.
      PATH: `${run.environment['PATH'] ?? ''}:/usr/sbin:/sbin`,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });

  let output = '';
  let lastSign = Date.now();
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => {
      lastSign = Date.now();
      output = (output + text).slice(-outputLimit);
    });
  }

  let hung: string | undefined;
  let reportSize = 0;
  const watch = setInterval(() => {
    const size = statSync(report, { throwIfNoEntry: false })?.size ?? 0;
    if (size !== reportSize) {
      reportSize = size;
      lastSign = Date.now();
    }
    const silence = Date.now() - lastSign;
    if (hung !== undefined || silence < Math.min(run.patience, afterFailure)) return;
    const lines = readReport(report);
    if (silence < run.patience && !hasFailed(lines)) return;
    hung = diagnose(Math.round(silence / 1000), run, lines);
    // Abort before the kill: a process inside a FUSE request does not die from the signal alone.
    detachQuietly(sandbox);
    child.kill('SIGKILL');
  }, 500);

  // Not `close`: a daemon that the test started may hold the pipes for ever.
  const ending = await new Promise<string | undefined>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('exit', (code, signal) => {
      if (signal !== null) resolve(`killed by ${signal}`);
      else resolve(code === 0 ? undefined : `exit code ${code}`);
    });
  });
  clearInterval(watch);
  const leftMounts = mountsBelow(sandbox).map(({ target }) => target);
  await takeDown(sandbox);
  child.stdout.destroy();
  child.stderr.destroy();
  return { lines: readReport(report), output, hung, ending, leftMounts };
}

/** Also for the runner's own end by a signal. */
export async function takeDown(sandbox: string): Promise<void> {
  // A supervisor that is asked first may unmount and wait for a server that hangs.
  detachQuietly(sandbox);
  await endProcessesWith(mark, sandbox, 2000);
  if (existsSync(sandbox)) removeTempDir(sandbox);
}

/** Something has failed, and no test runs. */
function hasFailed(lines: readonly ReportLine[]): boolean {
  return lines.at(-1)?.kind !== 'run' && lines.some(({ kind }) => kind === 'fail');
}

function diagnose(seconds: number, run: FileRun, lines: readonly ReportLine[]): string {
  const begun = lines.findLast(({ kind }) => kind === 'run')?.name ?? 'none';
  const rows = [`no sign of life for ${seconds} s; the last test begun: ${begun}`];
  for (const mount of mountsBelow(run.sandbox)) {
    const waiting = mount.fstype.startsWith('fuse')
      ? `, ${waitingRequests(mount.minor)} waiting`
      : '';
    rows.push(`  mount ${mount.target} (${mount.fstype}, connection ${mount.minor}${waiting})`);
  }
  for (const { pid, state, waitsIn, command } of processesWith(mark, run.sandbox)) {
    rows.push(`  process ${pid} ${state} in ${waitsIn}: ${command}`);
  }
  return rows.join('\n');
}

function waitingRequests(connection: number): string {
  try {
    return readFileSync(`/sys/fs/fuse/connections/${connection}/waiting`, 'utf8').trim();
  } catch {
    return 'unknown';
  }
}

function detachQuietly(sandbox: string): void {
  try {
    detachBelow(sandbox);
  } catch {
    // Reported by removeTempDir, which refuses to delete below a mount.
  }
}

/** The last line may be half written when the process was killed. */
function readReport(path: string): ReportLine[] {
  if (!existsSync(path)) return [];
  const complete = readFileSync(path, 'utf8').split('\n').slice(0, -1);
  return complete.map((line) => JSON.parse(line) as ReportLine);
}
