// A named stack as a request to mount: the options that `varve mount` would be given, and the image where it is one.
// Used by up, status and check of named stacks, by units and fstab lines, and by commands that take a stack's name.
// Images of stores are looked up here, at the last moment: their names may lead elsewhere tomorrow.

import { MountError } from '../stack/errors.js';
import { type FoundImage, findImage } from '../stack/find-image.js';
import { type ImageOptions, parseImageOptions } from '../stack/image-options.js';
import type { MountOptions } from '../stack/option-table.js';
import { escapePath, joinLayers } from '../stack/option-text.js';
import { parseOptions } from '../stack/options.js';
import { errorAt, type NamedLayer, type Stack, type StackFile } from './stacks.js';

/** What is to be mounted. */
export type StackRequest =
  | { readonly kind: 'stack'; readonly options: MountOptions }
  | { readonly kind: 'image'; readonly image: FoundImage; readonly parsed: ImageOptions };

/**
 * @param defaults options that the stack may overrule.
 * @throws MountError that names file and line.
 */
export function requestOf(stack: Stack, file: StackFile, defaults: string): StackRequest {
  return at(stack, file, () => {
    const alone = imageAlone(stack);
    if (alone !== undefined) {
      const image = findImage(alone.image, alone.stores);
      const texts = [...upperTexts(stack), ...stack.options];
      return { kind: 'image', image, parsed: parseImageOptions(texts, image, defaults) };
    }
    const options = parseOptions([optionText(stack, file)], { defaults });
    return { kind: 'stack', options };
  });
}

/** The one composefs image that the stack shows, when it is of that kind. */
export function imageAlone(stack: Stack): Extract<NamedLayer, { kind: 'image' }> | undefined {
  const [first] = stack.layers;
  const alone = stack.layers.length === 1 && stack.data.length === 0;
  return alone && first?.kind === 'image' ? first : undefined;
}

/**
 * The stack as one text for -o, paths absolute: what `varve mount -o` takes, and every command that takes it.
 * @throws MountError that names file and line.
 */
export function optionText(stack: Stack, file: StackFile): string {
  const lowers: string[] = [];
  const data = stack.data.map(({ path }) => path);
  for (const layer of stack.layers) {
    if (layer.kind !== 'image') {
      lowers.push(layer.path);
      continue;
    }
    const found = at(stack, file, () => findImage(layer.image, layer.stores), layer.at);
    lowers.push(found.path);
    data.push(...found.objects);
  }
  const list = joinLayers(lowers.map(ended), [...new Set(data)].map(ended));
  return [`lowerdir=${list}`, ...upperTexts(stack), ...stack.options].join(',');
}

function upperTexts({ upper, workdir }: Stack): string[] {
  if (upper === undefined || workdir === undefined) return [];
  return [
    `upperdir=${escapePath(ended(upper.path))}`,
    `workdir=${escapePath(ended(workdir.path))}`,
  ];
}

/** libmount takes a comma or backslash at the end of an option for a part of what follows; a slash ends a path as well. */
function ended(path: string): string {
  return /[,\\]$/.test(path) ? `${path}/` : path;
}

/** Failures get the place in the file that they are about. */
function at<T>(stack: Stack, file: StackFile, work: () => T, place = stack.at): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof MountError)) throw error;
    throw errorAt(file, place, error.kind, `${stack.name}: ${error.message}`);
  }
}
