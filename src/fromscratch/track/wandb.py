"""A run at Weights & Biases, resumed as the same run.

The run's id lies in the run folder. wandb's step is the run's own step, so charts, `wandb sync` and
a resumed run agree about it without a step metric of our own.

Of rows past a resumed step: offline, the folder of the session before is replaced by one that holds
the whole run from the run's files (wandb does not join offline folders of one run: the one that is
synced last replaces the others). Online, a row that the server has is not sent again; the server
keeps the row that it got first, and rewinding a run is not open to everybody there.

wandb never asks for a login, and never prints: without a login, or without a network at the start,
the run is kept offline, and the command that uploads it is told.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import dump_json, read_json, write_atomically
from fromscratch.foundation.names import RunPaths
from fromscratch.track.config import TrackConfig

if TYPE_CHECKING:
    import wandb

_PROJECT = "fromscratch"
_QUIET_EVENTS = {"checkpoint"}
# wandb's own defaults wait 90 seconds for a server (and ten more), and for the last upload without
# end. What is not uploaded by then lies in the run folder, for `wandb sync`.
_INIT_SECONDS = 15.0
_FINISH_SECONDS = 20.0


class WandbSink:
    """Logs to a wandb run.

    Args:
        paths: The run.
        config: Project, name and so on.
        recipe: The run's configuration there.
        say: Takes what the person should know.
    """

    def __init__(
        self,
        paths: RunPaths,
        config: TrackConfig,
        recipe: dict[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self._paths = paths
        self._config = config
        self._recipe = recipe
        self._say = say
        self._run: wandb.Run | None = None
        self._step = 0
        self._samples: list[tuple[str, str]] = []

    def open(self) -> int:
        """Begins or resumes the run; returns the first step that the server does not have."""
        import wandb

        self._step, self._samples = 0, []
        ours = wandb.setup(wandb.Settings(silent=True)).settings
        mode: Literal["online", "offline", "disabled"] = "online"
        if ours.mode in ("offline", "dryrun"):
            mode = "offline"
        elif ours.mode == "disabled":
            mode = "disabled"
        elif not wandb.login(prompt=False, verify=False):
            mode = "offline"
            self._say(
                f"not logged in (`wandb login`), so the run is kept here. {self._how_to_sync}"
            )
        identity = self._identity()
        project = self._config.wandb_project or ours.project or _PROJECT
        try:
            self._run = self._begin(mode, identity, project)
        except wandb.Error as error:
            if mode != "online":
                raise
            why = str(error).splitlines()[0]
            self._say(f"cannot be reached ({why}), so the run is kept here. {self._how_to_sync}")
            wandb.teardown()  # its process holds on to the id of the attempt that failed
            self._run = self._begin("offline", identity, project)
        self._clear_away()
        if mode == "online" and not self._run.offline and self._run.url:
            self._say(f"at {self._run.url}")
        return self._run.starting_step

    def numbers(self, step: int, values: dict[str, float], seconds: float | None) -> None:
        """Logs numbers; those of one step become one row."""
        self._log(step, values)

    def sample(self, step: int, prompt: str, text: str) -> None:
        """Keeps a sample until the others of its step are there too: they are one table."""
        if step > self._step:
            self._log_samples()
            self._step = step
        self._samples.append((prompt, text))

    def event(self, step: int, name: str, message: str, details: Mapping[str, Any]) -> None:
        """Logs an event as text; the environment becomes part of the configuration."""
        if name == "started":
            assert self._run is not None
            # wandb leaves this method without types.
            self._run.config.update(  # type: ignore[no-untyped-call]
                {"environment": dict(details)}, allow_val_change=True
            )
        elif name not in _QUIET_EVENTS:
            # wandb's steps only rise: what is said of one whose row comes later joins the last row.
            said = message if step == self._step else f"step {step}: {message}"
            self._log(self._step, {f"events/{name}": said})

    def flush(self) -> None:
        """Logs the samples that wait; all else is in the hands of wandb's own process."""
        self._log_samples()

    def close(self) -> None:
        """Finishes the run, as far as it can be uploaded within bounds."""
        assert self._run is not None
        self._log_samples()
        self._run.finish()
        self._clear_away()

    def _clear_away(self) -> None:
        """Removes the offline folders of sessions before: this one shows all that they hold.

        At the end once more: the process that wandb leaves behind after a kill writes on for a bit.
        """
        assert self._run is not None
        ours = Path(self._run.dir).parent.name
        for folder in self._paths.wandb.glob(f"offline-run-*-{self._run.id}"):
            if folder.name != ours:
                shutil.rmtree(folder, ignore_errors=True)

    def _begin(
        self, mode: Literal["online", "offline", "disabled"], identity: str, project: str
    ) -> wandb.Run:
        import wandb

        config = self._config
        return wandb.init(
            mode=mode,
            id=identity,
            resume="allow" if mode == "online" else None,
            dir=self._paths.root,
            project=project,
            entity=config.wandb_entity,
            name=config.wandb_name or self._paths.root.resolve().name,
            group=config.wandb_group,
            tags=config.wandb_tags or None,
            notes=self._recipe.get("description") or None,
            config=self._recipe,
            allow_val_change=True,
            reinit="create_new",  # runs of one process, as in a sweep, are separate
            settings=wandb.Settings(
                silent=True,
                console="off",
                save_code=False,
                init_timeout=_INIT_SECONDS,
                finish_timeout=_FINISH_SECONDS,
            ),
        )

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        assert self._run is not None
        if step > self._step:
            self._log_samples()
            self._step = step
        if step == self._step:  # of a step before, wandb keeps the row that it has
            self._run.log(dict(values), step=step)

    def _log_samples(self) -> None:
        import wandb

        assert self._run is not None
        if self._samples:
            rows = [list(sample) for sample in self._samples]
            table = wandb.Table(columns=["prompt", "text"], data=rows)
            self._run.log({"samples": table}, step=self._step)
            self._samples = []

    def _identity(self) -> str:
        """The run's id, made once and kept in its folder."""
        path: Path = self._paths.wandb_id
        if path.exists():
            kept = read_json(path)
            if isinstance(kept, dict) and isinstance(kept.get("id"), str):
                return str(kept["id"])
            raise UserError(f"{path} holds no wandb id.", fix="Remove it: another is made.")
        identity = secrets.token_hex(4)
        write_atomically(path, dump_json({"id": identity}) + "\n")
        return identity

    @property
    def _how_to_sync(self) -> str:
        return f"To upload it when it has ended: wandb sync {self._paths.wandb}/offline-run-*"
