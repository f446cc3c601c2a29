// Package fake is the edge of SSMs without an operating system: a network in memory, and for each host a TUN, a UDP
// socket, routes and a way to dial KDCs. The parts of a Host are those of tunssm.Host, which this package cannot name
// because the tests inside tunssm use it too.
//
// Whatever waits here waits on channels and timers alone, and no lock is held meanwhile, so that testing/synctest knows
// when all is quiet and moves the clock.
package fake
