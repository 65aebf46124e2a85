"""README.zh-CN.md says what README.md says: heading by heading, the same commands, links, pictures and figures."""

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from scripts import measured, measured_words

ENGLISH = measured.README.read_text(encoding="utf-8")
CHINESE = measured.README_ZH.read_text(encoding="utf-8")
EACH_OTHER = {"README.md", "README.zh-CN.md"}


def blocks(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def code(language: str, block: str) -> Iterator[str]:
    """The lines of a block without what is said about them, which is translated."""
    for line in block.splitlines():
        yield re.match(r"\s*\S*", line)[0] if language == "text" else re.sub(r"\s+#.*", "", line).rstrip()


def prose(text: str) -> str:
    """What is neither code, nor the table of figures, nor the target of a link."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    text = text.partition(measured.BEGIN)[0] + text.partition(measured.END)[2]
    return re.sub(r"\]\([^)]*\)|`[^`]*`", "", text)


def test_the_headings_are_the_same_in_number_and_depth() -> None:
    def levels(text: str) -> list[int]:
        bare = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        return [len(marks) for marks in re.findall(r"^(#+) ", bare, flags=re.MULTILINE)]

    assert levels(CHINESE) == levels(ENGLISH)


def test_every_command_and_every_line_of_code_is_the_same() -> None:
    assert [kind for kind, _ in blocks(CHINESE)] == [kind for kind, _ in blocks(ENGLISH)]
    for (kind, theirs), (_, ours) in zip(blocks(CHINESE), blocks(ENGLISH), strict=True):
        assert list(code(kind, theirs)) == list(code(kind, ours))


def test_it_links_to_the_same_pages_and_shows_the_same_pictures() -> None:
    def targets(text: str) -> Counter[str]:
        return Counter(target for target in re.findall(r"\]\(([^)\s]+)", text) if target not in EACH_OTHER)

    assert targets(CHINESE) == targets(ENGLISH)
    assert "](README.zh-CN.md)" in ENGLISH and "](README.md)" in CHINESE


def test_every_figure_of_the_text_is_the_same() -> None:
    def figures(text: str) -> Counter[str]:
        return Counter(re.findall(r"\d[\d.,]*\d|\d", prose(text)))

    # 135 million is 1.35 hundred million in Chinese.
    theirs = figures(CHINESE)
    theirs["135"] += theirs.pop("1.35", 0)
    assert theirs == figures(ENGLISH)


def test_the_measured_figures_are_those_of_the_results() -> None:
    found = measured.results()
    assert measured.filled(CHINESE, found, chinese=True) == CHINESE, "run `make docs` and commit README.zh-CN.md"


def test_every_headline_and_every_unit_has_its_words() -> None:
    shown = [
        (row["case"], row["unit"])
        for result in measured.results()
        for row in result["rows"]
        if row["case"].startswith(measured.HEADLINES.get(result["name"], ("\0",)))
    ]
    assert shown
    untold = [case for case, _ in shown if measured_words.in_chinese(case) == case]
    assert not untold, f"add {untold} to scripts/measured_words.py"
    assert {unit for _, unit in shown} - {"%"} <= set(measured_words.UNITS)


@pytest.mark.parametrize(
    ("case", "wanted"),
    [
        ("… lost", "……其中丢失"),
        ("something new", "something new"),
        (
            "shuffled, seed 0: win rate against the base [1%, 2%] (gates: pass then inconclusive)",
            "打乱的评价，种子 0：对基础模型的胜率 [1%, 2%]（关卡：先通过，后证据不足）",
        ),
    ],
)
def test_a_case_is_said_in_chinese_with_its_own_figures(case: str, wanted: str) -> None:
    assert measured_words.in_chinese(case) == wanted
