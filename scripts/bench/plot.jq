# The JSON of scripts/bench/run as SVG: a row for each contestant, a column of bars for each of these figures that was
# measured. A line over a bar goes from the lowest to the highest. Legible on light and on dark ground, of which it has none.
include "stats";

def panels: [
  { key: "tcp_gbps", title: "TCP, one stream", unit: "Gbit/s, more is better", digits: 1 },
  { key: "tcp_cpu", title: "CPU of the VPN", unit: "s/GB, less is better", digits: 2 },
  { key: "udp64_kpps", title: "UDP of 64 bytes", unit: "1,000 received a second", digits: 0 },
  { key: "flood_kpps", title: "flood of 64 bytes", unit: "1,000 received a second", digits: 0 },
  { key: "ping_us", title: "ping, idle", unit: "median µs", digits: 0 },
  { key: "ping_loaded_us", title: "ping under TCP", unit: "median µs", digits: 0 } ];

def names: 150; # width of the names
def width: 165; # of a column
def bar: 95;    # of its longest bar
def height: 24; # of a row
def head: 56;

def escaped: gsub("&"; "&amp;") | gsub("<"; "&lt;");
def text($x; $y; $class): "<text x=\"\($x | round)\" y=\"\($y | round)\" class=\"\($class)\">\(tostring | escaped)</text>";

# The bar at x and y for the figure that is the input, null where there is none; $most fills it.
def drawn($x; $y; $most; $digits; $class):
  if .median == null then "–" | text($x; $y + 16; "quiet")
  else (bar / ([$most, 1e-9] | max)) as $scale
    | ($x + .max * $scale) as $tip
    | "<rect x=\"\($x)\" y=\"\($y + 4)\" width=\"\([.median * $scale, 1] | max | fixed(1))\" height=\"\(height - 8)\" class=\"\($class)\"/>",
      "<path d=\"M\($x + .min * $scale | fixed(1)) \($y + height / 2)H\($tip | fixed(1))\" class=\"spread\"/>",
      (.median | fixed($digits) | text($tip + 6; $y + 16; "")) end;

. as $all
| [panels[] | select(.key as $k | $all.contestants | any(.figures[$k] != null))] as $panels
| (names + width * ($panels | length)) as $w
| (head + height * (.contestants | length) + 46) as $h
| "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \($w) \($h)\" width=\"\($w)\" height=\"\($h)\" role=\"img\">",
  "<title>\($all.command | escaped)</title>",
  "<style>
text { font: 12px system-ui, sans-serif; fill: #3d444d }
.strong { font-weight: 600 }
.quiet { font-size: 11px; fill: #6e7781 }
.ours { fill: #1f6feb }
.other { fill: #8c959f }
.spread { stroke: #24292f; stroke-width: 1.5; fill: none }
@media (prefers-color-scheme: dark) {
text { fill: #d1d7e0 }
.quiet { fill: #9198a1 }
.ours { fill: #58a6ff }
.other { fill: #6e7681 }
.spread { stroke: #f0f6fc }
}
</style>",
  ($panels | to_entries[] | (names + width * .key) as $x | .value
    | (.title | text($x; 20; "strong")), (.unit | text($x; 36; "quiet"))),
  (.contestants | to_entries[] | (head + height * .key) as $y | .value as $who
    | ($who.name == "ssmnet") as $ours
    | ($who.name | text(0; $y + 16; if $ours then "strong" else "" end)),
      ($panels | to_entries[] | (names + width * .key) as $x | .value as $panel
        | ([$all.contestants[].figures[$panel.key].max | values] | max) as $most
        | $who.figures[$panel.key] | drawn($x; $y; $most; $panel.digits; if $ours then "ours" else "other" end))),
  ("\($all.date), \($all.cores) x \($all.cpu), Linux \($all.kernel), \($all.go); medians of \($all.rounds) rounds, with lines from the lowest to the highest"
    | text(0; $h - 24; "quiet")),
  ($all.command | text(0; $h - 8; "quiet")),
  "</svg>"
