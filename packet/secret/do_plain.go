//go:build !goexperiment.runtimesecret

package secret

// Do runs f. This binary was built without GOEXPERIMENT=runtimesecret, so what f leaves behind is not erased.
func Do(f func()) { f() }

// Erases says whether this binary was built so that Do erases.
const Erases = false
