"""Our writer against safetensors' own: the same bytes, whatever lies how in memory."""

import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from fromscratch.checkpoint.tensor_file import TensorFile, write_tensors
from fromscratch.foundation.errors import UserError

DTYPES = [
    torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


def made(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> torch.Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 50
    return (values > 0) if dtype == torch.bool else values.to(dtype)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


tensors = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=9).filter(
        lambda name: name != "__metadata__"
    ),
    st.tuples(
        st.lists(st.integers(0, 5), max_size=3).map(tuple),
        st.sampled_from(DTYPES),
        st.booleans(),
    ),
    max_size=6,
)


@given(tensors)
def test_any_tensors_read_back_bit_for_bit_by_the_library(tmp_path_factory, wanted):
    path = tmp_path_factory.mktemp("any") / "file"
    content = {}
    for seed, (name, (shape, dtype, turned)) in enumerate(wanted.items()):
        tensor = made(shape, dtype, seed)
        content[name] = tensor.permute(tuple(reversed(range(len(shape))))) if turned else tensor
    sha256 = write_tensors(path, content)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    read, ours = load_file(path), TensorFile(path)
    assert set(read) == set(content) == set(ours)
    for name, tensor in content.items():
        for back in (read[name], ours[name]):
            assert (back.shape, back.dtype) == (tensor.shape, tensor.dtype)
            assert torch.equal(bits(back), bits(tensor))


def test_the_same_file_as_the_librarys_own(tmp_path: Path):
    """Names in any order, parts of one tensor, a transposed one, an empty one, a number."""
    whole = made((40, 30), torch.float32, 1)
    content = {
        "z.rows": whole[:7],
        "a.turned": whole.t(),
        "a.columns": whole[:, 3:9],
        "empty": torch.empty(0, 4),
        "step": torch.tensor(3.0),
    }
    write_tensors(tmp_path / "ours", content)
    plain = {name: tensor.clone().contiguous() for name, tensor in content.items()}
    save_file(plain, tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_what_is_larger_than_a_piece(tmp_path: Path):
    large = made((3_000_001,), torch.float32, 2)
    write_tensors(tmp_path / "ours", {"large": large})
    assert torch.equal(load_file(tmp_path / "ours")["large"], large)


@pytest.mark.parametrize("content", [b"", b"1234567", b"\xff" * 64, b"\x08\0\0\0\0\0\0\0[1, 2, 3"])
def test_no_such_file_is_a_sentence(tmp_path: Path, content: bytes):
    (tmp_path / "damaged").write_bytes(content)
    with pytest.raises(UserError, match="damaged cannot be read"):
        TensorFile(tmp_path / "damaged")
