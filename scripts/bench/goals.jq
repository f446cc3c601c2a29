# What goals.json asks ($goals) and what the JSON of scripts/bench/run has, a line each.
include "stats";

def of($name; $key): first(.contestants[] | select(.name == $name) | .figures[$key] // { median: null, all: [] }) // { all: [] };

# reached is the median over the rounds: of the figure, or of its ratio to another's in the same round.
def reached($goal):
  of($goal.who // "ssmnet"; $goal.figure) as $mine
  | if $goal.of == null then $mine.median else [$mine.all, of($goal.of; $goal.figure).all] | ratios | median end;

def verdict($goal):
  if . == null then "not measured"
  elif $goal.least then if . >= $goal.least then "met" else "missed" end
  elif $goal.most then if . <= $goal.most then "met" else "missed" end
  else "recorded" end;

def wanted:
  (if .least then "at least \(.least)" elif .most then "at most \(.most)" else "" end) + (if .of then " x \(.of)" else "" end);

def judged: . as $all | $goals | map(. as $goal | . + { reached: ($all | reached($goal)) } | .verdict = (.reached | verdict($goal)));

def row($cells): "\($cells[0] | left(36))\($cells[1] | left(32))\($cells[2] | right(8))  \($cells[3])";

row(["goal", "", "reached", ""]), (judged[] | row([.what, wanted, (.reached | fixed(2)), .verdict]))
