// How an export of this page says what it is.
export const FORMAT = "sluice-conversations";
export const VERSION = 1;
