"""Small faults of the product, each with the tests that must find it: `make faults` plays them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import quick_variants


@dataclass(frozen=True)
class Fault:
    """A small change of a file that breaks a promise."""

    #: The file, relative to the checkout.
    file: str
    #: A text that is in the file exactly once.
    old: str
    #: What replaces this text.
    new: str
    #: The names of the tests that find the fault.
    found_by: tuple[str, ...]


#: Long tests of the real client against the stand-in for its service. No code of the product takes
#: part, so no fault of the product makes them fail: they notice a client that behaves differently.
OF_THE_CLIENT = (
    "test_a_call_cut_off_by_sigkill_is_told_to_the_resumed_conversation",
    "test_a_client_that_is_not_signed_in_says_so_without_a_request",
    "test_a_tool_that_is_not_listed_is_denied_and_reported",
    "test_an_interrupted_conversation_resumes_in",
    "test_an_unknown_conversation_is_an_error_result",
    "test_sigterm_leaves_whole_lines_and_no_result",
    "test_without_a_call_of_structured_output_the_result_has_none",
)

FAULTS: tuple[Fault, ...] = (
    Fault(
        "orchestrator/account/forecast.py",
        "if len(known) >= ENOUGH else None",
        "if len(known) > ENOUGH else None",
        ("test_a_forecast_is_the_median_of_finished_tasks_of_the_role_with_its_quartiles",),
    ),
    Fault(
        "orchestrator/account/spans.py",
        'ERRORS = ("failed", "system_fault", "interrupted")',
        'ERRORS = ("failed", "system_fault")',
        ("test_a_run_that_failed_is_an_error_with_its_reason",),
    ),
    Fault(
        "orchestrator/bootstrap.py",
        '("PYTHON", "PIP_", "__PYVENV_")',
        '("PYTHON", "__PYVENV_")',
        (
            "test_the_real_environment_is_made_whatever_the_users_python_settings",
            "test_only_the_settings_that_a_mirror_needs_reach_pip",
        ),
    ),
    Fault(
        "orchestrator/cli/context.py",
        "    return loaded, observe.observe(where, loaded, now(), prs)",
        (
            "    from orchestrator.project import events\n"
            "\n"
            '    events.append(where, now(), "looked")\n'
            "    return loaded, observe.observe(where, loaded, now(), prs)"
        ),
        (
            "test_read_commands_change_nothing_on_disk",
            "test_failure_13_read_commands_change_nothing_on_disk",
        ),
    ),
    Fault(
        "orchestrator/cli/demo.py",
        "for number in (signal.SIGTERM, signal.SIGHUP):",
        "for number in (signal.SIGHUP,):",
        (
            "test_an_interrupted_demonstration_stops_every_run_that_it_started",
            "test_each_signal_that_ends_a_demonstration_interrupts_it",
        ),
    ),
    Fault(
        "orchestrator/cli/output.py",
        "    print(harmless(text), flush=True)",
        "    print(harmless(text))",
        ("test_what_is_printed_is_flushed",),
    ),
    Fault(
        "orchestrator/cli/output.py",
        "    print(json.dumps(value, indent=2), flush=True)",
        "    print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)",
        ("test_json_is_ascii_whatever_a_title_holds",),
    ),
    Fault(
        "orchestrator/cli/run.py",
        "layout = context.changing(arguments)",
        "layout = context.reading(arguments)",
        (
            "test_inside_a_run_an_agent_may_add_tasks_and_nothing_else",
            "test_inside_a_run_every_other_command_that_changes_something_is_refused",
        ),
    ),
    Fault(
        "orchestrator/cli/session.py",
        "if context.running_agent() is None and mark.is_initialised(layout):",
        "if mark.is_initialised(layout):",
        ("test_the_session_of_an_agent_is_told_no_news",),
    ),
    Fault(
        "orchestrator/cli/task_add.py",
        'for name in ("force", "edit") if agent is not None else ():',
        'for name in ("force",) if agent is not None else ():',
        ("test_inside_a_run_nothing_is_forced_and_no_editor_opens",),
    ),
    Fault(
        "orchestrator/cli/task_add.py",
        "        arguments.body = secret_shapes.withheld(arguments.body)\n",
        "",
        ("test_a_secret_in_the_task_of_an_agent_is_withheld_and_a_persons_is_their_own",),
    ),
    Fault(
        "orchestrator/cli/task_add.py",
        '    context.record_event(layout, "added", task=file.id, title=file.title)\n',
        "",
        ("test_a_persons_decisions_stand_in_the_events",),
    ),
    Fault(
        "orchestrator/client/claude/startup.py",
        "if not isinstance(reason, str) or not reason:",
        "if isinstance(reason, str):",
        (
            "test_a_client_that_does_not_start_is_a_fault_of_the_system",
            "test_a_missing_client_charges_nobody_and_the_queue_resumes",
        ),
    ),
    Fault(
        "orchestrator/client/claude/stream.py",
        "self.error = (_error_word(error, None) or str(error)) if error else None",
        "self.error = (_error_word(error, None) or str(error)) if error else self.error",
        (
            "test_a_fault_that_passed_does_not_excuse_what_fails_later",
            "test_lines_and_the_processs_end_make_the_outcome",
        ),
    ),
    Fault(
        "orchestrator/client/claude/stream.py",
        '_CAPS = ("error_max_budget_usd", "error_max_turns")',
        '_CAPS = ("error_max_turns",)',
        (
            "test_a_report_that_passes_the_budget_is_delivered",
            "test_lines_and_the_processs_end_make_the_outcome",
        ),
    ),
    Fault(
        "orchestrator/client/claude/stream.py",
        '    529: "overloaded",\n',
        "",
        ("test_lines_and_the_processs_end_make_the_outcome",),
    ),
    Fault(
        "orchestrator/client/claude/stream.py",
        '    "overloaded": "the service is overloaded",\n',
        "",
        (
            "test_a_service_that_fails_for_a_while_costs_no_attempt",
            "test_lines_and_the_processs_end_make_the_outcome",
        ),
    ),
    Fault(
        "orchestrator/client/claude/stream.py",
        '    402: "billing_error",\n',
        "",
        ("test_a_status_says_whether_the_account_the_service_or_the_work_failed",),
    ),
    Fault(
        "orchestrator/client/claude/stream.py",
        'self.limited = info.get("status") == "rejected"',
        'self.limited = info.get("status") != "allowed"',
        ("test_only_a_limit_that_is_reached_ends_a_run",),
    ),
    Fault(
        "orchestrator/client/outcomes.py",
        'return Outcome("system_fault", f"client_missing: {ended.start_error}")',
        'return Outcome("failed", f"client_missing: {ended.start_error}")',
        (
            "test_a_client_that_is_being_replaced_is_missed_and_found_again",
            "test_a_missing_client_charges_nobody_and_the_queue_resumes",
        ),
    ),
    Fault(
        "orchestrator/client/outcomes.py",
        ('    if commits:\n        return Outcome("done", summary=said)'),
        ('    if commits > 1:\n        return Outcome("done", summary=said)'),
        (
            "test_commits_speak_for_a_run_that_ends_well_and_reports_nothing",
            "test_without_a_report_the_commits_decide",
        ),
    ),
    Fault(
        "orchestrator/client/outcomes.py",
        "_OF_SIGNALS = range(129, 160)",
        "_OF_SIGNALS = range(130, 160)",
        ("test_lines_and_the_processs_end_make_the_outcome",),
    ),
    Fault(
        "orchestrator/client/outcomes.py",
        "return value[:TEXT_LIMIT] if",
        "return value[: 2 * TEXT_LIMIT] if",
        ("test_texts_without_end_are_cut",),
    ),
    Fault(
        "orchestrator/client/registry.py",
        "return CLIENTS.get(name, default) if isinstance(name, str) else default",
        "return CLIENTS[str(name)] if default else default",
        (
            "test_what_the_released_version_left_is_read_by_this_one",
            "test_runs_of_the_released_version_are_finished_by_this_one",
        ),
    ),
    Fault(
        "orchestrator/database/address.py",
        '_SECRET = ("password", "sslpassword")',
        '_SECRET = ("password",)',
        ("test_an_address_that_cannot_be_used_is_refused",),
    ),
    Fault(
        "orchestrator/database/address.py",
        "return given if is_address(in_file) and is_address(given) else in_file",
        "return given if is_address(given) else in_file",
        ("test_the_environment_counts_only_if_the_file_names_a_database",),
    ),
    Fault(
        "orchestrator/database/json_text.py",
        'errors="replace"',
        'errors="ignore"',
        ("test_a_text_with_characters_that_the_database_refuses_is_stored_without_them",),
    ),
    Fault(
        "orchestrator/demo/play.py",
        ("        finally:\n            self._end_processes()"),
        ("        except OrchestratorError:\n            pass"),
        ("test_closing_a_demonstration_stops_runs_until_there_are_none",),
    ),
    Fault(
        "orchestrator/demo/play.py",
        ('while not self.settled and json.loads(self._project.orchestrator(*stop))["stopped"]:'),
        "while False:",
        ("test_closing_a_demonstration_stops_runs_until_there_are_none",),
    ),
    Fault(
        "orchestrator/git/abandoned_locks.py",
        "elif is_alone and (seen.is_old or waited >= SETTLED):",
        "elif is_alone or seen.is_old:",
        ("test_an_old_lock_of_a_living_git_stays_too",),
    ),
    Fault(
        "orchestrator/git/abandoned_locks.py",
        '_SHARED = ("config.lock", "packed-refs.lock", "shallow.lock")',
        '_SHARED = ("config.lock", "packed-refs.lock")',
        ("test_a_run_begins_and_ends_without_the_locks_that_a_killed_git_left",),
    ),
    Fault(
        "orchestrator/git/abandoned_locks.py",
        (
            "        now = _look(path)\n"
            "        if now is not None and now.file == seen.file:\n"
            "            os.unlink(path)"
        ),
        "        os.unlink(path)",
        ("test_only_the_very_file_that_was_seen_is_removed_and_by_one_process",),
    ),
    Fault(
        "orchestrator/git/base_branch.py",
        ("    if now is not None:\n        import shlex"),
        ("    if now is None:\n        import shlex"),
        (
            "test_a_renamed_base_branch_is_one_problem_that_names_the_new_one",
            "test_a_base_branch_that_is_gone_is_a_fault_with_the_way_out",
        ),
    ),
    Fault(
        "orchestrator/git/base_branch.py",
        (
            "        if branch not in theirs and ref in ours:\n"
            "            repository.delete_ref(root, ref, ours[ref])"
        ),
        "        pass",
        ("test_a_fetch_watches_names_without_fetching_them_and_forgets_stale_ones",),
    ),
    Fault(
        "orchestrator/git/closed_pushes.py",
        '_REFUSAL = f"[receive]\\n\\thideRefs = refs/\\n\\tunpackLimit = {NOWHERE}\\n"',
        '_REFUSAL = ""',
        (
            "test_an_agent_cannot_push",
            "test_an_agent_cannot_push_to_a_remote_with_a_push_address_of_its_own",
        ),
    ),
    Fault(
        "orchestrator/git/closed_pushes.py",
        '"https://", "http://", "ssh://",',
        '"https://", "ssh://",',
        ("test_without_a_remote_the_network_is_closed_and_this_disk_is_open",),
    ),
    Fault(
        "orchestrator/git/irregular.py",
        '        ".lfsconfig",\n',
        "",
        ("test_no_pipe_is_left_under_a_name_that_git_or_the_product_reads",),
    ),
    Fault(
        "orchestrator/git/irregular.py",
        "            os.chmod(folder, mode | 0o700)",
        "            os.chmod(folder, mode | 0o500)",
        ("test_a_closed_folder_is_opened_for_its_owner_and_nobody_else",),
    ),
    Fault(
        "orchestrator/git/irregular.py",
        '_SHARED_TREES = ("refs", "logs/refs")',
        '_SHARED_TREES = ("refs",)',
        ("test_the_folders_that_all_worktrees_share_are_cleared_with_all_below_refs",),
    ),
    Fault(
        "orchestrator/git/start.py",
        'code="git_missing"',
        'code="git_failed"',
        (
            "test_git_that_goes_missing_under_a_run_is_waited_for",
            "test_without_git_the_machine_is_at_fault",
        ),
    ),
    Fault(
        "orchestrator/guard/user_commands.py",
        "KILLED = (128 + 9, 128 + 15, -9, -15)",
        "KILLED = (128 + 9, 128 + 15, -9)",
        ("test_a_check_that_something_killed_says_nothing_about_the_work",),
    ),
    Fault(
        "orchestrator/guard/user_commands.py",
        'return f"o{digest}-{name}"[:60]',
        'return f"o{digest}-{name}"[:80]',
        ("test_each_agent_of_each_project_has_containers_of_its_own",),
    ),
    Fault(
        "orchestrator/guard/user_commands.py",
        'self.environment, "ORCHESTRATOR_CHECK_OF": self.mark}',
        "self.environment}",
        ("test_no_process_of_a_check_is_left_though_it_has_a_session_of_its_own",),
    ),
    Fault(
        "orchestrator/layout.py",
        'return os.path.join(package, "_resources")',
        "return package",
        (
            "test_what_pip_installed_is_copied_whole_as_well",
            "test_what_pip_installed_is_found_in_its_package_and_only_that_is_copied",
        ),
    ),
    Fault(
        "orchestrator/model/config.py",
        "doublings = min(max(attempt - 1, 0), 60)",
        "doublings = min(max(attempt, 0), 60)",
        (
            "test_backoff_doubles_up_to_its_maximum",
            "test_the_delay_doubles_with_each_attempt_up_to_the_longest",
        ),
    ),
    Fault(
        "orchestrator/page/board.py",
        '"limit": most + 1,',
        '"limit": most,',
        (
            "test_ten_thousand_finished_tasks_are_pages",
            "test_a_column_of_finished_tasks_is_one_page",
        ),
    ),
    Fault(
        "orchestrator/page/gate.py",
        'return not origins or origins[0].lower() == f"http://{hosts[0]}".lower()',
        "return True",
        ("test_only_names_of_this_machine_and_its_own_pages_get_an_answer",),
    ),
    Fault(
        "orchestrator/page/gate.py",
        "            self._once.discard(token)\n",
        "",
        ("test_the_token_for_the_browser_that_is_opened_holds_once",),
    ),
    Fault(
        "orchestrator/page/gate.py",
        "SameSite=Strict",
        "SameSite=None",
        ("test_the_token_is_exchanged_for_a_cookie_that_scripts_and_other_sites_never_get",),
    ),
    Fault(
        "orchestrator/page/gate.py",
        "frame-ancestors 'none'\"",
        'frame-ancestors *"',
        ("test_every_answer_forbids_scripts_and_data_from_elsewhere",),
    ),
    Fault(
        "orchestrator/page/static/page.js",
        "node.tagName) && node.value !== node.defaultValue;",
        "node.tagName) && false;",
        (
            "test_a_task_is_edited_again_and_again_and_only_what_was_changed",
            "test_words_stay_when_their_item_is_settled_by_somebody_else_and_a_lost_server_is_told",
        ),
    ),
    Fault(
        "orchestrator/page/static/page.js",
        ("  hear(heard);\n  tabs.postMessage(heard);"),
        "  hear(heard);",
        (
            "test_more_tabs_than_a_browser_has_connections_stay_in_step",
            "test_words_stay_when_their_item_is_settled_by_somebody_else_and_a_lost_server_is_told",
        ),
    ),
    Fault(
        "orchestrator/page/templates/region_agents.html",
        'data-post="/api/limits/set"',
        'data-post="/api/limits/put"',
        (
            "test_agents_are_paused_run_stopped_and_set",
            "test_every_control_of_the_page_asks_for_a_change_that_there_is",
        ),
    ),
    Fault(
        "orchestrator/page/templates/region_board.html",
        '{% if not read_only and task.state != "claimed" %} draggable',
        '{% if task.state != "claimed" %} draggable',
        (
            "test_a_page_that_only_reads_has_no_control_that_changes",
            "test_a_page_that_only_reads_shows_no_control_that_changes",
        ),
    ),
    Fault(
        "orchestrator/page/templates/tools_history.html",
        '<option value="week">',
        '<option value="weeks">',
        (
            "test_the_history_is_zoomed_the_costs_are_split_and_both_are_sent_as_a_file",
            "test_what_a_person_chooses_above_a_region_is_known",
        ),
    ),
    Fault(
        "orchestrator/plan/dependencies.py",
        'for part in task.parts if own == "met" else ():',
        "for part in ():",
        (
            "test_a_dependent_of_a_split_task_waits_for_the_merge_of_every_part",
            "test_a_split_task_is_a_met_dependency_when_all_its_parts_are",
        ),
    ),
    Fault(
        "orchestrator/plan/dependencies.py",
        'if pr.state == "merged" or landed.delivered:',
        'if pr.state == "merged" and landed.delivered:',
        ("test_when_a_dependency_is_met",),
    ),
    Fault(
        "orchestrator/plan/draft.py",
        ("        self.may_probe = False\n        if task"),
        "        if task",
        (
            "test_while_the_system_is_at_fault_each_tick_tries_with_one_run_only",
            "test_after_a_fault_each_plan_tries_again_with_one_run",
        ),
    ),
    Fault(
        "orchestrator/plan/draft.py",
        "// 3600",
        "// 60",
        ("test_only_a_few_paid_runs_of_other_tasks_test_one_fault",),
    ),
    Fault(
        "orchestrator/plan/draft.py",
        "self.may_probe = snapshot.may_probe and not busy",
        "self.may_probe = snapshot.may_probe and busy",
        (
            "test_a_fault_is_tried_again_at_each_tick_however_the_clock_is_moved",
            "test_after_a_fault_each_plan_tries_again_with_one_run",
        ),
    ),
    Fault(
        "orchestrator/plan/due.py",
        "return min(interval * EARLY_SHARE, EARLY_SECONDS)",
        "return max(interval * EARLY_SHARE, EARLY_SECONDS)",
        ("test_an_agent_is_due_an_interval_after_its_last_start",),
    ),
    Fault(
        "orchestrator/plan/pace.py",
        "elif window.share > limit:",
        "elif window.share >= limit:",
        ("test_every_limit_must_allow_a_start",),
    ),
    Fault(
        "orchestrator/plan/pace.py",
        "if window is None or window.resets <= now:",
        "if window is None or window.resets >= now:",
        ("test_every_limit_must_allow_a_start",),
    ),
    Fault(
        "orchestrator/plan/pace.py",
        "until = max(at for _, at in refused)",
        "until = min(at for _, at in refused)",
        ("test_every_limit_must_allow_a_start",),
    ),
    Fault(
        "orchestrator/plan/repeats.py",
        'if kind in ("moved", "review") else MAX_FAULTS',
        'if kind in ("review",) else MAX_FAULTS',
        (
            "test_somebody_who_pushes_during_every_run_is_named_to_a_person_in_the_end",
            "test_endings_that_cost_money_but_no_attempt_ask_a_person_in_the_end",
        ),
    ),
    Fault(
        "orchestrator/plan/repeats.py",
        'NEVER_OWN = ("store_unreachable",)',
        'NEVER_OWN = ("store_gone",)',
        ("test_a_fault_of_the_database_is_never_taken_for_the_fault_of_a_task",),
    ),
    Fault(
        "orchestrator/plan/rules.py",
        "full = count is not None and count >= limit",
        "full = count is not None and count > limit",
        (
            "test_an_open_pull_request_holds_new_work_until_it_is_closed_or_merged",
            "test_what_drains_is_never_held_by_what_is_full",
        ),
    ),
    Fault(
        "orchestrator/plan/rules.py",
        "if cap is None or spent < cap:",
        "if cap is None or spent <= cap:",
        ("test_a_run_starts_while_todays_spending_is_below_the_cap",),
    ),
    Fault(
        "orchestrator/plan/rules.py",
        'return Judged(before < limit, f"starts of',
        'return Judged(before <= limit, f"starts of',
        ("test_each_rule_alone_holds_an_agent_back",),
    ),
    Fault(
        "orchestrator/plan/rules.py",
        "return Judged(known or not draft.will_open(task), detail)",
        "return Judged(True, detail)",
        (
            "test_a_forge_that_fails_starts_nothing_and_is_asked_again_at_each_tick",
            "test_what_drains_is_never_held_by_what_is_full",
        ),
    ),
    Fault(
        "orchestrator/plan/rules.py",
        'if hold and hold.code == "usage_limit" and hold.until and draft.at < hold.until:',
        'if hold and hold.code == "usage_limit" and hold.until:',
        ("test_a_usage_limit_holds_everyone_until_its_reset",),
    ),
    Fault(
        "orchestrator/plan/settlements.py",
        'case "system_fault" | "moved":',
        'case "moved":',
        (
            "test_a_fault_of_the_system_charges_nobody_and_passes",
            "test_a_service_that_refuses_is_one_problem_until_it_answers",
        ),
    ),
    Fault(
        "orchestrator/plan/settlements.py",
        "    if task.ended in _ENDS:",
        "    if task.ended not in _ENDS:",
        (
            "test_ticks_killed_at_random_instants_lose_and_double_nothing",
            "test_a_kill_loses_doubles_and_sticks_nothing",
        ),
    ),
    Fault(
        "orchestrator/plan/settlements.py",
        ("        if run.alive:\n            return None"),
        ("        if not run.alive:\n            return None"),
        (
            "test_failure_01_anything_killed_at_random_instants_still_ends_with_each_commit_there_once",
            "test_a_kill_loses_doubles_and_sticks_nothing",
        ),
    ),
    Fault(
        "orchestrator/plan/settlements.py",
        'case "system_fault" | "moved":',
        'case "moved":',
        (
            "test_storms_of_fixed_seeds_break_nothing",
            "test_a_storm_with_a_disk_that_fills_breaks_nothing",
            "test_a_small_storm_breaks_nothing",
        ),
    ),
    Fault(
        "orchestrator/project/alike.py",
        "TASKS = 3\n",
        "TASKS = 5\n",
        (
            "test_a_client_that_ends_without_doing_anything_is_a_fault_after_three_tasks",
            "test_only_the_newest_runs_of_three_tasks_that_did_nothing_are_alike",
        ),
    ),
    Fault(
        "orchestrator/project/events.py",
        'MEASURED = ("cost_usd", "seconds")',
        'MEASURED = ("cost_usd",)',
        ("test_a_line_says_its_version_and_fits_the_page",),
    ),
    Fault(
        "orchestrator/project/events.py",
        "LATE, BLOCK = 3600.0, 64 << 10",
        "LATE, BLOCK = 0.0, 64 << 10",
        ("test_an_event_of_the_period_is_read_though_many_late_lines_follow_it",),
    ),
    Fault(
        "orchestrator/project/faults.py",
        '    "git_lfs_missing",\n',
        "",
        ("test_a_fault_with_a_name_of_its_own_is_a_problem_of_that_name",),
    ),
    Fault(
        "orchestrator/project/run_record.py",
        'if "push_remote" not in found:',
        'if "push_remote" in found:',
        ("test_runs_of_the_released_version_are_finished_by_this_one",),
    ),
    Fault(
        "orchestrator/pulls/github_refusals.py",
        "not accessible by|correct",
        "not allowed by|correct",
        (
            "test_a_refused_pull_request_is_this_works_failure_or_one_fault_for_all",
            "test_whose_refusal_it_is_follows_from_githubs_words",
        ),
    ),
    Fault(
        "orchestrator/pulls/github_refusals.py",
        '"\\b(Title|Body) (is|can\'t|contains)"',
        '"\\b(Title) (is|can\'t|contains)"',
        ("test_whose_refusal_it_is_follows_from_githubs_words",),
    ),
    Fault(
        "orchestrator/pulls/landing_checks.py",
        "failure = self._workshop.check(merged, pr.id)",
        "failure = self._workshop.check(head, pr.id)",
        (
            "test_failure_11_two_branches_that_fail_together_are_not_both_merged",
            "test_two_branches_that_pass_alone_and_fail_together_do_not_both_land",
        ),
    ),
    Fault(
        "orchestrator/pulls/landing_failures.py",
        (
            '        if error.code != "merge_refused" or not landing_queue.awaited(pr):\n'
            "            self._fault"
        ),
        ("        if False:\n            self._fault"),
        (
            "test_approved_work_that_cannot_be_merged_is_a_problem_until_it_can",
            "test_a_base_that_fails_its_checks_stops_landing_and_blames_no_author",
        ),
    ),
    Fault(
        "orchestrator/pulls/landing.py",
        "            return allowed[0]\n",
        "            return allowed[-1]\n",
        (
            "test_auto_merge_merges_the_reviewed_commit",
            "test_a_branch_that_is_ahead_of_its_base_lands_as_a_merge_commit",
        ),
    ),
    Fault(
        "orchestrator/pulls/landing.py",
        (
            "        if ask and pair.base and pr.base not in there:\n"
            "            raise base_branch.gone(root, pair.base, pr.base)\n"
        ),
        "",
        (
            "test_an_approved_pull_request_lands_nowhere_while_the_base_branch_is_gone",
            "test_a_base_that_the_remote_renamed_is_a_fault_and_is_not_made_again",
        ),
    ),
    Fault(
        "orchestrator/pulls/landing.py",
        "merged = self.land(pr, only=pr.head)",
        "merged = self.land(pr)",
        ("test_a_commit_that_is_pushed_after_the_look_is_not_merged",),
    ),
    Fault(
        "orchestrator/pulls/landing_failures.py",
        "if tries >= UNMERGED:",
        "if tries > UNMERGED:",
        ("test_a_merge_that_the_forge_accepts_and_never_makes_is_delayed_and_one_problem",),
    ),
    Fault(
        "orchestrator/pulls/merge_refusal.py",
        "    if pr.draft:\n",
        "    if not pr.draft and pr.url:\n",
        ("test_what_is_approved_is_merged_and_the_persons_checkout_is_not_touched",),
    ),
    Fault(
        "orchestrator/pulls/review.py",
        "if task.review_rounds < config.review.max_rounds:",
        "if task.review_rounds <= config.review.max_rounds:",
        (
            "test_after_max_rounds_a_person_is_asked_once",
            "test_after_too_many_rounds_a_person_is_asked",
        ),
    ),
    Fault(
        "orchestrator/pulls/review.py",
        '[("REVIEWS", task.id), ("PR", pr), *',
        '[("REVIEWS", task.id), *',
        (
            "test_a_delivered_task_gets_a_review_whose_verdict_is_on_its_pull_request",
            "test_failure_12_changes_requested_moves_the_original_back_with_the_feedback_first",
        ),
    ),
    Fault(
        "orchestrator/pulls/rework.py",
        'if task.state == "claimed" or "cancelled" in told or "merged" in told:',
        'if task.state == "claimed" or "cancelled" in told:',
        ("test_without_a_fact_nothing_follows",),
    ),
    Fault(
        "orchestrator/pulls/states.py",
        "gone = pr.id in may_close and tip is None and not",
        "gone = pr.id not in may_close and tip is None and not",
        (
            "test_a_pull_request_merged_by_hand_is_merged_and_one_whose_branch_is_gone_is_closed",
            "test_a_pull_request_that_a_person_ended_during_the_run_is_not_opened_again",
        ),
    ),
    Fault(
        "orchestrator/pulls/verdicts.py",
        "and all(each.verdict == APPROVED for each in people)",
        "and any(each.verdict == APPROVED for each in people)",
        ("test_an_agent_is_overruled_by_the_approval_of_its_commit_if_no_person_objects",),
    ),
    Fault(
        "orchestrator/pulls/verdicts.py",
        ("        if review.settles:\n            people ="),
        ("        if False:\n            people ="),
        ("test_a_persons_objection_stands_until_it_is_settled",),
    ),
    Fault(
        "orchestrator/pulls/verdicts.py",
        'if entry.event == "review" and verdict in (APPROVED, CHANGES):',
        'if entry.event == "review" and verdict in (APPROVED,):',
        ("test_what_is_not_approved_stays",),
    ),
    Fault(
        "orchestrator/run/attribution.py",
        "if record.branch is None or not damage.is_said(error):",
        "if record.branch is None or damage.is_said(error):",
        (
            "test_failure_29_one_damaged_branch_stops_only_its_own_task",
            "test_damage_elsewhere_in_the_repository_stops_nobody",
        ),
    ),
    Fault(
        "orchestrator/run/delivery.py",
        'return None if pr.state == "open" else f"pull',
        'return None if pr.state != "merged" else f"pull',
        (
            "test_what_a_person_closes_during_its_rework_is_cancelled_and_not_opened_again",
            "test_a_pull_request_that_a_person_ended_during_the_run_is_not_opened_again",
        ),
    ),
    Fault(
        "orchestrator/run/delivery.py",
        "    if job.record.client is None:\n",
        "    if job.record.client is not None:\n",
        (
            "test_work_that_a_person_merged_before_its_pull_request_was_opened_is_done",
            "test_a_pull_request_that_a_person_ended_during_the_run_is_not_opened_again",
        ),
    ),
    Fault(
        "orchestrator/run/delivery.py",
        'if re.fullmatch(r"[0-9]{1,9}", issue):',
        'if re.fullmatch(r"[a-z]{1,9}", issue):',
        ("test_the_pull_request_closes_the_issue_and_the_issue_names_it_once",),
    ),
    Fault(
        "orchestrator/run/instructions.py",
        "if review.id in (each.one.pr, each.other.pr):",
        "if review.id not in (each.one.pr, each.other.pr):",
        (
            "test_uncommitted_work_is_seen_and_the_reviewer_is_told",
            "test_a_reviewer_is_told_of_other_work_on_the_same_lines_only",
        ),
    ),
    Fault(
        "orchestrator/run/launch.py",
        '        "ORCHESTRATOR_TASK_ID": record.task or "",\n',
        "",
        ("test_a_task_becomes_a_pushed_branch_with_a_pull_request",),
    ),
    Fault(
        "orchestrator/run/launch.py",
        "    return min((limit for limit in limits if limit is not None), default=None)",
        "    return max((limit for limit in limits if limit is not None), default=None)",
        ("test_a_run_may_cost_its_cap_and_no_more_than_what_is_left_for_its_task",),
    ),
    Fault(
        "orchestrator/run/launch.py",
        '"tag.gpgSign": "false"',
        '"tag.gpgSign": "true"',
        ("test_an_agents_git_asks_for_no_signature",),
    ),
    Fault(
        "orchestrator/run/pushing.py",
        "        raise Rejected(repeated)",
        "        raise _refuses(job, branch, repeated)",
        (
            "test_a_rejected_push_costs_an_attempt_and_ends_in_failed",
            "test_the_reason_of_a_rejected_push_leads_the_next_attempt",
        ),
    ),
    Fault(
        "orchestrator/run/pushing.py",
        "if not re.search(_PROTECTED, refusal) and not _refuses_updates(job, other, old):",
        "if not re.search(_PROTECTED, refusal):",
        (
            "test_a_naming_rule_is_one_problem_and_ends_with_branch_prefix",
            "test_a_refusal_of_the_remote_is_everybodys_of_one_name_or_of_these_commits",
        ),
    ),
    Fault(
        "orchestrator/run/pushing.py",
        "return bool(is_protected) or _refuses_updates(job, branch + PROBE, old, there)",
        "return False",
        (
            "test_a_protected_branch_is_a_fault_and_not_the_works",
            "test_a_refusal_of_the_remote_is_everybodys_of_one_name_or_of_these_commits",
        ),
    ),
    Fault(
        "orchestrator/run/pushing.py",
        "(?i)GH006|protected branch|permission",
        "(?i)permission",
        ("test_a_refusal_of_the_remote_is_everybodys_of_one_name_or_of_these_commits",),
    ),
    Fault(
        "orchestrator/run/pushing.py",
        "        raise Rejected(repeated)\n",
        "        return\n",
        ("test_a_refusal_of_the_remote_is_everybodys_of_one_name_or_of_these_commits",),
    ),
    Fault(
        "orchestrator/run/start_point.py",
        "if base not in places and base == job.config.base_branch:",
        "if base not in places:",
        (
            "test_a_branch_of_one_task_that_does_not_exist_fails_this_task_alone",
            "test_a_branch_that_does_not_exist_fails_that_task_only",
        ),
    ),
    Fault(
        "orchestrator/run/start_point.py",
        "if base not in places and base == job.config.base_branch:",
        "if base not in places and base != job.config.base_branch:",
        (
            "test_a_base_branch_that_is_gone_here_is_no_failure_of_a_task",
            "test_the_projects_base_must_be_where_work_is_delivered",
        ),
    ),
    Fault(
        "orchestrator/run/start_point.py",
        "    if here is None or memory.may_replace(root, there, here):",
        "    if here is None or there != memory.own:",
        (
            "test_a_branch_that_a_person_rebased_is_taken_up",
            "test_which_commits_of_the_branch_give_way",
        ),
    ),
    Fault(
        "orchestrator/run/start_point.py",
        "if base not in places and base == job.config.base_branch:",
        "if base not in found.there and base not in found.here:",
        ("test_the_projects_base_must_be_where_work_is_delivered",),
    ),
    Fault(
        "orchestrator/run/start_point.py",
        ("        start,\n        here,\n        there,\n        rescue,"),
        ("        start,\n        here,\n        None,\n        rescue,"),
        (
            "test_a_fix_up_of_a_person_between_two_runs_is_built_on",
            "test_which_commits_of_the_branch_give_way",
        ),
    ),
    Fault(
        "orchestrator/run/start_point.py",
        "    if here is None or memory.may_replace(root, there, here):",
        "    if here is None or not memory.may_replace(root, there, here):",
        ("test_which_commits_of_the_branch_give_way",),
    ),
    Fault(
        "orchestrator/run/watch.py",
        "elif size > MAX_OUTPUT:",
        "elif size > 2 * MAX_OUTPUT:",
        ("test_output_up_to_the_limit_is_allowed",),
    ),
    Fault(
        "orchestrator/run/watch.py",
        "if now - self._result_at > LINGER_SECONDS:",
        "if now - self._result_at > 2 * LINGER_SECONDS:",
        ("test_after_its_result_a_client_gets_a_minute_whatever_its_other_limits",),
    ),
    Fault(
        "orchestrator/run/watch.py",
        (
            "        files.flush(journal.path(name))  # before the record says that the "
            "client ended\n"
        ),
        "        pass\n",
        ("test_the_output_is_on_disk_before_the_record_says_that_the_client_ended",),
    ),
    Fault(
        "orchestrator/schedule/entry.py",
        "cd {shlex.quote(self.root)} ",
        "cd {self.root} ",
        (
            "test_a_real_cron_daemon_gets_a_task_done",
            "test_failure_19_the_line_really_ticks_from_crons_environment_whatever_the_folder_is_called",
        ),
    ),
    Fault(
        "orchestrator/schedule/program_copy.py",
        ('    if is_newer(version() or "", __version__):\n        return []\n'),
        "",
        (
            "test_a_newer_version_moves_every_schedule_along_and_an_older_one_none",
            "test_a_newer_version_that_schedules_start_is_left_in_place",
        ),
    ),
    Fault(
        "orchestrator/schedule/program_copy.py",
        "    os.sync()  # a power cut",
        "    pass  # a power cut",
        ("test_a_copy_is_on_disk_whole_before_anything_starts_it",),
    ),
    Fault(
        "orchestrator/schedule/schedule.py",
        "bare = {name: variables[name] for name in names if name in variables}",
        "bare = dict(variables)",
        (
            "test_doctor_finds_a_folder_that_git_trusts_only_from_this_shell",
            "test_doctor_finds_a_sign_in_of_gh_that_only_this_shell_has",
            "test_doctor_finds_a_time_zone_that_only_this_shell_has",
            "test_doctor_says_what_the_schedule_lacks_that_this_shell_has",
            "test_doctor_finds_an_identity_that_only_this_shell_has",
        ),
    ),
    Fault(
        "orchestrator/setup/probes.py",
        "if (int(found[1]), int(found[2])) < OLDEST_GIT:",
        "if (int(found[1]), int(found[2])) <= OLDEST_GIT:",
        ("test_gits_version_is_compared_with_what_our_calls_need",),
    ),
    Fault(
        "orchestrator/setup/schedule_probe.py",
        "if path and shutil.which(name, path=entry.path) is None:",
        "if path and shutil.which(name) is None:",
        (
            "test_doctor_asks_from_the_path_that_was_recorded",
            "test_a_program_that_the_schedules_path_lacks_is_said",
        ),
    ),
    Fault(
        "orchestrator/setup/schedule_probe.py",
        'hint = f"run `{make}`, then: {place}" if each.code == "sign_in" else each.hint',
        "hint = each.hint",
        ("test_a_missing_sign_in_says_where_the_token_goes",),
    ),
    Fault(
        "orchestrator/setup/schedule_probe.py",
        "    if here != there:",
        "    if here > there:",
        ("test_another_time_zone_of_the_schedule_is_said",),
    ),
    Fault(
        "orchestrator/setup/schedule_probe.py",
        "if _LEVELS.index(each.level) > known:",
        "if _LEVELS.index(each.level) > known + 1:",
        ("test_only_what_is_worse_under_the_schedule_is_said",),
    ),
    Fault(
        "orchestrator/setup/skills.py",
        ('return launcher if os.access(os.path.join(root, launcher), os.X_OK) else "orchestrator"'),
        'return "orchestrator"',
        (
            "test_as_a_submodule_its_skills_are_commands_of_the_project",
            "test_in_a_submodule_the_copies_call_its_launcher",
        ),
    ),
    Fault(
        "orchestrator/system/disk.py",
        "no space left on device|",
        "no space left on this device|",
        (
            "test_a_disk_that_is_too_small_for_a_worktree_is_waited_for",
            "test_a_programs_words_for_a_disk_that_cannot_be_written_are_known",
        ),
    ),
    Fault(
        "orchestrator/system/disk.py",
        "ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)",
        "ERRORS = (errno.EDQUOT, errno.EROFS)",
        (
            "test_a_disk_that_fills_while_clients_work_costs_no_attempt",
            "test_what_the_machine_lacks_is_no_failure_of_the_work",
        ),
    ),
    Fault(
        "orchestrator/system/disk.py",
        "blocks * found.f_frsize < LEAST_BYTES:",
        "blocks * found.f_frsize <= LEAST_BYTES:",
        ("test_a_disk_is_full_without_space_or_without_files",),
    ),
    Fault(
        "orchestrator/system/files.py",
        ("            if flush:\n                os.fsync(file.fileno())"),
        ("            if not flush:\n                os.fsync(file.fileno())"),
        ("test_every_change_that_returned_is_there_after_a_power_cut",),
    ),
    Fault(
        "orchestrator/system/files.py",
        (
            "        os.replace(beside, path)\n"
            "    except BaseException:\n"
            "        remove(beside)\n"
            "        raise"
        ),
        ("        os.replace(beside, path)\n    except BaseException:\n        raise"),
        ("test_what_cannot_be_written_leaves_the_old_file_and_no_leftover",),
    ),
    Fault(
        "orchestrator/system/files.py",
        'torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\\n"',
        "torn = False",
        ("test_a_line_after_one_that_a_crash_cut_short_stands_on_its_own",),
    ),
    Fault(
        "orchestrator/system/files.py",
        "if entry.stat(follow_symlinks=False).st_mtime < before:",
        "if entry.stat(follow_symlinks=False).st_mtime > before:",
        ("test_what_killed_processes_left_goes_the_next_day",),
    ),
    Fault(
        "orchestrator/system/locks.py",
        ("            if self._is_at_path():\n                return"),
        "            return",
        ("test_no_line_is_lost_or_torn_however_often_the_file_is_put_aside",),
    ),
    Fault(
        "orchestrator/system/locks.py",
        (
            "                    self.close()\n"
            "                    raise LockHeld(self.path) from None"
        ),
        "                    raise LockHeld(self.path) from None",
        ("test_a_lock_is_held_by_one_process_until_it_lets_go",),
    ),
    Fault(
        "orchestrator/system/records.py",
        ("    if not isinstance(found, Mapping):\n        return None"),
        (
            "    if not isinstance(found, Mapping) or not set(found) <= "
            "set(kind.__annotations__):\n"
            "        return None"
        ),
        ("test_what_was_stored_is_built_again",),
    ),
    Fault(
        "orchestrator/tasks/file_store.py",
        (
            "            files.write_atomic(path, file.raw)\n"
            "            files.flush(os.path.dirname(path))\n"
            "            return path"
        ),
        ("            files.write_atomic(path, file.raw)\n            return path"),
        ("test_every_change_that_returned_is_there_after_a_power_cut",),
    ),
    Fault(
        "orchestrator/tasks/file_store.py",
        ("        if not self._lock.held:\n            files.remove(self._layout.idle_stamp)"),
        ("        if self._lock.held:\n            files.remove(self._layout.idle_stamp)"),
        ("test_every_change_removes_the_idle_ticks_stamp",),
    ),
    Fault(
        "orchestrator/tasks/file_store.py",
        'if is_many and len(self.list("claimed").tasks) >= max_claimed:',
        'if is_many and len(self.list("claimed").tasks) > max_claimed:',
        ("test_no_more_is_claimed_than_the_limit_and_a_refusal_changes_nothing",),
    ),
    Fault(
        "orchestrator/tasks/header.py",
        ("else visible(value)\n        for key, value in reversed(fields)"),
        ("else visible(value)\n        for key, value in fields"),
        ("test_the_header_ends_where_the_contract_says",),
    ),
    Fault(
        "orchestrator/tasks/header.py",
        '_BRACKET = re.compile(r"\\[([^\\]]*)\\](?!\\()(.*)", re.DOTALL)',
        '_BRACKET = re.compile(r"\\[([^\\]]*)\\](.*)", re.DOTALL)',
        ("test_a_title_is_cleaned_for_display",),
    ),
    Fault(
        "orchestrator/tasks/history.py",
        '"retried": {**_AFRESH, "reason": None, "error": None, "cost_usd": 0.0}',
        '"retried": {**_AFRESH, "reason": None, "error": None}',
        ("test_history_adds_up",),
    ),
    Fault(
        "orchestrator/tasks/history.py",
        ('        if run is None or entry.event == "claimed":\n            seen.clear()'),
        ("        if run is None:\n            seen.clear()"),
        ("test_an_event_that_a_crash_wrote_twice_counts_once",),
    ),
    Fault(
        "orchestrator/tasks/history.py",
        'repeated = entry.event == "reopened" and',
        'repeated = entry.event == "review" and',
        ("test_the_next_prompt_is_told_what_happened_in_order",),
    ),
    Fault(
        "orchestrator/tasks/history.py",
        "return float(value) if abs(value) < 1e12 else None",
        "return float(value)",
        ("test_history_adds_up",),
    ),
    Fault(
        "orchestrator/tasks/parts.py",
        'return [part for part in parts if part.state == "failed"]',
        'return [part for part in parts if part.state == "blocked"]',
        (
            "test_a_failed_part_asks_a_person_once_and_its_retry_finishes_the_task",
            "test_a_part_that_failed_or_was_cancelled_is_broken",
        ),
    ),
    Fault(
        "orchestrator/tasks/task_file.py",
        "if end > MAX_TASK_BYTES or len(data) > MAX_BYTES:",
        "if end >= MAX_TASK_BYTES or len(data) > MAX_BYTES:",
        ("test_the_tools_own_history_never_makes_a_task_too_large",),
    ),
    Fault(
        "orchestrator/tasks/task_file.py",
        "MAX_DEPENDENCIES = 100",
        "MAX_DEPENDENCIES = 1000",
        ("test_what_cannot_be_a_task_is_refused_with_the_reason",),
    ),
    Fault(
        "orchestrator/tick/attendant.py",
        "                soon.begin(layout, load)",
        "                ensure(layout)",
        (
            "test_a_task_of_one_host_starts_at_once_on_another",
            "test_a_change_that_may_be_work_begins_a_tick_at_once",
        ),
    ),
    Fault(
        "orchestrator/tick/hold.py",
        "(began >= known.since or known.since > now)",
        "began >= known.since",
        ("test_a_fault_dated_ahead_of_the_clock_is_ended_by_a_good_run",),
    ),
    Fault(
        "orchestrator/tick/hold.py",
        "        until=outcome.until,\n",
        "        until=None,\n",
        (
            "test_a_usage_limit_ends_at_its_reset_by_the_clock_of_that_moment",
            "test_a_used_up_subscription_waits_for_its_reset",
        ),
    ),
    Fault(
        "orchestrator/tick/lock.py",
        "if seconds <= HUNG_AFTER:",
        "if seconds <= 2 * HUNG_AFTER:",
        ("test_a_tick_hangs_after_five_minutes_of_the_machines_uptime",),
    ),
    Fault(
        "orchestrator/tick/lock.py",
        ("            if found is None:\n                yield None\n                return"),
        ("            if found is None:\n                yield problems\n                return"),
        (
            "test_a_small_storm_of_ticks_executes_each_task_as_often_as_it_asks",
            "test_failure_16_twenty_ticks_at_once_execute_each_task_exactly_once",
        ),
    ),
    Fault(
        "orchestrator/tick/observe.py",
        "starts = filter(None, (view.last_started, memory.last_started))",
        "starts = filter(None, (view.last_started,))",
        (
            "test_an_agent_without_tasks_runs_on_one_host_and_at_its_interval",
            "test_the_cost_of_a_day_and_the_last_start_are_those_of_all_hosts",
        ),
    ),
    Fault(
        "orchestrator/tick/observe.py",
        ("spent_today_usd=agent_memory.spent((*states.values(), *(m for *_, m in others)), now)"),
        "spent_today_usd=agent_memory.spent(states.values(), now)",
        (
            "test_the_budget_of_a_day_is_one_for_all_hosts",
            "test_the_cost_of_a_day_and_the_last_start_are_those_of_all_hosts",
        ),
    ),
    Fault(
        "orchestrator/tick/observe.py",
        ("    if short is not None:\n        hold ="),
        ("    if False:\n        hold ="),
        (
            "test_a_disk_that_becomes_read_only_is_waited_for",
            "test_a_disk_that_is_full_before_a_tick_starts_nothing_until_it_is_freed",
            "test_a_disk_that_cannot_be_written_is_a_fault_that_no_run_tests",
        ),
    ),
    Fault(
        "orchestrator/tick/observe.py",
        "now >= hold.until:",
        "now > hold.until:",
        ("test_a_usage_limit_holds_until_it_resets",),
    ),
    Fault(
        "orchestrator/tick/observe.py",
        "if hold is not None and hold.until is not None and now >= hold.until:",
        "if hold is not None and hold.until is not None and now < hold.until:",
        ("test_a_usage_limit_holds_until_it_resets",),
    ),
    Fault(
        "orchestrator/tick/problems.py",
        "since = max(last_tick(layout) or 0.0, mark.set_up(layout) or 0.0)",
        "since = last_tick(layout) or 0.0",
        ("test_the_age_of_the_last_tick_is_told",),
    ),
    Fault(
        "orchestrator/tick/problems.py",
        "    return now - since > STALE_AFTER",
        "    return since - now > STALE_AFTER",
        ("test_a_scheduler_that_stopped_is_reported",),
    ),
    Fault(
        "orchestrator/tick/settle.py",
        (
            'interrupted=outcome.verdict == "interrupted"\n'
            '                    or (outcome.verdict == "stopped" and task.interruptions > 0),'
        ),
        "interrupted=False,",
        (
            "test_clients_that_are_killed_early_are_not_started_for_ever",
            "test_a_second_interruption_in_a_row_costs_an_attempt",
        ),
    ),
    Fault(
        "orchestrator/tick/settle.py",
        ("                    error=outcome.reason,\n                    delay=delay,"),
        ("                    error=None,\n                    delay=delay,"),
        (
            "test_failed_work_is_tried_again_with_its_error_first_and_then_given_up",
            "test_the_error_of_an_attempt_leads_the_next_and_its_commits_are_kept",
        ),
    ),
    Fault(
        "orchestrator/tick/settle.py",
        "question = outcome.question or outcome.summary or",
        "question = outcome.summary or",
        (
            "test_a_question_waits_for_a_person_whose_answer_leads_the_next_prompt",
            "test_a_question_parks_the_task_until_it_is_answered",
        ),
    ),
    Fault(
        "orchestrator/tick/settle.py",
        "undelivered=run if keeps and record and record.undelivered else None",
        "undelivered=None",
        (
            "test_a_remote_that_goes_away_under_a_run_is_waited_for",
            "test_an_unreachable_remote_charges_nobody_and_delivery_resumes",
        ),
    ),
    Fault(
        "orchestrator/tick/settle.py",
        "spend={**dict(sorted(state.spend.items())[-7:]), **spend},",
        "spend=spend,",
        (
            "test_a_day_there_and_back_makes_no_day_cheaper",
            "test_the_cost_of_a_day_is_known_after_the_clock_was_a_day_ahead",
        ),
    ),
    Fault(
        "orchestrator/tick/settle.py",
        "usage.keep(self.layout, outcome.usage)",
        "usage.keep(self.layout, {})",
        (
            "test_a_used_share_of_the_subscription_paces_the_work",
            "test_the_windows_of_the_last_run_are_kept",
        ),
    ),
    Fault(
        "orchestrator/tick/settle.py",
        "spend = {today: state.spend.get(today, 0.0) + cost}",
        "spend = {today: cost}",
        (
            "test_todays_spend_holds_new_runs_once_it_reaches_daily_usd",
            "test_the_cost_of_a_days_runs_adds_up",
        ),
    ),
    Fault(
        "orchestrator/tick/settle.py",
        "            if asked is not None:\n",
        "            if asked is None:\n",
        ("test_a_review_sends_the_work_back_and_the_next_one_approves_it",),
    ),
    Fault(
        "orchestrator/tick/settle.py",
        "        if failures >= self.config.retry.max_attempts:",
        "        if failures > self.config.retry.max_attempts:",
        ("test_an_agent_that_fails_again_and_again_is_paused",),
    ),
    Fault(
        "orchestrator/tick/split.py",
        'return all(part.state == "done" for',
        'return any(part.state == "done" for',
        ("test_a_split_task_is_finished_once_every_part_is_done",),
    ),
    Fault(
        "orchestrator/tick/stop.py",
        "            process.signal_process(known.pid, signal.SIGTERM)\n",
        "            pass\n",
        (
            "test_the_brake_ends_five_clients_and_all_their_children_at_once",
            "test_stopping_ends_everything_that_a_run_started_within_five_seconds",
        ),
    ),
    Fault(
        "orchestrator/tick/turn.py",
        "return is_full, peer.runs, turned, peer.name",
        "return is_full, -peer.runs, turned, peer.name",
        ("test_a_host_whose_turn_comes_later_begins_no_tick_for_a_task_that_was_claimed",),
    ),
    Fault(
        "orchestrator/upkeep/branches.py",
        'elif pr is not None and pr.state == "open":',
        'elif pr is not None and pr.state == "closed":',
        (
            "test_clean_drops_what_is_safe_and_its_dry_run_says_the_same",
            "test_a_clean_does_what_its_dry_run_says_and_nothing_becomes_unreachable",
        ),
    ),
    Fault(
        "orchestrator/upkeep/retention.py",
        "name: found[: max(len(found) - config.retention.runs, 0)]",
        "name: found[: max(len(found) - config.retention.runs + 1, 0)]",
        ("test_the_newest_runs_stay_and_the_oldest_go_first",),
    ),
    Fault(
        "orchestrator/upkeep/retention.py",
        "        if run_id in kept or (record is not None and record.is_at_work()):",
        "        if run_id in kept:",
        ("test_a_run_that_lives_stays_though_nobody_remembers_it",),
    ),
    Fault(
        "orchestrator/upkeep/retention.py",
        "if isinstance(at, int | float) and 0 <= now - at < DAY:",
        "if isinstance(at, int | float) and now - at < DAY:",
        ("test_nothing_goes_more_than_once_a_day_nor_with_a_clock_that_was_moved_back_for_ever",),
    ),
    Fault(
        "orchestrator/upkeep/retention.py",
        '_REFERRING = ("incoming", "claimed", "blocked", "failed")',
        '_REFERRING = ("incoming", "claimed", "blocked")',
        ("test_the_run_that_a_task_or_the_inbox_still_speaks_of_stays",),
    ),
    Fault(
        "hooks/session-start",
        '[ -z "${ORCHESTRATOR_RUN_ID-}" ] && find_root',
        "find_root",
        (
            "test_a_session_elsewhere_or_of_our_own_agents_is_told_nothing",
            "test_the_hook_is_of_the_main_worktree_wherever_a_session_is",
        ),
    ),
    Fault(
        "hooks/session-start",
        '[ "$line" != "$root" ] || return',
        '[ "$line" = "$root" ] || return',
        (
            "test_a_clone_that_nobody_set_up_is_told_once_and_never_ticks",
            "test_the_hook_tells_once_of_a_clone_that_nobody_set_up",
        ),
    ),
    Fault(
        "plugin/roles/reviewer.md",
        "allow: [Read, Glob, Grep]",
        "allow: [Bash, Read, Glob, Grep]",
        (
            "test_a_reviewer_is_not_confined_and_still_writes_nothing",
            "test_a_review_sends_the_work_back_and_the_next_one_approves_it",
            "test_roles_that_only_read_have_no_way_to_write",
        ),
    ),
    Fault(
        "plugin/roles/tester.md",
        "tools: [Bash, Edit, Read, Write, Glob, Grep]",
        "tools: [Bash, Edit, Read, Glob, Grep]",
        (
            "test_a_testers_tests_are_checked_and_become_a_pull_request",
            "test_four_roles_are_shipped",
        ),
    ),
    Fault(
        "skills/add-agent/SKILL.md",
        "Bash(orchestrator agent add *)",
        "Bash(orchestrator agents add *)",
        (
            "test_add_agent_adds_one_and_takes_it_away",
            "test_permissions_cover_exactly_the_commands",
        ),
    ),
    Fault(
        "skills/implementing/SKILL.md",
        "user-invocable: false\n",
        "",
        (
            "test_every_skill_loads_where_nothing_is_set_up_and_the_agents_are_in_nobodys_menu",
            "test_front_matter_has_known_keys_and_says_when_to_use_the_skill",
        ),
    ),
    Fault(
        "skills/inbox/SKILL.md",
        " The user's request: $ARGUMENTS",
        "",
        (
            "test_inbox_does_what_the_person_decided",
            "test_arguments_are_hinted_at_exactly_where_they_are_used",
        ),
    ),
    Fault(
        "skills/pause-agent/SKILL.md",
        " Bash(orchestrator agent resume *)",
        "",
        (
            "test_pause_agent_pauses_and_resumes",
            "test_permissions_cover_exactly_the_commands",
        ),
    ),
    Fault(
        "skills/queue-status/SKILL.md",
        " Bash(orchestrator pr list *)",
        "",
        (
            "test_skills_that_look_have_all_they_need_and_change_nothing",
            "test_permissions_cover_exactly_the_commands",
        ),
    ),
    Fault(
        "skills/retry-failed/SKILL.md",
        " Bash(orchestrator task cancel *)",
        "",
        (
            "test_retry_failed_looks_at_why_and_puts_tasks_back",
            "test_permissions_cover_exactly_the_commands",
        ),
    ),
    Fault(
        "skills/tune-backpressure/SKILL.md",
        "!`orchestrator _history 2>&1 || true`",
        "!`orchestrator history_ 2>&1 || true`",
        (
            "test_tuning_reads_the_history_and_sets_what_was_decided",
            "test_every_command_in_a_skill_is_one",
        ),
    ),
    Fault(
        "tests/messages_api.py",
        "self._struck[key] < turn.times:",
        "self._struck[key] <= turn.times:",
        (
            "test_an_overload_that_passes_does_not_hurt_the_run",
            "test_a_fault_with_a_count_strikes_so_often_and_then_the_script_goes_on",
        ),
    ),
    Fault(
        "tests/messages_api.py",
        '"partial_json": json.dumps(block["input"])',
        '"partial_json": ""',
        (
            "test_a_bash_call_writes_a_file_and_its_output_reaches_the_model",
            "test_a_json_schema_gives_structured_output_and_ends_the_run",
            "test_an_implementers_commits_become_a_pull_request",
        ),
    ),
    Fault(
        "tests/messages_api.py",
        "script for fits, script in self._scripts if fits(request)",
        "script for fits, script in self._scripts",
        (
            "test_agents_at_once_each_follow_their_own_script",
            "test_a_marker_is_not_looked_for_in_the_clients_own_reminders",
        ),
    ),
    Fault(
        "tests/messages_api.py",
        ("enumerate(_calls(turn))\n        ]"),
        ("enumerate(_calls(turn)[:1])\n        ]"),
        (
            "test_several_calls_in_one_turn_are_each_answered",
            "test_a_script_is_taken_up_where_the_conversation_stands",
        ),
    ),
    Fault(
        "tests/messages_api.py",
        "self._json(fault.status, error, fault.headers)",
        "self._json(fault.status, error)",
        (
            "test_a_used_up_subscription_tells_when_it_resets_and_is_not_retried",
            "test_a_used_up_subscription_waits_for_its_reset",
        ),
    ),
)


def not_in_place(fault: Fault, checkout: Path) -> str | None:
    """Return what is wrong if the text that the fault replaces is not in its file exactly once."""
    path = checkout / fault.file
    if not path.is_file():
        return f"there is no file {fault.file}"
    count = path.read_text().count(fault.old)
    return None if count == 1 else f"{fault.file} contains {fault.old!r} {count} times"


def unproven() -> list[str]:
    """Return the long tests of `HELD_BY` whose holder no fault has proven."""
    pairs = {(slow, holder) for f in FAULTS for slow in f.found_by for holder in f.found_by}
    return [
        slow
        for slow, holder in quick_variants.HELD_BY.items()
        if (slow, holder) not in pairs and slow not in OF_THE_CLIENT
    ]
