"""Rain: graphs of tasks on one machine or many. `rain.client` is what programs import."""

__version__ = "0.1.0"
