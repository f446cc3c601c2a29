//go:build goexperiment.runtimesecret

package secret

import "runtime/secret"

// Do runs f such that what it leaves on its stack, in registers and on the heap is erased once unreachable
// (runtime/secret). Derive keys and construct AEADs inside it. It costs tens of microseconds: control path only.
func Do(f func()) { secret.Do(f) }

// Erases says whether this binary was built so that Do erases.
const Erases = true
