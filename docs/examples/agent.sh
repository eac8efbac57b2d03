#!/bin/sh
# A complete agent in a shell script: serves a mounted subsystem that asks for one of K candidates.
#   sh agent.sh FOLDER [DECISIONS]     FOLDER holds control, dataset, recommendation, ...
# It recommends the candidate with the lowest value of one feature. Without the environment variables below that is
# the first candidate that may be chosen. With FIRST=30 STEP=8 it is, for kml/LfsVictim-v0, the victim with the lowest
# share of valid blocks: the greedy algorithm, in user space.
set -eu
folder=$1
decisions=${2:-0}
first=${FIRST:-}   # place of that feature for candidate 0
step=${STEP:-1}    # features from one candidate to the next

# What a record holds stands in dataset_schema.
size=$(awk '$1 == "size" { print $2 }' "$folder/dataset_schema")
features_at=$(awk '$1 == "field" && $4 == "features" { print $2 }' "$folder/dataset_schema")
mask_at=$(awk '$1 == "field" && $4 == "mask" { print $2 }' "$folder/dataset_schema")
candidates=$(awk '$1 == "recommendation" && $2 == "choice" { print $3 }' "$folder/dataset_schema")
[ -n "$candidates" ] || { echo "this agent chooses among candidates, and is asked for numbers" >&2; exit 2; }

record=$(mktemp)
trap 'rm -f "$record"' EXIT
answered=0
while [ "$decisions" -eq 0 ] || [ "$answered" -lt "$decisions" ]; do
    # A read waits for a new data set, and gives nothing after a second without one. The file begins anew each time.
    dd bs="$size" count=1 iflag=fullblock <"$folder/dataset" >"$record" 2>/dev/null || { sleep 1; continue; }
    [ -s "$record" ] || continue
    generation=$(od -A n -t d8 -j 8 -N 8 "$record" | tr -d ' ')
    if [ -n "$first" ]; then
        candidate=$({
            od -A n -v -t u1 -w1 -j "$mask_at" -N "$candidates" "$record"
            od -A n -v -t f4 -w4 -j "$features_at" -N $((mask_at - features_at)) "$record"
        } | awk -v k="$candidates" -v first="$first" -v step="$step" '
            NR <= k { allowed[NR - 1] = $1; next }
            { place = NR - k - 1 - first }
            place >= 0 && place % step == 0 && place / step < k && allowed[place / step] {
                if (best == "" || $1 < least) { best = place / step; least = $1 }
            }
            END { print best + 0 }')
    else
        candidate=$(od -A n -v -t u1 -w1 -j "$mask_at" -N "$candidates" "$record" | awk '$1 { print NR - 1; exit }')
    fi
    echo "$generation $candidate" >"$folder/recommendation"
    answered=$((answered + 1))
done
cat "$folder/verdict" "$folder/efficiency"
