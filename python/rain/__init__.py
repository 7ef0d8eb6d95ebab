"""Rain: graphs of tasks on one machine or many. `rain.client` is what programs import."""

__version__ = "0.1.0"


def __getattr__(name):
    # `rain.cdll` as in ctypes; loaded when it is asked for, so that subworkers don't load the client.
    if name == "cdll":
        from .client import cdll

        return cdll
    raise AttributeError(f"module 'rain' has no attribute {name!r}")
