"""What a user scripts today for one mixture: PEFT merges adapters into a base and saves a folder.

Run in the peer's own venv by score.py. Its argument is JSON: base, adapters (PEFT folders),
weights, out, started (the time then). Prints what the interpreter's start and the imports took, in
seconds and in processor seconds.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


def main() -> None:
    """Merge once."""
    options = json.loads(sys.argv[1])
    print(time.time() - options["started"], time.process_time(), flush=True)
    torch.set_num_threads(options["threads"])
    base = AutoModelForCausalLM.from_pretrained(options["base"], dtype=torch.float16)
    names = [f"a{number}" for number in range(len(options["adapters"]))]
    first, *others = zip(names, options["adapters"], strict=True)
    model = PeftModel.from_pretrained(base, first[1], adapter_name=first[0])
    for name, folder in others:
        model.load_adapter(folder, adapter_name=name)
    # "cat" is the one that sums the products; "linear" would average A and B apart.
    model.add_weighted_adapter(names, options["weights"], "mixture", combination_type="cat")
    model.set_adapter("mixture")
    model.merge_and_unload().save_pretrained(options["out"])


if __name__ == "__main__":
    main()
