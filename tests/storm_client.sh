# The leanest client there is, for `claude.command: [/bin/sh, tests/storm_client.sh]`.
#
# What it does is in the task's id: `…-commits` makes a commit, `…-fails` fails the first time, any
# other has nothing to change. While it runs, it holds a folder for its task and one for its agent
# in $FAKE_CLIENT_HOME/live: a rival finds that there, and says so.

home=$FAKE_CLIENT_HOME task=$ORCHESTRATOR_TASK_ID agent=$ORCHESTRATOR_AGENT
echo "$task $agent $$" >>"$home/executions"
mkdir "$home/live/task=$task" || echo "task $task" >>"$home/rivals"
mkdir "$home/live/agent=$agent" || echo "agent $agent" >>"$home/rivals"

outcome=no_change
case $task in
*-commits)
    echo work >"$task.txt" && git add "$task.txt" && git commit --quiet --message "work on $task"
    outcome=done
    ;;
*-fails) mkdir "$home/failed/$task" 2>/dev/null && outcome=failed ;;
esac

rmdir "$home/live/task=$task" "$home/live/agent=$agent"
printf '{"type":"result","subtype":"success","is_error":false,"total_cost_usd":0.01,%s}\n' \
    "\"structured_output\":{\"outcome\":\"$outcome\",\"summary\":\"As told.\"}"
