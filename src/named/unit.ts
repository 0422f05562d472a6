// A named stack as a unit of systemd: a mount unit for mount.fuse.varve, or a service that runs `varve up`.
// Used by `varve stack unit`; text only, nothing is installed.
// Follows systemd.unit(5), systemd.mount(5), systemd.service(5), systemd-escape(1) and systemd.syntax(7) of systemd 252.

import { parseOptions } from '../stack/options.js';
import { pathsOf } from './order.js';
import { optionText } from './request.js';
import { errorAt, type Stack, type StackFile } from './stacks.js';

/** One unit. */
export interface Unit {
  /** `srv-web.mount`. */
  readonly file: string;
  readonly text: string;
}

/**
 * For mount(8): everything filled in, and the flags that its own defaults would turn round.
 * @throws MountError where mount(8) would not hand it on as it is.
 */
export function helperOptions(stack: Stack, file: StackFile): string {
  const text = optionText(stack, file);
  if (text.includes('"') || stack.options.some((option) => /[,\\]$/.test(option))) {
    // libmount takes a quote for the begin of a quoted value, also behind a backslash.
    throw errorAt(
      file,
      stack.at,
      'option',
      `${stack.name}: a double quote, or a comma or backslash at the end of a value, does not come through mount(8): take \`varve stack unit --service ${stack.name}\``,
    );
  }
  const { nosuid, nodev } = parseOptions([text], { defaults: '' });
  // Words at the end: a backslash there would join the line with the next one.
  return [text, nosuid ? 'nosuid' : 'suid', nodev ? 'nodev' : 'dev'].join(',');
}

/**
 * What systemd mounts itself, by mount(8) and mount.fuse.varve. The stack is frozen: later changes of the file do not
 * reach it.
 * @throws MountError where a path cannot stand in a unit.
 */
export function mountUnit(stack: Stack, file: StackFile): Unit {
  const mount = stack.mount?.path as string;
  const options = helperOptions(stack, file);
  for (const text of [mount, options]) {
    if (!/^\s|[\n\r]|[\s\\]$/.test(text)) continue;
    throw errorAt(
      file,
      stack.at,
      'option',
      `${stack.name}: a line break, or a blank or backslash at the end of ${JSON.stringify(mount)}, cannot stand in a mount unit: say --service`,
    );
  }
  const name = `${escapeUnitPath(mount)}.mount`;
  const lines = [
    ...head(stack, file, name),
    '',
    '[Mount]',
    'What=varve',
    `Where=${percent(mount)}`,
    'Type=fuse.varve',
    `Options=${percent(options)}`,
    '# The supervisor of all mounts must not end with the first of them.',
    'KillMode=process',
    '',
    '[Install]',
    'WantedBy=multi-user.target',
  ];
  return { file: name, text: `${lines.join('\n')}\n` };
}

/**
 * `varve up` and `varve down`, which read the file each time.
 * @param varve absolute path of the command. @param user for `systemctl --user`.
 */
export function serviceUnit(stack: Stack, file: StackFile, varve: string, user: boolean): Unit {
  const name = `varve-${stack.name}.service`;
  const command = (verb: string): string =>
    [varve, verb, '--quiet', '--file', file.path, '--', stack.name].map(commandWord).join(' ');
  const lines = [
    ...head(stack, file, name),
    '',
    '[Service]',
    'Type=oneshot',
    'RemainAfterExit=yes',
    `ExecStart=${command('up')}`,
    `ExecStop=${command('down')}`,
    '# The server of the mount, and the supervisor of all mounts, go on when the command ends.',
    'KillMode=process',
    '',
    '[Install]',
    `WantedBy=${user ? 'default' : 'multi-user'}.target`,
  ];
  return { file: name, text: `${lines.join('\n')}\n` };
}

function head(stack: Stack, file: StackFile, name: string): string[] {
  const about = stack.description === undefined ? '' : `: ${stack.description}`;
  const needed = [...new Set(pathsOf(stack))].filter((path) => path !== stack.mount?.path);
  return [
    // A comment ends with its line, whatever the path holds.
    `# ${name}: printed by \`varve stack unit ${stack.name}\` from ${JSON.stringify(file.path)}`,
    '[Unit]',
    `Description=${percent(oneLine(`varve stack ${stack.name}${about}`))}`,
    'Documentation=man:varve-stack-unit(1)',
    ...needed.flatMap((path) => {
      const word = quotedPath(path);
      return word === undefined ? [] : [`RequiresMountsFor=${word}`];
    }),
  ];
}

const oneLine = (text: string): string =>
  text
    .replace(/[\0-\x1f\x7f]+/g, ' ')
    .trim()
    .replace(/\\+$/, '');

/** `%` begins a specifier. */
const percent = (text: string): string => text.replace(/%/g, '%%');

/** One word of a list of paths, where a backslash makes the next character ordinary. @returns undefined for a line break. */
function quotedPath(path: string): string | undefined {
  if (/[\n\r\0]/.test(path)) return undefined;
  const text = percent(path);
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `"${text.replace(/[\\"]/g, '\\$&')}"`;
}

/** One word of a command line: quoted, with escapes as in C, `%` and `$` doubled. */
function commandWord(word: string): string {
  const text = percent(word).replace(/\$/g, '$$$$');
  if (/^[\w@%+=:,./$-]+$/.test(text)) return text;
  const escaped = text.replace(/[\\"\x00-\x1f\x7f]/g, (c) =>
    c === '\\' || c === '"' ? `\\${c}` : `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
  return `"${escaped}"`;
}

/** The name of the unit of a path, as `systemd-escape --path` makes it. @param path absolute, normalised. */
export function escapeUnitPath(path: string): string {
  const inner = path.replace(/^\/+|\/+$/g, '').replace(/\/{2,}/g, '/');
  if (inner === '') return '-';
  return [...Buffer.from(inner)]
    .map((byte, i) => {
      const c = String.fromCharCode(byte);
      if (c === '/') return '-';
      const plain = /[A-Za-z0-9:_.]/.test(c) && !(c === '.' && i === 0);
      return plain ? c : `\\x${byte.toString(16).padStart(2, '0')}`;
    })
    .join('');
}
