"""Generation on a GPU: the same ids as on the CPU, alone and together, in float32 and bfloat16."""

import pytest
import torch

from fromscratch.generate.batch import Request, complete
from fromscratch.generate.engine import generate_ids
from fromscratch.generate.ready import make_ready
from fromscratch.generate.sampling import SamplingOptions
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.tokenizer.build import bytes_tokenizer

PROMPTS = [[5], list(range(40)), [7] * 11]


def model(family: str) -> GPT:
    shape = {"n_layer": 2, "n_head": 4, "d_model": 64, "context": 96, "vocab_size": 257}
    config = ModelConfig(family=family, init="normal", init_std=0.3, padded_vocab=320, **shape)  # type: ignore[arg-type]
    return GPT(config, seed=2).eval()


@pytest.mark.parametrize("family", ["gpt2", "modern"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_ids_are_those_of_the_cpu(cuda: torch.device, family: str, temperature: float):
    options = SamplingOptions(temperature, 20, 0.9, 4, repetition_penalty=1.1)
    here, there = model(family), make_ready(model(family), device="cuda", dtype="float32")
    assert there.device.type == "cuda"
    for prompt in PROMPTS:
        ids = [
            list(generate_ids(one, prompt, max_new_tokens=40, options=options))
            for one in (here, there)
        ]
        assert ids[0] == ids[1]
    done = complete(there, bytes_tokenizer(), [Request(p, 40, options) for p in PROMPTS])
    for prompt, one in zip(PROMPTS, done, strict=True):
        alone = list(generate_ids(here, prompt, max_new_tokens=40, options=options))
        assert [token.id for token in one.tokens] == alone


@pytest.mark.parametrize("family", ["gpt2", "modern"])
@torch.inference_mode()
def test_auto_is_bfloat16_where_the_device_has_it(cuda: torch.device, family: str):
    ready = make_ready(model(family))
    wanted = torch.cuda.is_bf16_supported(including_emulation=False)
    assert (ready.embed.weight.dtype == torch.bfloat16) == wanted
    ids = list(generate_ids(ready, PROMPTS[1], max_new_tokens=56, options=SamplingOptions()))
    assert len(ids) == 56
    whole = torch.tensor([PROMPTS[1] + ids[:20]])
    before = model(family)(whole)[..., :257].log_softmax(-1)
    after = ready(whole.to(ready.device))[..., :257].float().log_softmax(-1).cpu()
    assert (before - after).abs().mean() < 0.1
