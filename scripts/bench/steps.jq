# From h1's log lines of one cold start to its figures: milliseconds since step 1, null for a step that did not come.

# duration reads Go's notation ("1m2.5s", "217µs") as milliseconds.
def duration:
  [scan("([0-9.]+)(h|ms|m|s|µs|ns)")
   | (.[0] | tonumber) * { h: 3600000, m: 60000, s: 1000, ms: 1, "µs": 0.001, ns: 0.000001 }[.[1]]]
  | add * 1000 | round / 1000;

# field reads one key of a log line.
def field($key): [scan(" \($key)=([^ ]+)")] | if . == [] then null else .[0][0] | duration end;

[inputs] as $lines
| def step($n; $key): first($lines[] | select(test(" step=\($n) ")) | field($key)) // null;
  { $round, requests: [$lines[] | select(test(" step=2 "))] | length,
    requesting_ms: step(2; "after"),
    installed_ms: step(3; "after"), keys_ms: step(3; "keys"),
    released_ms: step(4; "after"), reply_ms: $trip }
| .granted_ms = if .installed_ms and .keys_ms then (.installed_ms - .keys_ms) * 1000 | round / 1000 else null end
