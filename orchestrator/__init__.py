"""Agents that work a queue of task files in the background, one short tick per minute."""

__version__ = "0.1.0"
