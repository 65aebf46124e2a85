"""Nothing that people wrote on a held-back channel is drawn to again for training."""

from feedback_store import raters
from feedback_store.replies import add_reply
from tests.trainer.parts import make_reply


def test_prompts_of_a_held_back_channel_are_not_offered_for_candidates_and_refused(context, admin, store):
    def fill(connection):
        raters.set_consent(connection, "anna", "discord", True, 1)
        add_reply(connection, make_reply("d-1", "robin", "a bird?", rater_id="anna", channel="discord"))

    store.write(fill)
    assert admin.get("/v1/candidates/prompts").json()["data"] == []
    assert admin.post("/v1/candidates", json={"reply_id": "d-1"}).status_code == 404
    context.held_back_channels = ()
    assert [row["reply_id"] for row in admin.get("/v1/candidates/prompts").json()["data"]] == ["d-1"]
