#!/bin/sh
# Promote a canary only when its guards are verified; for a pipeline step.
set -eu
guardproxy verify "${1:-http://127.0.0.1:8000}"
echo "promoting"
