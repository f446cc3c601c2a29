package tunssm

import (
	"slices"

	"ssmnet/packet/control"
)

// network is what the KDCs have said of the network.
type network struct {
	config control.Config // newest; AsOf zero before the first Welcome
	fault  error          // why the interface is not up
	asOf   control.AsOf   // the highest seen
}

// raise keeps the highest as_of seen.
func (a *acquirer) raise(asOf control.AsOf) {
	if a.asOf.Before(asOf) {
		a.asOf = asOf
		a.publish()
	}
}

// configure takes what a KDC says of the network, unless another has said something newer.
func (a *acquirer) configure(c control.Config) {
	if c.AsOf.Before(a.config.AsOf) {
		return
	}
	old := a.config
	a.config = c
	clear(a.denials)
	a.raise(c.AsOf)
	if a.fixed() != a.endpoint && !slices.Equal(old.Overlays, c.Overlays) {
		a.log.Warn("the configured endpoint lies inside an overlay: nobody is told of it", "endpoint", a.endpoint)
	}
	if !slices.Equal(old.Addresses, c.Addresses) || !slices.Equal(old.Overlays, c.Overlays) {
		a.fault = a.host.Route.Configure(c.Addresses, c.Overlays)
		if a.fault != nil {
			a.log.Error("cannot set up the interface", "interface", a.host.TUN.Name(), "error", a.fault)
			a.config.Addresses = nil // tried again at the next Update
		} else {
			a.log.Info("interface is up", "interface", a.host.TUN.Name(), "addresses", c.Addresses)
		}
	}
	if !slices.Equal(old.Subnets, c.Subnets) {
		a.forward()
	}
	if slices.Equal(old.Routes, c.Routes) {
		a.rerouted() // the overlays may have changed
	} else {
		a.reroute()
	}
	a.follow(c.KDCs)
}
