"""Somebody wants to be forgotten: of a running server, no file below its folder keeps a byte of what they said."""

import json
import secrets
from pathlib import Path

import httpx

from tests.command.conftest import Running
from tests.command.test_command import thumbwise

PLACES = ("asked", "reason", "correction", "pair", "reply")
PLANTED = {place: f"{place}x{secrets.token_hex(8)}" for place in PLACES}
ME = {"rater": secrets.token_hex(16), "channel": "web"}


def holding(folders: list[Path]) -> set[str]:
    """Which planted words stand in any file."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    content = [path.read_bytes() for path in files if path.suffix != ".safetensors"]
    return {place for place, word in PLANTED.items() if any(word.encode() in one for one in content)}


def say_all(url: str) -> None:
    """Chat and rate with every planted word, as the web chat would."""
    with httpx.Client(base_url=url, trust_env=False) as web:

        def post(path: str, **body: object) -> dict[str, str]:
            answer = web.post(path, json=body)
            assert answer.status_code == 200, answer.text
            found: dict[str, str] = answer.json()
            return found

        def chat(text: str, **more: object) -> dict[str, str]:
            wanted = {"channel": "web", "conversation_id": "talk", **more}
            message = [{"role": "user", "content": text}]
            return post("/v1/chat/completions", model="thumbwise", messages=message, user=ME["rater"], max_tokens=4,
                        metadata=wanted)  # fmt: skip

        post("/v1/consent", **ME, given=True)
        one = chat(f"tell me of {PLANTED['asked']}")
        messages = [{"role": "assistant", "content": f"so {PLANTED['reply']}"}, {"role": "user", "content": "and?"}]
        answer = web.post("/v1/chat/completions", json={"model": "thumbwise", "messages": messages, "max_tokens": 4,
                          "user": ME["rater"], "metadata": {"channel": "web"}})  # fmt: skip
        assert answer.status_code == 200, answer.text
        post("/v1/feedback", **ME, reply_id=one["id"], thumb="down", reason=f"because {PLANTED['reason']}")
        post("/v1/feedback", **ME, reply_id=one["id"], correction=f"better {PLANTED['correction']}")
        stranger = {"rater": secrets.token_hex(16), "channel": "web"}
        post("/v1/feedback", **stranger, reply_id=one["id"], thumb="up")
        chat(f"compare {PLANTED['pair']}")


def test_after_an_erasure_no_file_of_a_server_and_no_export_holds_a_word_of_it(
    running: Running, tmp_path: Path
) -> None:
    data = str(running.data_dir)
    say_all(running.url)
    exports = [tmp_path / "all.jsonl", tmp_path / "votes.parquet", tmp_path / "rewrites.jsonl"]
    for out, export_format in zip(exports, ("events", "unpaired", "sft"), strict=True):
        made = thumbwise("feedback", "export", "--format", export_format, "--out", str(out), "--data", data)
        assert made.exit_code == 0, made.output
    assert holding([running.data_dir, tmp_path]) == set(PLACES), "what is searched for was there"
    asked = thumbwise("raters", "erase", ME["rater"], "--channel", "web", "--retire", "--yes", "--json", "--data", data)
    assert asked.exit_code == 0, asked.output
    report = json.loads(asked.stdout)
    assert (report["replies"], report["feedback"], report["affected_versions"]) == (3, 2, [])
    assert report["overwritten_at"] is not None and report["live_version"] == 1
    assert holding([running.data_dir]) == set()
    assert holding([tmp_path]), "an export is a copy"
    cleaned = thumbwise("feedback", "clean", *map(str, exports), "--data", data)
    assert cleaned.exit_code == 0, cleaned.output
    assert "votes.parquet: 2 of 2 rows left, 0 stay" in " ".join(cleaned.stderr.split())
    assert holding([tmp_path]) == set()
    (stays,) = [json.loads(line) for line in exports[0].read_text().splitlines()]
    assert (stays["kind"], stays["thumb"], stays["prompt"]) == ("thumb", "up", None), "another's vote stays, wordless"
    again = thumbwise("raters", "erase", ME["rater"], "--channel", "web", "--yes", "--data", data)
    assert again.exit_code == 1 and "nothing is known of" in again.stderr
    assert thumbwise("feedback", "clean", str(running.printed), "--data", data).exit_code == 1
