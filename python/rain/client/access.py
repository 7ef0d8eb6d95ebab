"""The access file: who may talk to the server."""

import os

from ..common.errors import RainException


def access_path() -> str:
    """Where the access file is: `RAIN_ACCESS`, else `rain/access.toml` under the user's state directory."""
    path = os.environ.get("RAIN_ACCESS")
    if path:
        return path
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "rain", "access.toml")


def read_token(path: str) -> str:
    """The client's token in an access file."""
    hint = "start a server with `rain start --simple`, or set RAIN_ACCESS to a copy of the access file of yours"
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        raise RainException(f"no access file at {path}: {hint}") from None
    except OSError as error:
        raise RainException(f"the access file {path} can't be read: {error.strerror}") from None
    token = parse_token(text)
    if token is None:
        raise RainException(f"the access file {path} has no `token` in its section [client]: {hint}")
    return token


def parse_token(text: str):
    """The value of `token` in section `[client]`: all that a client needs of the TOML, without a parser's import."""
    section = ""
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line.split("#")[0].strip().strip("[]").strip()
        elif section == "client" and line.startswith("token"):
            key, _, value = line.partition("=")
            value = value.strip()
            if key.strip() == "token" and value[:1] in ('"', "'"):
                end = value.find(value[0], 1)
                if end > 1:
                    return value[1:end]
    return None
