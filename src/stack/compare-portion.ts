// Some objects read one after the other, with what goes wrong as an answer: an error does not cross threads as itself.
// Used by compare-objects.ts and its threads (compare-worker.ts).
// The reading is object-comparer.ts's.

import { reasonOf } from './errors.js';
import type { NamedObject } from './image-objects.js';
import type { Comparison, ObjectComparer } from './object-comparer.js';

export interface Portion {
  /** In the order of the objects. */
  readonly comparisons: readonly Comparison[];
  /** Which object could not be read, and why. */
  readonly failure?: string;
}

export function readPortion(comparer: ObjectComparer, objects: readonly NamedObject[]): Portion {
  const comparisons: Comparison[] = [];
  for (const object of objects) {
    try {
      comparisons.push(comparer.read(object));
    } catch (error) {
      const failure = `object ${object.path} (content of ${object.file}): ${reasonOf(error)}`;
      return { comparisons, failure };
    }
  }
  return { comparisons };
}
