"""Uploads to a hub on this machine, through the hub's own client."""

import huggingface_hub
import pytest
from safetensors.torch import load_file

from fromscratch.export.push import check_push, push_folder
from fromscratch.export.to_hf import export_hf
from fromscratch.foundation.errors import UserError
from tests.export.making import bundle
from tests.export.upload_server import TOKEN, UploadServer


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    # Its chunk store is another protocol; the one spoken here is what is used without it.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    with UploadServer() as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("push") / "moby"
    export_hf("made", bundle(), out, licence="mit")
    return out


def test_what_is_uploaded_is_what_was_exported(hub, folder, tmp_path):
    check_push("me/moby", "model", public=False, endpoint=hub.endpoint)
    address = push_folder(folder, "me/moby", "model", public=False, endpoint=hub.endpoint)
    assert address == f"{hub.endpoint}/me/moby"
    repo = hub.repos["me/moby"]
    assert repo.private
    assert repo.files == {p.name: p.read_bytes() for p in folder.iterdir()}
    assert "model.safetensors" in repo.large
    (tmp_path / "again.safetensors").write_bytes(repo.files["model.safetensors"])
    assert load_file(tmp_path / "again.safetensors").keys() == (
        load_file(folder / "model.safetensors").keys()
    )


def test_a_second_upload_is_a_second_commit(hub, folder):
    for _ in range(2):
        check_push("me/moby", "space", public=True, endpoint=hub.endpoint)
        push_folder(folder, "me/moby", "space", public=True, endpoint=hub.endpoint)
    repo = hub.repos["me/moby"]
    assert (repo.kind, repo.sdk, repo.private) == ("space", "gradio", False)


def test_nothing_goes_into_a_public_repository_unasked(hub, folder):
    push_folder(folder, "me/moby", "model", public=True, endpoint=hub.endpoint)
    with pytest.raises(UserError, match="public"):
        check_push("me/moby", "model", public=False, endpoint=hub.endpoint)
    check_push("me/moby", "model", public=True, endpoint=hub.endpoint)


def test_a_spoilt_upload_is_found_out(hub, folder):
    hub.spoil = True
    with pytest.raises(UserError, match=r"does not hold model\.safetensors as it was uploaded"):
        push_folder(folder, "me/moby", "model", public=False, endpoint=hub.endpoint)


@pytest.mark.parametrize(
    ("trouble", "match"),
    [({"/repos/create": 403}, "does not let you write"), ({"/whoami-v2": 401}, "let you write")],
)
def test_a_refusal_is_told_without_the_token(hub, folder, trouble, match, capfd):
    hub.trouble = trouble

    def push():
        check_push("me/moby", "model", public=False, endpoint=hub.endpoint)
        push_folder(folder, "me/moby", "model", public=False, endpoint=hub.endpoint)

    with pytest.raises(UserError, match=match) as raised:
        push()
    said = str(raised.value) + "".join(capfd.readouterr())
    assert TOKEN not in said


def test_who_is_not_logged_in_is_told_before_anything_is_made(hub, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(UserError, match="logged in"):
        check_push("me/moby", "model", public=False, endpoint=hub.endpoint)
    with pytest.raises(UserError, match="does not name a repository"):
        check_push("moby", "model", public=False, endpoint=hub.endpoint)
