"""Files as people attach them, made here: documents, pictures, sounds, and what only looks like one."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence

XML = '<?xml version="1.0" encoding="UTF-8"?>'


def packed(files: dict[str, str | bytes], *, secret: bool = False) -> bytes:
    """Return an archive of these files; `secret` says of each that it has a password."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    found = bytearray(made.getvalue())
    if secret:
        # The flags in each head and in the list of files.
        for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = found.find(mark)
            while at >= 0:
                found[at + offset] |= 1
                at = found.find(mark, at + 1)
    return bytes(found)


def word(*pages: str) -> bytes:
    """Return a document of Word whose pages end where Word noted it."""
    breaks = "<w:lastRenderedPageBreak/>"
    runs = [f"<w:p><w:r>{breaks if at else ''}<w:t>{text}</w:t></w:r></w:p>" for at, text in enumerate(pages)]
    body = f'{XML}<w:document xmlns:w="w"><w:body>{"".join(runs)}</w:body></w:document>'
    return packed({"word/document.xml": body})


def _relations(targets: Sequence[str]) -> str:
    rows = [f'<Relationship Id="r{at}" Type="x/part" Target="{one}"/>' for at, one in enumerate(targets)]
    return f'{XML}<Relationships xmlns="r">{"".join(rows)}</Relationships>'


def workbook(sheets: dict[str, str]) -> bytes:
    """Return a workbook; the content of each sheet is its rows as XML."""
    named = [f'<sheet name="{name}" sheetId="1" r:id="r{at}"/>' for at, name in enumerate(sheets)]
    book = f'<workbook xmlns="s" xmlns:r="r"><sheets>{"".join(named)}</sheets></workbook>'
    files: dict[str, str | bytes] = {
        "xl/workbook.xml": XML + book,
        "xl/_rels/workbook.xml.rels": _relations([f"sheets/{at}.xml" for at in range(len(sheets))]),
    }
    for at, rows in enumerate(sheets.values()):
        files[f"xl/sheets/{at}.xml"] = f'{XML}<worksheet xmlns="s"><sheetData>{rows}</sheetData></worksheet>'
    return packed(files)


def rows(*lines: Sequence[str]) -> str:
    """Return lines of cells as a sheet has them."""
    cell = '<c t="inlineStr"><is><t>{}</t></is></c>'
    return "".join(f"<row>{''.join(cell.format(one) for one in line)}</row>" for line in lines)


def slides(*texts: str) -> bytes:
    """Return a presentation."""
    ids = "".join(f'<p:sldId id="{256 + at}" r:id="r{at}"/>' for at in range(len(texts)))
    files: dict[str, str | bytes] = {
        "ppt/presentation.xml": f'{XML}<p:p xmlns:p="p" xmlns:r="r"><p:sldIdLst>{ids}</p:sldIdLst></p:p>',
        "ppt/_rels/presentation.xml.rels": _relations([f"slides/{at}.xml" for at in range(len(texts))]),
    }
    for at, text in enumerate(texts):
        files[f"ppt/slides/{at}.xml"] = (
            f'{XML}<p:sld xmlns:p="p" xmlns:a="a"><a:p><a:t>{text}</a:t></a:p></p:sld>'
        )
    return packed(files)


def open_document(text: str) -> bytes:
    """Return a text as LibreOffice writes it."""
    body = f"<text:p>{text}</text:p>"
    content = f'{XML}<o:d xmlns:o="o" xmlns:text="t"><o:body>{body}</o:body></o:d>'
    return packed({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content})


def pdf(*pages: str, trailer: str = "") -> bytes:
    """Return a PDF with a line of text on each page; `trailer` stands in its last dictionary."""
    objects = ["<</Type/Catalog/Pages 2 0 R>>", "", "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    kids = []
    for text in pages:
        drawing = f"BT /F 12 Tf 20 100 Td ({text}) Tj ET"
        objects.append(f"<</Length {len(drawing)}>>stream\n{drawing}\nendstream")
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 400 200]/Contents {len(objects)} 0 R"
            "/Resources<</Font<</F 3 0 R>>>>>>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<</Type/Pages/Count {len(kids)}/Kids[{' '.join(kids)}]>>"
    made = "%PDF-1.4\n"
    table = ["0000000000 65535 f \n"]
    for number, one in enumerate(objects, 1):
        table.append(f"{len(made):010} 00000 n \n")
        made += f"{number} 0 obj{one}endobj\n"
    last = f"trailer<</Size {len(table)}/Root 1 0 R{trailer}>>\nstartxref\n{len(made)}\n%%EOF"
    return f"{made}xref\n0 {len(table)}\n{''.join(table)}{last}".encode()


def locked_pdf() -> bytes:
    """Return a PDF that asks for a password."""
    secret = "00" * 32
    lock = f"/ID[<00><00>]/Encrypt<</Filter/Standard/V 1/R 2/P -4/O<{secret}>/U<{secret}>>>"
    return pdf("x", trailer=lock)


def png(width: int, height: int, remark: str = "", said: tuple[int, int] | None = None) -> bytes:
    """Return a picture of one colour with a remark in it; `said` is what it says of its size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    head = struct.pack(">IIBBBBB", *(said or (width, height)), 8, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\x20\x60\xa0" * width) * height)
    remarks = chunk(b"tEXt", b"Comment\0" + remark.encode()) if remark else b""
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + remarks + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def with_exif(jpeg: bytes, remark: str) -> bytes:
    """Return a JPEG with a note of its camera, as a segment behind its beginning."""
    note = b"Exif\0\0" + remark.encode()
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(note) + 2) + note + jpeg[2:]


def wav(size: int = 800) -> bytes:
    """Return a sound of silence with so many bytes of it."""
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8_000, 8_000, 1, 8)
    data = struct.pack("<4sI", b"data", size) + b"\x80" * size
    return struct.pack("<4sI4s", b"RIFF", 4 + len(head) + len(data), b"WAVE") + head + data
