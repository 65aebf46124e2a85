"""`thumbwise candidates`: prompts in, comparisons on the Annotate page, and a run that may be killed at any time."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command.conftest import Running
from tests.command.test_command import thumbwise
from tests.databases import ask, url_of
from tests.waiting import until
from thumbwise.cli.candidates import read_prompts
from thumbwise.cli.say import Failure


def tasks(running: Running) -> int:
    """How many candidates wait for annotators."""
    query = "SELECT count(*) FROM annotation_tasks WHERE queue = 'candidates'"
    return int(ask(url_of(running.data_dir), query)[0][0])


def test_a_killed_run_goes_on_where_it_was_and_draws_nothing_twice(running: Running, tmp_path: Path) -> None:
    file, before, count = tmp_path / "prompts.txt", tasks(running), 30
    file.write_text("".join(f"tell me about bird number {n}\n\n" for n in range(count)))
    arguments = ["candidates", str(file), "--data", str(running.data_dir), "--max-tokens", "24", "--replies", "2"]
    process = subprocess.Popen([sys.executable, "-m", "thumbwise", *arguments, "--at-once", "1"])
    until(lambda: tasks(running) >= before + 2 or process.poll() is not None, "two tasks")
    process.kill()
    assert process.wait(20) == -signal.SIGKILL, "it ended before it was killed"
    result = thumbwise(*arguments, "--json")
    assert result.exit_code == 0, result.output
    answered = json.loads(result.stdout)
    outcomes = [one["outcome"] for one in answered]
    assert len(answered) == count and set(outcomes) == {"made", "known"}
    assert outcomes.count("known") >= 2 and outcomes[:2] == ["known", "known"]
    assert len({one["comparison_id"] for one in answered}) == count
    assert tasks(running) == before + count
    assert answered[0]["where"] == "line 1" and answered[1]["where"] == "line 3"
    assert (
        "0 of 30 prompts have new candidates on the Annotate page, 30 had them before" in thumbwise(*arguments).stdout
    )


def test_prompts_come_from_conversations_too(running: Running) -> None:
    data = ["--data", str(running.data_dir)]
    assert thumbwise("chat", *data, "--once", "which bird sings at night?", "--max-tokens", "4").exit_code == 0
    result = thumbwise("candidates", "--from-store", "3", *data, "--max-tokens", "16", "--batch", "chats", "--json")
    assert result.exit_code == 0, result.output
    assert {one["outcome"] for one in json.loads(result.stdout)} <= {"made", "alike"}


def test_what_gave_nothing_is_named(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(
        '{"prompt": "sing"}\n{"messages": [{"role": "user", "content": "dance"}]}\n{"messages": [{"a": 1}]}\n'
    )
    result = thumbwise("candidates", str(file), "--data", str(running.data_dir), "--temperature", "0.00001",
                       "--batch", "cold", "--max-tokens", "8")  # fmt: skip
    assert result.exit_code == 1
    assert "not drawn: line 3: messages.0" in result.stdout
    assert "0 of 3" in result.stdout or "of 3 prompts have new candidates" in result.stdout


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", "{", "line 1 is no JSON"),
        ("a.jsonl", '{"prompt": ""}\n', "line 1 holds no prompt"),
        ("a.jsonl", '{"question": "x"}\n', "line 1 holds no prompt"),
        ("a.txt", "\n  \n", "holds no prompt; wanted one a line"),
    ],
)
def test_a_file_that_cannot_be_read_names_its_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(Failure, match=said):
        read_prompts(tmp_path / name)


def test_a_prompt_that_stands_twice_is_asked_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("sing\ndance\n sing \n")
    assert [(one.where, one.prompt) for one in read_prompts(tmp_path / "a.txt")] == [
        ("line 1", "sing"), ("line 2", "dance"),
    ]  # fmt: skip


def test_a_file_or_the_store_is_named(tmp_path: Path) -> None:
    assert thumbwise("candidates").exit_code == 2
    (tmp_path / "a.txt").write_text("sing\n")
    assert thumbwise("candidates", str(tmp_path / "a.txt"), "--from-store", "2").exit_code == 2
