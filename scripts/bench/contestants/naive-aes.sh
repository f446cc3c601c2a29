# naive with each chunk sealed by AES-256-GCM.

. scripts/bench/contestants/naive.sh
sealing=(--aes)
