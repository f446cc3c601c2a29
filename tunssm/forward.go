package tunssm

import (
	"net/netip"
	"slices"
	"time"
)

// forwardAgain is how soon forwarding that failed is tried anew. A change of the host's network has it tried at once; one
// of a disk that was full tells nobody.
const forwardAgain = 5 * time.Second

// forwarding is what has become of the subnets behind this host.
type forwarding struct {
	subnets   []netip.Prefix         // as the host was told last to forward to
	cutOff    map[netip.Prefix]error // why it does not, of those
	forwarded time.Time              // when it was last asked to
}

// forward has the host forward to the subnets of the newest configuration, and says in the log what has become of them.
// Where there were none and are none there is nothing to ask of it.
func (a *acquirer) forward() {
	known, before := a.subnets, a.cutOff
	if len(known) == 0 && len(a.config.Subnets) == 0 {
		return
	}
	a.subnets = a.config.Subnets
	a.cutOff, a.forwarded = a.host.Route.Forward(a.subnets), time.Now()
	for _, subnet := range a.subnets {
		was, is := before[subnet], a.cutOff[subnet]
		switch {
		case is == nil && (was != nil || !slices.Contains(known, subnet)):
			a.log.Info("forwarding to a subnet", "subnet", subnet)
		case is != nil && (was == nil || was.Error() != is.Error()):
			a.log.Warn("cannot forward to a subnet", "subnet", subnet, "error", is)
		}
	}
	for _, subnet := range known {
		if !slices.Contains(a.subnets, subnet) {
			a.log.Info("no longer forwarding to a subnet", "subnet", subnet)
		}
	}
}

// tendForwarding tries again what has failed.
func (a *acquirer) tendForwarding() {
	if len(a.cutOff) > 0 && time.Since(a.forwarded) >= forwardAgain {
		a.forward()
	}
}

// gateway is how the host forwards to each subnet.
func (a *acquirer) gateway() []SubnetStatus {
	list := []SubnetStatus{}
	for _, subnet := range a.subnets {
		s := SubnetStatus{Prefix: subnet, State: "forwarding", Interfaces: []string{}, Warnings: []string{}}
		if err := a.cutOff[subnet]; err != nil {
			s.State, s.Fault = "failed", err.Error()
		}
		list = append(list, s)
	}
	return list
}
