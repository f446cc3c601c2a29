# The JSON of scripts/bench/run as a table.
include "stats";

def cell($digits): "\(.median | fixed($digits) | right(6)) (\(.min | fixed($digits)) to \(.max | fixed($digits)))";
def row($cells): [$cells[0] | left(16)] + ($cells[1:] | map(left(24))) | join("") | sub(" +$"; "");

"\(.cores) x \(.cpu), Linux \(.kernel), \(.go), TCP \(.congestion_control)",
"\(.rounds) rounds of \(.seconds) s, in turn: medians (lowest to highest)",
"",
row(["", "TCP 1 stream Gbit/s", "of \(.baseline)", "VPN CPU s/GB", "idle ping us"]),
(.contestants[] | row([.name, (.tcp_gbps | cell(2)), (.ratio | cell(2)), (.cpu_s_per_gb | cell(2)), (.ping_us | cell(0))])),
"",
(.baseline as $b | (.contestants[] | select(.name == $b).version) as $v | .contestants[] | select(.name != $b)
  | "\(.name) (\(.version)): \(.ratio.median | fixed(2)) x \($b) (\($v)) in one TCP stream")
