// `varve wine layer add`: an installer is run in a temporary prefix, and what it changes becomes a layer.
// Run by main.ts; wine/library/record-layer.ts does it, library/put.ts puts it into a prefix.
// Manual: wine-library-commands.ts.

import { bytesText } from '../report/words.js';
import { MountError } from '../stack/errors.js';
import { layerNamed } from '../wine/library/create.js';
import { putLayer } from '../wine/library/put.js';
import { type RecordedLayer, recordLayer } from '../wine/library/record-layer.js';
import { findWine } from '../wine/prefix/build.js';
import { winePlaces } from '../wine/prefix/places.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { counted, print, remark } from './output.js';
import { forwardSignals } from './signals.js';
import { baseOrDefault } from './wine-base-default.js';
import { remarkConflicts, withProgress } from './wine-library.js';

export async function run(given: Arguments): Promise<number> {
  const [name = '', ...command] = given.operands;
  if (given.before !== 1) {
    throw new MountError(
      'option',
      'layer add: name the layer, then -- and the installer: varve wine layer add NAME -- SETUP [ARG...]',
    );
  }
  const prefix = given.value('prefix');
  if (prefix !== undefined && given.has('base')) {
    throw new MountError('option', '--base: the prefix has one: leave it or --prefix out');
  }
  if (prefix === undefined && given.has('put')) {
    throw new MountError('option', '--put: say by --prefix into which prefix');
  }
  const { env } = process;
  const base = prefix === undefined ? await baseOrDefault(given, given.value('base')) : undefined;
  const layers = given.values('layer').map((layer) => layerNamed(layer, winePlaces(env)));
  let quiet = (): void => {};
  const recorded = await withProgress(given, name, () =>
    recordLayer({
      name,
      base,
      layers,
      prefix,
      command,
      wine: findWine(given.value('wine'), env),
      env,
      quiet: given.has('quiet') || given.has('json'),
      keepNoise: given.has('keep-noise'),
      keepFailed: given.has('keep-failed'),
      // Ended by a signal, the installer leaves a prefix that is still to be taken down.
      onStart: (child) => {
        quiet = forwardSignals(() => child);
      },
    }),
  ).finally(() => quiet());
  const { path } = recorded;
  if (path !== undefined && prefix !== undefined && given.has('put')) {
    const { conflicts } = await putLayer(prefix, name, undefined, env);
    remarkConflicts(given, conflicts);
  }
  if (given.has('json')) print(given, { version: 1, name, ...recorded }, () => '');
  else for (const line of sentences(name, command, recorded)) remark(given, line);
  if (path !== undefined) return EXIT.ok;
  if (given.has('quiet') && !given.has('json')) {
    process.stderr.write(`varve: ${failure(command, recorded)}\n`);
  }
  return EXIT.failed;
}

function failure(command: readonly string[], { exitCode, signal }: RecordedLayer): string {
  const how = signal === undefined ? `exit code ${exitCode}` : `ended by ${signal}`;
  return `${command[0]}: ${how}: nothing is kept (--keep-failed keeps it)`;
}

function sentences(name: string, command: readonly string[], recorded: RecordedLayer): string[] {
  const { path, files, keys, dropped, noise, exitCode } = recorded;
  if (path === undefined) return [failure(command, recorded)];
  const lines = [
    `${name}: ${counted(files, 'file')}, ${counted(keys, 'registry key')}: \`varve wine layer put ${name} PREFIX\``,
  ];
  if (exitCode !== 0) lines.push(`  ${command[0]} had exit code ${exitCode}`);
  if (dropped.files > 0) {
    const bytes = bytesText(dropped.bytes);
    lines.push(`  left out: ${counted(dropped.files, 'identical file')}, ${bytes}`);
  }
  if (noise > 0) lines.push(`  left out: ${counted(noise, 'key')} that every session writes`);
  if (files === 0 && keys === 0) lines.push('  nothing was changed: is it the right installer?');
  return lines;
}
