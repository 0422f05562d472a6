// The text form of mount options: splitting at commas, unescaping, splitting lists of layers.
// First step of stack/options.ts; knows no option by name.
// Follows ovl_next_opt() and ovl_parse_param_lowerdir() of fs/overlayfs/params.c (Linux 6.18).

/** One option as it was written: `name` alone, or `name=value` with the value still escaped. */
export interface RawOption {
  readonly name: string;
  /** Still escaped; undefined when there was no `=`. */
  readonly value: string | undefined;
}

/**
 * Splits `a=1,,b` at commas that no backslash precedes. Empty options vanish. A quoted context
 * (`context="a:b:c0,c1"`, as mount(8) writes it) may hold commas and loses its quotes.
 */
export function splitOptions(text: string): RawOption[] {
  const options: RawOption[] = [];
  let item = '';
  let quoted = false;
  const finish = (): void => {
    if (item !== '') options.push(rawOption(item));
    item = '';
  };
  for (let i = 0; i < text.length; i++) {
    const c = text[i] as string;
    if (c === '\\' && i + 1 < text.length) {
      item += c + text[++i];
    } else if (c === '"' && (quoted || (item.endsWith('context=') && text.includes('"', i + 1)))) {
      quoted = !quoted;
    } else if (c === ',' && !quoted) {
      finish();
    } else {
      item += c;
    }
  }
  finish();
  return options;
}

function rawOption(text: string): RawOption {
  const at = text.indexOf('=');
  return at < 0
    ? { name: text, value: undefined }
    : { name: text.slice(0, at), value: text.slice(at + 1) };
}

/** A backslash makes the character after it ordinary; a trailing one stands for itself. */
export function unescapeValue(value: string): string {
  return value.includes('\\') ? value.replace(/\\(.)/gs, '$1') : value;
}

/** Writes layers as the value of `lowerdir=`, so that splitOptions() and splitLayers() give them back: topmost first. */
export function joinLayers(lowers: readonly string[], data: readonly string[] = []): string {
  return [lowers.map(escapeLayer).join(':'), ...data.map(escapeLayer)].join('::');
}

function escapeLayer(path: string): string {
  return path.replace(/[\\,:]/g, '\\$&');
}

/** Writes a single path (upperdir, workdir) so that splitOptions() and unescapeValue() give it back. */
export function escapePath(path: string): string {
  return path.replace(/[\\,]/g, '\\$&');
}

/** What `lowerdir=` lists: ordinary layers, then data-only ones (each after `::`). Unescaped. */
export interface LayerList {
  readonly lowers: string[];
  readonly data: string[];
}

/**
 * Splits `A:B::D1::D2`.
 * @returns a sentence about what is wrong instead, when the list is malformed.
 */
export function splitLayers(value: string): LayerList | string {
  const lowers: string[] = [];
  const data: string[] = [];
  let item = '';
  let intoData = false;
  const take = (): string | undefined => {
    if (item === '') return 'an empty name between colons';
    (intoData ? data : lowers).push(unescapeValue(item));
    item = '';
    return undefined;
  };
  for (let i = 0; i < value.length; i++) {
    const c = value[i] as string;
    if (c === '\\') {
      item += c + (value[++i] ?? '');
      continue;
    }
    if (c !== ':') {
      item += c;
      continue;
    }
    const wrong = take();
    if (wrong !== undefined) return wrong;
    if (value[i + 1] === ':') {
      intoData = true;
      i++;
    } else if (intoData) {
      return 'after "::" only further "::" may follow (data-only layers stand last)';
    }
  }
  const wrong = take();
  if (wrong !== undefined) return wrong;
  if (lowers.length === 0) return 'it names no layer';
  return { lowers, data };
}
