"""R48, R56: nowhere in the package can a file run code, or weights be left out in silence.

What foreign files do when they are opened is tested where they are opened; this looks at the
source, so that a further place cannot be forgotten.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fromscratch

SOURCE = Path(fromscratch.__file__).parent
RUNS_CODE = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jinja2"}
ALLOWED = {
    # It names the error that the restricted unpickler of torch raises.
    "export/foreign_file.py: import of pickle",
    # The foreign model in its own library: half of it would not give the logits that ours must.
    "export/importing.py: load_state_dict that is not strict",
}


def dangers(code: str) -> Iterator[str]:
    """What in a module's source could run code from a file, or load half of one."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
            yield from (f"import of {name}" for name in names if name in RUNS_CODE)
        elif isinstance(node, ast.ImportFrom):
            name = (node.module or "").split(".")[0]
            if name in RUNS_CODE:
                yield f"import of {name}"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if called in ("eval", "exec", "compile", "__import__"):
                yield called
            if called in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
                yield called
            if called == "torch.load" and given.get("weights_only") != "True":
                yield "torch.load of anything"
            if called.endswith("load_state_dict") and given.get("strict", "True") != "True":
                yield "load_state_dict that is not strict"
            yield from (
                f"{key}={given[key]}"
                for key in ("allow_pickle", "trust_remote_code")
                if given.get(key, "False") != "False"
            )


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import load",
        "def f(p):\n    import pickle",
        "yaml.load(p)",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "np.load(p, allow_pickle=True)",
        "AutoModel.from_pretrained(p, trust_remote_code=True)",
        "load_dataset(p, trust_remote_code=chosen)",
        "eval(text)",
        "model.load_state_dict(weights, strict=False)",
    ],
)
def test_it_is_seen(code: str):
    assert len(list(dangers(code))) == 1


def test_what_is_safe_is_not_taken_for_it():
    code = "torch.load(p, weights_only=True)\nnp.load(p)\nmodel.eval()\nre.compile(x)\n"
    code += "model.load_state_dict(w)\nnp.load(p, allow_pickle=False)"
    assert not list(dangers(code))


def test_the_package_has_none_of_it():
    found = {
        f"{path.relative_to(SOURCE).as_posix()}: {danger}"
        for path in SOURCE.rglob("*.py")
        for danger in dangers(path.read_text("utf-8"))
    }
    assert found == ALLOWED
