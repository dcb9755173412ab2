"""The checksums of a finished run: result.json holds the sha256 of every file, and its own. Without torch, for readers
of records."""

import hashlib
import json
from pathlib import Path

SEALED = ("config.yaml", "epochs.csv", "logits.npy", "predictions.npy", "pretraining.csv", "right.npy", "student.pt")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def of_result(result: dict) -> str:
    """The seal of result.json's content: over everything but the seal itself."""
    rest = {key: value for key, value in result.items() if key != "seal"}
    return sha256(json.dumps(rest, sort_keys=True).encode())


def sealed(result: dict, files: dict[str, bytes]) -> dict:
    """`result` with the sha256 of these files, and its own."""
    result = result | {"sha256": {name: sha256(content) for name, content in files.items() if name in SEALED}}
    return result | {"seal": of_result(result)}


def read_json(path: Path) -> dict | None:
    """A JSON file that holds a dict; {} if it is missing, None if it is damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError:
        return None
    whole = isinstance(content, dict) and (content.get("seal") in (None, of_result(content)))
    return content if whole else None


def damaged(folder: Path) -> list[str]:
    """The damaged files of a run: status.json and result.json if they are not valid JSON or their seal is wrong, and
    in a finished run those of SEALED that are missing or whose sha256 does not match."""
    content = {name: read_json(folder / name) for name in ("status.json", "result.json")}
    broken = [name for name, value in content.items() if value is None]
    for name, digest in (content["result.json"] or {}).get("sha256", {}).items():
        path = folder / name
        if name in SEALED and not (path.is_file() and sha256(path.read_bytes()) == digest):
            broken.append(name)
    return broken
