"""Decoding of files: encodings, compression and line ends, and files that are no text."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import pyarrow
import pytest

from trials.reading.tables import text as text_module
from trials.reading.tables.errors import DataError
from trials.reading.tables.files import read_file
from trials.reading.tables.text import read_text

TABLE = "text,label\ncafé “très bon” — 5 €,1\npas bon,0\n"
WESTERN = {
    "French": "L'été dernier, j'ai déjeuné à l'hôtel « Élysée ». Ça m'a coûté 5 €, naïvement…",
    "German": "Größe, Übermut und Äpfel: „schön“ heißt es süß – für 3 £.",
    "Spanish": "¿Qué tal? ¡Mañana será otro día! El 2.º niño pidió un café.",
    "more Spanish": "¡Ándale! ¡¿Qué?! «¡Olé!» ¡ñoño! 3 °C, “¡no!”",
    "Catalan": "La col·legiala va dir que sí, l’any passat.",
    "Danish": "Smørrebrød på øen Ærø, så hyggeligt.",
    "quotes": "It’s “fine” — isn’t it…",
}
OTHER = {
    "gb18030": "这部电影非常好看,演员的表演也很出色。",
    "shift_jis": "この映画はとても面白かったです。",
    "euc_kr": "이 영화는 정말 재미있었습니다.",
    "big5": "這部電影非常好看,演員的表演也很出色。",
    "cp1251": "Этот фильм был очень хорошим.",
    "koi8_r": "Этот фильм был очень хорошим.",
    "cp1250": "Zażółć gęślą jaźń, źle się działo.",
    "mac_roman": "Le café était très bon, hélas déjà fermé.",
}


def save(folder: Path, content: bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_file(path)
    return str(caught.value)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"], ids=lambda encoding: encoding
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["unix", "dos", "mac"])
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, end: str) -> None:
    rows = read_file(save(tmp_path, TABLE.replace("\n", end).encode(encoding)))
    assert list(rows["text"]) == ["café “très bon” — 5 €", "pas bon"]
    assert list(rows["label"]) == [1, 0]
    assert rows.place(1) == "line 3 of a.csv"
    assert bool(rows.notes) == (encoding == "cp1252")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.txt"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16-le", "utf-16-be"])
def test_marks_at_the_beginning_of_every_kind_of_text_file(tmp_path: Path, name: str, encoding: str) -> None:
    content = {
        ".csv": "text,n\ngood,1\n",
        ".tsv": "text\tn\ngood\t1\n",
        ".txt": "good\n",
    }.get(name[1:], '{"text": "good", "n": 1}\n')
    mark = "" if encoding == "utf-8-sig" else "\ufeff"
    rows = read_file(save(tmp_path, (mark + content).encode(encoding), name))
    assert rows.row(0)["text"] == "good"
    assert not rows.notes


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_a_guess_that_is_said(tmp_path: Path, encoding: str) -> None:
    rows = read_file(save(tmp_path, TABLE.encode(encoding)))
    assert rows["text"][0] == "café “très bon” — 5 €"
    assert "guessed from its zero bytes" in rows.notes[0]


@pytest.mark.parametrize("language", WESTERN)
@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_western_text_that_is_not_unicode_is_read_and_said(
    tmp_path: Path, language: str, encoding: str
) -> None:
    text = WESTERN[language]
    if encoding == "latin-1":
        text = text.encode("latin-1", "ignore").decode("latin-1")
    rows = read_file(save(tmp_path, f"plain\n{text}\n".encode(encoding), "a.txt"))
    assert list(rows["text"]) == ["plain", text]
    if not text.isascii():
        assert "first at line 2" in rows.notes[0]
        assert "a guess" in rows.notes[0]


@pytest.mark.parametrize("encoding", OTHER)
def test_other_encodings_are_refused_with_a_conversion(tmp_path: Path, encoding: str) -> None:
    text = "\n".join(["text,label", *(f"{OTHER[encoding]},{i % 2}" for i in range(4))])
    message = refusal(save(tmp_path, text.encode(encoding)))
    assert "is not in UTF-8, first at line 2" in message
    assert "iconv -f" in message
    assert "iconv -f CP1251" not in message  # several encodings can decode it, and none is certain
    if encoding != "mac_roman":
        assert encoding in message.lower()


def test_the_only_encoding_that_fits_is_in_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, OTHER["shift_jis"].encode("shift_jis"), "a.txt")
    assert (
        "iconv -f ENCODING -t UTF-8 a.txt > utf8-a.txt, with the encoding of the file, which may be"
        in refusal(path)
    )
    monkeypatch.setattr(text_module, "_CANDIDATES", ("shift_jis", "euc_kr"))
    assert "iconv -f SHIFT_JIS -t UTF-8 a.txt" in refusal(path)


@pytest.mark.parametrize("encoding", ["gb18030", "euc_kr"])
@pytest.mark.parametrize("text", ["It’s fine", "“Fine”, he said", "and so…"])
def test_wide_punctuation_in_plain_text_is_not_taken_for_western(
    tmp_path: Path, text: str, encoding: str
) -> None:
    assert "is not in UTF-8" in refusal(save(tmp_path, f"plain\n{text}\n".encode(encoding), "a.txt"))


@pytest.mark.parametrize("text", ["café", "naïve — 漢字", "Привет", "“so”"])
@pytest.mark.parametrize("bad", ["café".encode("cp1252"), b"a\xffb", "café".encode()[:-1]])
def test_an_invalid_byte_in_utf_8_is_named_with_its_line_and_no_other_encoding(
    tmp_path: Path, text: str, bad: bytes
) -> None:
    lines = [f"{text} no. {i}".encode() for i in range(9)] + [bad, b"end"]
    message = refusal(save(tmp_path, b"\n".join(lines), "a.txt"))
    assert "'a.txt' is in UTF-8 with 1 invalid byte in line 10." in message
    assert message.endswith("iconv -c -f UTF-8 -t UTF-8 a.txt > clean-a.txt")


def test_invalid_bytes_in_several_lines_are_counted(tmp_path: Path) -> None:
    lines = [f"café no. {i}".encode() + (b"\xff\xfe" if i % 2 else b"") for i in range(10)]
    lines += ["déjà vu, très bien, à bientôt".encode()] * 2
    message = refusal(save(tmp_path, b"\n".join(lines), "a.txt"))
    assert "with 10 invalid bytes in lines 2, 4, 6, …" in message


def test_a_character_that_is_cut_at_the_end_is_refused(tmp_path: Path) -> None:
    assert "first at line 2" in refusal(save(tmp_path, "text\na long café".encode()[:-1], "a.csv"))


def test_a_file_that_breaks_its_own_encoding(tmp_path: Path) -> None:
    broken = TABLE.encode("utf-16") + b"\x00\xd8"
    assert "is not valid UTF-16-LE" in refusal(save(tmp_path, broken))


def test_zero_bytes_are_refused_with_their_line(tmp_path: Path) -> None:
    assert "line 3 of 'a.csv' has a zero byte" in refusal(
        save(tmp_path, b"text,label\na,0\nb\0,1\n" + b"c,0\n" * 99)
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04rest", "Excel workbook"),
        (b"PAR1rest", "Rename it to end in .parquet"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"%PDF-1.7", "a PDF file"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
def test_files_that_are_something_else(tmp_path: Path, content: bytes, message: str, name: str) -> None:
    assert message in refusal(save(tmp_path, content, name))


def compressed_zst(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    ("ending", "compress"),
    [
        ("gz", gzip.compress),
        ("bz2", bz2.compress),
        ("xz", lzma.compress),
        ("zst", compressed_zst),
        ("GZ", gzip.compress),
    ],
)
def test_compressed_files(tmp_path: Path, ending: str, compress) -> None:
    rows = read_file(save(tmp_path, compress(TABLE.encode()), f"a.csv.{ending}"))
    assert list(rows["label"]) == [1, 0]
    lines = read_file(save(tmp_path, compress(b'{"text": "a"}\n'), f"a.jsonl.{ending}"))
    assert list(lines["text"]) == ["a"]
    broken = compress(TABLE.encode() * 9)[:-12]
    assert "cannot read" in refusal(save(tmp_path, broken, f"b.csv.{ending}"))


def test_a_lone_carriage_return_within_a_line_is_a_character(tmp_path: Path) -> None:
    text, _ = read_text(save(tmp_path, b"a\rb\nc\n"))
    assert text == "a\rb\nc\n"
    rows = read_file(save(tmp_path, b"text\tlabel\na\rb\t0\n", "a.tsv"))
    assert list(rows["text"]) == ["a\rb"]


def test_other_line_separators_are_characters(tmp_path: Path) -> None:
    text = "one\u2028two\x0bthree\x85four\x0cfive"
    for name, content in (
        ("a.txt", text),
        ("a.tsv", f"text\tn\n{text}\t1"),
        ("a.csv", f"text,n\n{text},1"),
        ("a.jsonl", f'{{"text": "{text.replace(chr(11), "").replace(chr(12), "")}"}}'),
    ):
        rows = read_file(save(tmp_path, content.encode(), name))
        assert len(rows) == 1
        assert "two" in rows["text"][0]
        assert "\u2028" in rows["text"][0]
