"""Which variants and which long tests only `make slow` runs.

The time of a test goes into real processes. `make test` therefore keeps one variant for each kind
of behaviour, and of two long tests that hold the same promise the shorter.
`tests/test_conftest.py` checks that each name and each part of an id in these tables exists.
"""

from __future__ import annotations

from collections.abc import Iterable

#: By the name of a parametrized test: parts of ids. `make test` runs the variants whose id, with
#: its brackets, contains one of these parts.
QUICK: dict[str, tuple[str, ...]] = {
    "test_an_agent_does_not_decide_where_work_is_sent": ("remote remove", "set-url", "insteadOf"),
    "test_a_damaged_record_is_one_problem_and_is_never_overwritten": ("[{-", '"task": 5}-github'),
    "test_a_link_in_the_place_of_our_state_is_refused_and_not_written_through": (
        "[.orchestrator]",
        "impl-agent-1/lock",
        "impl-agent-1/worktree",
        "queue/claimed",
        "prs/github",
        "events.jsonl",
    ),
    "test_a_merge_without_a_worktree_is_the_merge_in_a_worktree": (
        "[one file, other lines-",
        "[one file, the same lines-",
        "conflict and clean merge",
        "changed and deleted",
        "renamed and changed",
        "a file and a folder",
        "attributes for other files",
        "a union, deeper",
        "attributes of the head",
        "pointers of Git LFS",
        "a submodule on both sides",
        "a conflict in a name that is not UTF-8",
    ),
    "test_a_move_back_to_files_that_was_killed_goes_on": ("put-3", "move_away", "_arrived"),
    "test_a_move_to_a_database_that_was_killed_goes_on": ("put-3", "_end-1", "end_copy"),
    "test_a_pull_request_that_a_person_ended_during_the_run_is_not_opened_again": (
        "closed",
        "True-True-merged",
    ),
    "test_a_refusal_of_the_remote_is_everybodys_of_one_name_or_of_these_commits": (
        "every new name",
        "a new name",
        "a protected branch",
        "more commits",
    ),
    "test_a_task_is_held_while_its_text_names_a_file_in_work": (
        "please",
        "./ten",
        "ten.txt:3",
        "(ten.txt)",
        "tenants",
    ),
    "test_the_hint_undoes_what_an_agent_did": (
        "[echo j > jack.txt; git add jack.txt; git commit -qm jack-",
        "checkout -q --detach",
        "rm -q --cached",
        "core.worktree /nonexistent-core",
        "remote add evil",
        "sed -i",
        "[include]",
        "git/hooks",
        "info/attributes",
        "command19",
        "command21",
        "command23",
    ),
    "test_the_newest_runs_are_those_of_the_whole_history": ("[0-", "[1-nobody", "[3-impl-1"),
    "test_the_persons_files_and_changes_are_as_before": ("mine.txt", "topic-echo edit"),
    "test_what_was_just_seen_of_the_remote_is_confirmed_by_the_push": (
        "none",
        "base",
        "deletion",
        "kept",
    ),
    "test_work_that_takes_the_address_of_a_submodule_away_is_refused": (
        "step0",
        "step1",
        "step2",
        "step3",
        "step5",
    ),
    "test_a_commit_in_a_submodule_whose_folder_is_gone_is_kept": ("by git",),
    "test_a_first_checkout_that_was_killed_deletes_no_file": ("None", "edited"),
    "test_a_hook_of_the_remote_that_was_killed_charges_nobody": ("its program",),
    "test_a_squash_that_a_person_pushed_merges_the_pull_request": ("a person",),
    "test_before_remove_runs_in_the_worktree_and_may_object": ("exit 1",),
    "test_branches_are_pushed_where_the_configuration_says": ("push_remote",),
    "test_changes_in_a_submodule_are_kept_though_the_agent_removed_its_entry": (".gitmodules",),
    "test_damage_that_stops_each_git_command_is_not_called_the_remotes": ("config", "packed-refs"),
    "test_failure_37_a_run_that_waits_for_a_lock_can_be_stopped": ("a stopped process",),
    "test_who_says_that_space_or_memory_was_lacking_uses_up_no_attempt": (
        "the client on stderr",
        "the agent that gave up",
        "git in a check",
    ),
    "test_a_clock_that_is_moved_under_a_run_ends_no_live_work": ("-28800",),
    "test_a_client_that_could_not_work_where_the_project_was_is_not_charged": ("no report",),
    "test_a_command_that_fails_without_its_secret_says_how_to_give_it_one": ("check", "client"),
    "test_a_dependency_that_cannot_be_met_is_one_inbox_item": ("failed", "circle"),
    "test_a_failure_of_the_work_costs_an_attempt": ("budget",),
    "test_a_fault_ends_as_an_api_error_after_the_retries": ("overloaded",),
    "test_a_fault_of_the_service_charges_nobody_and_resumes_by_itself": ("overloaded",),
    "test_a_forge_that_fails_at_delivery_gets_the_pull_request_later": ("opening",),
    "test_a_forge_that_fails_is_nobodys_fault": ("offline", "no JSON", "another shape"),
    "test_a_git_file_that_leads_elsewhere_is_not_followed_and_all_work_is_kept": (
        "_a_repository",
        "of_another",
    ),
    "test_a_kill_loses_doubles_and_sticks_nothing": (
        "review-tick",
        "review-prepare",
        "review-client",
        "failing-check-conclude",
        "landing-landing",
    ),
    "test_a_killed_client_goes_on_in_the_same_conversation": ("9",),
    "test_a_killed_run_is_taken_up_again_and_its_commit_is_there_once": (
        "client then supervisor",
        "supervisor then client",
    ),
    "test_a_last_start_in_the_future_counts_as_now": ("8760",),
    "test_a_measure_gives_its_rows_and_nothing_is_broken": ("memory",),
    "test_a_run_goes_on_though_its_agents_memory_is_lost": ("run",),
    "test_a_run_of_a_set_up_that_is_no_more_gives_its_task_back": ("dies",),
    "test_a_run_past_its_limits_is_ended_with_all_it_started": ("grandchild", "too long"),
    "test_a_run_that_came_with_a_commit_starts_nothing": ("starting-0", "concluding-None"),
    "test_a_run_that_loses_its_role_keeps_what_it_cost_and_is_delivered_when_that_is_back": (
        "broken",
    ),
    "test_a_stash_of_the_persons_that_an_agent_took_comes_back_by_the_hint": ("pop",),
    "test_a_symbolic_ref_is_made_plain_and_no_other_ref_changes": (
        "symbolic",
        "link-False",
        "packed-True",
    ),
    "test_after_an_update_of_the_plugin_the_next_session_moves_the_schedule_along": ("newer",),
    "test_an_operation_left_half_done_neither_holds_the_branch_nor_the_next_run": (
        "impl-2-_merge",
        "impl-2-_broken_rebase",
        "impl-2-_sequence",
        "impl-2-_bisect",
    ),
    "test_any_branch_in_a_task_starts_no_program_and_fails_only_that_task": ("--upload", "refs/"),
    "test_any_memory_of_an_agent_stops_nobody": ("1", "3", "7"),
    "test_any_record_of_a_pull_request_is_shown_or_passed_over": ("2", "5", "9"),
    "test_any_word_in_the_place_of_an_id_is_refused_and_changes_nothing": ("0", "7", "12"),
    "test_doctor_notices_a_schedule_that_cannot_work": ("broken",),
    "test_every_kind_of_change_makes_the_next_tick_a_whole_one": ("edited", "dropped", "hold"),
    "test_every_page_is_clean_for_screen_readers_and_fits_its_window": ("one or more",),
    "test_failure_03_the_result_line_decides_and_not_the_exit_code": (
        "exit code 1",
        "noise",
        "killed after",
    ),
    "test_failure_05_a_failure_of_the_work_costs_an_attempt_and_ends_in_failed_with_its_reason": (
        "the agent says",
    ),
    "test_failure_06_a_fault_charges_nobody_shows_one_problem_and_passes": ("remote cannot",),
    "test_failure_08_a_whole_day_leaves_the_humans_checkout_byte_identical": ("conflict",),
    "test_failure_09_a_broken_configuration_starts_nothing_and_says_where_and_what_was_meant": (
        "misspelt",
        "no YAML",
        "wrong type",
        "a key twice",
    ),
    "test_failure_13_read_commands_change_nothing_on_disk": ("run_at_work", "damaged", "fresh"),
    "test_failure_17_a_client_that_runs_wild_is_ended_by_its_limit_with_all_its_children": (
        "output",
        "stall",
    ),
    "test_failure_35_no_file_of_a_worktrees_git_folder_makes_git_start_a_program": (
        "its_own",
        "common",
    ),
    "test_failure_40_a_change_that_a_flag_hides_is_kept_and_gone_for_the_next_task": (
        "2---assume",
        "4---skip",
    ),
    "test_git_writes_through_no_link_in_a_worktrees_git_folder": ("logs", "info"),
    "test_no_title_or_text_is_taken_for_an_option": ("--web", "touch", "lines"),
    "test_nothing_odd_in_a_worktrees_git_folder_reaches_the_next_task": (
        "locked-pipe",
        "sparse-checkout-folder",
        "HEAD-pipe",
        "commondir-pipe",
    ),
    "test_running_agents_are_looked_after_by_the_last_good_configuration": ("broken",),
    "test_stashes_are_not_lost_although_an_agent_has_git_delete_them": (
        "texts0-git reflog expire",
        "texts1-git reflog expire",
    ),
    "test_stopping_ends_everything_that_a_run_started_within_five_seconds": ("stop impl",),
    "test_the_stand_in_refuses_what_the_real_gh_refuses": ("words1", "words4", "words9"),
    "test_what_it_does_not_have_is_not_found": ("99", "--web", "../1"),
    "test_whatever_is_broken_the_hook_succeeds": ("config", "launcher"),
    "test_without_a_good_configuration_a_dry_run_still_says_what_it_can": ("True-agents",),
    "test_work_that_was_done_when_the_project_is_moved_is_delivered_from_its_new_place": (
        "a clone-its",
    ),
    "test_from_anywhere_the_project_is_the_main_worktree": ("agent's worktree",),
    "test_what_a_role_must_not_do_is_refused": ("implementer",),
    "test_exit_codes": (
        "--help-0",
        "--version-0",
        "doctor-0",
        "logs nothing-1",
        "pr show 99-1",
        "run nobody-1",
        "statsu-2",
        "task add --title x --role implement --body-file /no/such-1",
        "task add --title-2",
        "tick --wait nan-2",
        "--project /no/such/folder status-1",
    ),
    "test_inside_a_run_a_title_that_stands_in_any_state_is_refused": ("incoming", "failed"),
    "test_a_broken_file_is_refused_with_what_is_wrong_in_it": (
        "agent add",
        "limits set",
    ),
    "test_uncommitted_files_of_any_name_go_to_a_rescue_ref": ("(top)", "new", "plain", "-dash"),
    "test_without_a_base_branch_work_starts_from_the_branch_of_init_not_the_current_one": ("True",),
    "test_what_is_under_way_is_delivered_when_the_last_good_configuration_is_no_help": ("lost",),
    "test_where_there_is_no_project_one_sentence_says_so": ("words0",),
    "test_no_command_takes_a_database_without_tables_for_an_empty_queue": ("no schema", "no row"),
    "test_the_brake_ends_clients_on_a_disk_that_takes_nothing": (
        "[no space-agent pause",
        "[no inodes-stop",
    ),
    # On both forges, the work of others meets the same code; what the forges do differently is in
    # the contract of a forge.
    "test_an_agent_may_rewrite_what_only_the_product_pushed": ("github-begun",),
    "test_a_fix_up_of_a_person_during_the_run_costs_no_attempt": ("local",),
    "test_a_reviewer_is_told_every_earlier_round_and_what_a_person_decided": ("local",),
    "test_a_persons_approval_lands_what_a_reviewer_never_approved": ("github",),
    "test_merged_by_a_persons_word_stays_merged": ("local",),
    "test_each_way_out_works_even_if_the_forge_does_not_answer": (
        "github-local-is gone",
        "local-github-answers",
    ),
    # Words of GitHub that the same rule reads.
    "test_only_what_says_something_about_the_work_asks_for_changes": ("FAILURE", "CANCELLED"),
    "test_the_repository_says_how_it_merges_and_is_asked_once_a_day": (
        "merge-2.23.0",
        "squash-2.83.0",
        "rebase-2.83.0",
    ),
    "test_a_refusal_of_the_account_or_the_repository_is_a_fault_of_the_system": (
        "personal access token",
        "archived",
    ),
    "test_a_refusal_of_one_pull_request_is_the_works_failure_in_githubs_words": (
        "ever seen",
        "too long",
    ),
    "test_an_unknown_refusal_of_an_account_that_may_not_write_is_the_systems": ("state0",),
    "test_a_failing_required_check_has_its_step_the_end_of_its_log_and_its_address": (
        "state0",
        "state2",
    ),
    "test_a_submodule_that_the_next_base_lacks_leaves_nothing_behind": ("[moves it", "has files"),
    "test_whatever_is_left_in_a_submodule_the_next_run_can_begin": (
        "the index",
        "no objects",
        "inside",
    ),
    "test_a_sign_in_in_the_persons_settings_works_for_every_role_and_private_hooks_for_none": (
        "env",
    ),
    "test_without_a_report_the_commits_decide": ("with a commit",),
    "test_an_attempt_that_failed_while_the_machine_lacked_something_is_not_counted": ("disk_full",),
    "test_a_failing_set_up_charges_nobody_and_is_one_problem": ("before_run",),
    "test_odd_files_in_the_place_of_configuration_are_neither_read_nor_waited_for": (
        "pipe",
        "folder",
        "socket",
        "[link]",
        "link to a device",
    ),
    "test_a_hook_that_refuses_whatever_is_pushed_to_a_branch_of_the_remote_is_a_fault": (
        "every update",
    ),
    "test_failure_32_a_renamed_base_branch_is_followed_with_tasks_and_pull_requests": ("github",),
    "test_a_branch_in_the_way_is_one_problem_with_the_way_out": ("there",),
    "test_a_tick_killed_at_any_change_that_it_makes_charges_once": ("failed",),
    "test_committed_instructions_on_the_base_are_one_problem_that_names_them": ("x.txt",),
}

#: By the name of a long test that only `make slow` runs: the test in `make test` that holds the
#: same promise by less, for example with one skill instead of all, or as a decision of the planner.
HELD_BY: dict[str, str] = {
    "test_pause_agent_pauses_and_resumes": ("test_permissions_cover_exactly_the_commands"),
    "test_inbox_does_what_the_person_decided": (
        "test_arguments_are_hinted_at_exactly_where_they_are_used"
    ),
    "test_tuning_reads_the_history_and_sets_what_was_decided": (
        "test_every_command_in_a_skill_is_one"
    ),
    "test_retry_failed_looks_at_why_and_puts_tasks_back": (
        "test_permissions_cover_exactly_the_commands"
    ),
    "test_add_agent_adds_one_and_takes_it_away": ("test_permissions_cover_exactly_the_commands"),
    "test_every_skill_loads_where_nothing_is_set_up_and_the_agents_are_in_nobodys_menu": (
        "test_front_matter_has_known_keys_and_says_when_to_use_the_skill"
    ),
    "test_a_session_elsewhere_or_of_our_own_agents_is_told_nothing": (
        "test_the_hook_is_of_the_main_worktree_wherever_a_session_is"
    ),
    "test_a_fault_of_the_system_charges_nobody_and_passes": (
        "test_a_service_that_refuses_is_one_problem_until_it_answers"
    ),
    "test_clients_that_are_killed_early_are_not_started_for_ever": (
        "test_a_second_interruption_in_a_row_costs_an_attempt"
    ),
    "test_failed_work_is_tried_again_with_its_error_first_and_then_given_up": (
        "test_the_error_of_an_attempt_leads_the_next_and_its_commits_are_kept"
    ),
    "test_a_question_waits_for_a_person_whose_answer_leads_the_next_prompt": (
        "test_a_question_parks_the_task_until_it_is_answered"
    ),
    "test_a_remote_that_goes_away_under_a_run_is_waited_for": (
        "test_an_unreachable_remote_charges_nobody_and_delivery_resumes"
    ),
    "test_a_disk_that_fills_while_clients_work_costs_no_attempt": (
        "test_what_the_machine_lacks_is_no_failure_of_the_work"
    ),
    "test_a_disk_that_is_too_small_for_a_worktree_is_waited_for": (
        "test_what_the_machine_lacks_is_no_failure_of_the_work"
    ),
    "test_while_the_system_is_at_fault_each_tick_tries_with_one_run_only": (
        "test_after_a_fault_each_plan_tries_again_with_one_run"
    ),
    "test_backoff_doubles_up_to_its_maximum": (
        "test_the_delay_doubles_with_each_attempt_up_to_the_longest"
    ),
    "test_a_client_that_is_being_replaced_is_missed_and_found_again": (
        "test_a_missing_client_charges_nobody_and_the_queue_resumes"
    ),
    "test_todays_spend_holds_new_runs_once_it_reaches_daily_usd": (
        "test_the_cost_of_a_days_runs_adds_up"
    ),
    "test_a_bash_call_writes_a_file_and_its_output_reaches_the_model": (
        "test_an_implementers_commits_become_a_pull_request"
    ),
    "test_several_calls_in_one_turn_are_each_answered": (
        "test_a_script_is_taken_up_where_the_conversation_stands"
    ),
    "test_agents_at_once_each_follow_their_own_script": (
        "test_a_marker_is_not_looked_for_in_the_clients_own_reminders"
    ),
    "test_a_json_schema_gives_structured_output_and_ends_the_run": (
        "test_an_implementers_commits_become_a_pull_request"
    ),
    "test_without_a_call_of_structured_output_the_result_has_none": (
        "test_without_a_report_the_commits_decide"
    ),
    "test_a_tool_that_is_not_listed_is_denied_and_reported": (
        "test_enqueue_adds_a_task_can_take_it_back_and_may_do_nothing_else"
    ),
    "test_an_overload_that_passes_does_not_hurt_the_run": (
        "test_a_fault_with_a_count_strikes_so_often_and_then_the_script_goes_on"
    ),
    "test_a_used_up_subscription_tells_when_it_resets_and_is_not_retried": (
        "test_a_used_up_subscription_waits_for_its_reset"
    ),
    "test_an_interrupted_conversation_resumes_in": (
        "test_a_killed_client_goes_on_in_the_same_conversation"
    ),
    "test_each_outcome_can_be_reported": (
        "test_a_conversation_goes_on_and_a_role_reports_only_what_it_delivers"
    ),
    "test_a_call_cut_off_by_sigkill_is_told_to_the_resumed_conversation": (
        "test_a_killed_client_goes_on_in_the_same_conversation"
    ),
    "test_an_unknown_conversation_is_an_error_result": (
        "test_a_conversation_that_is_gone_starts_afresh"
    ),
    "test_a_real_cron_daemon_gets_a_task_done": (
        "test_failure_19_the_line_really_ticks_from_crons_environment_whatever_the_folder_is_called"
    ),
    "test_a_disk_that_becomes_read_only_is_waited_for": (
        "test_a_disk_that_is_full_before_a_tick_starts_nothing_until_it_is_freed"
    ),
    "test_doctor_finds_a_sign_in_of_gh_that_only_this_shell_has": (
        "test_doctor_finds_an_identity_that_only_this_shell_has"
    ),
    "test_doctor_finds_a_folder_that_git_trusts_only_from_this_shell": (
        "test_doctor_finds_an_identity_that_only_this_shell_has"
    ),
    "test_doctor_finds_a_time_zone_that_only_this_shell_has": (
        "test_doctor_finds_an_identity_that_only_this_shell_has"
    ),
    "test_more_tabs_than_a_browser_has_connections_stay_in_step": (
        "test_words_stay_when_their_item_is_settled_by_somebody_else_and_a_lost_server_is_told"
    ),
    "test_ten_thousand_finished_tasks_are_pages": ("test_a_column_of_finished_tasks_is_one_page"),
    "test_a_page_that_only_reads_has_no_control_that_changes": (
        "test_a_page_that_only_reads_shows_no_control_that_changes"
    ),
    "test_skills_that_look_have_all_they_need_and_change_nothing": (
        "test_permissions_cover_exactly_the_commands"
    ),
    "test_as_a_submodule_its_skills_are_commands_of_the_project": (
        "test_in_a_submodule_the_copies_call_its_launcher"
    ),
    "test_a_client_that_does_not_start_is_a_fault_of_the_system": (
        "test_a_missing_client_charges_nobody_and_the_queue_resumes"
    ),
    "test_a_service_that_fails_for_a_while_costs_no_attempt": (
        "test_lines_and_the_processs_end_make_the_outcome"
    ),
    "test_an_agent_cannot_push": (
        "test_a_run_that_a_session_starts_inherits_nothing_and_cannot_push_to_another_address"
    ),
    "test_a_used_share_of_the_subscription_paces_the_work": (
        "test_the_windows_that_a_run_met_are_kept_when_it_is_settled"
    ),
    "test_a_testers_tests_are_checked_and_become_a_pull_request": ("test_four_roles_are_shipped"),
    "test_a_fault_that_passed_does_not_excuse_what_fails_later": (
        "test_lines_and_the_processs_end_make_the_outcome"
    ),
    "test_a_report_that_passes_the_budget_is_delivered": (
        "test_lines_and_the_processs_end_make_the_outcome"
    ),
    "test_commits_speak_for_a_run_that_ends_well_and_reports_nothing": (
        "test_without_a_report_the_commits_decide"
    ),
    "test_a_small_storm_of_ticks_executes_each_task_as_often_as_it_asks": (
        "test_failure_16_twenty_ticks_at_once_execute_each_task_exactly_once"
    ),
    "test_storms_of_fixed_seeds_break_nothing": ("test_a_small_storm_breaks_nothing"),
    "test_a_storm_with_a_disk_that_fills_breaks_nothing": ("test_a_small_storm_breaks_nothing"),
    "test_ticks_killed_at_random_instants_lose_and_double_nothing": (
        "test_a_kill_loses_doubles_and_sticks_nothing"
    ),
    "test_a_client_that_ends_without_doing_anything_is_a_fault_after_three_tasks": (
        "test_only_the_newest_runs_of_three_tasks_that_did_nothing_are_alike"
    ),
    "test_a_client_that_is_not_signed_in_says_so_without_a_request": (
        "test_a_refused_sign_in_is_a_fault_of_the_system_with_a_hint"
    ),
    "test_sigterm_leaves_whole_lines_and_no_result": (
        "test_sigterm_ends_the_command_that_bash_runs"
    ),
    "test_failure_11_two_branches_that_fail_together_are_not_both_merged": (
        "test_two_branches_that_pass_alone_and_fail_together_do_not_both_land"
    ),
    "test_auto_merge_merges_the_reviewed_commit": (
        "test_a_branch_that_is_ahead_of_its_base_lands_as_a_merge_commit"
    ),
    "test_approved_work_that_cannot_be_merged_is_a_problem_until_it_can": (
        "test_a_base_that_fails_its_checks_stops_landing_and_blames_no_author"
    ),
    "test_a_dependent_of_a_split_task_waits_for_the_merge_of_every_part": (
        "test_a_split_task_is_a_met_dependency_when_all_its_parts_are"
    ),
    "test_a_failed_part_asks_a_person_once_and_its_retry_finishes_the_task": (
        "test_a_part_that_failed_or_was_cancelled_is_broken"
    ),
    "test_a_day_there_and_back_makes_no_day_cheaper": (
        "test_the_cost_of_a_day_is_known_after_the_clock_was_a_day_ahead"
    ),
    "test_a_fault_is_tried_again_at_each_tick_however_the_clock_is_moved": (
        "test_after_a_fault_each_plan_tries_again_with_one_run"
    ),
    "test_a_protected_branch_is_a_fault_and_not_the_works": (
        "test_a_refusal_of_the_remote_is_everybodys_of_one_name_or_of_these_commits"
    ),
    "test_a_base_branch_that_is_gone_here_is_no_failure_of_a_task": (
        "test_the_projects_base_must_be_where_work_is_delivered"
    ),
    "test_a_base_branch_that_only_one_task_names_and_nobody_has_is_asked_about": (
        "test_a_base_that_a_task_names_and_nobody_has_is_a_question"
    ),
    "test_somebody_who_pushes_during_every_run_is_named_to_a_person_in_the_end": (
        "test_endings_that_cost_money_but_no_attempt_ask_a_person_in_the_end"
    ),
    "test_a_fix_up_of_a_person_between_two_runs_is_built_on": (
        "test_which_commits_of_the_branch_give_way"
    ),
    "test_a_branch_that_a_person_rebased_is_taken_up": (
        "test_which_commits_of_the_branch_give_way"
    ),
    "test_a_naming_rule_is_one_problem_and_ends_with_branch_prefix": (
        "test_a_refusal_of_the_remote_is_everybodys_of_one_name_or_of_these_commits"
    ),
    "test_a_renamed_base_branch_is_one_problem_that_names_the_new_one": (
        "test_a_base_branch_that_is_gone_is_a_fault_with_the_way_out"
    ),
    "test_a_rejected_push_costs_an_attempt_and_ends_in_failed": (
        "test_the_reason_of_a_rejected_push_leads_the_next_attempt"
    ),
    "test_after_max_rounds_a_person_is_asked_once": (
        "test_after_too_many_rounds_a_person_is_asked"
    ),
    "test_a_pull_request_merged_by_hand_is_merged_and_one_whose_branch_is_gone_is_closed": (
        "test_a_pull_request_that_a_person_ended_during_the_run_is_not_opened_again"
    ),
    "test_what_a_person_closes_during_its_rework_is_cancelled_and_not_opened_again": (
        "test_a_pull_request_that_a_person_ended_during_the_run_is_not_opened_again"
    ),
    "test_a_delivered_task_gets_a_review_whose_verdict_is_on_its_pull_request": (
        "test_failure_12_changes_requested_moves_the_original_back_with_the_feedback_first"
    ),
    "test_a_newer_version_moves_every_schedule_along_and_an_older_one_none": (
        "test_a_newer_version_that_schedules_start_is_left_in_place"
    ),
    "test_what_pip_installed_is_copied_whole_as_well": (
        "test_what_pip_installed_is_found_in_its_package_and_only_that_is_copied"
    ),
    "test_doctor_asks_from_the_path_that_was_recorded": (
        "test_a_program_that_the_schedules_path_lacks_is_said"
    ),
    "test_doctor_says_what_the_schedule_lacks_that_this_shell_has": (
        "test_doctor_finds_an_identity_that_only_this_shell_has"
    ),
    "test_a_forge_that_fails_starts_nothing_and_is_asked_again_at_each_tick": (
        "test_what_drains_is_never_held_by_what_is_full"
    ),
    "test_git_that_goes_missing_under_a_run_is_waited_for": (
        "test_without_git_the_machine_is_at_fault"
    ),
    "test_work_that_a_person_merged_before_its_pull_request_was_opened_is_done": (
        "test_only_work_of_an_earlier_run_can_have_been_merged_before_its_pull_request"
    ),
    "test_an_open_pull_request_holds_new_work_until_it_is_closed_or_merged": (
        "test_what_drains_is_never_held_by_what_is_full"
    ),
    "test_read_commands_change_nothing_on_disk": (
        "test_failure_13_read_commands_change_nothing_on_disk"
    ),
    "test_agents_are_paused_run_stopped_and_set": (
        "test_every_control_of_the_page_asks_for_a_change_that_there_is"
    ),
    "test_the_history_is_zoomed_the_costs_are_split_and_both_are_sent_as_a_file": (
        "test_what_a_person_chooses_above_a_region_is_known"
    ),
    "test_a_question_is_answered_and_a_pull_request_reviewed_and_merged": (
        "test_words_stay_when_their_item_is_settled_by_somebody_else_and_a_lost_server_is_told"
    ),
    "test_a_task_is_edited_again_and_again_and_only_what_was_changed": (
        "test_words_stay_when_their_item_is_settled_by_somebody_else_and_a_lost_server_is_told"
    ),
    "test_a_supervisor_that_was_suspended_past_its_lease_delivers_nothing": (
        "test_a_run_that_lost_its_task_during_the_checks_pushes_nothing"
    ),
    "test_a_task_of_one_host_starts_at_once_on_another": (
        "test_a_change_that_may_be_work_begins_a_tick_at_once"
    ),
    "test_the_budget_of_a_day_is_one_for_all_hosts": (
        "test_the_cost_of_a_day_and_the_last_start_are_those_of_all_hosts"
    ),
    "test_an_agent_without_tasks_runs_on_one_host_and_at_its_interval": (
        "test_the_cost_of_a_day_and_the_last_start_are_those_of_all_hosts"
    ),
    "test_inside_a_run_an_agent_may_add_tasks_and_nothing_else": (
        "test_inside_a_run_every_other_command_that_changes_something_is_refused"
    ),
    "test_a_clone_that_nobody_set_up_is_told_once_and_never_ticks": (
        "test_the_hook_tells_once_of_a_clone_that_nobody_set_up"
    ),
    "test_clean_drops_what_is_safe_and_its_dry_run_says_the_same": (
        "test_of_several_pull_requests_of_a_branch_an_open_one_keeps_it"
    ),
    "test_a_refused_pull_request_is_this_works_failure_or_one_fault_for_all": (
        "test_whose_refusal_it_is_follows_from_githubs_words"
    ),
    "test_an_approved_pull_request_lands_nowhere_while_the_base_branch_is_gone": (
        "test_a_base_that_the_remote_renamed_is_a_fault_and_is_not_made_again"
    ),
    "test_an_interrupted_demonstration_stops_every_run_that_it_started": (
        "test_each_signal_that_ends_a_demonstration_interrupts_it"
    ),
    "test_failure_29_one_damaged_branch_stops_only_its_own_task": (
        "test_an_error_of_git_is_the_tasks_only_if_its_branch_is_damaged"
    ),
    "test_failure_01_anything_killed_at_random_instants_still_ends_with_each_commit_there_once": (
        "test_a_kill_loses_doubles_and_sticks_nothing"
    ),
    "test_a_usage_limit_ends_at_its_reset_by_the_clock_of_that_moment": (
        "test_a_used_up_subscription_waits_for_its_reset"
    ),
    "test_a_reviewer_is_not_confined_and_still_writes_nothing": (
        "test_a_review_sends_the_work_back_and_the_next_one_approves_it"
    ),
    "test_the_real_environment_is_made_whatever_the_users_python_settings": (
        "test_only_the_settings_that_a_mirror_needs_reach_pip"
    ),
    "test_the_brake_ends_five_clients_and_all_their_children_at_once": (
        "test_stopping_ends_everything_that_a_run_started_within_five_seconds"
    ),
    "test_a_run_has_its_names_and_ports_in_its_environment": (
        "test_ports_and_environment_of_a_run"
    ),
    "test_a_second_interruption_of_the_real_client_costs_an_attempt": (
        "test_a_second_interruption_in_a_row_costs_an_attempt"
    ),
    "test_a_task_travels_to_done_over_the_database": (
        "test_two_hosts_share_the_tasks_and_no_limit_is_exceeded"
    ),
    "test_no_copy_hides_a_command_of_the_client": (
        "test_init_copies_what_is_for_people_once_and_uninstall_takes_it_out"
    ),
    "test_what_one_task_may_cost_over_all_its_attempts_ends_it": (
        "test_a_task_that_has_cost_all_it_may_fails_instead_of_starting"
    ),
    "test_failures_in_a_row_pause_a_taskless_agent_with_one_inbox_item": (
        "test_an_agent_that_fails_again_and_again_is_paused"
    ),
    "test_an_agent_that_never_ran_is_due_and_one_that_ran_is_not": (
        "test_an_agent_is_due_an_interval_after_its_last_start"
    ),
    "test_no_run_is_paid_for_while_the_dependencies_conflict": (
        "test_dependencies_that_conflict_are_named_with_their_files"
    ),
    "test_with_hold_a_task_waits_for_the_work_on_its_file": (
        "test_a_task_is_held_while_its_text_names_a_file_in_work"
    ),
    "test_a_split_task_is_done_when_its_parts_are": (
        "test_a_split_task_is_finished_once_every_part_is_done"
    ),
    "test_an_unpushed_commit_of_a_submodule_is_refused_and_pushed_only_by_setting": (
        "test_only_what_the_submodules_remote_hands_out_counts_as_there"
    ),
    "test_runs_and_costs_show_what_a_run_cost": ("test_each_key_adds_up_to_the_same_total"),
    "test_work_starts_on_top_of_delivered_work_and_only_its_own_commits_count": (
        "test_the_branch_is_cut_from_the_commit_that_the_dependency_delivered"
    ),
    "test_uncommitted_work_is_seen_and_the_reviewer_is_told": (
        "test_a_reviewer_is_told_of_other_work_on_the_same_lines_only"
    ),
}


def name_and_variant(nodeid: str) -> tuple[str, str]:
    """Return the name and the variant ("" for none) of `file.py::Class::test_name[variant]`."""
    path, _, variant = nodeid.partition("[")
    return path.rpartition("::")[2], variant.removesuffix("]")


def is_slow(nodeid: str) -> bool:
    """Return whether only `make slow` runs this test."""
    name, variant = name_and_variant(nodeid)
    parts = QUICK.get(name)
    return name in HELD_BY or bool(parts and not any(part in f"[{variant}]" for part in parts))


def faults(nodeids: Iterable[str]) -> list[str]:
    """Return what is wrong in the tables, given the ids of all tests: one sentence each."""
    variants: dict[str, list[str]] = {}
    for nodeid in nodeids:
        name, variant = name_and_variant(nodeid)
        variants.setdefault(name, []).append(variant)
    unknown = sorted({*QUICK, *HELD_BY, *HELD_BY.values()} - set(variants))
    return [
        *(f"there is no test {name}" for name in unknown),
        *(f"{name} is slow itself" for name in HELD_BY.values() if name in HELD_BY),
        *(
            f"no variant of {name} contains {part!r}"
            for name, parts in QUICK.items()
            for part in parts
            if not any(part in f"[{variant}]" for variant in variants.get(name, ()))
        ),
    ]
