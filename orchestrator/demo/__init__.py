"""The demonstration: a throw-away project, and a scripted agent that stands in for the client.

shop     the project's files and first tasks
project  makes the project: checkout, remote, configuration
agent    the stand-in for the client, and the example of the protocol that a client follows
script   what the agent would have thought of itself: an answer to each task
play     ticks until everything is settled, and tells what happened
summary  what came of it, from the task files, the records and git
"""
