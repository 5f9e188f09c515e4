"""From the bytes of a file to text: compression, encodings and line ends.

UTF-8 is what files should be in. Other Unicode encodings are recognized by their byte order mark or their zero bytes.
Bytes that are not Unicode are read as Windows-1252, which contains Latin-1, if the result looks like text of a
Western language; that is a guess, and it is said. Everything else is refused, since a wrong guess would train on
garbled words.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import re
import zlib
from pathlib import Path

from .errors import DataError
from .rows import counted

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
"""The endings of compressed files, which follow the ending of the data: `train.csv.gz`."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_OTHER_KINDS = (
    (b"PK\x03\x04", "an Excel workbook or a zip archive", "Save its table as a CSV file in UTF-8."),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "Save its table as a CSV file in UTF-8."),
    (b"PAR1", "a Parquet file", "Rename it to end in .parquet."),
    (b"%PDF", "a PDF file", "Give a table, or one text per line."),
    (b"SQLite format 3", "an SQLite database", "Export its table as a CSV file in UTF-8."),
    (
        b"version https://git-lfs.github.com",
        "a pointer of Git LFS, without the content",
        "Run: git lfs pull",
    ),
    (b"<!doctype html", "a web page", "Download the file itself, such as its raw version."),
    (b"<html", "a web page", "Download the file itself, such as its raw version."),
)
_INVALID = re.compile("[\udc80-\udcff]")
"""A byte that is not valid, as the error handler `surrogateescape` keeps it."""
_WIDE = re.compile("[^\x00-\x7f\udc80-\udcff]+")
"""Characters of several bytes."""
_SAMPLE_OF_LINES = 20
"""Invalid bytes whose lines are looked up."""
_CANDIDATES = ("gb18030", "shift_jis", "euc_jp", "big5", "euc_kr", "cp1251", "koi8_r", "cp1250")
"""Encodings that the fix of a refused file names, if they can decode it."""
_WITHIN_WORDS = frozenset("’‘´·­–—…ªº")
"""Characters that are no letters and stand between letters in Western text."""
_SAMPLE = 200_000
"""Bytes that are not ASCII of which the plausibility of an encoding is judged."""
_MOST_IMPLAUSIBLE = 0.1


def read_text(path: Path) -> tuple[str, list[str]]:
    r"""Return the text of a file, with `\n` at the end of each line, and notes about how it was decoded.

    Raises:
        DataError: The file cannot be read, decompressed or decoded.
    """
    data, notes = read_bytes(path), list[str]()
    start = data[:64].lstrip().lower()
    for magic, kind, fix in _OTHER_KINDS:
        if start.startswith(magic.lower()):
            raise DataError(f"{path.name!r} is {kind}", fix)
    text = _decode(data, path.name, notes)
    del data
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(
            f"line {line:,} of {path.name!r} has a zero byte", "Remove zero bytes, such as: tr -d '\\000'"
        )
    return _with_plain_line_ends(text), notes


def read_bytes(path: Path) -> bytes:
    """Return the decompressed content of a file.

    Raises:
        DataError: It cannot be read or decompressed.
    """
    try:
        data = path.read_bytes()
        match path.suffix.lower():
            case ".gz":
                return gzip.decompress(data)
            case ".bz2":
                return bz2.decompress(data)
            case ".xz":
                return lzma.decompress(data)
            case ".zst":
                import pyarrow

                return bytes(pyarrow.CompressedInputStream(pyarrow.py_buffer(data), "zstd").read())
            case _:
                return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            f"cannot read {str(path)!r} ({error})", "Check that the file is complete and that it may be read."
        ) from error


def _with_plain_line_ends(text: str) -> str:
    if "\r" not in text:
        return text
    text = text.replace("\r\n", "\n")
    # A lone carriage return ends lines in files of old Macs, and is a character of the text elsewhere.
    return text if "\n" in text else text.replace("\r", "\n")


def _decode(data: bytes, name: str, notes: list[str]) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decode_as(data[len(mark) :], encoding, name)
    wide = _wide_encoding(data)
    if wide:
        notes.append(f"{name} is read as {wide.upper()}, which is guessed from its zero bytes")
        return _decode_as(data, wide, name)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
    _check_few_invalid(data, name)
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        text = ""
    if not text or _implausible_share(data) > _MOST_IMPLAUSIBLE:
        raise DataError(f"{name!r} is not in UTF-8, first at line {line:,}", _conversion(data, name))
    notes.append(
        f"{name} is not in UTF-8 (first at line {line:,}) and is read as Windows-1252, which is a guess; "
        f"if letters with accents look wrong, convert the file to UTF-8"
    )
    return text


def _check_few_invalid(data: bytes, name: str) -> None:
    """Refuse UTF-8 with some invalid bytes: another encoding would garble every letter that is valid."""
    text = data.decode("utf-8", "surrogateescape")
    invalid = [match.start() for match in _INVALID.finditer(text)]
    valid = sum(map(len, _WIDE.findall(text)))
    if valid < len(invalid):
        return
    lines = list(dict.fromkeys(text.count("\n", 0, place) + 1 for place in invalid[:_SAMPLE_OF_LINES]))
    named = ", ".join(f"{line:,}" for line in lines[:3])
    more = ", …" if len(lines) > 3 or len(invalid) > _SAMPLE_OF_LINES else ""
    places = f"line {named}" if len(lines) == 1 else f"lines {named}{more}"
    raise DataError(
        f"{name!r} is in UTF-8 with {counted(len(invalid), 'invalid byte')} in {places}",
        f"Correct the text there, or remove these bytes: iconv -c -f UTF-8 -t UTF-8 {name} > clean-{name}",
    )


def _decode_as(data: bytes, encoding: str, name: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].decode(encoding, "replace").count("\n") + 1
        raise DataError(
            f"line {line:,} of {name!r} is not valid {encoding.upper()}, as which the file begins",
            "Save the file again in UTF-8.",
        ) from error


def _wide_encoding(data: bytes) -> str | None:
    """Return the encoding of text in UTF-16 without a mark: every other byte of its ASCII characters is zero."""
    head = data[:4096]
    if len(head) < 4 or b"\0" not in head:
        return None
    even, odd = head[::2].count(0) / len(head[::2]), head[1::2].count(0) / len(head[1::2])
    if odd > 0.4 and even < 0.05:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 and odd < 0.05 else None


def _implausible_share(data: bytes) -> float:
    """Return the share of bytes beyond ASCII that text of a Western language in Windows-1252 would hardly have.

    Such letters stand between plain ones: long runs of them are other alphabets or bytes of wider characters, and
    symbols or capitals within a word are letters of other encodings.
    """
    sample = data[: 20 * _SAMPLE].decode("cp1252", "replace")
    high = implausible = 0
    for index, character in enumerate(sample):
        if character < "\x80":
            continue
        high += 1
        before, after = sample[index - 1 : index], sample[index + 1 : index + 2]
        run = before > "\x7f" and (after > "\x7f" or sample[max(index - 2, 0) : index - 1] > "\x7f")
        inside = before.isalpha() and after.isalpha()
        symbol = inside and not character.isalpha() and character not in _WITHIN_WORDS
        capital = before.islower() and before < "\x80" and character.isupper()
        wide = character == "¡" and "¡" <= after <= "¾"  # punctuation of GB 2312 and KS X 1001
        implausible += run or symbol or capital or wide
        if high >= _SAMPLE:
            break
    return implausible / high if high else 0.0


def _conversion(data: bytes, name: str) -> str:
    fitting = []
    for encoding in _CANDIDATES:
        try:
            data.decode(encoding)
        except UnicodeDecodeError:
            continue
        fitting.append(encoding)
    source = fitting[0].upper() if len(fitting) == 1 else "ENCODING"
    command = f"Convert it to UTF-8, such as: iconv -f {source} -t UTF-8 {name} > utf8-{name}"
    if len(fitting) == 1:
        return f"{command}. Of the usual encodings only {fitting[0]} can decode it."
    possible = f", which may be {', '.join(fitting)}: see which gives the right text" if fitting else ""
    return f"{command}, with the encoding of the file{possible}."
