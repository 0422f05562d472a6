// Splits a command line into flags and operands by a table of flags.
// Called by main.ts, overlayfs.ts and mount-helper.ts; the tables stand in commands.ts.
// Follows the utility syntax guidelines of POSIX.1-2017 (12.2) and GNU long options.

import { MountError } from '../stack/errors.js';

/** One flag of a command. */
export interface FlagRecord {
  /** Without dashes: `json`. */
  readonly name: string;
  /** One letter: `f`. */
  readonly short?: string;
  /** Name of its value in the manual; undefined: it takes none. */
  readonly value?: string;
  /** The value may be left out, and is given by `--name=VALUE` only. */
  readonly optional?: boolean;
  /** May be given several times. */
  readonly many?: boolean;
  readonly help: string;
}

/** What was given. */
export interface Arguments {
  readonly operands: readonly string[];
  /** How many of the operands stand before `--`; undefined when there is none. */
  readonly before: number | undefined;
  has(name: string): boolean;
  /** The last value of a flag. */
  value(name: string): string | undefined;
  values(name: string): readonly string[];
}

/**
 * @param verbatim after so many operands everything is an operand, whatever it looks like.
 * @throws MountError of kind `option` that names what is wrong.
 */
export function parseArguments(
  argv: readonly string[],
  flags: readonly FlagRecord[],
  verbatim = Number.POSITIVE_INFINITY,
): Arguments {
  const found = new Map<string, string[]>();
  const operands: string[] = [];
  let before: number | undefined;
  const note = (flag: FlagRecord, value: string): void => {
    const values = found.get(flag.name);
    if (values === undefined) found.set(flag.name, [value]);
    else values.push(value);
  };
  const wrong = (message: string): MountError =>
    new MountError('option', `${message}: see --help for what can be given`);

  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] as string;
    if (word === '--') {
      before = operands.length;
      operands.push(...argv.slice(i + 1));
      break;
    }
    if (word.startsWith('--')) {
      const equals = word.indexOf('=');
      const name = word.slice(2, equals < 0 ? undefined : equals);
      const flag = flags.find((f) => f.name === name);
      if (flag === undefined) throw wrong(`unknown flag --${name}`);
      if (flag.value === undefined && equals >= 0) throw wrong(`--${name} takes no value`);
      if (flag.value === undefined) note(flag, '');
      else if (equals >= 0) note(flag, word.slice(equals + 1));
      else if (flag.optional) note(flag, '');
      else if (i + 1 < argv.length) note(flag, argv[++i] as string);
      else throw wrong(`--${name} needs a value (${flag.value})`);
    } else if (word.startsWith('-') && word.length > 1) {
      for (let k = 1; k < word.length; k++) {
        const letter = word[k] as string;
        const flag = flags.find((f) => f.short === letter);
        if (flag === undefined) throw wrong(`unknown flag -${letter}`);
        if (flag.value === undefined) {
          note(flag, '');
          continue;
        }
        // -oVALUE and -o VALUE
        if (k + 1 < word.length) note(flag, word.slice(k + 1));
        else if (i + 1 < argv.length) note(flag, argv[++i] as string);
        else throw wrong(`-${letter} needs a value (${flag.value})`);
        break;
      }
    } else {
      operands.push(word);
      if (operands.length < verbatim) continue;
      operands.push(...argv.slice(i + 1));
      break;
    }
  }
  return {
    operands,
    before,
    has: (name) => found.has(name),
    value: (name) => found.get(name)?.at(-1),
    values: (name) => found.get(name) ?? [],
  };
}
