# The JSON of scripts/bench/run as tables, one for each measure, in the order and with the titles of figures.json ($titles).
include "stats";

def cell($digits): if .median == null then "-" else
  "\(.median | fixed($digits) | right(6)) (\(.min | fixed($digits)) to \(.max | fixed($digits)))" end;
def row($cells): [$cells[0] | left(20)] + ($cells[1:] | map(left(25))) | join("") | sub(" +$"; "");

# Behind the first figure of a measure stands its ratio to the baseline's.
def columns($figures): [$figures[] as $f | .figures[$f.key] | cell($f.digits), if $f == $figures[0] then .ratio | cell(2) else empty end];

. as $all
| "\(.cores) x \(.cpu), Linux \(.kernel), \(.go), TCP \(.congestion_control)",
  "\(.rounds) rounds, transfers of \(.seconds) s, in turn: medians (lowest to highest)",
  (.measures as $taken | $titles[] | select(.measure as $m | $taken | any(. == $m))
    | .figures as $figures | "", .title,
      row([""] + [$figures[] | .title, if . == $figures[0] then "of \($all.baseline)" else empty end]),
      ($all.contestants[] | row([.name] + columns($figures)))),
  "",
  (.contestants[] | "\(.name | left(20))\(.version)")
