#!/bin/sh
# Plays a model that fixes one failing test per iteration: it reads what fails from the brief and
# applies the first known change that fits. $PATCHES is a directory of <test name>.patch files.
set -eu
sleep "${THINK:-1}"
while read -r _check case; do
    patch=$PATCHES/${case##*::}.patch
    if [ -f "$patch" ] && git apply --check "$patch" 2>/dev/null; then
        git apply "$patch"
        echo "changed the code so that $case can pass"
        printf '{"note": "aimed at %s"}\n' "$case" >"$FLYBALL_REPORT"
        exit 0
    fi
    echo "no idea for $case"
done <"$FLYBALL_FAILING"
printf '{"note": "no idea left", "claim": "unreachable"}\n' >"$FLYBALL_REPORT"
