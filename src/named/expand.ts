// `~` and `${NAME}` in the paths and values of varve.yaml: text and environment to text.
// Called by stacks.ts for every path and every value of an option.
// Follows the parameter expansion of POSIX.1-2017 (2.6.2), as far as compose files have it: ${N}, ${N-w}, ${N:-w}, ${N?m}, ${N:?m}, $N, $$.

/** The variables, and where `~` leads. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Absolute. */
  readonly home: string;
}

/** The text, or a sentence about what is wrong with it. */
export type Expanded = { readonly text: string } | { readonly wrong: string };

const REFERENCE = /\$(?:\$|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:(:?[-?])([^{}]*))?\}|)/g;

/** Fills variables in. An unset one without a default is an error: half a path is worse than none. */
export function expandVariables(text: string, { env }: Surroundings): Expanded {
  let wrong: string | undefined;
  const expanded = text.replace(
    REFERENCE,
    (all, plain?: string, braced?: string, operator?: string, word?: string) => {
      if (all === '$$') return '$';
      const name = plain ?? braced;
      if (name === undefined) {
        wrong ??= `"$" begins a variable, \${NAME}: write $$ for a dollar sign`;
        return '';
      }
      const value = env[name];
      const there = operator?.startsWith(':') ? value !== undefined && value !== '' : value;
      if (value !== undefined && there !== false) return value;
      if (operator?.endsWith('-')) return word ?? '';
      const why = word === undefined || word === '' ? 'is not set' : word;
      wrong ??= `\${${name}}: ${why}: set it, or write \${${name}:-DEFAULT}`;
      return '';
    },
  );
  return wrong === undefined ? { text: expanded } : { wrong };
}

/** The same, with a leading `~` as the home folder; of a path. */
export function expandPath(text: string, around: Surroundings): Expanded {
  const user = /^~([^/]+)/.exec(text)?.[1];
  if (user !== undefined) {
    return { wrong: `~${user}: only ~ itself is known: write the path (./~${user} is a name)` };
  }
  const rest = text.startsWith('~') ? text.slice(1) : text;
  const expanded = expandVariables(rest, around);
  if ('wrong' in expanded || rest === text) return expanded;
  return { text: around.home + expanded.text };
}

/** Writes a path so that expandPath() gives it back. */
export function unexpandPath(path: string): string {
  const text = path.replace(/\$/g, '$$$$');
  return text.startsWith('~') ? `./${text}` : text;
}
