#!/bin/sh
# Plays a model that undoes its own work: whatever fails, it turns the valve all the way over.
set -eu
sleep "${THINK:-1}"
read -r check _rest <"$FLYBALL_FAILING"
case $check in
warm) echo 12 >valve/opening ;;
*) echo 3 >valve/opening ;;
esac
echo "turned the valve for $check"
