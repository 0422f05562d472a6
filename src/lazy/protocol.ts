// What whoever waits for chunks and the loader say to each other, over RUNTIME/loader.sock (a Unix stream socket).
// Spoken by client.ts (servers), ask-loader.ts and announce.ts (commands) and load/connection.ts (the loader).
// A frame is 16 bytes, little endian: u32 kind, u32 layer, u32 first, u32 count. JSON: `count` bytes follow.
// A connection numbers its layers itself, by USE.

/** Bytes of a frame. */
export const FRAME = 16;

/** Longest JSON in a frame, bytes. */
export const MAX_JSON = 1 << 20;

/** Raised whenever a frame changes its meaning; said in HELLO by both. */
export const LOADER_PROTOCOL = 1;

/** Kinds of frames to the loader. */
export const Ask = {
  /** first: LOADER_PROTOCOL. The first frame. */
  HELLO: 1,
  /** JSON UseRequest: the connection uses a layer from now on, until it ends. Answered by USING or REFUSED. */
  USE: 2,
  /** Somebody waits for chunks first .. first + count - 1. Answered by HERE for each run that arrives, or FAILED. */
  WANT: 3,
  /** Nobody waits for them any more. */
  DROP: 4,
  /** JSON LoaderCommand. Answered by JSON_REPLY with the same number as `layer`; `{ error }` says that it was not done. */
  COMMAND: 5,
  /** Chunks first .. first + count - 1 were read and were here: only while the loader records (USING says so in `count`: 1). */
  USED: 6,
} as const;

/** Kinds of frames from the loader. */
export const Tell = {
  /** first: LOADER_PROTOCOL. */
  HELLO: 1,
  /** layer: the number that the connection gave. The map is there and can be opened. first: 1 when it is complete; count: 1 to be told what is USED. */
  USING: 2,
  /** JSON { message }: the layer cannot be loaded. */
  REFUSED: 3,
  /** Chunks first .. first + count - 1 are here. Sent to every connection that wants one of them. */
  HERE: 4,
  /**
   * They cannot be had now; first: chunk, count: errno (EIO; EAGAIN: whoever wants them has waited as long as his policy says).
   * Only to those who want them; wanting again tries again.
   */
  FAILED: 5,
  /** The layer is complete and on disk: no loader is needed any more. */
  COMPLETE: 6,
  /** JSON, answer of COMMAND. */
  JSON_REPLY: 7,
} as const;

/** USE: a layer for whoever is connected. */
export interface UseRequest {
  /** Number that the connection calls it by. */
  readonly layer: number;
  /** Absolute path of the layer's folder. */
  readonly folder: string;
  /** Mount point, for status and for commands that name it; of what is not mounted yet: `process PID`, who is about to. */
  readonly mountpoint: string;
  readonly policy: LoadPolicy;
  /**
   * Who reads the blob. `server` (the default): the connection, until it ends. `kernel`: a mount that is about to be made;
   * USING says that it may be, and the layer is in use until that mount is gone.
   */
  readonly way?: 'server' | 'kernel';
}

/** How a mount wants its layers loaded. Plain JSON, part of MountSpec. */
export interface LoadPolicy {
  /** What a reader meets when content does not come: `wait`, `eio` (at once when the registry fails), or seconds. */
  readonly stall: 'wait' | 'eio' | number;
  /** Background fill: everything is fetched when nothing else is to do. */
  readonly fill: boolean;
  /** Prefetch in the recorded order. */
  readonly prefetch: boolean;
  /** Record the order of first use. */
  readonly record: boolean;
}

export const DEFAULT_POLICY: LoadPolicy = {
  stall: 'wait',
  fill: true,
  prefetch: true,
  record: false,
};

/** What a command may ask of the loader. */
export type LoaderCommand =
  /** State of every layer that is in use, or of those of one mount. */
  | { readonly op: 'status'; readonly mountpoint?: string; readonly map?: boolean }
  /** Fill at full speed from now on, whatever the policy says; answered at once. */
  | { readonly op: 'fill'; readonly mountpoint: string }
  /** Give space back: content that has not been used lately, down to `keep` bytes of each layer of a mount that is being loaded. */
  | { readonly op: 'evict'; readonly mountpoint: string; readonly keep: number }
  /** Write the order of first use so far. */
  | { readonly op: 'record'; readonly mountpoint: string; readonly on: boolean }
  /** Programs are about to be started that lie in these layers, which are in use: they and what they need are fetched, in this order. */
  | {
      readonly op: 'starts';
      readonly programs: readonly string[];
      readonly folders: readonly string[];
    }
  /** At most so many bytes a second for all layers together, from now on and for the loader's successors; 0: as many as come. */
  | { readonly op: 'limit'; readonly bytesPerSecond: number }
  /** The loader lives as long as this connection does, whatever there is to load. */
  | { readonly op: 'stay' }
  /** Of a layer store: puts a layer of an image into the image store. Answered by its LayerNote (podman/records.ts), or `{}`. */
  | {
      readonly op: 'layer';
      readonly store: string;
      /** The image's name, in full. */
      readonly reference: string;
      /** `sha256:HEX` */
      readonly digest: string;
      readonly plainHttp: boolean;
      readonly authFile?: string;
      /** The only policy.json. */
      readonly policyFile?: string;
      /** Indexes that lie beside images are believed. */
      readonly trustIndex: boolean;
    }
  /** Of a layer store: fetches the blob of the layer of that number, whole, to where podman/records.ts says. Answered by `{}`. */
  | {
      readonly op: 'blob';
      readonly store: string;
      readonly number: number;
      readonly authFile?: string;
    };

/** One layer in an answer of `status`. */
export interface LayerStatus {
  readonly id: string;
  readonly folder: string;
  readonly form: string;
  readonly mountpoints: readonly string[];
  readonly chunks: number;
  readonly residentChunks: number;
  readonly totalBytes: number;
  readonly residentBytes: number;
  /** Chunks that somebody waits for, and for how many milliseconds the first of them. */
  readonly waiting: readonly {
    readonly chunk: number;
    readonly waiters: number;
    readonly milliseconds: number;
    readonly mountpoints: readonly string[];
    /** Processes, as far as they are known: those that read a mount of the kernel. */
    readonly pids?: readonly number[];
  }[];
  /** Bytes that came over the network for this layer since the loader began. */
  readonly fetchedBytes: number;
  /** Bytes a second, over the last seconds. */
  readonly rate: number;
  /** Why nothing comes, when nothing comes. */
  readonly trouble?: string;
  /** `map: true`: a digit a chunk (0 absent, 1 here, 2 wanted), run-length encoded as [digit, count] pairs. */
  readonly map?: readonly (readonly [number, number])[];
}

export interface LoaderStatus {
  readonly pid: number;
  /** Bytes a second that it may fetch at most, where there is a limit. */
  readonly limit?: number;
  readonly layers: readonly LayerStatus[];
}
