// Deaths of a server at a chosen instruction: counts the stores to the arena and the system calls that are made, and
// throws before the one that is asked for. What was opened until then is closed, as the kernel does with a killed process.
// To be imported before anything of src/: the C library and the typed arrays are taken at load time.

import { closeSync, readdirSync } from 'node:fs';
import koffi from 'koffi';

/** What ends an operation; nothing of src/ catches it. */
export class Death extends Error {}

let armed = false;
let count = 0;
let last = Number.POSITIVE_INFINITY;

function event(): void {
  if (!armed) return;
  count++;
  if (count < last) return;
  armed = false;
  throw new Death(`at event ${count}`);
}

/** Runs `action`; it dies before its `at`th store or system call. @returns how many there were, or undefined after a death. */
export function dieAt(at: number, action: () => void): number | undefined {
  count = 0;
  last = at;
  armed = true;
  try {
    action();
    return count;
  } catch (error) {
    if (error instanceof Death) return undefined;
    throw error;
  } finally {
    armed = false;
  }
}

type Call = (...args: unknown[]) => unknown;
const load = koffi.load.bind(koffi);
(koffi as { load: unknown }).load = (path: string) => {
  const library = load(path);
  return {
    func(prototype: string): Call {
      const call = library.func(prototype) as unknown as Call;
      return (...args) => {
        event();
        return call(...args);
      };
    },
  };
};

type Numbers = Uint32Array | Float64Array;

function counting<T extends Numbers>(array: T): T {
  return new Proxy(array, {
    get(target, key) {
      const value = Reflect.get(target, key, target);
      if (typeof value !== 'function') return value;
      if (key !== 'fill') return value.bind(target);
      return (number: number, from: number, to: number) => {
        for (let i = from; i < to; i++) {
          event();
          target[i] = number;
        }
        return target;
      };
    },
    set(target, key, value) {
      event();
      return Reflect.set(target, key, value, target);
    },
  });
}

/** Calls `map` while typed arrays that it makes of a whole buffer count what is stored in them. */
export function withCountedStores(map: () => void): void {
  const kept = { Uint32Array: globalThis.Uint32Array, Float64Array: globalThis.Float64Array };
  const wrap = <T extends Uint32ArrayConstructor | Float64ArrayConstructor>(type: T): T =>
    new Proxy(type, {
      construct: (target, args) => counting(Reflect.construct(target, args) as Numbers),
    });
  globalThis.Uint32Array = wrap(kept.Uint32Array);
  globalThis.Float64Array = wrap(kept.Float64Array);
  try {
    map();
  } finally {
    Object.assign(globalThis, kept);
  }
}

/** Descriptors of this process. */
export function descriptors(): Set<number> {
  return new Set(readdirSync('/proc/self/fd').map(Number));
}

/** Closes all descriptors but `kept`. */
export function closeOthers(kept: ReadonlySet<number>): void {
  for (const fd of descriptors()) {
    if (kept.has(fd)) continue;
    try {
      closeSync(fd);
    } catch {
      // The descriptor by which the folder was read.
    }
  }
}
