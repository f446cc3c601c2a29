# Tailscale's fork of wireguard-go, by itself: the data plane without the service.

. scripts/bench/contestants/wireguard-go.sh
wireguard=github.com/tailscale/wireguard-go@v0.0.0-20260928213032-417aef361226
interfaces=wt
