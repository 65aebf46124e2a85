"""The main job, once, on the bundled model: a person chats and rates in a browser, a round trains on the votes of many,
the gate judges it, an admin puts it live, the next reply is of the new version, and one command takes it back.

Everything runs as for a user: the real server process with its embedded defaults, its own training process, the real
command. Only the numbers are small, so the gate finds too little evidence and says so, and the promotion is forced.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from serving.engine.bundled_model import ensure_bundled_model
from tests.command.conftest import Running, start_server, stop_server
from tests.web.conftest import find_chromium
from thumbwise.client import Round, Thumbwise

pytestmark = [pytest.mark.bundled_model, pytest.mark.timeout(900)]

FEW = """
[gate]
replies = 12
reply_tokens = 24
min_replies = 12
[training]
niceness = 0
[web]
compare_share = 0
"""
QUESTIONS = ("What is rain?", "Name a fruit.", "How do I boil an egg?", "Why do cats purr?", "Say something kind.")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    models = Path(os.environ.get("THUMBWISE_MODELS_DIR", tmp_path_factory.mktemp("models")))
    data = tmp_path_factory.mktemp("whole-loop") / "data"
    data.mkdir()
    (data / "thumbwise.toml").write_text(FEW)
    server = start_server(data, ensure_bundled_model(models))
    yield server
    assert stop_server(server) == 0


@pytest.fixture
def admin(running: Running) -> Iterator[Thumbwise]:
    token = (running.data_dir / "admin.token").read_text().strip()
    with Thumbwise(running.url, admin_token=token) as client:
        yield client


def chat_in_browser(url: str) -> None:
    """Agree, ask, see the reply grow, give a thumb."""
    with sync_playwright() as playwright:
        executable = find_chromium(playwright)
        if executable is None:
            pytest.skip("no Chromium: install it, set THUMBWISE_CHROMIUM, or run `playwright install chromium`")
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page: Page = browser.new_page()
        page.goto(url)
        page.get_by_label("Your message").fill("Tell me one thing about the moon.")
        page.get_by_label("Your message").press("Enter")
        expect(page.locator(".rating")).to_be_visible(timeout=60_000)
        assert len(page.locator(".assistant .prose").inner_text()) > 10
        with page.expect_response("**/v1/feedback") as answered:
            page.get_by_role("button", name="Good reply").click()
        assert answered.value.ok
        browser.close()


def chat_and_rate(url: str, rater: int) -> None:
    """One member of a crowd that likes an even number of words: any rule will do."""
    with Thumbwise(url) as client:
        for turn in range(2):
            answer = client.chat(
                QUESTIONS[(rater + turn) % len(QUESTIONS)], user=f"rater-{rater}", max_tokens=16, temperature=1.0
            )
            assert answer.policy_version == 1
            thumb: Literal["up", "down"] = "up" if len(answer.text.split()) % 2 == 0 else "down"
            assert answer.reply_id is not None
            client.thumb(answer.reply_id, thumb, rater=f"rater-{rater}")


def ended(client: Thumbwise, round_id: int) -> Round:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        found = client.round(round_id)
        if found.ended:
            return found
        assert client.chat("Still there?", max_tokens=4).text is not None  # chat goes on while it trains
        time.sleep(0.5)
    raise AssertionError(f"round {round_id} did not end")


def command(running: Running, *words: str) -> dict[str, object]:
    """Run `thumbwise … --json` as an admin would."""
    done = subprocess.run(
        [sys.executable, "-m", "thumbwise", *words, "--data", str(running.data_dir), "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def version_of_next_reply(running: Running) -> int:
    with Thumbwise(running.url) as client:
        return client.chat("Which one are you?", max_tokens=4).policy_version


@pytest.mark.browser
def test_a_person_chats_rates_and_is_served_what_was_learnt_until_it_is_taken_back(
    running: Running, admin: Thumbwise
) -> None:
    chat_in_browser(running.url)
    crowd = list(range(20))
    random.Random(0).shuffle(crowd)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda rater: chat_and_rate(running.url, rater), crowd))
    thumbs = admin.readiness()
    assert thumbs["ready"] is False  # 41 thumbs are no basis for a round; the wish is forced, and recorded as such

    done = ended(admin, admin.start_round("kto", force=True).round_id)
    assert done.state in {"published", "rejected"}, done.reason
    assert done.gate_report is not None and done.gate_report["outcome"] in {"pass", "fail", "inconclusive"}
    assert {"held_out_preference", "kl_live", "length", "retention_perplexity"} <= {
        check["name"] for check in done.gate_report["checks"]
    }
    assert [point.value for point in admin.round_metrics(done.round_id) if point.name == "loss"]

    assert done.candidate_version == 2
    if done.state == "rejected":
        command(running, "version", "promote", "2", "--force", "--reason", "the test looks on")
    assert version_of_next_reply(running) == 2
    candidate = admin.version(2)
    assert candidate.adapter_sha256 is not None
    assert (running.data_dir / "adapters" / candidate.adapter_sha256 / "manifest.json").is_file()

    command(running, "version", "rollback", "--reason", "the test has seen enough")
    assert version_of_next_reply(running) == 1
