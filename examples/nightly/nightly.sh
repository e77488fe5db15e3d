#!/bin/sh
# What cron or systemd calls. Silent unless a source failed or is stale; the exit code says the same.
set -eu
cd "$(dirname "$0")"
set -a
. ./secrets.env
set +a
exec manifestlog extract etl.config.toml --quiet --fail-stale "$@"
