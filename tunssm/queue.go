package tunssm

// One goroutine, in a thread of its own, carries all that goes through a queue:
//
//	receive   what the network has brought goes to the TUN (inbound.go)
//	send      what the TUN has goes to the network (outbound.go)
//	wait      where there was neither
//
// Both ways in one: the kernel answers what is written to the TUN within the write, with an acknowledgement or with more
// data, which is there to be read when the write returns. Another thread would have to be woken for it: 15% of the CPU time
// of a TCP stream. To use more cores there are more queues.

import (
	"context"
	"runtime"
)

// queueLoop is the goroutine of one queue.
type queueLoop struct {
	queue Queue
	in    *inbound
	out   *outbound
}

func newQueueLoop(d *dataPath, queues []Queue, lane int) *queueLoop {
	return &queueLoop{queue: queues[lane], in: newInbound(d, queues, lane), out: newOutbound(d, queues, lane)}
}

// run ends when the TUN or the socket does.
func (l *queueLoop) run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		received, err := l.in.receive()
		if err != nil {
			return l.out.lasting(ctx, "receiving from the underlay", err)
		}
		sent, err := l.out.send()
		if err != nil {
			return l.out.lasting(ctx, "reading the TUN", err)
		}
		if received || sent {
			continue
		}
		if err := l.queue.Wait(); err != nil {
			return l.out.lasting(ctx, "waiting for packets", err)
		}
	}
}
