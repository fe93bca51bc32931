"""What a browser has stored of conversations: put there and read by a test, in the page's own database."""

from __future__ import annotations

import uuid
from typing import Any

from tests.browser.tab import Tab

_OPEN = """
  const user = document.body.dataset.user;
  const wanted = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = request.onblocked = () => reject(request.error ?? "blocked");
  });
  // Whoever opens it before the page does makes another one.
  const made = async () => (await indexedDB.databases()).some((one) => one.name === `sluice-${user}`);
  const opened = async () => {
    while (!(await made())) await new Promise((resolve) => setTimeout(resolve, 20));
    return wanted(indexedDB.open(`sluice-${user}`));
  };
"""

# A browser that forbids pages to store anything, from the page's first script on.
FORBIDDEN = """
  for (const name of ["indexedDB", "localStorage"])
    Object.defineProperty(window, name, { get() { throw new DOMException("no", "SecurityError"); } });
"""

# A browser that opens databases late, as a slow disk does.
LATE = """
  const open = IDBFactory.prototype.open;
  IDBFactory.prototype.open = function (...given) {
    const request = open.apply(this, given);
    const add = request.addEventListener.bind(request);
    const late = (listener) => (event) => setTimeout(() => listener(event), 4000);
    request.addEventListener = (name, listener, options) =>
      add(name, name === "success" ? late(listener) : listener, options);
    return request;
  };
"""

# A disk that is slow from now on: each change begins when the page was drawn thirty times more.
_SLOW = """
  const { transaction } = IDBDatabase.prototype;
  IDBDatabase.prototype.transaction = function (names, mode, ...rest) {
    if (mode === "readwrite") {
      // The next one waits for this one, since both write to the same tables.
      const table = transaction.call(this, names, mode).objectStore([names].flat()[0]);
      let drawn = 0;
      const draw = () => requestAnimationFrame(() => { drawn += 1; draw(); });
      const hold = () => { if (drawn < 30) table.get("").onsuccess = hold; };
      draw();
      hold();
    }
    return transaction.call(this, names, mode, ...rest);
  };
"""

_PUT = (
    _OPEN
    + """
  const database = await opened();
  const [tables] = arguments_;
  const transaction = database.transaction(Object.keys(tables), "readwrite");
  for (const [name, rows] of Object.entries(tables))
    for (const row of rows) transaction.objectStore(name).put(row);
  await new Promise((resolve, reject) => {
    transaction.oncomplete = resolve;
    transaction.onabort = () => reject(transaction.error);
  });
  database.close();
"""
)

_ROWS = (
    _OPEN
    + """
  const database = await opened();
  const rows = [];
  for (const name of arguments_.length ? arguments_ : database.objectStoreNames)
    rows.push(...(await wanted(database.transaction(name).objectStore(name).getAll())));
  database.close();
  return rows.map(({ bytes, ...row }) => (bytes ? { ...row, bytes: bytes.size } : row));
"""
)

_OLD = (
    _OPEN
    + """
  await wanted(indexedDB.deleteDatabase(`sluice-${user}`));
  const opening = indexedDB.open(`sluice-${user}`, arguments_[0]);
  opening.onupgradeneeded = () => opening.result.createObjectStore("conversations", { keyPath: "id" });
  const database = await wanted(opening);
  const transaction = database.transaction("conversations", "readwrite");
  for (const row of arguments_[1]) transaction.objectStore("conversations").put(row);
  await new Promise((resolve) => { transaction.oncomplete = resolve; });
  database.close();
"""
)


def put(tab: Tab, *contents: str, state: str = "done", title: str = "stored") -> str:
    """Store a conversation of a question and an answer by turns; return its address."""
    conversation = str(uuid.uuid4())
    ids = [f"{conversation}:{at}" for at in range(len(contents))]
    messages = [
        {
            "id": ids[at],
            "conversation": conversation,
            "parent": ids[at - 1] if at else "",
            "role": "assistant" if at % 2 else "user",
            "content": content,
            "created": at,
            "state": state if at == len(contents) - 1 else "done",
            "model": "",
        }
        for at, content in enumerate(contents)
    ]
    row = {"id": conversation, "title": title, "created": 1, "updated": 1, "model": "", "leaf": ids[-1]}
    put_rows(tab, {"conversations": [row], "messages": messages})
    return f"/c/{conversation}"


def put_rows(tab: Tab, tables: dict[str, list[dict[str, Any]]]) -> None:
    """Store rows as they are, by table. The page on view has read these before: load it again."""
    tab.run(_PUT, tables)


def rows(tab: Tab, *tables: str) -> list[dict[str, Any]]:
    """Return all rows of these tables, or of all; the size of a file's bytes in place of these."""
    found: list[dict[str, Any]] = tab.run(_ROWS, *tables)
    return found


def messages(tab: Tab) -> list[dict[str, Any]]:
    """Return all messages that are stored, the oldest first."""
    return sorted(rows(tab, "messages"), key=lambda row: float(row["created"]))


def everything(tab: Tab) -> list[dict[str, Any]]:
    """Return all rows of all tables."""
    return rows(tab)


def put_old(tab: Tab, conversations: list[dict[str, Any]], version: int = 1) -> None:
    """Leave the database as a page of another version left it. No page that has it open may be there."""
    tab.run(_OLD, version, conversations)


def slow(tab: Tab) -> None:
    """Make the disk slow until the page is loaded again."""
    tab.run(_SLOW)
