// unionmount-testsuite: what a union mount does to names and files while layers come and go.
// Run by main.ts in a mount namespace of its own, once for each combination of its options.
// Follows: the README of unionmount-testsuite; a FUSE overlay is mounted by `mount -t fuse.NAME`.

import { existsSync, mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { command } from './commands.js';
import { progress, type Score, type Setting, timed } from './score.js';

/** Layers, filesystems and checks are three choices; every combination is run. */
const layers = ['--ov', '--ov=1', '--ov=10'];
const filesystems = ['', '--samefs', '--maxfs=5', '--erofs'];
const checks = ['', '--verify'];

/** The suite mounts here; they must exist. */
const places = ['/base', '/lower', '/upper', '/mnt'];

/** The suite leaves its last mount, whose server would keep the namespace for ever. */
const inNamespace = './run "$@"; status=$?; umount -a -l -t "fuse.$0"; exit $status';

export async function runUnionmount(setting: Setting): Promise<Score[]> {
  const made = places.filter((place) => !existsSync(place));
  for (const place of made) mkdirSync(place);
  try {
    return await setting.peer.withHelper(() => runAll(setting));
  } finally {
    for (const place of made) rmdirSync(place);
  }
}

async function runAll(setting: Setting): Promise<Score[]> {
  const scores: Score[] = [];
  for (const layer of layers) {
    for (const filesystem of filesystems) {
      for (const check of checks) {
        const flags = [layer, setting.peer.fuseFlag, filesystem, check].filter(
          (flag): flag is string => flag !== undefined && flag !== '',
        );
        const variant = flags.filter((flag) => !flag.startsWith('--fuse')).join(' ');
        if (!variant.includes(setting.match)) continue;
        scores.push(await runCombination(setting, variant, flags));
      }
    }
  }
  return scores;
}

/** The suite stops at the first script that fails; the rest is run again without it. */
async function runCombination(
  { folder, peer }: Setting,
  variant: string,
  flags: readonly string[],
): Promise<Score> {
  const cwd = join(folder, 'unionmount-testsuite');
  const failures: string[] = [];
  const passed = new Set<string>();
  const { all, seconds } = await timed(async () => {
    const whole = scriptsOf(join(cwd, 'run'));
    for (let rest: string[] = []; ; ) {
      const { code, output } = await command(
        'unshare',
        [
          ...['--mount', '--propagation', 'private'],
          ...['sh', '-c', inNamespace, peer.subject.name, ...flags, ...rest],
        ],
        { cwd, limit: 3600 },
      );
      const started = [...output.matchAll(/^\*\*\* \.\/run .*?(\S+)$/gm)].map((match) => match[1]);
      const last = started.at(-1);
      if (code === 0) {
        for (const name of started) passed.add(name);
        break;
      }
      if (last === undefined) {
        failures.push(`nothing ran: ${output.slice(-300)}`);
        break;
      }
      for (const name of started.slice(0, -1)) passed.add(name);
      passed.delete(last);
      failures.push(`${last}: ${code === undefined ? 'hung' : lastWords(output)}`);
      const order = rest.length > 0 ? rest : whole;
      rest = order.slice(order.indexOf(last) + 1);
      if (rest.length === 0) break;
    }
    return { all: whole };
  });
  const total = Math.max(all.length, 1);
  progress(`unionmount ${variant}: ${passed.size} of ${total}`);
  return {
    ...{ suite: 'unionmount', variant, unit: 'scripts', passed: passed.size, total, seconds },
    failures,
  };
}

/** Names of the scripts in the order of the suite, from the list in its own program. */
function scriptsOf(program: string): string[] {
  // Each stands alone in quotes on its line; renames of folders are part of what is run.
  const names = readFileSync(program, 'utf8').matchAll(/^\s+"([a-z0-9-]+)",?$/gm);
  return [...names].map((match) => match[1]).filter((name) => name !== 'rename-exdev');
}

function lastWords(output: string): string {
  const lines = output.trimEnd().split('\n');
  return lines.slice(-2).join(' | ').slice(0, 300);
}
