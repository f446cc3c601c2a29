# Order statistics of a list of numbers; null for none. Nulls in it do not count.

def median:
  map(values) | sort | length as $n
  | if $n == 0 then null
    elif $n % 2 == 1 then .[($n - 1) / 2]
    else (.[$n / 2 - 1] + .[$n / 2]) / 2 end;

# quantile(0.9): the least that nine in ten do not exceed (nearest rank).
def quantile($q): map(values) | sort | .[[(length * $q | ceil) - 1, 0] | max];

def spread: { median: median, min: (map(values) | min), max: max, all: . };

# ratios of two lists, [a, b], number by number; null where either is, or b is 0.
def ratios: transpose | map(if .[0] == null or (.[1] // 0) == 0 then null else .[0] / .[1] end);

def fixed($digits): if . == null then "-" else
  pow(10; $digits) as $p | (. * $p | round | tostring) as $t
  | if $digits == 0 then $t
    else ($t | if startswith("-") then ["-", .[1:]] else ["", .] end) as [$sign, $d]
    | ("0" * ([$digits + 1 - ($d | length), 0] | max) // "") + $d
    | $sign + .[:length - $digits] + "." + .[length - $digits:] end end;
def left($w): . + (" " * ([$w - length, 0] | max) // "");
def right($w): (" " * ([$w - length, 0] | max) // "") + .;
