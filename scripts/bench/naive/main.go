// Naive moves what a TUN interface gives to another of its kind, and is the wall that scripts/bench measures VPNs
// against: what a forwarder in user space can reach here at all, without sessions, policy, a window or addresses of its
// own. What the kernel hands over, up to 60 KB of one flow with a virtio-net header, it never looks at:
//
//	read TUN -> length | frame | cut into chunks -> one UDP_SEGMENT send
//	write TUN <- the frame, once its last chunk is there <- UDP_GRO receive
//
// A chunk shorter than the others ends the frame; a frame that would fill its last chunk gets a byte more. A frame that
// misses a chunk is dropped. With --aes each chunk is sealed by itself:
//
//	counter(64) | AES-256-GCM of what a plain chunk would hold | tag(128)
//
// under keys that anybody can compute: the price is real, the secrecy is not.
//
//	naive --tun nv0 --local 10.77.0.11:5300 --peer 10.77.0.12:5300 [--chunk 1472] [--aes]
package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"flag"
	"log"
	"net/netip"
	"runtime"

	"golang.org/x/sys/unix"
)

// socketBuffer holds the super-frames that come while the TUN is written to.
const socketBuffer = 7 << 20

func main() {
	log.SetFlags(0)
	log.SetPrefix("naive: ")
	var local, peer netip.AddrPort
	name := flag.String("tun", "nv0", "`NAME` of the interface to make")
	flag.TextVar(&local, "local", local, "`ADDRESS:PORT` here")
	flag.TextVar(&peer, "peer", peer, "`ADDRESS:PORT` there")
	chunk := flag.Int("chunk", 1472, "`BYTES` in a datagram: the underlay's MTU less IP and UDP headers")
	sealed := flag.Bool("aes", false, "seal each chunk with AES-256-GCM")
	flag.Parse()
	// A thread that waits in a system call needs no processor, yet holds one until the runtime takes it away. With some
	// to spare nobody waits for that.
	runtime.GOMAXPROCS(runtime.NumCPU() + 2)
	f := &forwarder{chunk: *chunk}
	if *sealed {
		f.seal, f.open = key(local), key(peer)
	}
	var err error
	if f.tun, err = openTUN(*name); err != nil {
		log.Fatalf("interface %s: %v", *name, err)
	}
	if f.udp, err = connect(local, peer, *chunk); err != nil {
		log.Fatalf("socket %v to %v: %v", local, peer, err)
	}
	failed := make(chan error)
	for _, way := range []func() error{f.outbound, f.inbound} {
		go func() {
			runtime.LockOSThread()
			failed <- way()
		}()
	}
	log.Fatal(<-failed)
}

// key is that of the frames which are sent from an address.
func key(from netip.AddrPort) cipher.AEAD {
	k := sha256.Sum256([]byte(from.String()))
	block, err := aes.NewCipher(k[:])
	if err != nil {
		panic(err) // the length is right
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// openTUN makes an interface that takes and gives super-frames. The descriptor blocks.
func openTUN(name string) (fd int, err error) {
	if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return 0, err
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return 0, err
	}
	const offload = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_USO4 | unix.TUN_F_USO6
	return fd, unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offload)
}

// connect opens a socket whose every send is cut into chunks and whose every receive joins them again.
func connect(local, peer netip.AddrPort, chunk int) (int, error) {
	family := unix.AF_INET
	if local.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	for _, o := range []struct{ level, option, value int }{
		{unix.SOL_UDP, unix.UDP_SEGMENT, chunk},
		{unix.SOL_UDP, unix.UDP_GRO, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer},
		{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.option, o.value); err != nil && err != unix.EPERM { // without root: as it is
			return 0, err
		}
	}
	if err := unix.Bind(fd, sockaddr(local)); err != nil {
		return 0, err
	}
	return fd, unix.Connect(fd, sockaddr(peer))
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}
