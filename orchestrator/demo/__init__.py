"""The demonstration: a throw-away project, and a scripted agent that stands in for the client.

shop          the project's files and first tasks
project       makes the project: checkout, remote, configuration
agent         the stand-in for the client: what it is given, and what each role gives back
conversation  how a client speaks: its JSON lines
script        what the agent would have thought of itself: an answer to each task
play          ticks until everything is settled
story         tells what happens, from the project's files
summary       what came of it, from task files, records and git
"""
