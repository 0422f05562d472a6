// A line between two parts of the page that can be moved, by pointer and by keyboard.
// Used by files-view.ts, whose layout reads the custom property that this sets, in percent.
// Follows the window splitter pattern of the ARIA Authoring Practices 1.2.

import { el, remember, remembered } from './dom.js';

interface Line {
  /** Custom property of `host`; remembered under its name. */
  readonly property: string;
  readonly label: string;
  readonly vertical: boolean;
  readonly least: number;
  readonly most: number;
  readonly usual: number;
}

export function splitter(host: HTMLElement, line: Line): HTMLElement {
  const { property, label, vertical, least, most, usual } = line;
  const element = el('div', {
    class: `splitter ${vertical ? 'vertical' : 'horizontal'}`,
    role: 'separator',
    tabindex: 0,
    'aria-label': label,
    'aria-orientation': vertical ? 'vertical' : 'horizontal',
    'aria-valuemin': least,
    'aria-valuemax': most,
  });
  let value = usual;
  const set = (percent: number): void => {
    value = Math.round(Math.max(least, Math.min(most, percent)));
    host.style.setProperty(property, `${value}%`);
    element.setAttribute('aria-valuenow', String(value));
  };
  const keep = (): void => remember(property, String(value));
  set(Number(remembered(property) ?? usual) || usual);
  element.addEventListener('pointerdown', (event) => {
    element.setPointerCapture(event.pointerId);
    event.preventDefault();
    const move = ({ clientX, clientY }: PointerEvent): void => {
      const { left, top, width, height } = host.getBoundingClientRect();
      set(vertical ? (100 * (clientX - left)) / width : (100 * (clientY - top)) / height);
    };
    element.addEventListener('pointermove', move);
    element.addEventListener(
      'lostpointercapture',
      () => {
        element.removeEventListener('pointermove', move);
        keep();
      },
      { once: true },
    );
  });
  element.addEventListener('dblclick', () => {
    set(usual);
    keep();
  });
  element.addEventListener('keydown', (event) => {
    const steps: Record<string, number> = vertical
      ? { ArrowLeft: -3, ArrowRight: 3 }
      : { ArrowUp: -3, ArrowDown: 3 };
    const step = steps[event.key];
    if (step === undefined) return;
    set(value + step);
    keep();
    event.preventDefault();
    event.stopPropagation();
  });
  return element;
}
