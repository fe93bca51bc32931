// Files that are dropped on the page, or pasted into it.
import { signal } from "@preact/signals";
import { attach, refuse } from "./pending.ts";

// Something is held above the page that could be dropped.
export const hovering = signal(false);

function hasFiles(data: DataTransfer | null): data is DataTransfer {
  return Boolean(data?.types.includes("Files"));
}

function take(data: DataTransfer): void {
  const files: File[] = [];
  for (const item of data.items) {
    if (item.kind !== "file") continue;
    const entry = item.webkitGetAsEntry?.();
    if (entry?.isDirectory) {
      refuse(entry.name, "folder");
      continue;
    }
    const file = item.getAsFile();
    if (file) files.push(file);
  }
  attach(files);
}

function onDrag(event: DragEvent): void {
  if (!hasFiles(event.dataTransfer)) return;
  // A dialogue is open above the page, which must not be replaced by a file all the same.
  event.preventDefault();
  hovering.value = event.type === "dragover";
}

function onDrop(event: DragEvent): void {
  if (!hasFiles(event.dataTransfer)) return;
  event.preventDefault();
  hovering.value = false;
  take(event.dataTransfer);
}

// What is pasted as text stays text, also where a picture of it comes along.
function onPaste(event: ClipboardEvent): void {
  const data = event.clipboardData;
  if (!hasFiles(data)) return;
  const pictures = [...data.files].every((file) => file.type.startsWith("image/"));
  if (pictures && data.types.includes("text/plain")) return;
  event.preventDefault();
  take(data);
}

export function listen(): void {
  document.addEventListener("dragover", onDrag);
  document.addEventListener("dragleave", onDrag);
  document.addEventListener("drop", onDrop);
  document.addEventListener("paste", onPaste);
}
