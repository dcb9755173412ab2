"""What packs and bug reports leave out: folders of a machine, the names of its host and user."""

import contextlib
import getpass
import re
import socket
from pathlib import Path

from kdexp.config.schema import Paths

HOMES = r"(?:/[\w.-]+)*/(?:home|Users)/[^/\s:'\",;)]+"


class Names:
    """The names of this machine's user and host. hosts: names of further hosts, None for an unknown one."""

    def __init__(self, *hosts: str | None):
        self.words = {Path.home().name: "user"}
        with contextlib.suppress(KeyError, OSError):  # a user without a passwd entry, as in some containers
            self.words[getpass.getuser()] = "user"
        for host in (socket.gethostname(), *hosts):
            self.words |= {str(host): "host", str(host).partition(".")[0]: "host"}  # node1.cluster.org is also node1
        words = sorted({*self.words} - {"", "None", "localhost"}, key=len, reverse=True)
        any_of_them = "|".join(map(re.escape, words)) or "(?!)"
        self._word = re.compile(rf"(?<![^\W_])(?:{any_of_them})(?![^\W_])")  # jdoe in jdoe_data, and not in jdoes

    def within(self, text: str) -> set[str]:
        """Those that are in the text."""
        return set(self._word.findall(text))

    def hidden(self, text: str) -> str:
        """The text with `~` for home folders, `user` and `host` for names."""
        home = str(Path.home())
        text = re.sub(HOMES, "~", text.replace(home, "~") if home.strip("/") else text)
        return self._word.sub(lambda found: self.words[found.group()], text)


def shared_config(config: dict) -> dict:
    """The configuration of the same run, without the folders of a machine, and without what its engine and its logger were
    told, such as accounts."""
    named = {key: {"name": config[key].get("name")} for key in ("engine", "logger") if config.get(key)}
    file = config.get("teacher_checkpoint")
    checkpoint = {"teacher_checkpoint": re.split(r"[\\/]", file)[-1]} if file else {}
    return without_folders(config) | {"paths": vars(Paths())} | named | checkpoint


def without_folders(node):
    """A nested value in which a full path, also one behind a =, is only its last part."""
    if isinstance(node, dict):
        return {key: without_folders(value) for key, value in node.items()}
    if isinstance(node, list):
        return [without_folders(value) for value in node]
    return re.sub(r"(^|=)(?:[\\/~]|\w:[\\/]).*[\\/](?=.)", r"\1", node) if isinstance(node, str) else node


def shared_error(line: str, names: Names) -> str:
    """What a failure was; only how the line begins, as in `failed at epoch 2 step 1: OSError`, if there is a path or one of
    these names in it."""
    private = re.search(r"[/\\]", line) or names.within(line)
    return re.match(r"[^:/\\]*(?:: \w+(?=:|$))?", line).group().strip() if private else line
