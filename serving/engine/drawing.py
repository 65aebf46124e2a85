"""Drawing many replies from one policy in the caller's thread, for the gate: same model code, sampling and ends as the
server's, without the server."""

from collections.abc import Callable, Sequence
from typing import Any

from serving.engine import PolicyRef, ReplyDelta, ReplyEnd, ReplyRequest
from serving.engine.batch import GenerationBatch, Sink, new_row
from serving.engine.weights import BaseWeights


def draw_replies(
    base: BaseWeights,
    policy: PolicyRef,
    requests: Sequence[ReplyRequest],
    *,
    rows: int = 32,
    progress: Callable[[int], None] = lambda ended: None,
    built: Any = None,
) -> list[tuple[str, ReplyEnd]]:
    """Return (text, end) of every request, in order. `progress` is told how many replies have ended. `built`: what
    `base.build(policy)` returned, where somebody has it."""
    ends: dict[int, ReplyEnd] = {}
    texts: list[list[str]] = [[] for _ in requests]

    def sink_of(place: int) -> Sink:
        def sink(item: ReplyDelta | ReplyEnd) -> None:
            if isinstance(item, ReplyEnd):
                ends[place] = item
            else:
                texts[place].append(item.text)

        return sink

    waiting = [new_row(request, sink_of(place), base.tokenizer.decode) for place, request in enumerate(requests)]
    batch = GenerationBatch(
        base.build(policy) if built is None else built,
        policy,
        end_ids=base.end_ids,
        rows=rows,
        max_positions=base.max_positions,
        device=base.device,
    )
    while waiting or batch.rows:
        joining = batch.joinable(waiting)
        if joining:
            batch.join(waiting[:joining])
            del waiting[:joining]
        batch.step()
        progress(len(ends))
    return [("".join(texts[place]), ends[place]) for place in range(len(requests))]
