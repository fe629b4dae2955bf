"""The demonstration: a throw-away project, and a scripted agent instead of the client.

shop     the project's files and tasks, and the agent's answer to each task
project  makes the project: checkout, remote, configuration, queue
agent    the scripted agent: reads its instructions, edits, tests, commits, reports
play     runs ticks until every task is merged, and reads what happened from `events.jsonl`
"""
