"""One job: a configuration with its folder and its fingerprint."""

import json
from functools import cached_property

from kdexp import screen
from kdexp.config import naming, resolve
from kdexp.config.checks import check
from kdexp.config.schema import label
from kdexp.config.sources import sources
from kdexp.errors import UsageError
from kdexp.experiment.networks import check_teacher_checkpoint
from kdexp.experiment.objects import check_objects
from kdexp.jobs import changes
from kdexp.record import Record
from kdexp.storage import seal

# what all jobs of a group have in common
SHARED = ("dataset", "omit", "recipe", "augment", "epochs", "stop_epoch", "batch_size", "precision", "deterministic")


class Job:
    """A resolved configuration and its record. Raises UsageError if it cannot work, before anything is written."""

    trained = False  # set when this process has trained it, which counts as done under rerun=all
    taken = False  # set when another process has taken it over
    origins: list[dict] = []  # whose weights teach it, once they are known: see Teacher.origin in kdexp/teachers.py

    def __init__(self, config: dict):
        check(config)
        self.config = config
        check_objects(config)
        check_teacher_checkpoint(config)
        self.record = Record(naming.folder(config))
        self.fingerprint, self.sources = naming.fingerprint(config), sources(config)
        self.inspect()

    def inspect(self) -> None:
        """Check the record's files again; another process may have written them."""
        self.damaged = seal.damaged(self.record.folder)
        self.__dict__.pop("outdated", None)

    @property
    def method(self) -> str:
        return label(self.config["distill"])

    @property
    def pair(self) -> str:
        teacher, student = self.config["model"]["teacher"], self.config["model"]["student"]["name"]
        return f"{teacher['name']} -> {student}" if teacher else student

    @property
    def recipe(self) -> str:
        return f"{self.config['recipe']['name']}, {screen.counted(self.config['epochs'], 'epoch')}"

    @property
    def last_epoch(self) -> int:
        """How many epochs it trains: its whole schedule, or stop_epoch."""
        stop = self.config["stop_epoch"]
        return self.config["epochs"] if stop is None else stop

    @property
    def name(self) -> str:
        """The method with the settings that are its own: "SP distill.weight=500"."""
        found = naming.differing(self.config)
        if given := self.config["teacher_checkpoint"]:  # as in the folder's name: paths are long
            found["teacher_checkpoint"] = naming.file_sha256(given)[:8]
        own = {key: value for key, value in found.items() if key.partition(".")[0] not in SHARED}
        return " ".join([self.method, *naming.words(own)])

    @property
    def shared(self) -> dict:
        """What it has in common with its group, by command-line key: names, epochs, whatever is not the default."""
        names = {key: self.config[key]["name"] for key in ("dataset", "recipe", "augment")}
        found = naming.differing(self.config)
        special = {key: value for key, value in found.items() if key.partition(".")[0] in SHARED}
        return names | special | {"epochs": self.config["epochs"]}

    @property
    def title(self) -> str:
        return f"{self.name} seed {self.config['seed']}"

    @cached_property
    def teachers(self) -> "list[Job]":
        """The jobs that train its teachers, which may have teachers of their own. Empty for label-only training, and for a
        teacher from a file."""
        return [Job(config) for config in resolve.teachers_of(self.config)]

    @cached_property
    def outdated(self) -> bool:
        """Whether its record is to be trained from scratch: it failed and its code has changed since, or anything has
        changed and rerun=changed was typed."""
        if not self.record.status and not self.record.result:
            return False
        if self.config["rerun"] != "changed":
            return self._failed and bool(changes.code_changed(self, self.record.status))
        return bool(self.what_changed()) or changes.weights_changed(self)

    @property
    def _failed(self) -> bool:
        return not self.record.result and self.record.status.get("status") in ("failed", "diverged")

    @property
    def done(self) -> bool:
        whole = bool(self.record.result) and not {*self.damaged} - {"status.json"}  # a result stays valid without it
        return whole and self.config["rerun"] != "all" and not self.outdated or self.trained

    @property
    def to_do(self) -> bool:
        """Not done, and not diverged before, as it would diverge again: only rerun=failed or all retries it, or
        rerun=changed once something has changed."""
        diverged = self.record.status.get("status") == "diverged"
        gave_up = diverged and self.config["rerun"] in ("none", "changed") and not self.outdated
        return not (self.done or gave_up)

    @property
    def holder(self) -> str:
        status = self.record.status
        return f"process {status.get('pid')} on {status.get('host')}" if status else "another process"

    @cached_property
    def data_key(self) -> str:
        config = self.config
        return json.dumps([config["dataset"], config["omit"], config["paths"]["data"], config["device"]])

    @cached_property
    def batch_key(self) -> str:
        """Equal for jobs that see the same batches, computed in the same way."""
        what = ("dataset", "omit", "recipe", "augment", "epochs", "stop_epoch", "batch_size", "seed")
        keys = (*what, "precision", "deterministic", "compile", "device")
        return json.dumps([self.config[key] for key in keys])

    @cached_property
    def teacher_keys(self) -> tuple[str, ...]:
        """Of each teacher its folder, or for a teacher_checkpoint what it is loaded from and scored on; empty for
        label-only training."""
        if given := self.config["teacher_checkpoint"]:
            node, constants = self.config["model"]["teacher"], self.config["teacher_normalize"]
            return (json.dumps([given, constants, node, self.data_key]),)
        return tuple(str(naming.folder(config)) for config in resolve.teachers_of(self.config))

    def what_changed(self) -> list[str]:
        """What this run's record was made with that is no longer so: settings, defaults, the user's code. Raises
        UsageError."""
        known = {**self.record.status, **self.record.result}
        code = changes.code_changed(self, known)
        return changes.settings_changed(self) + [f"{what} has changed" for what in code]

    def check_folder(self) -> None:
        """Reject a folder that holds another run, or the same one made with other code. Raises UsageError with what
        differs."""
        if self.config["rerun"] in ("all", "changed"):
            return
        differ = changes.settings_changed(self) if self._failed else self.what_changed()
        if differ:
            raise UsageError(
                f"{self.record.folder} was made with other settings or code: {'; '.join(differ)}. "
                "Train again what has changed with rerun=changed (all of it: rerun=all), or keep both with tag=NAME"
            )

    def set_damaged_aside(self) -> None:
        for name in self.damaged:
            self.record.set_aside(name, "it has changed since it was written")
        if self.done and self.damaged:
            self.record.heartbeat(status="done", fingerprint=self.fingerprint)

    def begin(self, origins: list[dict] | None = None) -> None:
        """Open the record, which this process has locked: set damaged files aside, and delete what must not be
        resumed. origins: whose weights teach it."""
        self.set_damaged_aside()
        if self.config["rerun"] == "all" or self.outdated or self.record.status.get("status") == "diverged":
            self.record.clear()
        self.origins = origins or []
        self.record.start(self.config, self.fingerprint, sources=self.sources, teachers=self.origins)
