"""The skills as text: front matter, length, commands that exist, permissions that are enough."""

from __future__ import annotations

import ast
import functools
import mmap
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import CHECKOUT, Done, set_up_long_ago, tree
from real_client import require_client
from rows import each_row
from test_roles import variables

from orchestrator.cli import command_line, parser, tuning
from orchestrator.config import roles
from orchestrator.layout import Layout
from orchestrator.model import config as model
from orchestrator.model import times
from orchestrator.model.errors import UsageError
from orchestrator.run import prompts
from orchestrator.setup import skills

SKILLS = CHECKOUT / "skills"
#: The skills that people use.
FOR_PEOPLE = {
    *("enqueue", "queue-status", "agent-status", "add-agent", "pause-agent", "retry-failed"),
    *("tune-backpressure", "tune-intervals"),
    *("setup", "inbox", "doctor", "explain", "costs", "dashboard"),
}
FOR_AGENTS = {
    *("creating-tasks", "implementing", "testing", "reviewing"),
    *("reporting-progress", "asking-a-human"),
}
#: Claude Code's, as documented; a key that it does not know is passed over without a word.
KEYS = {
    *("name", "description", "when_to_use", "argument-hint", "arguments", "allowed-tools"),
    *("disallowed-tools", "model", "effort", "disable-model-invocation", "user-invocable"),
    *("context", "agent", "hooks", "paths", "shell"),
}
MOST_LINES, LONGEST_DESCRIPTION = 120, 300
#: Placeholders in a command, each with a word that the parser takes for it.
PLACEHOLDERS = {"N": "3", "...": "x"}


@dataclass(frozen=True)
class Skill:
    name: str
    front: dict[str, Any]
    body: str

    @property
    def code(self) -> Iterator[str]:
        """Every command: `!` lines, lines of fenced blocks, code in running text."""
        text = re.sub(r" <<'EOF'\n.*?\n *EOF$", "", self.body, flags=re.DOTALL | re.MULTILINE)
        for block in re.findall(r"^ *```bash\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
            yield from (line.strip() for line in block.splitlines() if line.strip())
        yield from re.findall(r"!?`(orchestrator [^`]+)`", text)

    @property
    def commands(self) -> list[str]:
        found = [line for line in self.code if line.startswith("orchestrator ")]
        return [re.sub(r" 2>&1 \|\| true$", "", line) for line in found]

    @property
    def allowed(self) -> list[str]:
        return re.findall(r"\w+(?:\([^)]*\))?", self.front.get("allowed-tools", ""))


def read(path: Path) -> Skill:
    _, front, body = path.read_text().split("---\n", 2)
    return Skill(path.parent.name, yaml.safe_load(front), body)


ALL = [read(path) for path in sorted(SKILLS.glob("*/SKILL.md"))]
PEOPLES = [skill for skill in ALL if skill.name in FOR_PEOPLE]
every = each_row("skill", ALL, ids=lambda skill: skill.name)
peoples = each_row("skill", PEOPLES, ids=lambda skill: skill.name)


def test_the_skills_are_the_known_ones_and_no_folder_is_without_one() -> None:
    assert {skill.name for skill in ALL} == FOR_PEOPLE | FOR_AGENTS
    assert {path.name for path in SKILLS.iterdir()} == FOR_PEOPLE | FOR_AGENTS


# --- front matter ------------------------------------------------------------------------------


@every
def test_front_matter_has_known_keys_and_says_when_to_use_the_skill(skill: Skill) -> None:
    assert skill.front.keys() <= KEYS
    assert skill.front["name"] == skill.name
    description = skill.front["description"]
    assert len(description) <= LONGEST_DESCRIPTION
    assert "Use when" in description
    assert skill.front.get("user-invocable", True) == (skill.name in FOR_PEOPLE)


@every
def test_a_skill_is_short(skill: Skill) -> None:
    assert len(skill.body.splitlines()) <= MOST_LINES


@every
def test_arguments_are_hinted_at_exactly_where_they_are_used(skill: Skill) -> None:
    uses = bool(re.search(r"\$(ARGUMENTS|\d)", skill.body))
    assert ("argument-hint" in skill.front) == uses


# --- commands ----------------------------------------------------------------------------------


def parsed(command: str) -> None:
    """Give a command to the command line's own parser. Raises UsageError."""
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(command)[1:]]
    command_line.parse(words)


@every
def test_every_command_in_a_skill_is_one(skill: Skill) -> None:
    for command in skill.commands:
        try:
            parsed(command)
        except UsageError as error:
            pytest.fail(f"{command}: {error.message} ({error.hint})")


@peoples
def test_a_skill_for_people_has_a_command_and_says_what_to_read_and_what_to_tell(
    skill: Skill,
) -> None:
    assert skill.commands
    headings = re.findall(r"^## (.*)$", skill.body, re.MULTILINE)
    assert headings == ["Steps", "What to read in the output", "What to tell the user"]


@peoples
def test_the_word_before_a_command_is_never_the_product_in_prose(skill: Skill) -> None:
    """`init` replaces the command where it is not on PATH: prose must not look like one."""
    text = f"{skill.front}\n{skill.body}"
    for words in re.findall(r"(?<![\w./:-])orchestrator ([a-z_]+)", text):
        assert words in parser.MODULES, words


def covers(rule: str, command: str) -> bool:
    """Whether a permission rule allows a command: `Bash(x *)` fits `x` and `x anything`."""
    pattern = rule.removeprefix("Bash(").removesuffix(")")
    if pattern.endswith(" *"):
        return f"{command} ".startswith(pattern.removesuffix("*"))
    return command == pattern


@peoples
def test_permissions_cover_exactly_the_commands(skill: Skill) -> None:
    rules = [rule for rule in skill.allowed if rule.startswith("Bash")]
    assert rules
    for command in skill.commands:
        assert any(covers(rule, command) for rule in rules), f"{command} is not allowed"
    for rule in rules:
        assert re.fullmatch(r"Bash\(orchestrator [a-z_]+[a-z _-]*( \*)?\)", rule), rule
        assert any(covers(rule, command) for command in skill.commands), f"nothing needs {rule}"


@peoples
def test_commands_that_run_by_themselves_only_look_and_never_fail(skill: Skill) -> None:
    looks = ("status", "doctor", "inbox", "limits", "_history", "agent list", "task list", "costs")
    lines = re.findall(r"^!`(.*)`$", skill.body, re.MULTILINE)
    assert lines
    for line in lines:
        command, end, rest = line.partition(" 2>&1 || true")
        assert (end, rest) == (" 2>&1 || true", "")
        assert command == "orchestrator _skill creating-tasks" or command.startswith(
            tuple(f"orchestrator {look}" for look in looks)
        )
        assert "$" not in command


#: Words in quoted output that stand for any value, and what a command or a path looks like.
_ANY = re.compile(r"\.\.\.|\b[A-Z]{2,}\b|\bTASK-\w+|\b[\w-]+-agent\b|\d+|->|:")
_NOT_OUTPUT = re.compile(r"^(/|\.|--|\$|claude |orchestrator )")


def spoken(source: str) -> str:
    """Return every string in a module but docstrings, one per line, in lower case."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""  # a docstring
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return "\n".join(found).lower()


@functools.cache
def modules() -> dict[str, str | None]:
    """Return the source of each module of the product, with its strings once it was parsed."""
    return {path.read_text(): None for path in sorted((CHECKOUT / "orchestrator").rglob("*.py"))}


@functools.cache
def is_spoken(part: str) -> bool:
    """Return whether a text, in lower case, is in a string of the product's code.

    It parses first where the text can be: to parse every module takes long.
    """
    known = modules()
    for source in sorted(known, key=lambda each: (known[each] is None, part not in each.lower())):
        if (said := known[source]) is None:
            said = known[source] = spoken(source)
        if part in said:
            return True
    return False


@peoples
def test_what_a_skill_quotes_from_the_output_is_in_the_product(skill: Skill) -> None:
    told = skill.body.partition("## What to read in the output")[2].partition("\n## ")[0]
    for quoted in re.findall(r"`([^`]+)`", told):
        if _NOT_OUTPUT.match(quoted):
            continue
        parts = [part.strip(" :()").lower() for part in _ANY.split(quoted)]
        is_list_of_codes = len(parts) == 1 and "_" in quoted
        for part in parts[0].split() if is_list_of_codes else parts:
            assert is_spoken(part), quoted


@peoples
def test_other_skills_that_are_named_exist(skill: Skill) -> None:
    for name in re.findall(r"/orchestrator:([\w-]+)", skill.body):
        assert name in FOR_PEOPLE


# --- the agents' skills stand in briefs --------------------------------------------------------


@pytest.mark.parametrize("name", sorted(FOR_AGENTS))
def test_a_craft_is_written_once_and_told_by_some_role(name: str) -> None:
    briefs = [path.read_text() for path in (CHECKOUT / "plugin" / "roles").glob("*.md")]
    assert any(f'skill("{name}"' in brief for brief in briefs)
    text = prompts.skill("/nowhere", name)
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert not re.search(r"^##? ", outside, re.MULTILINE), "it stands below a brief's own heading"
    for line in filter(None, text.splitlines()):
        assert not any(line in brief.splitlines() for brief in briefs)


@pytest.mark.parametrize("name", sorted(FOR_AGENTS))
def test_a_project_says_it_its_own_way_and_its_agents_are_told_that(
    repo: Path, cli: Callable[..., Done], name: str
) -> None:
    own = Path(Layout(str(repo)).commands) / f"{name}.md"
    own.parent.mkdir(parents=True)
    own.write_text(f"---\ndescription: ours\n---\nOur way of {name}.\n")
    assert cli("_skill", name).out == f"Our way of {name}.\n"
    known, _ = roles.load(str(repo / "none"))
    briefs = [prompts.instructions(variables(r, project=str(repo))) for r in known.values()]
    assert any(f"Our way of {name}." in text for text in briefs)


# --- copies in `.claude/commands/` -------------------------------------------------------------


def copies(root: Path) -> dict[str, str]:
    folder = root / ".claude" / "commands"
    return {path.stem: path.read_text() for path in folder.glob("*.md")} if folder.exists() else {}


def test_init_copies_what_is_for_people_once_and_uninstall_takes_it_out(
    repo: Path, cli: Callable[..., Done]
) -> None:
    assert cli("init").code == 0
    found = copies(repo)
    assert found.keys() == {skills.copy_name(name) for name in FOR_PEOPLE}
    # `/doctor` is a command of the client itself.
    assert "orchestrator-doctor" in found
    assert "/orchestrator-doctor" in found["explain"]
    assert all(yaml.safe_load(text.split("---\n")[1])["description"] for text in found.values())
    assert "/inbox" in found["queue-status"]
    assert "/orchestrator:" not in "".join(found.values())
    before = tree(repo)
    assert "commands" not in cli("init").out.partition("Next:")[0]
    assert tree(repo) == before
    assert ".claude/commands/enqueue.md" in cli("init", "--uninstall").out
    assert not (repo / ".claude").exists()


def test_who_wants_no_copies_gets_none_later_either_until_they_ask(
    repo: Path, cli: Callable[..., Done]
) -> None:
    assert cli("init", "--no-commands").code == 0
    assert cli("init").code == 0
    assert copies(repo) == {}
    assert cli("init", "--commands").code == 0
    (repo / ".claude" / "commands" / "inbox.md").unlink()
    assert cli("init").code == 0
    assert copies(repo).keys() == {skills.copy_name(name) for name in FOR_PEOPLE}


@pytest.mark.parametrize("is_edited", [False, True])
def test_a_copy_of_an_earlier_init_that_hides_a_command_of_the_client_goes(
    repo: Path, cli: Callable[..., Done], is_edited: bool
) -> None:
    cli("init")
    folder = repo / ".claude" / "commands"
    old = folder / "doctor.md"
    (folder / "orchestrator-doctor.md").rename(old)
    if is_edited:
        old.write_text(old.read_text() + "\nMine.\n")
    done = cli("init")
    said = done.out + done.err
    assert "orchestrator-doctor" in copies(repo)
    assert old.exists() is is_edited
    assert ("you edited the file" in said) is is_edited
    assert ".claude/commands/doctor.md" in said
    assert is_edited or "hid the client's own /doctor" in said
    # A file that no `init` wrote is the person's, and nobody's business.
    old.write_text("Wholly mine.\n")
    assert ".claude/commands/doctor.md" not in cli("init").out
    assert old.read_text() == "Wholly mine.\n"


@pytest.mark.client
def test_no_copy_hides_a_command_of_the_client() -> None:
    with (
        require_client().open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as program,
    ):
        known = {found[1].decode() for found in re.finditer(rb'name:"([a-z-]+)"', program)}
    assert [name for name in FOR_PEOPLE if name in known] == list(skills.CLASHING)


def test_in_a_submodule_the_copies_call_its_launcher(repo: Path, cli: Callable[..., Done]) -> None:
    launcher = repo / "orchestrator" / "bin" / "orchestrator"
    launcher.parent.mkdir(parents=True)
    launcher.write_text("#!/bin/sh\n")
    launcher.chmod(0o755)
    assert cli("init").code == 0
    for name, text in copies(repo).items():
        assert re.search(r"^!`orchestrator/bin/orchestrator \w", text, re.MULTILINE)
        assert "Bash(orchestrator/bin/orchestrator " in text
        assert not re.search(r"(?<![\w./:-])orchestrator [a-z_]", text.split("---\n", 2)[2]), name


def test_an_edited_copy_is_its_editors_and_an_older_one_is_brought_up_to_date(
    repo: Path, cli: Callable[..., Done]
) -> None:
    cli("init")
    folder = repo / ".claude" / "commands"
    edited = (folder / "inbox.md").read_text() + "\nMine.\n"
    (folder / "inbox.md").write_text(edited)
    (folder / "doctor.md").write_text("Wholly mine.\n")
    older = skills._sealed("---\ndescription: as it was in an earlier version\n---\nOld.\n")
    (folder / "explain.md").write_text(older)
    (folder / "gone-since.md").write_text(older)
    (folder / "setup.md").unlink()
    (folder / "setup.md").mkdir()
    assert ".claude/commands/explain.md" in cli("init").out
    assert (folder / "inbox.md").read_text() == edited
    assert "Old." not in (folder / "explain.md").read_text()
    assert cli("init", "--uninstall").code == 0
    assert {path.name for path in folder.iterdir()} == {"inbox.md", "doctor.md", "setup.md"}


def test_a_copy_that_only_a_formatter_or_git_changed_is_unedited(
    repo: Path, cli: Callable[..., Done]
) -> None:
    """As prettier 3.9 does, and a checkout with `core.autocrlf`."""
    cli("init")
    folder = repo / ".claude" / "commands"
    for path in folder.glob("*.md"):
        text = path.read_text().replace('hint: "', "hint: '").replace(']"\n', "]'\n")
        text = re.sub(r"^(\| .*?) \|", r"\1     |", text, flags=re.MULTILINE)
        text = text.replace("|---|", "| ------ |").replace("## Steps\n", "## Steps\n\n")
        path.write_bytes(text.replace("\n   ", "\n    ").replace("\n", "\r\n").encode())
    formatted = tree(repo)
    assert "commands" not in cli("init").out.partition("Next:")[0]
    assert tree(repo) == formatted
    assert cli("init", "--uninstall").code == 0
    assert not folder.exists()


def test_a_project_that_has_a_skill_of_its_own_gets_that(
    repo: Path, cli: Callable[..., Done]
) -> None:
    own = Path(Layout(str(repo)).commands) / "enqueue.md"
    own.parent.mkdir(parents=True)
    own.write_text("---\ndescription: ours\n---\nAs we do it, by orchestrator task add.\n")
    cli("init")
    assert "As we do it, by orchestrator task add." in copies(repo)["enqueue"]


# --- the hidden commands -----------------------------------------------------------------------


def test_a_skill_is_printed_as_agents_are_told_it(
    repo: Path, cli: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = cli("_skill", "creating-tasks")
    assert shipped.out.strip() == prompts.skill("/nowhere", "creating-tasks")
    own = Path(Layout(str(repo)).commands) / "creating-tasks.md"
    own.parent.mkdir(parents=True)
    own.write_text("Our way.\n")
    assert cli("_skill", "creating-tasks").out == "Our way.\n"
    monkeypatch.chdir(tmp_path)
    assert cli("_skill", "creating-tasks").out == shipped.out
    assert cli("_skill", "no-such").code == 1


def event(minute: float, word: str, **fields: Any) -> dict[str, Any]:
    return {"at": times.iso(DAWN + 60 * minute), "event": word, **fields}


DAWN = 1_700_000_000.0
HISTORY = [
    {"event": "start", "agent": "ann"},
    event(-9_999, "added", task="T-0"),
    event(0, "added", task="T-1", by="pat"),
    event(0, "added", task="T-2", by="human"),
    event(2, "start", task="T-1", agent="ann", run="1"),
    event(12, "finish", task="T-1", agent="ann", run="1", verdict="done", cost_usd=0.5),
    event(12, "review_wanted", task="T-1", review="R-1"),
    event(16, "start", task="T-2", agent="ann", run="2"),
    event(20, "start", task="R-1", agent="rob", run="3"),
    event(26, "requeue", task="T-2", agent="ann", run="2", verdict="failed", cost_usd=1),
    event(40, "start", agent="pat", run="4"),
    {"at": "nonsense", "event": "added"},
]


def test_the_history_is_counted_in_numbers_that_can_be_checked_by_hand() -> None:
    agents = (
        model.Agent("ann", "implementer", 0, interval_seconds=120),
        model.Agent("pat", "product_manager", 1, schedule="0 3 * * *"),
    )
    config = model.Config(agents=agents, queue_limits=model.QueueLimits(20, 1, 10))
    found = tuning.numbers(HISTORY, config, DAWN - 60, DAWN + 60 * 50)
    assert round(found["days"] * 24 * 60) == 50
    assert found["events"] == 9
    assert found["tasks_in"] == 3
    assert found["ends"] == {"done": 1, "failed": 1}
    # T-1 waited 2 minutes, R-1 8, T-2 16.
    assert (found["median_wait_seconds"], found["longest_wait_seconds"]) == (480, 960)
    # T-1 for 10 minutes, T-2 for 10, R-1 from minute 20 to now.
    assert found["claimed_most"] == 2
    assert found["claimed_average"] == pytest.approx(50 / 50)
    assert found["claimed_full"] == pytest.approx((10 + 34) / 50)
    ann, pat, rob = found["agents"]
    assert ann == {
        "name": "ann",
        "every": "120 s",
        "runs": 2,
        "outcomes": {"done": 1, "failed": 1},
        "median_run_seconds": 600,
        "busy": pytest.approx(0.4),
        # T-1 waited 2 minutes while ann was free; T-2 waited 4 minutes after the end of T-1.
        "median_idle_wait_seconds": 180,
        "tasks_added": 0,
        "cost_usd": 1.5,
    }
    assert (pat["every"], pat["runs"], pat["tasks_added"]) == ("0 3 * * *", 1, 1)
    assert (rob["name"], rob["every"]) == ("rob", "not configured")


def test_the_history_of_a_new_project_and_a_damaged_one_can_be_read(
    repo: Path, cli: Callable[..., Done]
) -> None:
    cli("init", "--no-commands")
    assert (found := cli("_history").json)["days"] == 0
    assert found["events"] == 0
    Path(Layout(str(repo)).events).write_bytes(
        b'{"at": 1}\n[]\nnonsense\n\xff\n{"event": "start"}\n'
    )
    assert cli("_history").json["events"] == 0


def test_hidden_commands_are_not_in_the_help(cli: Callable[..., Done]) -> None:
    assert not re.search(r"\b_\w+", cli("--help").out)


def test_the_session_of_an_agent_is_told_no_news(
    project: Layout, cli: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up_long_ago(project.root)
    assert "the scheduler has never run" in cli("_news").out
    monkeypatch.setenv("ORCHESTRATOR_RUN_ID", "r-1")
    assert cli("_news").out == ""
