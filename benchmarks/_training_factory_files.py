"""What LLaMA-Factory is given: the rows as its datasets and one configuration, in its own words."""

import json
import math
import os
import subprocess
from pathlib import Path

from transformers import AutoConfig

from benchmarks._training_work import PAIRS_FILE, VOTES_FILE, Work, in_order, read_lines

ROOT = Path(__file__).parent.parent
PYTHON_VARIABLE = "THUMBWISE_BENCH_LLAMAFACTORY_PYTHON"
STAGES = {"kto": "kto", "dpo": "dpo", "reward": "rm"}


def factory_python() -> Path | None:
    """The Python that has LLaMA-Factory, or None where there is none."""
    named = os.environ.get(PYTHON_VARIABLE)
    path = Path(named) if named else ROOT / ".llamafactory" / "bin" / "python"
    if not path.is_file():
        return None
    found = subprocess.run(
        [path, "-c", "import importlib.util as u; exit(not u.find_spec('llamafactory'))"], check=False
    )
    return path if found.returncode == 0 else None


def write_factory_files(folder: Path, method: str, work: Work) -> Path:
    """Write dataset and configuration of a method below `folder`; return the configuration's path."""
    place = folder / f"factory-{method}"
    place.mkdir(exist_ok=True)
    if method == "kto":
        rows = [
            {"instruction": line["prompt"], "output": line["reply"]["text"], "label": line["up"]}
            for line in in_order(folder, method, read_lines(folder / VOTES_FILE))
        ]
        about = {"columns": {"prompt": "instruction", "response": "output", "kto_tag": "label"}}
    else:
        rows = [
            {"instruction": line["prompt"], "chosen": line["chosen"]["text"], "rejected": line["rejected"]["text"]}
            for line in in_order(folder, method, read_lines(folder / PAIRS_FILE))
        ]
        about = {"ranking": True, "columns": {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}}  # type: ignore[dict-item]
    (place / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    (place / "dataset_info.json").write_text(
        json.dumps({"rows": {"file_name": "rows.json", **about}}), encoding="utf-8"
    )
    layers = work.layers(AutoConfig.from_pretrained(work.model_dir).num_hidden_layers)
    modules = {"down_proj": "mlp", "up_proj": "mlp", "gate_proj": "mlp"}
    targets = [f"{layer}.{modules.get(name, 'self_attn')}.{name}" for layer in layers for name in work.target_modules]
    config = {
        "model_name_or_path": work.model_dir,
        "stage": STAGES[method],
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": work.rank,
        "lora_alpha": int(work.alpha),
        "lora_dropout": 0.0,
        "lora_target": ",".join(targets),
        "pref_beta": work.beta,
        "dataset": "rows",
        "dataset_dir": str(place),
        "template": "empty",  # the rows' prompts are rendered already
        "cutoff_len": 1024,
        "disable_shuffling": True,
        "preprocessing_num_workers": 1,
        "output_dir": str(place / "out"),
        "overwrite_output_dir": True,  # every repeat begins anew
        "per_device_train_batch_size": work.batch_size,
        "gradient_accumulation_steps": 1,
        "learning_rate": work.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": math.ceil(work.steps * work.warmup_share),
        "max_grad_norm": work.max_gradient_norm,
        "num_train_epochs": 1,
        "bf16": work.dtype == "bfloat16",
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "seed": work.seed,
    }
    path = place / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path
