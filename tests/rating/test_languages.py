"""Which language a text seems to be in, where the platform does not say."""

import pytest

from thumbwise.rating.texts import language_of, texts_for


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("你好，今天天气怎么样？", "zh"),
        ("请解释 Python 的装饰器", "zh"),
        ("this is 好", None),
        ("這個問題怎麼回答", None),  # traditional script: no guess
        ("今日は天気がいいですね", None),
        ("오늘 날씨", None),
        ("hello", None),
        ("", None),
    ],
)
def test_chinese_is_told_from_what_merely_looks_like_it(text: str, language: str | None) -> None:
    assert language_of(text) == language
    assert texts_for(language_of(text)).language == ("zh_Hans" if language else "en")
