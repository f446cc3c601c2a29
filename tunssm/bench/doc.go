// Package bench measures the throughput between two SSMs through the tunnel. Each SSM serves a sink on its overlay
// addresses, TCP port 7601: who may use it is policy's to say, by tcp/7601. A stream is one TCP connection (widths are in
// bits, numbers big-endian):
//
//	client                        sink
//	                           <- greeting  magic(32) "SSMB" | version(8) = 1 | busy(8) | zero(16)
//	request  milliseconds(32)  ->
//	bytes, for so long         ->
//	end of its sending         ->
//	                           <- result    bytes received(64) | nanoseconds that took(64)
//	                           <- bytes, for so long, and the end of the connection
//
// The sink speaks first, so that one that has no stream to spare (busy is 1, and the connection ends) is heard. The bytes
// mean nothing: zeros are sent, anything is discarded.
//
// # Limits
//
// A sink serves Streams streams in all, each for at most Longest in each direction, and hangs up on what is late: a
// request after RequestTimeout, anything else Slack after its time. A stream that has not made its request costs a
// goroutine and no buffer. One line of the log tells of a run, which is all streams from the first to when there is none.
package bench
