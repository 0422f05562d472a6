// The thread that reads events of the kernel: who reads what is here goes on at once, the others are told to the loader.
// Started by kernel-way.ts. It waits in poll(2), so that the loader's own thread never has to.
// Messages: worker-protocol.ts. Ends with the process.

import { closeSync, readFileSync, readSync } from 'node:fs';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { answerEvent, readEvent, waitForAny } from '../../linux/fanotify.js';
import { ChunkTable } from '../chunk-table.js';
import { ResidencyMap } from '../residency.js';
import { chunksOf } from './chunks-of.js';
import { EventRecord } from './event-record.js';
import type { FromReader, ReaderData, ToReader } from './worker-protocol.js';

interface Layer {
  readonly id: string;
  readonly group: number;
  readonly record: EventRecord;
  readonly table: ChunkTable;
  readonly map: ResidencyMap;
  readonly twins: ReadonlySet<number>;
}

const { wake } = workerData as ReaderData;
const port = parentPort;
if (port === null) throw new Error('not a worker');
const layers = new Map<string, Layer>();
const scrap = Buffer.alloc(4096);

/** Events read at a time of one layer, so that no layer keeps the others waiting. */
const BATCH = 64;

function take(message: ToReader): void {
  switch (message.op) {
    case 'add': {
      const table = new ChunkTable(readFileSync(message.table));
      layers.set(message.id, {
        id: message.id,
        group: message.group,
        record: new EventRecord(message.events),
        table,
        map: ResidencyMap.open(message.map, table.count, false),
        twins: new Set(message.twins),
      });
      return;
    }
    case 'remove': {
      const layer = layers.get(message.id);
      layers.delete(message.id);
      layer?.record.close();
      layer?.map.close();
      tell({ op: 'removed', id: message.id });
      return;
    }
    case 'look':
      return;
    case 'end':
      process.exit();
  }
}

function tell(message: FromReader): void {
  port?.postMessage(message);
}

/** Reads what waits. */
function readSome(layer: Layer): void {
  const { record, group } = layer;
  const slots: number[] = [];
  for (let n = 0; n < BATCH; n++) {
    const slot = record.free();
    if (slot === undefined || readEvent(group, record.address(slot)) < 0) break;
    if (!answered(layer, slot)) slots.push(slot);
  }
  if (slots.length > 0) tell({ op: 'events', id: layer.id, slots });
}

/** Lets the reader go on when all that it reads is here. */
function answered({ record, group, table, map, twins }: Layer, slot: number): boolean {
  const event = record.at(slot);
  if (event === undefined) return true;
  if (twins.has(event.fd)) return false;
  const { from, to } = chunksOf(table, event.at, event.length);
  if (!map.allHere(from, to)) return false;
  answerEvent(group, event.fd, 0);
  record.clear(slot);
  closeSync(event.fd);
  return true;
}

function hear(): void {
  readSync(wake, scrap);
  for (
    let got = receiveMessageOnPort(port as never);
    got;
    got = receiveMessageOnPort(port as never)
  ) {
    take((got as { message: ToReader }).message);
  }
}

for (;;) {
  // A layer whose record is full is not asked: its events wait with the kernel until a slot is free.
  const open = [...layers.values()].filter(({ record }) => record.hasRoom());
  const ready = waitForAny([wake, ...open.map(({ group }) => group)]);
  if (ready[0] === true) hear();
  open.forEach((layer, i) => {
    if (ready[i + 1] === true && layers.get(layer.id) === layer) readSome(layer);
  });
}
