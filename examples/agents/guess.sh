#!/bin/sh
# Plays a model that tries value after value for a goal that no value can reach.
set -eu
sleep "${THINK:-1}"
value=$((1000 / (FLYBALL_ITERATION + 1)))
echo "batch = $value" >tuning/gauge.conf
echo "tried batch = $value"
printf '{"note": "tried batch = %s"}\n' "$value" >"$FLYBALL_REPORT"
