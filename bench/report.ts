// From samples to figures: minimums, their ratios, whether the targets are met; as text and as Markdown.
// Called by main.ts when all runners have ended; reads nothing and writes nothing.
// Follows: nothing. A minimum is the run that was disturbed least; means would measure the neighbours.

import { cpus } from 'node:os';
import type { Case, Scale } from './cases.js';
import { CASES, titleOf } from './cases.js';
import type { Environment, Fs, Privilege } from './environments.js';
import type { SubjectName } from './subjects.js';
import { SUBJECT_NAMES } from './subjects.js';

/** Everything one run measured; what `--json` writes. */
export interface Results {
  readonly date: string;
  readonly machine: Machine;
  readonly scale: Scale;
  readonly rounds: number;
  readonly series: readonly Series[];
  /** What was left out, and why. */
  readonly skipped: readonly string[];
}

export interface Machine {
  readonly kernel: string;
  readonly cpu: string;
  readonly node: string;
  readonly fuseOverlayfs: string;
}

/** The samples of one subject in one case and environment, in the order they were taken. */
export interface Series {
  readonly case: string;
  readonly fs: Fs;
  readonly privilege: Privilege;
  readonly subject: SubjectName;
  readonly samples: readonly number[];
  readonly errors: readonly string[];
}

/** One line of the table. */
export interface Row {
  readonly title: string;
  readonly environment: Environment;
  readonly unit: Case['unit'];
  /** Minimum of each subject that has one. */
  readonly minimum: ReadonlyMap<SubjectName, number>;
  readonly verdicts: readonly Verdict[];
  readonly errors: readonly string[];
}

export interface Verdict {
  /** What varve's figure was divided by; `absolute` for nothing. */
  readonly to: string;
  readonly limit: number;
  /** undefined: varve or what it is compared with has no figure. */
  readonly figure: number | undefined;
}

export function isMet({ figure, limit }: Verdict): boolean {
  return figure !== undefined && figure <= limit;
}

export function describeCpu(): string {
  const all = cpus();
  return `${all.length} x ${all[0]?.model.trim() ?? 'unknown'}`;
}

/** The rows in the order of CASES; a case and environment without samples has none. */
export function toRows(results: Results): Row[] {
  const rows: Row[] = [];
  for (const one of CASES) {
    for (const fs of one.fs) {
      for (const privilege of one.privileges) {
        const mine = results.series.filter(
          (s) => s.case === one.name && s.fs === fs && s.privilege === privilege,
        );
        if (mine.length > 0) rows.push(toRow(one, { fs, privilege }, mine, results));
      }
    }
  }
  return rows;
}

function toRow(
  one: Case,
  environment: Environment,
  series: readonly Series[],
  results: Results,
): Row {
  const minimum = minimums(series);
  const verdicts: Verdict[] = [];
  for (const target of one.targets) {
    const limit = target[environment.privilege];
    if (limit === undefined) continue;
    const ours = minimum.get('varve');
    if (target.to === 'absolute') {
      verdicts.push({ to: 'absolute', limit, figure: ours });
    } else if (typeof target.to === 'string') {
      verdicts.push({ to: target.to, limit, figure: ratio(ours, minimum.get(target.to)) });
    } else {
      const other = target.to.case;
      const base = minimums(
        results.series.filter(
          (s) =>
            s.case === other &&
            s.fs === environment.fs &&
            s.privilege === environment.privilege &&
            s.subject === 'varve',
        ),
      );
      verdicts.push({ to: other, limit, figure: ratio(ours, base.get('varve')) });
    }
  }
  const errors = series.flatMap((s) => s.errors.map((error) => `${s.subject}: ${error}`));
  return {
    title: titleOf(one, results.scale),
    environment,
    unit: one.unit,
    minimum,
    verdicts,
    errors,
  };
}

function minimums(series: readonly Series[]): Map<SubjectName, number> {
  const found = new Map<SubjectName, number>();
  for (const { subject, samples } of series) {
    if (samples.length > 0) found.set(subject, Math.min(...samples));
  }
  return found;
}

function ratio(ours: number | undefined, theirs: number | undefined): number | undefined {
  return ours === undefined || theirs === undefined ? undefined : ours / theirs;
}

const COLUMNS = ['case', 'on', 'kernel', 'fuse-overlayfs', 'varve', 'ratio (limit)', ''] as const;
const NUMERIC = new Set([2, 3, 4]);

function cells(row: Row): string[] {
  const figure = (name: SubjectName) => {
    const value = row.minimum.get(name);
    return value === undefined ? '-' : `${round(value)} ${row.unit}`;
  };
  const verdicts = row.verdicts.map(({ to, limit, figure: value }) => {
    const shown = value === undefined ? '?' : round(value);
    return to === 'absolute' ? `${shown} (${limit} ${row.unit})` : `${shown} (${limit}) to ${to}`;
  });
  const known = row.verdicts.filter(({ figure: value }) => value !== undefined);
  const word = known.length === 0 ? '' : known.every(isMet) ? 'met' : 'MISSED';
  return [
    row.title,
    `${row.environment.fs}, ${row.environment.privilege}`,
    figure('kernel'),
    figure('fuse-overlayfs'),
    figure('varve'),
    verdicts.join('; '),
    row.errors.length > 0 && word === '' ? 'failed' : word,
  ];
}

/** Three significant digits, as a plain number. */
function round(value: number): string {
  if (Math.abs(value) >= 100) return value.toFixed(0);
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}

/** The table for a terminal. */
export function toText(results: Results): string {
  const lines = [COLUMNS as readonly string[], ...toRows(results).map(cells)];
  const widths = COLUMNS.map((_, i) => Math.max(...lines.map((line) => line[i].length)));
  const pad = (text: string, i: number) =>
    NUMERIC.has(i) ? text.padStart(widths[i]) : text.padEnd(widths[i]);
  return [...lines.map((line) => line.map(pad).join('  ').trimEnd()), ...notes(results)].join('\n');
}

/** The tables and their circumstances for docs/benchmarks.md: figures against targets, then the minimums. */
export function toMarkdown(results: Results): string {
  const { machine } = results;
  return [
    `Run on ${results.date.slice(0, 10)}: Linux ${machine.kernel}, ${machine.cpu}, Node ${machine.node}, ` +
      `fuse-overlayfs ${machine.fuseOverlayfs}; minimums of ${results.rounds} rounds.`,
    '',
    ...targetTable(results),
    '',
    ...notes(results).map((note) => `- ${note}`),
    '',
    'Minimums behind these figures: kernel / fuse-overlayfs / varve.',
    '',
    ...minimumTable(results),
  ].join('\n');
}

const markdownRow = (row: readonly string[]) => `| ${row.join(' | ')} |`;
const label = ({ fs, privilege }: Environment) => `${fs}, ${privilege}`;

/** Environments that have a row, in their order. */
function environmentsOf(rows: readonly Row[]): string[] {
  return [...new Set(rows.map((row) => label(row.environment)))];
}

/** Lines by title, cells by environment. */
type Pivot = Map<string, Map<string, string>>;

function put(pivot: Pivot, line: string, environment: Environment, cell: string): void {
  const cellsOf = pivot.get(line) ?? new Map<string, string>();
  pivot.set(line, cellsOf.set(label(environment), cell));
}

function pivotTable(corner: string, pivot: Pivot, environments: readonly string[]): string[] {
  return [
    markdownRow([corner, ...environments]),
    markdownRow(['---', ...environments.map(() => '--:')]),
    ...[...pivot].map(([line, cellsOf]) =>
      markdownRow([line, ...environments.map((name) => cellsOf.get(name) ?? '')]),
    ),
  ];
}

/** One line a target: its figure in every environment, misses in bold. */
function targetTable(results: Results): string[] {
  const rows = toRows(results);
  const pivot: Pivot = new Map();
  for (const { title, unit, environment, verdicts } of rows) {
    for (const verdict of verdicts) {
      const { to, limit, figure } = verdict;
      const line = to === 'absolute' ? `${title}, ${unit}` : `${title}, to ${to}`;
      const missed = figure !== undefined && !isMet(verdict);
      const shown = figure === undefined ? '?' : round(figure);
      put(pivot, line, environment, `${missed ? `**${shown}**` : shown} (${limit})`);
    }
  }
  return pivotTable('figure (limit), bold where missed', pivot, environmentsOf(rows));
}

/** One line a case: the minimum of each subject in every environment. */
function minimumTable(results: Results): string[] {
  const rows = toRows(results);
  const pivot: Pivot = new Map();
  for (const { title, unit, environment, minimum } of rows) {
    const shown = (name: SubjectName) => {
      const value = minimum.get(name);
      return value === undefined ? '-' : round(value);
    };
    put(pivot, `${title}, ${unit}`, environment, SUBJECT_NAMES.map(shown).join(' / '));
  }
  return pivotTable('minimum', pivot, environmentsOf(rows));
}

function notes(results: Results): string[] {
  const verdicts = toRows(results).flatMap((row) => row.verdicts);
  const known = verdicts.filter(({ figure }) => figure !== undefined);
  const failures = toRows(results).flatMap((row) =>
    row.errors.map((error) => `failed: ${row.title}, ${row.environment.fs}: ${error}`),
  );
  return [
    `${known.filter(isMet).length} of ${verdicts.length} targets met, ` +
      `${known.filter((v) => !isMet(v)).length} missed, ${verdicts.length - known.length} without a figure.`,
    ...new Set(failures),
    ...results.skipped.map((reason) => `left out: ${reason}`),
  ];
}
