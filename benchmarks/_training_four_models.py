"""PPO with four models, as it is usually drawn: `python -m benchmarks._training_four_models FOLDER`.

Policy, reference, reward and value are four copies of the base model. Policy and value carry a LoRA adapter each (as
ours has it: same matrices, layers and rank); reward and value end in a linear head. Replies are drawn by transformers'
`generate` from the policy. An iteration: draw, score, log-probabilities under policy and reference, values, GAE, then
the same number of passes over the same minibatches as ours, with the clipped objective and the clipped value loss. Rows
are padded; only what is needed to be right is here, and nothing that is wasteful on purpose.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from benchmarks._training_work import PAIRS_FILE, Clock, Work, read_lines, read_work, say
from trainer.methods.ppo import clipped_policy_loss, clipped_value_loss, gae, token_rewards, whiten

KL_WEIGHT, CLIP, VALUE_CLIP, LAMBDA = 0.1, 0.2, 0.2, 0.95


class FourModels:
    """The four, and what is asked of them. Tensors are [replies, tokens] of the replies alone."""

    def __init__(self, work: Work) -> None:
        self._work = work
        dtype = getattr(torch, work.dtype)
        self.tokenizer = AutoTokenizer.from_pretrained(work.model_dir, padding_side="left")
        self.policy: Any = self._adapted(AutoModelForCausalLM.from_pretrained(work.model_dir, dtype=dtype))
        self.reference: Any = AutoModelForCausalLM.from_pretrained(work.model_dir, dtype=dtype).eval()
        self.reward: Any = AutoModel.from_pretrained(work.model_dir, dtype=dtype).eval()
        self.value: Any = self._adapted(AutoModel.from_pretrained(work.model_dir, dtype=dtype), "FEATURE_EXTRACTION")
        width = self.reference.config.hidden_size
        self.reward_head, self.value_head = torch.nn.Linear(width, 1), torch.nn.Linear(width, 1)
        torch.nn.init.normal_(self.reward_head.weight, std=0.02)
        torch.nn.init.zeros_(self.value_head.weight)
        trained = [
            *(parameter for model in (self.policy, self.value) for parameter in model.parameters()),
            *self.value_head.parameters(),
        ]
        self.parameters = [parameter for parameter in trained if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(self.parameters, lr=work.learning_rate, weight_decay=0.0)

    def _adapted(self, model: Any, task: str = "CAUSAL_LM") -> Any:
        work = self._work
        layers = "|".join(map(str, work.layers(model.config.num_hidden_layers)))
        # By whole names: peft's `layers_to_transform` does not find the layers of a model without a head.
        names = rf"(.*\.)?layers\.({layers})\..*\.({'|'.join(work.target_modules)})"
        lora = LoraConfig(task_type=task, r=work.rank, lora_alpha=work.alpha, target_modules=names)
        return get_peft_model(model, lora).eval()

    @torch.no_grad()
    def draw(self, prompts: list[str]) -> dict[str, Any]:
        """Draw a reply to each prompt: ids, masks of tokens and of the reply, and the reply's first place."""
        asked = self.tokenizer(prompts, return_tensors="pt", padding=True)
        ids = self.policy.generate(
            **asked, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=self._work.reply_tokens
        )
        first = asked["input_ids"].shape[1]
        reply = ids[:, first:]
        ended = (reply == self.tokenizer.eos_token_id).int()
        said = (ended.cumsum(-1) - ended) == 0  # up to and with the first end token
        mask = torch.cat([asked["attention_mask"], said.int()], dim=-1)
        return {"ids": ids, "mask": mask, "said": said, "first": first}

    def logprobs(self, model: Any, drawn: dict[str, Any], rows: slice) -> torch.Tensor:
        """log p of the reply's tokens."""
        ids = drawn["ids"][rows]
        kept = ids.shape[1] - drawn["first"]
        logits = model(**inputs(drawn, rows), logits_to_keep=kept + 1).logits[:, :-1].float()
        found: torch.Tensor = logits.log_softmax(-1).gather(-1, ids[:, -kept:, None]).squeeze(-1)
        return found

    def values(self, drawn: dict[str, Any], rows: slice) -> torch.Tensor:
        """V before each of the reply's tokens."""
        states = self.value(**inputs(drawn, rows)).last_hidden_state[:, drawn["first"] - 1 : -1]
        return self.value_head(states.float()).squeeze(-1)  # type: ignore[no-any-return]

    @torch.no_grad()
    def rewards(self, drawn: dict[str, Any], rows: slice) -> torch.Tensor:
        """The reward at the reply's last token."""
        states = self.reward(**inputs(drawn, rows)).last_hidden_state
        last = drawn["first"] + drawn["said"][rows].sum(-1) - 1
        return self.reward_head(states[torch.arange(len(last)), last].float()).squeeze(-1)  # type: ignore[no-any-return]


def inputs(drawn: dict[str, Any], rows: slice) -> dict[str, Any]:
    mask = drawn["mask"][rows]
    return {
        "input_ids": drawn["ids"][rows],
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
        "use_cache": False,
    }


def iterate(models: FourModels, prompts: list[str], work: Work) -> tuple[float, float]:
    """One iteration; return its last loss and the mean number of words of its replies."""
    drawn = models.draw([prompt for prompt in prompts for _ in range(work.ppo_replies)])
    count = len(drawn["ids"])
    batches = [slice(start, start + work.minibatch) for start in range(0, count, work.minibatch)]
    with torch.no_grad():
        old = torch.cat([models.logprobs(models.policy, drawn, rows) for rows in batches])
        reference = torch.cat([models.logprobs(models.reference, drawn, rows) for rows in batches])
        before = torch.cat([models.values(drawn, rows) for rows in batches])
        scores = torch.cat([models.rewards(drawn, rows) for rows in batches])
    scores = (scores - scores.mean()) / (scores.std() + 1e-8)
    advantages, targets = torch.zeros_like(old), torch.zeros_like(old)
    for place in range(count):
        said = drawn["said"][place]
        rewards = token_rewards(old[place][said], reference[place][said], scores[place], KL_WEIGHT)
        advantages[place][said] = gae(rewards, before[place][said], LAMBDA)
        targets[place][said] = advantages[place][said] + before[place][said]
    advantages[drawn["said"]] = whiten(advantages[drawn["said"]])
    loss = torch.zeros(())
    for rows in batches * work.ppo_passes:
        said = drawn["said"][rows]
        ratio = (models.logprobs(models.policy, drawn, rows) - old[rows])[said].exp()
        loss = clipped_policy_loss(ratio, advantages[rows][said], CLIP) + clipped_value_loss(
            models.values(drawn, rows)[said], before[rows][said], targets[rows][said], VALUE_CLIP
        )
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(models.parameters, work.max_gradient_norm)
        models.optimiser.step()
        models.optimiser.zero_grad()
    texts = models.tokenizer.batch_decode(drawn["ids"][:, drawn["first"] :], skip_special_tokens=True)
    return float(loss.detach()), sum(len(text.split()) for text in texts) / count


def main() -> None:
    work = read_work(Path(sys.argv[1]))
    torch.set_num_threads(work.threads)
    torch.manual_seed(work.seed)
    models = FourModels(work)
    prompts = [line["prompt"] for line in read_lines(Path(sys.argv[1]) / PAIRS_FILE)]
    clock, words = Clock(), []
    for turn in range(work.iterations):
        start = turn * work.ppo_prompts
        asked = [prompts[place % len(prompts)] for place in range(start, start + work.ppo_prompts)]
        loss, mean_words = iterate(models, asked, work)
        words.append(mean_words)
        clock.step(loss)
    say(clock.result(words=words))


if __name__ == "__main__":
    main()
