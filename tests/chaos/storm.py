"""One storm: deeds, then rest, then the checker."""

from __future__ import annotations

import os
import subprocess
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from harness import STATES

from chaos import deeds, invariants, seen
from chaos.faults import Faults
from chaos.people import People
from chaos.project import Broken, Project

#: Ticks within which everything must come to rest, and those in a row that find nothing to do.
TICKS = 80
CALM = 3
#: Seconds for which the runs of one tick may go on: far above what a busy machine takes.
PATIENCE = 600.0


class Report(NamedTuple):
    """What came of a storm."""

    seed: str
    folder: Path
    figures: Counter[str]
    seconds: float
    #: What does not hold; empty if all is well.
    wrong: str = ""


def play(seed: str, folder: Path, count: int) -> Report:
    """Play a storm of `count` deeds in a new folder; return what came of it.

    The folder stays, with the story in `story.txt`: the caller removes what nobody needs.
    """
    project = Project(folder, seed, on_disk=os.geteuid() == 0)
    began, wrong = time.monotonic(), ""
    try:
        _play(project, seed, count)
    except (Broken, pytest.fail.Exception, subprocess.TimeoutExpired) as error:
        wrong = str(error) or type(error).__name__
        project.tell(f"BROKEN: {wrong}")
    except Exception:
        wrong = f"the storm itself failed: {traceback.format_exc()}"
        project.tell(wrong)
    finally:
        project.end()
    return Report(seed, folder, project.figures, time.monotonic() - began, wrong)


def _play(project: Project, seed: str, count: int) -> None:
    project.create()
    project.tell(f"storm {seed}: {project.setting._replace(tasks=())}")
    faults = Faults(project)
    people = People(project, faults)
    for deed in deeds.deeds(seed, count):
        faults.end_due(deed.number)
        by = faults if deed.kind in deeds.FAULTS else people
        project.tell(f"{deed.number:4} {deed.kind}")
        said = by.play(deed)
        project.tell(f"      {said}")
        project.figures[deed.kind] += 1
        project.watch(deed.pause)
    faults.end_all()
    people.write_configuration(adds=False)
    project.tell("every fault has ended")
    come_to_rest(project, people)
    _check(project)


def come_to_rest(project: Project, people: People) -> None:
    """Tick until nothing is left to do, deciding what people are asked. Raises Broken."""
    calm, problems, approved = 0, [], set[str]()
    for number in range(TICKS):
        found = project.ask("tick")
        problems = found.get("problems", [])
        _wait_for_runs(project)
        acted = [each for each in found.get("actions", []) if each["action"] != "skip"]
        asked = _decide(people, approved)
        project.tell(f"tick {number}: {_words(acted)} {asked}")
        claimed = project.moment().places["claimed"]
        calm = 0 if acted or asked or claimed else calm + 1
        if calm == CALM:
            project.figures["ticks to rest"] += number + 1
            project.assert_checkout_is_untouched(at_rest=True)
            return
    raise Broken(f"no rest within {TICKS} ticks: {project.moment().places}, {problems}")


def _words(actions: list[dict[str, Any]]) -> str:
    return ", ".join(f"{each['action']} {each['agent']} {each['task']}" for each in actions)


def _wait_for_runs(project: Project) -> None:
    """Wait until nothing runs, and look at the invariants meanwhile."""
    until = time.monotonic() + PATIENCE
    while project.world.processes():
        project.watch(0.2, ticks=False)
        if time.monotonic() > until:
            raise Broken(f"processes do not end: {seen.leftovers(project.world)}")
    project.note_commits()


def _decide(people: People, approved: set[str]) -> list[str]:
    """Answer what agents ask, and resume what the scheduler paused; return what was done.

    While tasks wait, each pull request that waits for a person is approved once: they may wait for
    it, or for its place.
    """
    waits = people.project.moment().places["incoming"]
    done = []
    for item in people.rows("inbox"):
        name = item["id"].removeprefix("agent:")
        if item["kind"] == "question":
            done.append(people.project.command("inbox", "answer", item["id"], "The first."))
        elif item["id"].startswith("agent:"):
            done.append(people.project.command("agent", "resume", name))
        elif item["kind"] == "approval" and waits and item["id"] not in approved:
            approved.add(item["id"])
            done.append(people.project.command("inbox", "approve", item["id"]))
    return done


def _check(project: Project) -> None:
    """Clean up as a person would a day later, and ask the checker. Raises Broken."""
    for path in project.world.home_folder.rglob(".*.tmp"):
        os.utime(path, (time.time() - 172_800,) * 2)
    project.tell(project.command("clean"))
    found = seen.end(project)
    figures = project.figures
    figures["runs"] = len([each for each in found.ledger if each["event"] == "start"])
    figures["commits"] = len(found.commits)
    for state in STATES:
        figures[f"tasks {state}"] = len(found.moment.places[state])
    if wrong := invariants.at_the_end(found):
        raise Broken("\n".join(wrong))
