#!/usr/bin/env bash
# report_test.sh FIRE_GPU_BENCH: a line that a killed run left half costs the report that line and no other.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
row() { echo "{\"kernel\": \"$1\", \"model\": \"m\", \"dtype\": \"bf16\", \"shape\": \"1\", \"bytes\": 8, \"flops\": 1, \"median_ms\": 1}"; }
echo 'machine.gpu=none' >facts
{ row first; echo '{"kernel": "half", "mod{"kernel": "glued"}'; row last; } >kernels
: >peers
printf '%s\n' '{"name": "a"}{"name": "b"}' '{"name": "whole"}' '{"name": nan}' '{"name": "cut' >steps
"$1" --report facts kernels peers steps --out results.json >said
[ "$(grep -c '^left out: ' said)" = 4 ]
for whole in first last whole; do grep -q "\"$whole\"" results.json; done
for broken in half glued nan cut; do if grep -q "$broken" results.json; then exit 1; fi; done
