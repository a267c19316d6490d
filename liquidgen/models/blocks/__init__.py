"""Block types, one module each, named as in params.yaml; the folder is the registry.

A module `<name>.py` defines `Settings` (frozen pydantic model of the block `blocks.<name>`) and
`Block(width, cond_dim, settings)`, a torch module whose `forward(x, cond)` keeps the shape of x.
"""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from liquidgen.utils.errors import UserError

BLOCK_TYPES = tuple(sorted(module.name for module in iter_modules(__path__)))


def block_type(name: str) -> ModuleType:
    """Import the module of a block type.

    Raises:
        UserError: There is no module of this name.
    """
    if name not in BLOCK_TYPES:
        raise UserError(f"block: no block type '{name}'; choose one of {', '.join(BLOCK_TYPES)}")
    return import_module(f"{__name__}.{name}")
