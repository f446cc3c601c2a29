// Package space gives tests room of their own: network namespaces, in which they may do to interfaces, addresses and
// routes what they like, and disks that are soon full.
//
//	func TestMain(m *testing.M) { os.Exit(space.Tests{M: m}.Run()) }
//	func TestX(t *testing.T)    { space.Enter(t); ... }
//
// That takes root's powers. An ordinary user's tests have them too where the kernel lets everybody be root of a user
// namespace (Tests). What they still lack, a TUN device that is root's or users to become, skips a test, and the reason
// says so. scripts/test.sh runs as root and counts a skipped test as failed. So `go test ./...` is for everybody, and
// nothing is passed over where it counts.
package space
