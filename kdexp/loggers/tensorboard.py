"""logger=tensorboard: scalars in the run's folder."""

from pathlib import Path

from kdexp.errors import needed


class TensorBoard:
    """See kdexp/loggers/__init__.py."""

    def __init__(self, folder: Path, name: str, config: dict):
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self.make = folder / "tensorboard", SummaryWriter
        self.writer: SummaryWriter | None = None

    @staticmethod
    def require() -> None:
        needed("tensorboard")

    def log(self, row: dict) -> None:
        """One scalar for each number of the row, at its epoch. Drops what a stopped run had logged past it."""
        if self.writer is None:
            self.writer = self.make(self.folder, purge_step=row["epoch"])
        for key, value in row.items():
            if key != "epoch" and value is not None:
                self.writer.add_scalar(key, value, row["epoch"])
        self.writer.flush()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
