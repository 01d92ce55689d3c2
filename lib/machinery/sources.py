"""The sources on which the numbers of a run depend, as one hash that is kept with its record."""

import ast
import hashlib
from functools import cache

from .. import paths
from . import machine

#: Modules of `lib` that a training runs through.
TRAINING = (
    "schedules",
    "config",
    "data",
    "models",
    "optimizers",
    "probes",
    "gradient_noise",
    "theory",
    "steppers",
    "run",
    "training",
)


@cache
def digest() -> str:
    """Twelve hex digits of the modules in `TRAINING`, as they are now.

    Comments, docstrings and layout do not count: what remains is what is computed.
    """
    hashed = hashlib.sha256()
    for module in TRAINING:
        file = paths.PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
        hashed.update(f"{module} {_bare(file.read_text(encoding='utf-8'))}\n".encode())
    return hashed.hexdigest()[:12]


def origin(provenance: dict[str, str | int | float]) -> str:
    """Which sources made a record, in words: today's, those of a commit, or of one that is lost.

    A record from before hashes were kept has only its commit. A star marks changes that were not committed.
    """
    if provenance.get("sources") == digest():
        return "today's sources"
    commit, _, dirty = str(provenance["commit"]).partition("-")
    if commit == "unknown" or " " in commit:
        return "commit unknown"
    known = machine.has_commit(commit)
    return "commit lost" if known is False else f"commit {commit[:7]}{'*' * bool(dirty)}"


def _bare(source: str) -> str:
    """The syntax tree of a source without its docstrings, as text."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            if isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
                del body[0]
    return ast.dump(tree)
