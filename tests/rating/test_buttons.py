"""Signed button data: what is carried, who may press, and what is refused and counted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.api.drawing import new_id
from thumbwise.rating.buttons import LIFE_MINUTES, PREFIX, Act, Button, ButtonRefused, ButtonSecrets, ButtonSigner

CHAT, ANNA, BEN = -1001234567890123, 7_123_456_789, 42


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def signer(clock: Clock) -> ButtonSigner:
    return ButtonSigner("123456:a-token-of-the-tests", "telegram:123456", clock)


def refusal(signer: ButtonSigner, *press: object) -> str:
    with pytest.raises(ButtonRefused) as refused:
        signer.read(*press)  # type: ignore[arg-type]
    return refused.value.reason


@pytest.mark.parametrize(
    "button",
    [
        Button(Act.THUMB_UP, new_id()),
        Button(Act.THUMB_DOWN, new_id(), owner=2**52 - 1),
        Button(Act.CHOOSE, new_id(), 3, owner=ANNA),
        Button(Act.FORGET, owner=ANNA, once=True),
        Button(Act.ADMIN, "2147483647:2147483646", 3, owner=ANNA),
        Button(Act.ADMIN, "12", 2, owner=2**62, once=True),
        Button(Act.DISMISS),
    ],
)
def test_a_button_comes_back_as_it_was_and_fits_telegrams_64_bytes(signer: ButtonSigner, button: Button) -> None:
    data = signer.data(button, CHAT)
    assert len(data.encode()) <= 64
    assert signer.read(data, CHAT, button.owner or BEN, "update-1") == button
    assert signer.glance(data, CHAT) == button


def test_a_discord_snowflake_fits_discords_100_characters(signer: ButtonSigner) -> None:
    button = Button(Act.ADMIN, "2147483647:2147483646", 3, owner=1_399_999_999_999_999_999, once=True)
    assert len(signer.data(button, 1_399_999_999_999_999_998)) <= 100


@given(st.text(max_size=80))
@settings(max_examples=200)
def test_data_that_somebody_made_up_is_refused(text: str) -> None:
    signer = ButtonSigner("secret", "telegram:1")
    for made_up in (text, PREFIX + text):
        with pytest.raises(ButtonRefused):
            signer.read(made_up, CHAT, ANNA)
    assert signer.refused["forged"] == 2


def test_every_flipped_bit_is_a_forgery(signer: ButtonSigner) -> None:
    data = signer.data(Button(Act.THUMB_UP, new_id(), owner=ANNA), CHAT)
    for place in range(len(PREFIX), len(data) - 1):
        other = "A" if data[place] != "A" else "B"
        assert refusal(signer, data[:place] + other + data[place + 1 :], CHAT, ANNA) == "forged"
    assert signer.refused["forged"] == len(data) - 1 - len(PREFIX)


def test_data_carried_into_another_chat_or_to_another_bot_is_a_forgery(signer: ButtonSigner) -> None:
    data = signer.data(Button(Act.THUMB_UP, new_id()), CHAT)
    assert refusal(signer, data, CHAT + 1, ANNA) == "forged"
    for other in (ButtonSigner("123456:a-token-of-the-tests", "telegram:9"), ButtonSigner("else", "telegram:123456")):
        assert refusal(other, data, CHAT, ANNA) == "forged"


def test_only_the_owner_may_press_and_anybody_where_there_is_none(signer: ButtonSigner) -> None:
    owned = signer.data(Button(Act.REGENERATE, new_id(), owner=ANNA), CHAT)
    assert refusal(signer, owned, CHAT, BEN) == "not_yours"
    assert signer.read(owned, CHAT, ANNA).owner == ANNA
    assert signer.read(signer.data(Button(Act.THUMB_UP, new_id()), CHAT), CHAT, BEN).owner is None


def test_a_confirmation_counts_once_but_a_repeat_of_the_same_event_is_let_through(signer: ButtonSigner) -> None:
    data = signer.data(Button(Act.FORGET, owner=ANNA, once=True), CHAT)
    signer.read(data, CHAT, ANNA, "update-1")
    signer.read(data, CHAT, ANNA, "update-1")
    assert refusal(signer, data, CHAT, ANNA, "update-2") == "replayed"
    again = signer.data(Button(Act.FORGET, owner=ANNA, once=True), CHAT)
    assert again != data
    signer.read(again, CHAT, ANNA, "update-3")


def test_a_confirmation_ages(signer: ButtonSigner, clock: Clock) -> None:
    data = signer.data(Button(Act.FORGET, owner=ANNA, once=True), CHAT)
    clock.now_s += (LIFE_MINUTES + 1) * 60
    assert refusal(signer, data, CHAT, ANNA, "update-1") == "expired"


def test_a_target_that_cannot_fit_is_an_error_where_it_is_made(signer: ButtonSigner) -> None:
    with pytest.raises(ValueError, match="at most 64"):
        signer.data(Button(Act.THUMB_UP, "x" * 65), CHAT)
    with pytest.raises(ValueError, match="0 to 255"):
        signer.data(Button(Act.REASON, "r-1", 256), CHAT)


def test_buttons_of_a_former_key_work_until_its_time_is_over() -> None:
    present = [1_000.0]
    old = ButtonSigner("the former key", "telegram:1").data(Button(Act.THUMB_UP, "reply"), 7)
    keys = ButtonSecrets(b"the new key", (("the former key", 2_000.0),))
    signer = ButtonSigner(keys, "telegram:1", lambda: present[0])
    assert signer.read(old, 7, clicker=5).target == "reply"
    fresh = signer.data(Button(Act.THUMB_UP, "reply"), 7)
    assert fresh != old, "what is signed now is signed with the new one"
    present[0] = 2_000.0
    with pytest.raises(ButtonRefused, match="forged"):
        signer.read(old, 7, clicker=5)
    assert signer.read(fresh, 7, clicker=5).target == "reply"
    assert "key" not in repr(keys).replace("newest", "")
