"""Agents that work a queue of task files in the background, one short tick a minute."""

__version__ = "0.1.0"
