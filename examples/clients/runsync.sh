#!/usr/bin/env bash
# Run a short job in one request and save its first picture. Needs curl and jq.
#   RUNPOD_API_KEY=... RUNPOD_ENDPOINT_ID=... ./runsync.sh ../request.json picture.png
set -euo pipefail
base=${RUNPOD_ENDPOINT_BASE_URL:-https://api.runpod.ai/v2}/$RUNPOD_ENDPOINT_ID
job=$(curl -sS --max-time 120 -K <(printf 'header = "Authorization: Bearer %s"\n' "$RUNPOD_API_KEY") \
  -H 'Content-Type: application/json' --data-binary "@$1" "$base/runsync")
if [[ $(jq -r .status <<<"$job") != COMPLETED ]]; then
  jq -r '"error: \(.status // "no job"): \(.error // "ask /status/\(.id)")"' <<<"$job" >&2
  exit 1
fi
jq -er '.output.images[0] | select(.type == "base64") | .data' <<<"$job" | base64 -d >"$2"
