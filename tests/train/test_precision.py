"""What a run computes in, and that it leaves the process as it was."""

import pytest
import torch

from fromscratch.train.loss_scale import LossScaleConfig
from fromscratch.train.precision import Precision, choose_precision

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _as_it_was():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def test_auto_on_a_cpu_is_fp32():
    precision = choose_precision("auto", CPU)
    assert precision.name == "fp32"
    assert precision.notes() == []
    assert precision.scaler(None) is None


@pytest.mark.parametrize("name", ["fp32", "tf32", "bf16", "fp16"])
@pytest.mark.parametrize("before", ["highest", "high", "medium"])
def test_the_process_is_left_as_it_was_also_by_a_failure(name, before):
    torch.set_float32_matmul_precision(before)
    precision = choose_precision(name, CPU)
    with precision.in_force():
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == before
    with pytest.raises(KeyError), precision.in_force():
        raise KeyError
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("fp32", "float32"), ("tf32", "float32"), ("bf16", "bfloat16"), ("fp16", "float16")],
)
def test_products_are_in_its_dtype_and_only_inside(name, dtype):
    left = torch.ones(4, 4)
    with choose_precision(name, CPU).autocast():
        assert (left @ left).dtype == getattr(torch, dtype)
    assert (left @ left).dtype == torch.float32
    assert choose_precision(name, CPU).dtype == getattr(torch, dtype)


def test_fp16_always_has_a_scaler_and_nothing_else_has():
    scalers = {n: Precision(n, CPU).scaler(None) for n in ("fp32", "tf32", "bf16", "fp16")}
    assert [name for name, scaler in scalers.items() if scaler is not None] == ["fp16"]
    assert scalers["fp16"].scale == 65_536.0
    again = Precision("fp16", CPU).scaler({"scale": 8.0, "good_steps": 3})
    assert again.state() == {"scale": 8.0, "good_steps": 3}


def test_what_has_no_effect_or_a_bad_one_is_said():
    assert "no effect on this CPU" in choose_precision("tf32", CPU).notes()[0]
    assert "train.precision=fp32 is faster" in choose_precision("fp16", CPU).notes()[0]
    useless = choose_precision("fp32", CPU, LossScaleConfig(initial=8)).notes()
    assert useless == ["[train.loss_scale] has no effect in fp32: only fp16 needs a loss scaler"]
