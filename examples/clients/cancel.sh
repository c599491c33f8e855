#!/usr/bin/env bash
# Cancel a job and print how it stands then. Needs curl and jq.
#   RUNPOD_API_KEY=... RUNPOD_ENDPOINT_ID=... ./cancel.sh JOB_ID
set -euo pipefail
base=${RUNPOD_ENDPOINT_BASE_URL:-https://api.runpod.ai/v2}/$RUNPOD_ENDPOINT_ID
curl -sS --fail-with-body --max-time 60 -X POST \
  -K <(printf 'header = "Authorization: Bearer %s"\n' "$RUNPOD_API_KEY") "$base/cancel/$1" | jq -r .status
