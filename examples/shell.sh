#!/bin/sh
# Flow control from a shell, without any Python of one's own: set a limit, run within it, pace a pipe, report as a
# consumer, ask why. Several of these, on any hosts, share what they name.
#
#     NEXUS_REDIS_URL=redis://cache sh examples/shell.sh
set -eu
export NEXUS_REDIS_NAMESPACE="${NEXUS_REDIS_NAMESPACE:-shell-example}"  # so that it meets no budget of yours
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "# an operator's limit: code does not overrule it, unless he takes it away (--unset rate)"
nexus-redis set api --rate 20/s
nexus-redis set lines --rate 500/s

echo "# ten commands, four at a time, each when its token is there"
seq 10 | xargs -P4 -I{} nexus-redis run api -- sh -c 'echo call {}' > "$work/calls"
sort -u "$work/calls" | wc -l

echo "# a pipe at the pace of a budget: one \`pv -L\` for the whole fleet, and every byte comes out as it went in"
seq 1000 | nexus-redis pace lines --quiet > "$work/paced"
seq 1000 | cmp - "$work/paced" && echo "unchanged"

echo "# a consumer in one line (every minute from cron or a loop): 95 % full, of 400 a second"
nexus-redis report index --id es-1 --load 95 --capacity 400 --every 60

echo "# what may somebody send who would send 10,000 a second? 100: a quarter of it all is left at 95 %"
nexus-redis signal index --id filebeat-1 --rate 10000 --json

echo "# why is it so, and what would raise it"
nexus-redis explain index

echo "# stop one budget on all hosts for a while; who waits, waits on"
nexus-redis pause api 60 --reason "429 Retry-After"
nexus-redis run api --timeout 0.5 -- echo "never printed" || echo "exit code $?: no token in time"
nexus-redis resume api

echo "# all of them; settings as a backup, and back"
nexus-redis status
nexus-redis list --json > "$work/budgets.json"
nexus-redis set --from "$work/budgets.json"
for name in api lines index; do nexus-redis delete "$name" --yes; done
