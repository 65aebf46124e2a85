"""Any causal model of transformers as a RowForward: its own modules, our cache and our mask."""

from collections.abc import Sequence
from typing import Any

import torch

from serving.engine.forward import Piece
from serving.engine.kv_slots import KVSlots


class ModuleForward:
    """See `serving.engine.forward.RowForward`. New tokens and chunks of prompts run as two calls of the model, since
    padding every reply to the length of a chunk would cost more than a second pass over the weights."""

    def __init__(self, model: Any, rows: int, max_positions: int, device: torch.device) -> None:
        self._model, self._device = model, device
        self._slots = KVSlots(rows, max_positions, device)
        self._dtype = next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())

    def run(self, pieces: Sequence[Piece]) -> torch.Tensor:
        """See RowForward."""
        found: dict[int, torch.Tensor] = {}
        for group in (
            [piece for piece in pieces if len(piece.token_ids) > 1],
            sorted((piece for piece in pieces if len(piece.token_ids) == 1), key=lambda piece: piece.row),
        ):
            if group:
                logits = self._run_padded(group)
                found.update(
                    (piece.row, logits[place, -piece.every :])
                    for place, piece in enumerate(group)
                    if piece.wants_logits
                )
        wanted = [found[piece.row] for piece in pieces if piece.wants_logits]
        return torch.cat(wanted) if wanted else torch.empty(0, 0, device=self._device)

    def copy_row(self, source: int, target: int, length: int) -> None:
        """See RowForward."""
        self._slots.copy_row(source, target, length)

    def _run_padded(self, pieces: Sequence[Piece]) -> torch.Tensor:
        """Run pieces left-padded to one length; return the logits after the last tokens of each [pieces, kept, V]."""
        longest = max(len(piece.token_ids) for piece in pieces)
        padded = [[piece.token_ids[0]] * (longest - len(piece.token_ids)) + list(piece.token_ids) for piece in pieces]
        starts = torch.tensor([piece.end - longest for piece in pieces], device=self._device)
        index = torch.arange(longest, device=self._device)
        positions = starts[:, None] + index[None, :]
        padding = torch.tensor([longest - len(piece.token_ids) for piece in pieces], device=self._device)
        positions = torch.where(index[None, :] < padding[:, None], -1, positions)
        span = max(piece.end for piece in pieces)
        self._slots.begin([piece.row for piece in pieces], positions, span)
        positions_seen = positions.clamp(min=0)  # padding sees position 0: a softmax over nothing is NaN
        hidden = torch.arange(span, device=self._device)[None, None, :] > positions_seen[:, :, None]
        mask = torch.zeros(hidden.shape, dtype=self._dtype, device=self._device).masked_fill_(hidden, float("-inf"))
        output = self._model(
            input_ids=torch.tensor(padded, device=self._device),
            position_ids=positions_seen,
            attention_mask=mask[:, None],
            past_key_values=self._slots,
            use_cache=True,
            logits_to_keep=(kept := max(piece.every for piece in pieces)),
        )
        logits: torch.Tensor = output.logits[:, -kept:, :].float()
        return logits
