# The wall: no VPN, the veth pairs and the bridge alone.

up() { :; }
down() { :; }
address() { net_addr h2 "$family"; }
address6() { net_addr h2 6; }
version() { uname -r; }
