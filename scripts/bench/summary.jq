# From the contestants [{name, version}] and the figures of each round, [{name, round, measure, figures: {KEY: number}}],
# to the JSON of scripts/bench/run. A list of all rounds has null where a measure failed.
include "stats";

def rounds_of($key): . as $mine | [range(1; $rounds + 1) | $mine[tostring][$key]];

# kept is the least of what arrived at an offer to the most that did at a smaller one, 1 at most.
def kept:
  [.offered_50, .offered_100, .offered_200, .offered_400, .offered_0 | .median] as $arrived
  | if any($arrived[]; . == null) then null
    else [range(1; $arrived | length) | $arrived[.] / ($arrived[:.] | max)] + [1] | min end;

# {name: {round: {KEY: number}}}
($results | group_by(.name) | map({ key: .[0].name, value: group_by(.round) | map({ key: .[0].round | tostring, value: map(.figures) | add }) | from_entries })
  | from_entries) as $by_name
| ($results | map(.figures | keys) | add | unique) as $keys
| ($by_name[$baseline] // {}) as $reference
| { schema: "ssmnet.bench/v2", $kernel, $cpu, $cores, $go, congestion_control: $congestion, $date, $command, $rounds, $seconds, $baseline,
    measures: ($results | map(.measure) | unique),
    contestants: map(.name as $name | ($by_name[$name] // {}) as $mine | .figures = ([$keys[] as $key
        | ($mine | rounds_of($key)) as $all | select($all | any(. != null))
        | { key: $key, value: ($all | spread + { ratio: ([., ($reference | rounds_of($key))] | ratios | spread) }) }] | from_entries)
      | (.figures | kept) as $kept | if $kept then .figures.offered_kept = ([$kept] | spread) else . end) }
