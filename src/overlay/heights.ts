// The height of a layer, counted from the bottom when the stack was mounted: it stays when a layer joins on top, and when one
// has gone from below (stack/change-layers.ts).
// What successors find by height: the keys of inode numbers (stack/open.ts), places of objects without a name (kept.ts).

/** @param place counted from the bottom as the stack is now, from 1. @param gone heights that are nobody's any more, ascending. */
export function heightAt(place: number, gone: readonly number[]): number {
  let height = place;
  for (const one of gone) if (one <= height) height++;
  return height;
}

/** The opposite. @returns undefined where the layer has gone. */
export function placeOf(height: number, gone: readonly number[]): number | undefined {
  if (gone.includes(height)) return undefined;
  return height - gone.filter((one) => one < height).length;
}
