package daemon

import "testing"

// TestKDCRights: a KDC keeps no capability, makes no connection, and writes nothing but its own directory.
func TestKDCRights(t *testing.T) {
	r := KDC("/var/lib/kdc", "/etc/kdc/kdc.toml")
	if len(r.Capabilities) > 0 || r.TCP || r.Device != "" || len(r.Writes) > 0 || r.Dir != "/var/lib/kdc" {
		t.Errorf("%+v", r)
	}
}
