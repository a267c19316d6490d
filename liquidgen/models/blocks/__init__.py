"""Block types: one file each, named as in params.yaml; the folder is the registry.

A file `<name>.py` offers `Settings` (frozen pydantic model of the block `blocks.<name>`) and
`Block(width, cond_dim, settings)`, a module with `forward(x, cond)` that keeps the shape of x.
"""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from liquidgen.utils.errors import UserError

BLOCK_TYPES = tuple(sorted(module.name for module in iter_modules(__path__)))


def block_type(name: str) -> ModuleType:
    """The module of a block type; raises UserError for a name without a file."""
    if name not in BLOCK_TYPES:
        raise UserError(f"block: no block type '{name}'; choose one of {', '.join(BLOCK_TYPES)}")
    return import_module(f"{__name__}.{name}")
