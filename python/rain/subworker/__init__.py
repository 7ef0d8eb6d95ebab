"""The process that runs Python tasks: `python -m rain.subworker`, started by a worker."""

from .context import Context

__all__ = ["Context"]
