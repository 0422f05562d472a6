// Text as a part of HTML.
// Used where Node writes the page: html.ts and its neighbours; the program in the page needs none of it.
// For text and for attribute values in quotes.

import { visibleText } from './page-words.js';

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Control and direction characters become visible. */
export function escapeHtml(text: string): string {
  return visibleText(text).replace(/[&<>"']/g, (char) => ENTITIES[char] as string);
}
