"""Values as JSON text that PostgreSQL stores."""

from orchestrator.system import json_codec


def dumped(value: object) -> str:
    """Return a value as JSON; characters that `jsonb` refuses are replaced.

    These are NUL and half characters (surrogates), which an agent's text can contain.
    """
    import re

    text = json_codec.dumps(value).encode(errors="replace").decode()
    # One escape after the other: an escaped backslash before `u0000` is not an escape of NUL.
    return re.sub(r"\\(?:u0000|.)", lambda m: "\ufffd" if m[0] == r"\u0000" else m[0], text)
