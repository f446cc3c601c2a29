# The wall: no VPN, the veth pairs and the bridge alone.

up() { :; }
down() { :; }
address() { net_addr h2; }
version() { uname -r; }
