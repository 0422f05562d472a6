// The settings of the machine as if they stood on the command line, where that says nothing else.
// Used by boot-build.ts; boot/install/settings.ts reads them.
// Format: docs/boot-install.md.

import type { BootSettings } from '../boot/install/settings.js';
import type { Arguments } from './args.js';

/** @param given of `varve boot build`. */
export function withSettings(given: Arguments, settings: BootSettings): Arguments {
  const said = flagsOf(settings);
  // There it has to be said what is fallen back to.
  if (!given.has('fallback') && settings.onFailure === 'fallback') said.delete('on-failure');
  const from = (name: string): readonly string[] =>
    given.has(name) ? given.values(name) : (said.get(name) ?? []);
  return {
    operands: given.operands,
    before: given.before,
    has: (name) => given.has(name) || said.has(name),
    value: (name) => from(name).at(-1),
    values: from,
  };
}

function flagsOf(settings: BootSettings): Map<string, readonly string[]> {
  const { bootfs, timeout, layers, storage } = settings;
  const rows: [string, string | undefined][] = [
    // `auto` is found when it is installed.
    ['bootfs', bootfs === 'auto' ? undefined : bootfs],
    ['bootfstype', settings.bootfstype],
    ['format', settings.fstype],
    ['compress', settings.compress],
    ['storage', storage?.join(',')],
    ['verify', settings.verify],
    ['cert', settings.certificate],
    ['timeout', timeout === undefined ? undefined : String(timeout)],
    ['on-failure', settings.onFailure],
    ['overlay-size', settings.overlaySize],
  ];
  const said = new Map<string, readonly string[]>();
  for (const [name, value] of rows) if (value !== undefined) said.set(name, [value]);
  if (layers.length > 0) said.set('layer', layers);
  return said;
}
