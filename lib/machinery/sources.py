"""The sources on which the numbers of a run depend, as one hash that is kept with its record."""

import ast
import hashlib
from functools import cache

from .. import paths

#: Modules of `lib` that a training runs through.
TRAINING = (
    "config",
    "data",
    "models",
    "optimizers",
    "probes",
    "gradient_noise",
    "theory",
    "run",
    "training",
    "machinery.fused",
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


def _bare(source: str) -> str:
    """The syntax tree of a source without its docstrings, as text."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            if isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
                del body[0]
    return ast.dump(tree)
