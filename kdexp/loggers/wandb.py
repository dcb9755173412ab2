"""logger=wandb: Weights & Biases. Never asks to log in."""

import uuid
from pathlib import Path

from kdexp.errors import needed


class WandB:
    """See kdexp/loggers/__init__.py. mode: offline or online. Raises ValueError."""

    def __init__(
        self,
        folder: Path,
        name: str,
        config: dict,
        project: str = "kdexp",
        entity: str | None = None,
        mode: str = "offline",
    ):
        if mode not in ("offline", "online"):
            raise ValueError(f"mode={mode}: must be offline or online")
        wandb = needed("wandb")
        if mode == "online" and not wandb.Api().api_key:
            raise ValueError("mode=online: you are not logged in. Run `wandb login` once, or use mode=offline")
        same = uuid.uuid5(uuid.NAMESPACE_URL, str(folder)).hex  # one W&B run per folder
        settings = wandb.Settings(silent=True, console="off")
        self.run = wandb.init(
            project=project,
            entity=entity,
            name=name,
            config=config,
            dir=str(folder),
            id=same,
            resume="allow" if mode == "online" else None,
            mode=mode,
            reinit="create_new",
            settings=settings,
        )

    @staticmethod
    def require() -> None:
        needed("wandb")

    def log(self, row: dict) -> None:
        self.run.log({key: value for key, value in row.items() if value is not None}, step=row["epoch"])

    def close(self) -> None:
        self.run.finish()
