"""The official `openai` client, unchanged, against a real server."""

import openai
import pytest

from feedback_store.replies import get_reply


@pytest.fixture
def assistant(base_url):
    with openai.OpenAI(base_url=f"{base_url}/v1", api_key="unused", max_retries=0) as assistant:
        yield assistant


MESSAGES: list = [{"role": "user", "content": "hello"}]


def test_it_chats_and_the_id_is_the_receipt(assistant, store):
    completion = assistant.chat.completions.create(
        model="thumbwise", messages=MESSAGES, temperature=0.5, max_completion_tokens=4, user="anna", seed=1,
        metadata={"channel": "api", "conversation_id": "c-1"}, stop=["\n"], n=1, top_p=0.9,
    )  # fmt: skip
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens == 4
    assert store.read(get_reply, completion.id).text == completion.choices[0].message.content
    assert completion.choices[0].reply_id == completion.id


def test_it_streams_with_usage(assistant, store):
    stream = assistant.chat.completions.create(
        model="thumbwise", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    text, receipts, usage = "", None, None
    for chunk in stream:
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
        receipts = getattr(chunk, "thumbwise", receipts)
        usage = chunk.usage or usage
    assert usage.completion_tokens == 8
    assert store.read(get_reply, receipts["reply_ids"][0]).text == text


def test_it_compares(assistant):
    completion = assistant.chat.completions.create(
        model="thumbwise", messages=MESSAGES, n=2, metadata={"compare": "true"}
    )
    assert completion.comparison_id and len({choice.reply_id for choice in completion.choices}) == 2


def test_it_lists_and_reads_models(assistant):
    assert [model.id for model in assistant.models.list()] == ["thumbwise"]
    assert assistant.models.retrieve("thumbwise").policy_version == 1


def test_our_refusals_become_its_exceptions(assistant, words):
    with pytest.raises(openai.BadRequestError) as refused:
        assistant.chat.completions.create(model="thumbwise", messages=MESSAGES, temperature=9)
    assert refused.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        assistant.chat.completions.create(model="gpt-5", messages=MESSAGES)
    words.limit = 0
    with pytest.raises(openai.RateLimitError):
        assistant.chat.completions.create(model="thumbwise", messages=MESSAGES)


def test_a_raw_response_names_the_policy_version(assistant):
    raw = assistant.chat.completions.with_raw_response.create(model="thumbwise", messages=MESSAGES)
    assert raw.headers["x-policy-version"] == "1"
