// Weights as rectangles that fill a rectangle, each as near to a square as it can be.
// Used by the treemap of the HTML page: pure code, tested in Node.
// Follows: Bruls, Huizing, van Wijk, "Squarified Treemaps" (2000).

export interface Rect {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** @param weights positive, in descending order. @returns one rectangle a weight; together they are `within`. */
export function squarify(weights: readonly number[], within: Rect): Rect[] {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const rects: Rect[] = [];
  if (total <= 0 || within.width <= 0 || within.height <= 0) {
    return weights.map(() => ({ ...within, width: 0, height: 0 }));
  }
  const scale = (within.width * within.height) / total;
  let { x, y, width, height } = within;
  for (let at = 0; at < weights.length; ) {
    const side = Math.min(width, height);
    let sum = weights[at] as number;
    let end = at + 1;
    let worst = worstRatio(weights[at] as number, sum, sum, side, scale);
    while (end < weights.length) {
      const next = sum + (weights[end] as number);
      const ratio = worstRatio(weights[at] as number, weights[end] as number, next, side, scale);
      if (ratio > worst) break;
      worst = ratio;
      sum = next;
      end++;
    }
    const thickness = side <= 0 ? 0 : (sum * scale) / side;
    const isRow = width >= height;
    let along = isRow ? y : x;
    for (let i = at; i < end; i++) {
      const length = thickness <= 0 ? 0 : ((weights[i] as number) * scale) / thickness;
      rects.push(
        isRow
          ? { x, y: along, width: thickness, height: length }
          : { x: along, y, width: length, height: thickness },
      );
      along += length;
    }
    if (isRow) {
      x += thickness;
      width -= thickness;
    } else {
      y += thickness;
      height -= thickness;
    }
    at = end;
  }
  return rects;
}

/** Of a row of weights between `most` and `least` along `side`: its most elongated rectangle. */
function worstRatio(most: number, least: number, sum: number, side: number, scale: number): number {
  const square = (sum * scale) ** 2;
  const length = side ** 2;
  return Math.max((length * most * scale) / square, square / (length * least * scale));
}
