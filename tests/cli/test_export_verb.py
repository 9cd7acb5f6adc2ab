"""`export` and `import` as they are typed, on a run that was really trained."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file


def test_a_run_becomes_a_folder_with_a_card(fromscratch: Callable, place: Path):
    answer = fromscratch("export", "run", "--to", "hf", "--out", "out/card", "--watts", "65")
    assert answer.code == 0, answer.err
    assert "read back by transformers: logits differ by" in answer.out
    assert "--license" in answer.out
    card = (place / "out/card/README.md").read_text()
    assert "Recipe `tiny`" in card
    assert "| text | text |" in card  # the source, counted
    assert "kWh" in card
    assert (place / "out/card/training.png").is_file()

    # Its tensors alone, in a pickle: not a GPT of the kind that `import` is for.
    torch.save(load_file(place / "out/card/model.safetensors"), place / "out/qwen.pt")
    refused = fromscratch("import", "out/qwen.pt", "--out", "out/never")
    assert refused.code == 2
    assert "no GPT of the known kinds" in refused.err
    assert not (place / "out/never").exists()
