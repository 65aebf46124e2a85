"""Rows as files: JSON lines and Parquet. A file appears whole or not at all."""

import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

Format = Literal["events", "unpaired", "preference", "sft"]
ROWS_PER_GROUP = 1_000


def jsonl_lines(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield each row as one line of JSON, its end included."""
    for row in rows:
        yield json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"


def write_jsonl(rows: Iterable[dict[str, Any]], path: Path) -> int:
    """Write rows to a file, one JSON object a line, and return how many there were."""
    count = 0
    part = _part(path)
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            for line in jsonl_lines(rows):
                file.write(line)
                count += 1
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


def write_parquet(rows: Iterable[dict[str, Any]], path: Path, format: Format) -> int:
    """Write rows of a format to a Parquet file and return how many there were. The columns are the format's, with or
    without rows, so that files of several days can be read together."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(_columns(format))
    count = 0
    part = _part(path)
    remaining = iter(rows)
    try:
        with pq.ParquetWriter(part, schema, compression="zstd") as writer:
            while group := list(islice(remaining, ROWS_PER_GROUP)):
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
                count += len(group)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


def read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_PER_GROUP):
            yield from batch.to_pylist()


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _columns(format: Format) -> list[tuple[str, Any]]:
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    messages = pa.list_(pa.struct([("role", text), ("content", text)]))
    lineage = [
        ("feedback_id", number),
        ("rater_id", text),
        ("policy_version", number),
        ("channel", text),
        ("created_at", text),
    ]
    if format == "unpaired":
        return [("prompt", messages), ("completion", messages), ("label", pa.bool_()), ("reply_id", text), *lineage]
    if format == "sft":
        return [
            ("prompt", messages),
            ("completion", messages),
            ("approved", pa.bool_()),
            ("reply_id", text),
            *lineage,
        ]
    if format == "preference":
        ids = [("comparison_id", text), ("chosen_reply_id", text), ("rejected_reply_id", text)]
        return [("prompt", messages), ("chosen", messages), ("rejected", messages), *ids, *lineage]
    return [
        ("kind", text),
        ("thumb", text),
        ("verdict", text),
        ("ranking", pa.list_(text)),
        ("correction", text),
        ("reason", text),
        ("reply_id", text),
        ("comparison_id", text),
        ("prompt", messages),
        ("completion", messages),
        ("candidates", pa.list_(pa.struct([("reply_id", text), ("completion", messages)]))),
        ("propensity", pa.float64()),
        ("sets", number),
        ("adapter_sha256", text),
        *lineage,
    ]
