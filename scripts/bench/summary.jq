# From the contestants [{name, version}] and the figures of each round to the JSON of scripts/bench/run.
include "stats";

def figures($key): map(.[$key]) | spread;

($results | map(select(.name == $baseline)) | INDEX(.round)) as $reference
| { schema: "ssmnet.bench/v1", $kernel, $cpu, $cores, $go, congestion_control: $congestion, $rounds, $seconds, $baseline,
    contestants: map(.name as $name
      | ($results | map(select(.name == $name) | .ratio = .tcp_gbps / $reference[.round | tostring].tcp_gbps)) as $mine
      | . + { tcp_gbps: ($mine | figures("tcp_gbps")), ratio: ($mine | figures("ratio")),
              cpu_s_per_gb: ($mine | figures("cpu_s_per_gb")), ping_us: ($mine | figures("ping_us")) }) }
