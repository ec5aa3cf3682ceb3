"""The hash chain: how a record's bytes, digest and hash are made, and how they are checked.

    payload         compact JSON with sorted keys, UTF-8: exactly the bytes that are stored
    payload_digest  sha256(payload)
    hash            sha256(prev_hash ⏎ seq ⏎ stream ⏎ place ⏎ kind ⏎ at_ms ⏎ payload_digest)

One chain runs over all streams of a ledger, from a `prev_hash` of 64 zeros. It covers the payload by its digest only,
so a payload can be removed later (stored as NULL) and the chain still verifies. Stream and kind hold no control
characters, so no two records share a preimage. A payload may be missing only if a later record of the stream `pruned`
says so. What a chain cannot show is that its end was cut off, or that the whole file was replaced: keep the trailer of
an export elsewhere for that.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, NoReturn

import orjson

from ..errors import LedgerCorrupt, LedgerError
from ..ports import Record

__all__ = [
    "COMMIT",
    "GENESIS",
    "PAYLOAD_BYTES_MAX",
    "PRUNED",
    "ChainCheck",
    "Row",
    "chain_hash",
    "check_name",
    "encode_payload",
    "export_lines",
    "to_record",
    "verify_export",
    "verify_export_file",
]

COMMIT: Final = "commit/"
"""Streams that only a term writes to: a scope's records are `commit/<scope>`."""
PRUNED: Final = "pruned"
"""The stream in which `prune` says what it removes: {"count": n, "ranges": [[first seq, last seq], …]}."""

GENESIS = "0" * 64
PAYLOAD_BYTES_MAX = 64 * 1024 * 1024
NAME_LENGTH_MAX = 200
DEPTH_MAX = 200
LINE_BYTES_MAX = PAYLOAD_BYTES_MAX + 16 * 1024

_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,200}")


class Row(NamedTuple):
    """One record as stored. `payload` is None where it was removed; its digest stays."""

    seq: int
    stream: str
    place: int
    kind: str
    payload: bytes | None
    payload_digest: str
    at_ms: int
    prev_hash: str
    hash: str


def chain_hash(prev_hash: str, *fields: str | int) -> str:
    """The hash of one record, as lowercase hexadecimal.

    Args:
        fields: seq, stream, place, kind, at_ms, payload_digest.
    """
    return sha256("\n".join((prev_hash, *map(str, fields))).encode()).hexdigest()


def check_name(what: str, name: str) -> None:
    """Refuse a stream or kind that is empty, longer than 200 characters, or holds control characters (LedgerError)."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise LedgerError(
            f"the {what} {str(name)[:60]!r} is not usable: 1 to {NAME_LENGTH_MAX} characters, no control characters"
        )


def _encode(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def encode_payload(kind: str, payload: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """The bytes to store, and the payload as it will be read back (a copy; tuples are lists there).

    Raises:
        LedgerError: the payload is not a JSON object, or too large; the message names the kind and the JSON path.
    """
    try:
        data = _encode(payload)
        back: dict[str, Any] = orjson.loads(data)
    except (TypeError, ValueError, RecursionError) as error:
        where = _not_json(payload, "$", 0) or f"$: {error}"
        raise LedgerError(f"the payload of a {kind!r} event is not JSON: {where}") from error
    if back != payload or not isinstance(back, dict):
        where = _not_json(payload, "$", 0)
        if where:
            raise LedgerError(f"the payload of a {kind!r} event is not JSON: {where}")
    if len(data) > PAYLOAD_BYTES_MAX:
        raise LedgerError(
            f"the payload of a {kind!r} event is {len(data)} bytes, above the limit of {PAYLOAD_BYTES_MAX}; "
            "store large data as a file and record its digest"
        )
    return data, back


def _not_json(value: Any, path: str, depth: int) -> str:
    """What is not JSON in `value`, as "path: reason", or the empty string."""
    if depth > DEPTH_MAX:
        return f"{path}: nested deeper than {DEPTH_MAX} levels"
    if isinstance(value, dict):
        bad = [key for key in value if not isinstance(key, str) or not _is_text(key)]
        if bad:
            return f"{path}: the key {bad[0]!r} is not a string of Unicode text"
        found = (_not_json(item, f"{path}.{key}", depth + 1) for key, item in value.items())
    elif depth == 0:
        return f"{path}: {type(value).__name__} is not a dict"
    elif isinstance(value, list | tuple):
        found = (_not_json(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value))
    else:
        return _not_json_scalar(value, path)
    return next(filter(None, found), "")


def _not_json_scalar(value: Any, path: str) -> str:
    if isinstance(value, str):
        return "" if _is_text(value) else f"{path}: holds a lone surrogate, which is not Unicode text"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{path}: {value} is not a JSON number"
    if value is None or isinstance(value, bool | int | float):
        return ""
    return f"{path}: {type(value).__name__} is not a JSON value"


def _is_text(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def to_record(row: Row) -> Record:
    """The record of a stored row.

    Raises:
        LedgerError: its payload was removed. LedgerCorrupt: its payload is not JSON.
    """
    if row.payload is None:
        raise LedgerError(
            f"record {row.seq} ({row.kind}, place {row.place} of {row.stream}) was pruned: only its digest "
            f'{row.payload_digest} is left; read with pruned="skip" to go on without it'
        )
    if sha256(row.payload).hexdigest() != row.payload_digest:
        raise LedgerCorrupt(f"record {row.seq} ({row.kind}) is not what was written; restore the ledger from a backup")
    try:
        payload = orjson.loads(row.payload)
    except ValueError as error:
        raise LedgerCorrupt(f"record {row.seq}: its payload is not JSON ({error}); restore it from a backup") from error
    return Record(row.seq, row.stream, row.place, row.kind, payload, row.at_ms, row.prev_hash, row.hash)


class ChainCheck:
    """Checks rows in the order of their seq; `finish` checks what only the end can show.

    Attributes:
        count: rows checked so far; head: the hash of the last one.
    """

    def __init__(self) -> None:
        self.count, self.head = 0, GENESIS
        self._places: dict[str, int] = {}
        self._missing: list[list[int]] = []
        self._announced: list[tuple[int, int]] = []

    def add(self, row: Row) -> None:
        """Check the next row; LedgerCorrupt names its seq and what does not fit."""
        place = self._places.get(row.stream, 0) + 1
        expected = chain_hash(self.head, row.seq, row.stream, row.place, row.kind, row.at_ms, row.payload_digest)
        if row.seq != self.count + 1:
            self._corrupt(row, f"record {self.count + 1} is missing before it")
        if row.prev_hash != self.head:
            self._corrupt(row, f"its prev_hash is {row.prev_hash}, but the record before it has {self.head}")
        if row.payload is not None and sha256(row.payload).hexdigest() != row.payload_digest:
            self._corrupt(row, "its payload does not match its payload_digest")
        if row.hash != expected:
            self._corrupt(row, f"its hash is {row.hash}, but its content has {expected}")
        if row.place != place:
            self._corrupt(row, f"it is place {row.place} of {row.stream}, but the next place is {place}")
        self._places[row.stream] = row.place
        self.count, self.head = row.seq, row.hash
        if row.payload is None:
            self._miss(row.seq)
        elif row.stream == PRUNED:
            self._announce(row, row.payload)

    def finish(self) -> None:
        """Check that every missing payload was announced by a record after it; LedgerCorrupt names the first other."""
        announced, at = sorted(self._announced), 0
        for first, last in self._missing:
            seq = first
            while seq <= last:
                while at < len(announced) and announced[at][1] < seq:
                    at += 1
                if at == len(announced) or announced[at][0] > seq:
                    raise LedgerCorrupt(
                        f"record {seq} does not verify: its payload is gone, and no record of the stream {PRUNED!r} "
                        "says that it was pruned; restore the ledger from a backup or an export"
                    )
                seq = announced[at][1] + 1

    def _miss(self, seq: int) -> None:
        if self._missing and self._missing[-1][1] == seq - 1:
            self._missing[-1][1] = seq
        else:
            self._missing.append([seq, seq])

    def _announce(self, row: Row, payload: bytes) -> None:
        try:
            ranges = [(first, last) for first, last in json.loads(payload)["ranges"]]
            fit = all(type(seq) is int for pair in ranges for seq in pair)
        except (ValueError, TypeError, KeyError):
            fit = False
        if not fit or not all(1 <= first <= last < row.seq for first, last in ranges):
            self._corrupt(row, "it is to say which records before it were pruned, and does not")
        self._announced += ranges

    def _corrupt(self, row: Row, what: str) -> NoReturn:
        raise LedgerCorrupt(f"record {row.seq} does not verify: {what}; restore the ledger from a backup or an export")


def export_lines(rows: Iterable[Row]) -> Iterator[str]:
    """JSON lines without line ends: one object a record, all columns, then the trailer `{"count": n, "head": hash}`.

    Rows are checked on the way, so that no export states a head that its lines do not have (LedgerCorrupt). Write them
    to a file with `\n` behind each, the trailer included.
    """
    check = ChainCheck()
    for row in rows:
        check.add(row)
        payload = "null" if row.payload is None else row.payload.decode()
        yield f"{_line_head(row._asdict())}{payload}}}"
    check.finish()
    yield _trailer(check)


def _line_head(fields: Mapping[str, Any]) -> str:
    """An exported line up to its payload."""
    rest = {name: value for name, value in fields.items() if name != "payload"}
    return f'{_encode(rest).decode()[:-1]},"payload":'


def _trailer(check: ChainCheck) -> str:
    return _encode({"count": check.count, "head": check.head}).decode()


def verify_export(lines: Iterable[str]) -> tuple[int, str]:
    """Check exported lines, given without their line ends; (count, head hash), as the trailer states them.

    Every line must be, to the byte, what `export_lines` writes for its record.

    Raises:
        LedgerCorrupt: a line is not as it was written, does not verify, or the trailer is missing or states something
            else.
    """
    check, ended = ChainCheck(), False
    for number, line in enumerate(lines, 1):
        if ended:
            raise LedgerCorrupt(f"line {number} of the export comes after its trailer")
        row = _parse_line(number, line)
        if row is not None:
            check.add(row)
            continue
        if line != _trailer(check):
            raise LedgerCorrupt(f"the trailer states {line[:200]}, but the records have {_trailer(check)}")
        ended = True
    if not ended:
        raise LedgerCorrupt(f"the export ends after record {check.count} without its trailer: it was cut off")
    check.finish()
    return check.count, check.head


def verify_export_file(source: Path | BinaryIO) -> tuple[int, str]:
    """`verify_export` of a file: UTF-8, each line ended by one `\n`, the trailer too.

    Args:
        source: its path, or the file opened in binary mode.

    Raises:
        LedgerCorrupt: as `verify_export`; or a line is not UTF-8, not ended, or longer than any record.
        OSError: the file cannot be read.
    """
    if not isinstance(source, Path):
        return verify_export(_file_lines(source))
    with source.open("rb") as file:
        return verify_export(_file_lines(file))


def _file_lines(file: BinaryIO) -> Iterator[str]:
    number = 0
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        if not line.endswith(b"\n"):
            what = f"is longer than {LINE_BYTES_MAX} bytes" if len(line) > LINE_BYTES_MAX else "was cut off"
            raise LedgerCorrupt(f"line {number} of the export {what}")
        try:
            yield line[:-1].decode()
        except UnicodeDecodeError as error:
            raise LedgerCorrupt(f"line {number} of the export is not UTF-8 ({error})") from error


def _parse_line(number: int, line: str) -> Row | None:
    """The row of a line, None for what claims to be a trailer."""
    try:
        fields = json.loads(line)
        if "head" in fields:
            return None
        head = _line_head(fields)
        payload = line[len(head) : -1]
        row = Row(**{**fields, "payload": None if payload == "null" else payload.encode()})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise LedgerCorrupt(f"line {number} of the export is not a record ({error})") from error
    if line != f"{head}{payload}}}":
        raise LedgerCorrupt(f"line {number} of the export is not, to the byte, what an export writes for its record")
    return row
