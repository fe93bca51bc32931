// What one file may ask of the page. Files are what strangers made: each bound ends in words, never in a page that hangs.
export const MEGABYTE = 1_000_000;
// Bytes of a file that is opened at all.
export const MOST_FILE = 100 * MEGABYTE;
// Characters that are kept of one file; what comes behind them is left out, and said to be.
export const MOST_TEXT = 10 * MEGABYTE;
// Bytes that may come out of a packed file, whatever it says of itself, and how many files it may hold.
export const MOST_INFLATED = 200 * MEGABYTE;
export const MOST_ENTRIES = 20_000;
// Pages of a PDF that are read.
export const MOST_PAGES = 2_000;
// A longer text is cut into pieces of so many characters, for the reader to choose from.
export const PIECE = 40_000;
// Of a picture, as its header has it: more would not fit into memory.
export const MOST_PIXELS = 100 * MEGABYTE;
// A worker that says nothing for so long hangs, and none works longer than the second; in milliseconds.
export const SILENCE = 20_000;
export const LONGEST = 300_000;
// Files that may stand beside one message.
export const MOST_FILES = 20;
