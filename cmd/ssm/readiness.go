package main

import (
	"errors"
	"fmt"
	"strings"

	"ssmnet/tunssm"
)

// glance is the status in a line.
func glance(st tunssm.Status) string {
	if err := readiness(st); err != nil {
		return err.Error()
	}
	kdc, ok := connected(st)
	if !ok {
		kdc = "none is connected"
	}
	return fmt.Sprintf("%s on %s, KDC %s, %d sessions", st.Name, st.Interface, kdc, len(st.Sessions))
}

// readiness says what is missing before the host can use the overlay. The zero status is none.
func readiness(st tunssm.Status) error {
	switch {
	case st.Name == "":
		return errors.New("the SSM has not answered yet")
	case st.Ready:
		return nil
	case st.Fault != "":
		return errors.New(st.Fault)
	}
	for _, k := range st.KDCs {
		if k.Fault != "" {
			return errors.New(k.Address + ": " + plainFault(k))
		}
	}
	return errors.New("no KDC has welcomed this host yet")
}

// connected is the KDC that the SSM asks first.
func connected(st tunssm.Status) (address string, ok bool) {
	for _, k := range st.KDCs {
		if k.Connected {
			return k.Address, true
		}
	}
	return "", false
}

// plainFault is why there is no connection, without what the row says already.
func plainFault(k tunssm.KDCStatus) string {
	return strings.TrimPrefix(strings.TrimPrefix(k.Fault, "dial tcp "+k.Address+": "), "connect: ")
}
