"""Images: the bytecode of modules that are always loaded together, in one file.

Python looks for each module in folders, and opens a file for it: a sixth of the time of a command
that loads a hundred modules. An image lies where Python keeps bytecode, and is believed under the
same condition: each source still has the size and the time of change that it was compiled with. If
one source has not, all modules are imported as usual, and the image is made again. With `-B`,
Python imports them as usual, so that `-X importtime` lists each of them.
"""

import _imp
import marshal
import os
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import SourceFileLoader  # importlib.machinery loads a folder more

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.model.annotations import Any  # which is in the image

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
#: What is loaded before this process loads its next image. An image that is made in a process that
#: loaded more would not hold all that other processes need, so such a process (None) makes none.
_known: set[str] | None = {
    *("orchestrator", "orchestrator.start", "orchestrator.idle"),
    *("orchestrator.system", "orchestrator.system.image"),
}


def load(image: str, *names: str) -> None:
    """Import modules of this program, with all that they import: from the image, if it holds."""
    global _known
    if all(name in sys.modules for name in names):
        return
    before, place = _own(), __spec__.cached
    wanted = not (place is None or sys.dont_write_bytecode)
    path = f"{place}.{image}"
    if not (wanted and _is_loaded(path)):
        for name in names:
            __import__(name)
        if wanted and before == _known:
            _keep(path, before)
    _known = _own() if before == _known else None


def _own() -> set[str]:
    return {name for name in sys.modules if name.startswith("orchestrator")}


def _is_loaded(path: str) -> bool:
    """Load the modules of an image; return whether the image holds."""
    try:
        with open(path, "rb", buffering=0) as file:
            version, held = marshal.loads(file.read())
        for _, source, mark, _ in held:
            found = os.stat(_PACKAGE + source)
            if version != sys.hexversion or (int(found.st_mtime), found.st_size) != mark:
                return False
    except (OSError, EOFError, TypeError, ValueError):
        return False
    for name, source, _, code in held:
        if name not in sys.modules:
            _execute(name, _PACKAGE + source, code)
    return True


def _execute(name: str, source: str, code: "Any") -> None:
    """Make a module, as an import would."""
    above, _, last = name.rpartition(".")
    module: Any = type(sys)(name)
    module.__file__, module.__package__ = source, above
    module.__loader__ = loader = SourceFileLoader(name, source)
    module.__spec__ = spec = ModuleSpec(name, loader, origin=source)
    if source.endswith("__init__.py"):
        module.__package__ = name
        module.__path__ = spec.submodule_search_locations = [os.path.dirname(source)]
    sys.modules[name] = module
    # The code may have been compiled under another path to this program.
    _imp._fix_co_filename(code, source)  # type: ignore[attr-defined]
    exec(code, module.__dict__)
    setattr(sys.modules[above], last, module)


def _keep(path: str, before: set[str]) -> None:
    """Write an image of what was loaded since, in the order in which the modules were done.

    There is no image where there is no bytecode, or bytecode under another condition
    (https://peps.python.org/pep-0552/).
    """
    from orchestrator.system import files

    held, new = [], _own() - before
    try:
        for name in [name for name in sys.modules if name in new]:
            spec: Any = sys.modules[name].__spec__
            with open(spec.cached, "rb") as file:
                head, code = file.read(16), file.read()
            flags, changed, size = (int.from_bytes(head[n : n + 4], "little") for n in (4, 8, 12))
            if flags:
                return
            source = spec.origin.removeprefix(_PACKAGE)
            held.append((name, source, (changed, size), marshal.loads(code)))
        files.write_atomic(path, marshal.dumps((sys.hexversion, held)), 0o644)
    except OSError:
        return
