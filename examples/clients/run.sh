#!/usr/bin/env bash
# Submit a job with /run, ask for its status until it has ended, save its files into out/. Needs curl and jq.
#   RUNPOD_API_KEY=... RUNPOD_ENDPOINT_ID=... ./run.sh ../request.json
set -euo pipefail
base=${RUNPOD_ENDPOINT_BASE_URL:-https://api.runpod.ai/v2}/$RUNPOD_ENDPOINT_ID
timeout_s=${TIMEOUT_S:-600}

# The key goes through a file descriptor: arguments are for every user of the machine to see.
call() { curl -sS --fail-with-body --max-time 60 -K <(printf 'header = "Authorization: Bearer %s"\n' "$RUNPOD_API_KEY") "$@"; }

# Ctrl-C cancels the job, if it has been taken.
taken=
stop() {
  [[ -z $taken ]] || call -X POST "$base/cancel/$(jq -r .id <<<"$taken")" >&2
  exit 130
}
trap stop INT TERM

taken=$(call -H 'Content-Type: application/json' --data-binary "@$1" "$base/run") || { echo "error: $taken" >&2; exit 1; }
id=$(jq -er .id <<<"$taken")
echo "job $id was taken" >&2

until
  # Asking is safe to do again, sending is not.
  job=$(call --retry 5 --retry-connrefused "$base/status/$id")
  status=$(jq -r .status <<<"$job")
  [[ $status =~ ^(COMPLETED|FAILED|CANCELLED|TIMED_OUT)$ ]]
do
  if ((SECONDS > timeout_s)); then
    call -X POST "$base/cancel/$id" >&2
    echo "error: job $id was still $status after $timeout_s s" >&2
    exit 1
  fi
  sleep 1
done

if [[ $status != COMPLETED ]]; then
  jq -r '"error: job \(.id) \(.status): \(.error // "no reason was given")"' <<<"$job" >&2
  exit 1
fi
mkdir -p out
jq -c '.output.images[]?' <<<"$job" | while read -r image; do
  path=out/$(basename "$(jq -r .filename <<<"$image")")
  if [[ $(jq -r .type <<<"$image") == base64 ]]; then
    jq -r .data <<<"$image" | base64 -d >"$path"
  else
    curl -sSf -o "$path" "$(jq -r .data <<<"$image")"
  fi
  echo "$path"
done
