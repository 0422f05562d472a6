// The JSON schema of varve.yaml, made from the table of mount options so that the two cannot disagree.
// Used by parse.ts to check a file, and printed by `varve stack schema`; docs/varve.schema.json is this text.
// Follows JSON Schema draft-07, which the language servers of editors know best.

import { MODES } from '../stack/image-plan.js';
import { OPTIONS, type OptionRecord } from '../stack/option-table.js';

/** A schema, or a part of one. */
export type Schema = Readonly<Record<string, unknown>>;

/** What a stack may be called: no slash, no leading dash or dot, so that it is never taken for a path or a flag. */
const NAME = '^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$';

/** Options that are keys of a stack themselves, or that do nothing. */
const NOT_OPTIONS = new Set([
  'lowerdir',
  'lowerdir+',
  'datadir+',
  'upperdir',
  'workdir',
  'plugins',
]);

/** The options that the key `options` may hold. */
export const STACK_OPTIONS: readonly OptionRecord[] = OPTIONS.filter(
  ({ group, name }) => group !== 'ignored' && !NOT_OPTIONS.has(name),
);

/** Options whose value may be a list: each entry is the option once more. */
export const LISTS: ReadonlySet<string> = new Set(['device', 'digest']);

const path = (description: string): Schema => ({ type: 'string', minLength: 1, description });

const PATHS =
  'Relative paths start at the folder of this file; ~ is the home folder, ${NAME} a variable of the environment, $$ a dollar sign.';

const STACK: Schema = {
  type: 'object',
  additionalProperties: false,
  properties: {
    description: { type: 'string', description: 'What the stack is for, in one line.' },
    base: {
      type: 'string',
      pattern: NAME,
      description:
        'The stack that this one builds on: its layers come below the ones named here, its data, options, mode and create hold unless they are said here. Its upper, workdir and mount are its own.',
    },
    layers: {
      type: 'array',
      description: `The read-only layers, topmost first. ${PATHS}`,
      items: { $ref: '#/definitions/layer' },
    },
    data: {
      type: 'array',
      items: path('A directory or an image.'),
      description: 'Layers that only give data to metacopy files, topmost first.',
    },
    upper: path(
      'The directory that takes all changes. Without one the mount is read-only. Each stack has its own.',
    ),
    workdir: path(
      'A directory on the filesystem of the upper, where changes are prepared (default: the upper with .work behind its name).',
    ),
    mount: path(
      'Where the stack is shown. Without it the stack is something for others to build on.',
    ),
    mode: {
      enum: [...MODES],
      description:
        'Of a stack whose one layer is a composefs image: who shows it (as --mode of varve mount).',
    },
    create: {
      type: 'boolean',
      description: '`varve up` makes the upper and the mount point where they are missing.',
    },
    options: { $ref: '#/definitions/options' },
  },
};

const LAYER: Schema = {
  description:
    'A directory or an EROFS image; {stack: NAME}, what another stack shows at its mount point; or {image: NAME, store: DIR}, a composefs image with the content of a store.',
  type: ['string', 'object'],
  minLength: 1,
  additionalProperties: false,
  minProperties: 1,
  properties: {
    stack: {
      type: 'string',
      pattern: NAME,
      description: 'A stack of this file, whose mount point is the layer. It is mounted first.',
    },
    image: path('A name or digest that the store knows, or the path of the image (./FILE).'),
    store: {
      description: 'The store that has the content of the image; several are asked in this order.',
      type: ['string', 'array'],
      minLength: 1,
      minItems: 1,
      items: path('The folder of a store.'),
    },
  },
};

/** The whole schema: plain JSON. */
export function stackSchema(): Schema {
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'varve.yaml',
    description: 'Named stacks of layers for varve: `varve up NAME` mounts one.',
    type: 'object',
    additionalProperties: false,
    patternProperties: {
      '^x-': { description: 'Anything: a place for what is used through an anchor.' },
    },
    properties: {
      $schema: { type: 'string', description: 'Where this schema is, for editors.' },
      version: { const: 1, description: 'Of the format.' },
      stacks: {
        type: 'object',
        description: 'The stacks by name.',
        propertyNames: { pattern: NAME },
        additionalProperties: { $ref: '#/definitions/stack' },
      },
    },
    definitions: { stack: STACK, layer: LAYER, options: options() },
  };
}

function options(): Schema {
  return {
    type: 'object',
    description:
      'Mount options: a value for those that take one, true for those that do not; false takes back what the base says.',
    additionalProperties: false,
    properties: Object.fromEntries(
      STACK_OPTIONS.map((option) => [option.name, { description: option.help, ...value(option) }]),
    ),
  };
}

/** What the value of an option may be. */
function value({ name, value: form, optional }: OptionRecord): Schema {
  // `{ro, noatime}` is short for true.
  if (form === undefined) return { type: ['boolean', 'null'] };
  if (/^\w+(?:\|\w+)+$/.test(form)) {
    const words = form.split('|');
    const numbers = words.every((word) => /^\d+$/.test(word));
    return {
      enum: [
        ...words,
        ...(numbers ? words.map(Number) : []),
        ...(words.includes('on') || optional === true ? [true, false] : []),
      ],
    };
  }
  const one = { type: ['string', 'number'], minLength: 1 };
  return LISTS.has(name) ? { ...one, type: ['string', 'array'], minItems: 1, items: one } : one;
}
