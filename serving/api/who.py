"""Who a caller's rater is: the keyed id, and their former one taken over when the rater key was changed."""

from feedback_store.errors import StoreUnavailable
from feedback_store.rater_names import former_rater_ids, known_under, rename_rater
from feedback_store.raters import rater_id_of
from serving.api.context import ApiContext

MOST_SETTLED = 100_000


async def rater_of(context: ApiContext, channel: str, user: str) -> str:
    """Return the id of `user` on `channel`. What the store has under a former key's id is theirs from now on.

    With one key there is nothing to look up. Where the database is away the id is returned all the same: replies go on,
    and the next request looks again.
    """
    rater_id = rater_id_of(context.rater_key, channel, user)
    if not context.former_rater_keys or rater_id in context.settled_raters:
        return rater_id
    former = former_rater_ids(context.former_rater_keys, channel, user)
    try:
        for one in await context.store.read_async(known_under, former):
            await context.store.write_in_time(rename_rater, one, rater_id)
    except StoreUnavailable:
        return rater_id
    if len(context.settled_raters) > MOST_SETTLED:
        context.settled_raters.clear()
    context.settled_raters.add(rater_id)
    return rater_id
