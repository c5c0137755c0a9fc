#!/bin/sh
# Flow control from a shell, without Python code of your own: set a limit, run commands within it, pace a pipe, report
# as a consumer, ask for reasons. Several such scripts, on any hosts, share the budgets that they name.
#
#     NEXUS_REDIS_URL=redis://cache sh examples/shell.sh
set -eu
export NEXUS_REDIS_NAMESPACE="${NEXUS_REDIS_NAMESPACE:-shell-example}"  # away from your own budgets
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "# an operator's limit: code cannot overrule it until the operator removes it (--unset rate)"
nexus-redis set api --rate 20/s
nexus-redis set lines --rate 500/s

echo "# ten commands, four at a time, each when its token is there"
seq 10 | xargs -P4 -I{} nexus-redis run api -- sh -c 'echo call {}' > "$work/calls"
sort -u "$work/calls" | wc -l

echo "# a pipe at the rate of a budget: one \`pv -L\` for the whole fleet, and every byte comes out as it went in"
seq 1000 | nexus-redis pace lines --quiet > "$work/paced"
seq 1000 | cmp - "$work/paced" && echo "unchanged"

echo "# a consumer in one line (every minute from cron or a loop): 95 % full, with a capacity of 400/s"
nexus-redis report index --id es-1 --load 95 --capacity 400 --every 60

echo "# how much may a producer send that would send 10,000/s? 100/s: at 95 %, a quarter of the capacity is left"
nexus-redis signal index --id filebeat-1 --rate 10000 --json

echo "# why is the rate what it is, and what would raise it?"
nexus-redis explain index

echo "# pause one budget on all hosts; callers that wait go on waiting"
nexus-redis pause api 60 --reason "429 Retry-After"
nexus-redis run api --timeout 0.5 -- echo "never printed" || echo "exit code $?: no token in time"
nexus-redis resume api

echo "# all budgets; their settings as a backup, and restored from it"
nexus-redis status
nexus-redis list --json > "$work/budgets.json"
nexus-redis set --from "$work/budgets.json"
for name in api lines index; do nexus-redis delete "$name" --yes; done
