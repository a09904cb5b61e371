#!/bin/sh
# Plays a model that documents one missing module per iteration.
set -eu
sleep "${THINK:-1}"
read -r _check module <"$FLYBALL_FAILING"
printf '\n## %s\n\nSee `src/core/%s.rs`.\n' "$module" "$module" >>docs/guide.md
echo "wrote a section about $module"
