"""Fingerprints of code: is what was computed earlier still what this code would compute?

One rule for all callers (the state of a training, a half-finished encode, the cache of calls from
Python; a test compares dvc.yaml with the same modules): what counts is the code that is really
imported, directly or not. Comments, docstrings, type-only imports and formatting do not count, and
neither does `NO_EFFECT`.
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "liquidgen"
# Packages and modules that cannot change the bytes of an output, apart from measured times and
# memory: settings (they have no defaults, so every value is in params.yaml), how processes start
# and stop, tracking, pages about runs, errors of the hub. Everything else counts, also if it is
# new.
NO_EFFECT = (
    "liquidgen.cli",
    "liquidgen.cluster",
    "liquidgen.config",
    "liquidgen.hub",
    "liquidgen.report",  # reads what stages have written
    "liquidgen.runtime",
    "liquidgen.tracking",
    "liquidgen.stages.train.preview",  # draws for MLflow what `sample` would draw
)
ROOT = Path(__file__).parents[1]


def fingerprint(*modules: str) -> str:
    """Compute the digest of modules and of all that they import from this package.

    Args:
        modules: Full names, such as `liquidgen.stages.train.trainer`.

    Returns:
        A SHA-256 digest, hexadecimal.
    """
    digest = hashlib.sha256()
    for name, path in sorted(imported(*modules).items()):
        tree = _without_docstrings(ast.parse(path.read_text()))
        digest.update(f"{name}\n{_dump(tree)}\n".encode())
    return digest.hexdigest()


def imported(*modules: str) -> dict[str, Path]:
    """Find the modules of this package that an import of `modules` leads to, themselves included.

    Imports inside functions count. The root package and `NO_EFFECT` are left out, with what only
    they import.

    Args:
        modules: Full names of modules or packages.

    Returns:
        Paths of the files by full name of the module.

    Raises:
        ValueError: One of `modules` does not exist.
    """
    if unknown := [name for name in modules if file_of(name) is None]:
        raise ValueError(f"no such module: {', '.join(unknown)}")
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = file_of(name)
        if path is None or name in found or _has_no_effect(name):
            continue
        found[name] = path
        waiting += direct_imports(name)
        waiting.append(name.rpartition(".")[0])  # an import also runs the packages around a module
    return found


def direct_imports(name: str) -> set[str]:
    """Find the modules of this package that a module names in its imports.

    Args:
        name: Full name of a module of this package.

    Returns:
        Full names of modules and packages.
    """
    path = file_of(name)
    assert path is not None, name
    return {one for one in _imports(path, name) if file_of(one) is not None}


def file_of(name: str) -> Path | None:
    """Find the file of a module of this package; None if the name is not one."""
    package, *inside = name.split(".")
    if package != PACKAGE:
        return None
    path = ROOT.joinpath(*inside)
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in candidates if file.is_file()), None)


def _has_no_effect(name: str) -> bool:
    return name == PACKAGE or any(name == one or name.startswith(f"{one}.") for one in NO_EFFECT)


def _imports(path: Path, name: str) -> Iterator[str]:
    """Yield full names of what a file imports; of `from a import b` also a.b."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in _nodes(ast.parse(path.read_text())):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                around = package.split(".")[: -node.level + 1 or None] if node.level else []
                module = ".".join([*around, *filter(None, [node.module])])
                yield module
                yield from (f"{module}.{alias.name}" for alias in node.names)


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, but not into `if TYPE_CHECKING`."""
    yield node
    children = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        children = iter(node.orelse)
    for child in children:
        yield from _nodes(child)


def _dump(node: object) -> str:
    """Write a syntax tree as text that is the same in all versions of Python; `ast.dump` is not."""
    match node:
        case ast.AST():
            fields = [(name, value) for name, value in ast.iter_fields(node)]
            kept = [(name, value) for name, value in fields if value is not None and value != []]
            inside = ", ".join(f"{name}={_dump(value)}" for name, value in kept)
            return f"{type(node).__name__}({inside})"
        case list():
            return f"[{', '.join(map(_dump, node))}]"
    return repr(node)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        match node:
            case ast.Module(body=[ast.Expr(value=ast.Constant(value=str())), *_]):
                node.body.pop(0)
            case ast.ClassDef() | ast.FunctionDef() if ast.get_docstring(node) is not None:
                node.body.pop(0)
    return tree
