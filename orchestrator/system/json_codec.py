"""JSON as the module `json` reads and writes it, by the same C functions.

`import json` loads `re` and compiles six patterns, which took a sixth of the time of `status`. What
the C functions do not take at once is left to `json`.
"""

from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner
from collections.abc import Callable

from orchestrator.model.annotations import Any, NoReturn

_CONSTANTS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class _How:
    """What `make_scanner` asks for: the defaults of `json.JSONDecoder`."""

    strict, object_hook, object_pairs_hook = True, None, None
    parse_float, parse_int = float, int

    def __init__(self, parse_constant: Callable[[str], Any]) -> None:
        self.parse_constant = parse_constant


def reader(parse_constant: Callable[[str], Any]) -> Callable[[str | bytes], Any]:
    """Return `json.loads` with a function that is called for NaN, Infinity and -Infinity."""
    scan = make_scanner(_How(parse_constant))  # type: ignore[arg-type]

    def read(text: str | bytes) -> Any:
        try:
            whole = text if isinstance(text, str) else text.decode()
            value, end = scan(whole, 0)
            if not whole[end:].strip(" \t\n\r"):
                return value
        except (StopIteration, ValueError, SystemError):
            # Python 3.11's `_json` finds the error that it raises among the loaded modules: without
            # `json`, it raises none, which is a SystemError.
            pass
        import json

        return json.loads(text, parse_constant=parse_constant)

    return read


def writer(
    quoted: Callable[[str], str] = encode_basestring,
    *,
    allow_nan: bool = True,
    separators: tuple[str, str] = (", ", ": "),
) -> Callable[[Any], str]:
    """Return `json.dumps` with `ensure_ascii=False`, unless `quoted` escapes these characters."""
    between, after_key = separators
    encode = make_encoder(None, _refuse, quoted, None, after_key, between, False, False, allow_nan)
    return lambda value: "".join(encode(value, 0))


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


#: As `json.loads`: the value of a text. Raises ValueError.
loads = reader(_CONSTANTS.__getitem__)
#: As `json.dumps` with `ensure_ascii=False`. Raises TypeError and ValueError.
dumps = writer()
_ascii = writer(encode_basestring_ascii)
#: As `json.dumps` with `separators=(",", ":")`.
compact = writer(encode_basestring_ascii, separators=(",", ":"))


def indented(value: Any, margin: str = "\n") -> str:
    """Return `json.dumps(value, indent=2)` of a value whose keys are texts.

    `margin` is what each line but the first begins with.
    """
    inner = f"{margin}  "
    if isinstance(value, dict) and value:
        items = [f"{_ascii(key)}: {indented(each, inner)}" for key, each in value.items()]
        return f"{{{inner}{f',{inner}'.join(items)}{margin}}}"
    if isinstance(value, (list, tuple)) and value:
        return f"[{inner}{f',{inner}'.join(indented(each, inner) for each in value)}{margin}]"
    return _ascii(value)
