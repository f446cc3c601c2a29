package tunssm

import (
	"slices"
)

// forward has the host forward to the subnets of the newest configuration, and says in the log what has become of them.
// Where there were none and are none there is nothing to ask of it.
func (a *acquirer) forward() {
	known, before := a.subnets, a.cutOff
	if len(known) == 0 && len(a.config.Subnets) == 0 {
		return
	}
	a.subnets = a.config.Subnets
	a.cutOff = a.host.Route.Forward(a.subnets)
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
